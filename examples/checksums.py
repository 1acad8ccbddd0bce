"""Hash every file under a folder, one job for each, and print what sha256sum would print.

    python examples/checksums.py                      thousands of files: Python's standard library
    python examples/checksums.py photos > SUMS        later: sha256sum --check SUMS
    python examples/checksums.py --flaky --seed 7     a tenth of the jobs fail at first; all sums are right
    python examples/checksums.py --redis redis://localhost photos     may be killed, and started again

Standard output has a line for each file, its SHA-256 and its path, sorted by path. Progress, files that
cannot be read and a last line that adds it all up go to standard error. SIGINT (Ctrl-C) and SIGTERM let
the started jobs finish: the sums that were made are printed, and the files that were left out counted.

With --redis the jobs and the sums so far are in Redis. Started again with the same folder, after a signal, a
crash or a kill -9, it goes on where it stopped, and prints the sums of all. One process a folder, please.

Exit status: 0, all files are hashed; 1, some could not be read; 2, wrong usage; 130, interrupted (a
SIGTERM before the jobs run just ends the program).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import logging
import os
import random
import signal
import sys
import sysconfig
from collections import Counter
from typing import Any
from uuid import uuid4

import redis

from aiospinach import (
    AbortException,
    Batch,
    Broker,
    Engine,
    Job,
    JobStatus,
    MemoryBroker,
    RedisBroker,
    Tasks,
    current_job,
    signals,
)

BATCH = 1000
LEASE = 6.0  # seconds: a file whose process was killed is hashed again after 7.5
ENDED = (JobStatus.SUCCEEDED, JobStatus.FAILED)

tasks = Tasks()


class MadeToFail(Exception):
    """Raised by jobs that --flaky makes fail."""


class Notebook:
    """Keeps the name of the run and its results in Redis, for a process that is started again."""

    def __init__(self, url: str, name: str) -> None:
        self._redis = redis.Redis.from_url(url)  # its pool may be used by the threads of all jobs
        self._run, self._lines = f"{name}:run", f"{name}:lines"

    def begin(self) -> str:
        """Return the name of the run that has not ended, or of a new one."""
        self._redis.set(self._run, uuid4().hex, nx=True)
        found: Any = self._redis.get(self._run)
        return str(found, "ascii")

    def write(self, path: bytes, mark: str, text: str) -> None:
        """Write the result of a file. A repeat changes nothing: a job may run twice."""
        self._redis.hset(self._lines, path, mark + text)

    def read(self, mark: str) -> dict[bytes, str]:
        lines: Any = self._redis.hgetall(self._lines)
        return {path: line.decode()[1:] for path, line in lines.items() if line.decode()[0] == mark}

    def end(self) -> None:
        self._redis.delete(self._run, self._lines)

    def close(self) -> None:
        self._redis.close()


SUM, PROBLEM = "=!"
notebook: Notebook | None = None


def note(path: bytes, mark: str, text: str) -> None:
    """Keep the result of a file. The job does so before it counts as done: a receiver might be too late."""
    if notebook is not None:
        notebook.write(path, mark, text)


# A plain function, so that it runs in a thread. A path is bytes: not every file name is text.
@tasks.task(max_retries=3, backoff=lambda attempt: 0.01 * 2**attempt)
def checksum(path: bytes, failures: int = 0) -> str:
    """The SHA-256 of a file; the first ``failures`` tries fail."""
    job = current_job()
    assert job is not None, "files are hashed in jobs only"
    if job.retries < failures:
        raise MadeToFail
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        why = error.strerror or str(error)
        note(path, PROBLEM, why)
        raise AbortException(why) from error
    note(path, SUM, digest)
    return digest


class Ledger:
    """Counts starts and ends of jobs, and keeps their results; its methods are receivers of signals."""

    def __init__(self) -> None:
        self.sums: dict[bytes, str] = {}
        self.unreadable: dict[bytes, str] = {}
        self.started: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()
        self.ended: Counter[bytes] = Counter()

    def job_started(self, namespace: str, job: Job, **kwargs: Any) -> None:
        self.started[job.id] += 1

    def job_finished(
        self, namespace: str, job: Job, err: BaseException | None, result: Any, **kwargs: Any
    ) -> None:
        self.finished[job.id] += 1
        if job.status in ENDED:
            path = job.args[0]
            self.ended[path] += 1
            if err is None:
                self.sums[path] = result
            else:
                self.unreadable[path] = str(err)

    def check(self) -> None:
        """Assert that each start of a job has one job_finished, and that each file has one end."""
        assert self.started == self.finished
        assert all(count == 1 for count in self.ended.values())
        assert self.ended.keys() == self.sums.keys() | self.unreadable.keys()
        assert len(self.ended) == len(self.sums) + len(self.unreadable)


class Progress:
    """A bar on standard error if that is a terminal, else a line for every tenth."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._shown = 0
        self._is_bar = sys.stderr.isatty()

    async def job_finished(self, namespace: str, job: Job, **kwargs: Any) -> None:
        if job.status not in ENDED:
            return
        self._done += 1
        percent = 100 * self._done // self._total
        if percent >= self._shown + (1 if self._is_bar else 10):
            self._shown = percent
            self._show(f"{percent:3}% {self._done}/{self._total} files")

    def _show(self, text: str) -> None:
        if self._is_bar:
            text = f"\r[{'#' * (self._shown // 4):25}] {text}"
        print(text, end="" if self._is_bar else "\n", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._is_bar and self._shown:
            print(file=sys.stderr)


async def hash_in_jobs(
    paths: list[bytes], options: argparse.Namespace, broker: Broker, namespace: str, run: str
) -> Ledger:
    """Schedule a job for each file, and run them until none is left or a signal arrives."""
    engine = Engine(broker, namespace)
    engine.attach_tasks(tasks)
    ledger, progress = Ledger(), Progress(len(paths))
    signals.job_started.connect_via(namespace)(ledger.job_started)
    signals.job_finished.connect_via(namespace)(ledger.job_finished)
    signals.job_finished.connect_via(namespace)(progress.job_finished)
    dice = random.Random(options.seed)
    async with engine:
        for first in range(0, len(paths), BATCH):
            batch = Batch()
            for path in paths[first : first + BATCH]:
                fails = options.flaky and dice.random() < 0.1
                # A job of this id that the run stored before it was killed is not stored again.
                job_id = f"{run}-{hashlib.sha256(path).hexdigest()}"
                batch.schedule(checksum.options(id=job_id), path, dice.randint(1, 3) if fails else 0)
            await engine.schedule_batch(batch)
        await engine.start_workers(options.number, stop_when_queue_empty=True)
    progress.close()
    ledger.check()
    return ledger


def hash_all(paths: list[bytes], folder: bytes, options: argparse.Namespace) -> Ledger:
    """Hash the files that the notebook does not have yet. Returns the results of all."""
    global notebook
    if options.redis is None:
        return asyncio.run(hash_in_jobs(paths, options, MemoryBroker(), "checksums", "run"))
    name = f"checksums-{hashlib.sha256(os.path.realpath(folder)).hexdigest()[:16]}"
    notebook = Notebook(options.redis, name)
    run = notebook.begin()
    known = notebook.read(SUM) | notebook.read(PROBLEM)
    left = [path for path in paths if path not in known]
    broker = RedisBroker(options.redis, lease=LEASE)
    ledger = asyncio.run(hash_in_jobs(left, options, broker, name, run))
    here = set(paths)
    ledger.sums = {path: digest for path, digest in notebook.read(SUM).items() if path in here}
    ledger.unreadable = {path: why for path, why in notebook.read(PROBLEM).items() if path in here}
    return ledger


def files_under(folder: bytes, without: set[bytes]) -> tuple[list[bytes], list[OSError]]:
    """The sorted paths of all files and links to files, and why folders could not be read."""
    paths: list[bytes] = []
    errors: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = [name for name in folders if name not in without]
        paths += (os.path.join(parent, name) for name in names)
    # A link that leads nowhere is kept, and its job fails; pipes and sockets are not files.
    return sorted(path for path in paths if os.path.isfile(path) or not os.path.exists(path)), errors


def line_of(path: bytes, digest: str) -> bytes:
    """The line of sha256sum, which escapes names that hold a line break or a backslash."""
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    return b"%s%s  %s\n" % (b"\\" if escaped != path else b"", digest.encode(), escaped)


def existing_folder(text: str) -> bytes:
    if not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    return os.fsencode(text)


def positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError("a number from 1 to 1000 is needed")
    return int(text)


def parse() -> argparse.Namespace:
    usage, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=usage, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "folder",
        nargs="?",
        type=existing_folder,
        metavar="FOLDER",
        help="what to hash (default: Python's standard library, without site-packages)",
    )
    add("--number", type=positive, default=8, metavar="N", help="jobs that run at once (default: 8)")
    add("--flaky", action="store_true", help="have a tenth of the jobs fail one to three times")
    add("--seed", type=int, default=0, metavar="N", help="choose other jobs to fail (default: 0)")
    add("--redis", metavar="URL", help="keep jobs and sums there, to go on after a crash")
    add("--verbose", action="store_true", help="show the log of aiospinach, with each failed try")
    return parser.parse_args()


