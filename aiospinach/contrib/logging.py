"""The job on each record of the standard library's logging."""

from __future__ import annotations

import logging

from aiospinach import current_job


class JobFilter(logging.Filter):
    """Sets ``job_id``, ``task_name``, ``queue`` and ``job_try`` of each record that is made within a job.

    ``handler.addFilter(JobFilter())``: a filter of a handler sees the records of all loggers. It lets every
    record pass. ``job_try`` is 1 at the first try. Outside of jobs the attributes are None. A value that a
    record has already is kept: records of aiospinach name the job that they are about.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Set the attributes. Returns True."""
        job = current_job()
        found = (None,) * 4 if job is None else (job.id, job.task_name, job.queue, job.retries + 1)
        for name, value in zip(("job_id", "task_name", "queue", "job_try"), found, strict=True):
            if getattr(record, name, None) is None:
                setattr(record, name, value)
        return True