def main() -> int:
    options = parse()
    if not options.verbose:
        logging.getLogger("aiospinach").setLevel(logging.CRITICAL)
    if options.folder is None:
        folder, without = os.fsencode(sysconfig.get_path("stdlib")), {b"site-packages"}
    else:
        folder, without = options.folder, set()
    paths, errors = files_under(folder, without)
    ledger = hash_all(paths, folder, options)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # "| head" ends it in silence
    for path in sorted(ledger.sums):
        sys.stdout.buffer.write(line_of(path, ledger.sums[path]))
    sys.stdout.buffer.flush()
    problems = [(error.filename, error.strerror) for error in errors] + sorted(ledger.unreadable.items())
    for path, why in problems:
        print(f"checksums: {os.fsdecode(path)}: {why}", file=sys.stderr)
    left = len(paths) - len(ledger.sums) - len(ledger.unreadable)
    if notebook is not None:
        if not left:
            notebook.end()  # all is printed: the next start is a new run
        notebook.close()
    print(
        f"checksums: {len(paths)} files: {len(ledger.sums)} hashed, {len(ledger.unreadable)} unreadable,"
        f" {left} not run; jobs started {sum(ledger.started.values())} times",
        file=sys.stderr,
    )
    return 130 if left else 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # while no workers ran
        sys.exit(130)
