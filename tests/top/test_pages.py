"""Snapshots become rows, lines and pages: the same text for the same snapshot."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from textual.content import Content

from aiospinach import (
    DeadJob,
    Explanation,
    JobStatus,
    MinuteRow,
    Page,
    Progress,
    QueueCounts,
    QueueOverview,
    Verdict,
)
from aiospinach.top.bar import Connection, status_line, tab_bar, title_bar
from aiospinach.top.filters import Filter
from aiospinach.top.job_page import JobSeen, Stack, job_page
from aiospinach.top.jobs import TABS, Jobs, counts_of, filter_words, job_table, teaching
from aiospinach.top.queues import history, queue_detail, queue_table, summary
from aiospinach.top.table import Table
from aiospinach.top.workers import worker_table

from .samples import HOSTILE, NOW, ago, job, overview, pause, queue, worker
from .screens import plain


def lines_of(table: Table, width: int) -> list[str]:
    lines = table.lay_out(width)
    return plain([lines.header, *lines.rows])


EVENING = overview(
    queue("images", ready=1_234_567, running=8, dead=14, oldest=640.0, workers=1, slots=8, rate=61.4),
    queue("mail", ready=21, waiting=5, oldest=2.0, workers=2, slots=40, paused_tasks=[pause("digest")]),
    queue("reports", ready=6, parked=3, oldest=0.04, pause=pause()),
    queue("web", per_minute=(*[0] * 59, 8), workers=2, slots=40),
    workers=[worker(), worker("web-2-4702")],
)


def test_the_queues_in_a_narrow_terminal() -> None:
    assert lines_of(queue_table(EVENING), 80) == [
        "queue    ready  running  waiting  dead  oldest    rate  last hour  state",
        "images   1.23M        8        0    14  10 min  61/min",
        "mail        21        0        5     0   2.0 s   0/min             1 task paused",
        "reports      6        0        0     0   0.0 s   0/min             paused",
        "web          0        0        0     0           0/min          █",
    ]


def test_the_queues_in_a_wide_terminal() -> None:
    [header, images, _, reports, web] = lines_of(queue_table(EVENING), 160)
    assert header.split("  ") != []
    assert header.replace(" ", "") == "queuereadyrunningwaitingdeadparkedoldestslotsratelasthourstate"
    assert images.split() == ["images", "1.23M", "8", "0", "14", "0", "10", "min", "8", "61/min"]
    assert reports.split() == ["reports", "6", "0", "0", "0", "3", "0.0", "s", "0", "0/min", "paused"]
    assert web.rstrip().endswith("█")


@pytest.mark.parametrize(
    ("row", "state"),
    [
        (queue(), "no worker"),
        (queue(workers=1), ""),
        (queue(workers=1, paused_tasks=[pause("a"), pause("b")]), "2 tasks paused"),
        (queue(pause=pause(), paused_tasks=[pause("a")]), "paused"),
    ],
)
def test_the_state_of_a_queue(row: Any, state: str) -> None:
    assert queue_table(overview(row)).rows[0].cells[-1].text == state


def test_the_highlighted_queue_is_described() -> None:
    details = {row.name: queue_detail(EVENING, row.name).plain for row in EVENING.queues}
    assert details == {
        "images": "1 worker consumes the queue images, with 8 slots",
        "mail": "task digest has been paused for 5 min by web-1, until it is resumed: provider is down",
        "reports": "the queue mail has been paused for 5 min by web-1, until it is resumed: provider is down",
        "web": "2 workers consume the queue web, with 40 slots",
    }
    assert queue_detail(EVENING, None).plain == queue_detail(EVENING, "gone").plain == ""
    alone = overview(queue(ready=1))
    assert queue_detail(alone, "mail").plain == "no live worker consumes the queue mail: its jobs wait"


def test_many_pauses_are_counted() -> None:
    paused = [pause(f"task-{number}", until=ago(-60), reason="") for number in range(5)]
    lines = queue_detail(overview(queue(ready=1, paused_tasks=paused)), "mail").plain.split("\n")
    assert lines == [
        "task task-0 has been paused for 5 min by web-1, until 2026-11-29 08:02:12 UTC",
        "4 other tasks are paused",
    ]


def test_a_namespace_without_jobs_teaches_how_to_schedule_one() -> None:
    assert (
        "No job has been scheduled in the namespace 'shop'" in queue_detail(overview(queue()), "mail").plain
    )


def test_the_summary_and_the_chart() -> None:
    assert summary(EVENING).plain == "61/min  6 of 40 slots busy  2 workers  08:01:12 UTC"
    lines = history(EVENING, 60).plain.split("\n")
    assert lines[0] == "tries that ended in each minute of the last hour, 8 at most"
    assert [line.rstrip() for line in lines[1:]] == [" " * 59 + "█"] * 4


def test_the_workers() -> None:
    workers = [
        worker(),
        worker("web-2-4702", running=0, queues=("mail",), seen_at=ago(40), started_at=None, loop_lag=12.0),
    ]
    assert lines_of(worker_table(workers, NOW), 100) == [
        "worker      running  queues      lag   seen   up  host    pid  version",
        "web-1-4711     3/20  mail, web  1 ms  2.0 s  2 h  web-1  4711  0.1.0",
        "web-2-4702     0/20  mail       12 s   40 s       web-1  4711  0.1.0",
    ]


JOBS = {
    "Ready": [job(), job("b" * 60, key="customer-7", retries=2, error="builtins.KeyError")],
    "Running": [job(status=JobStatus.RUNNING, started_at=ago(12), worker="web-1-4711")],
    "Waiting": [
        job(status=JobStatus.WAITING, at=ago(-3600)),
        job("late", JobStatus.WAITING, at=ago(1)),
        job("lost", JobStatus.WAITING, parked_at=ago(60)),
    ],
    "Dead": [job(status=JobStatus.FAILED, retries=3, error="builtins.KeyError", created_at=ago(7200))],
}


def test_the_jobs_of_each_state_in_a_narrow_terminal() -> None:
    assert {tab.title: lines_of(job_table(tab, JOBS[tab.title], NOW), 80) for tab in TABS} == {
        "Ready": [
            "task  id                                      waits  tries  key       error",
            "send  order-17                                 90 s    1/4",
            f"send  {'b' * 37}…   90 s    3/4  custome…  builtins.…",
        ],
        "Running": [
            "task  id        runs  tries  key  worker      error",
            "send  order-17  12 s    1/4       web-1-4711",
        ],
        "Waiting": [
            "task  id        due in  tries  key  error",
            "send  order-17  60 min    1/4",
            "send  late         now    1/4",
            "send  lost      parked    1/4",
        ],
        "Dead": [
            "task  id        created  tries  key  error",
            "send  order-17      2 h    4/4       builtins.KeyError",
        ],
    }


def test_a_table_of_jobs_has_no_arguments_and_escapes_names() -> None:
    hostile = job(HOSTILE, key=HOSTILE, error=HOSTILE, task_name="")
    text = "\n".join(lines_of(job_table(TABS[0], [hostile], NOW), 200))
    assert "CANARY" not in text
    assert "\x1b" not in text
    assert "unreadable" in text


def jobs(page: Page, tab: int = 0, words: Filter | None = None, number: int = 1) -> Jobs:
    counts = QueueCounts(ready=0, running=0, waiting=1200, dead=4, parked=11, oldest=None, workers=0)
    minutes: list[MinuteRow] = []
    seen = QueueOverview(counts=counts, pauses=[], slots=0, minutes=minutes)
    return Jobs(NOW, seen, page, tab, words or Filter(), number)


def test_the_tabs_have_counts_and_parked_jobs_wait() -> None:
    assert counts_of(jobs(Page([], None, False)).queue.counts) == ["0", "0", "1,211", "4"]
    assert tab_bar([("Ready", "0"), ("Dead", "4")], 1).plain == " Ready 0   Dead 4 "


def test_a_page_is_described_where_it_is_not_the_whole() -> None:
    whole = jobs(Page([job()], None, False))
    assert filter_words(Filter(), whole).plain == ""
    second = jobs(Page([job()], "cursor", True), words=Filter(key="ann"), number=2)
    assert filter_words(second.filter, second).plain == (
        "only key=ann  (escape shows all)   page 2   10,000 jobs were looked at: > goes on with the next ones"
    )
    assert filter_words(Filter(key="ann"), None).plain == "only key=ann  (escape shows all)"


def test_empty_tabs_teach() -> None:
    nothing = Page([], None, False)
    texts = [teaching(jobs(nothing, tab)) for tab in range(4)]
    assert len(set(texts)) == 4
    assert teaching(jobs(nothing, words=Filter(id="order-17"))) == (
        "No job of this queue has the id order-17: it has ended, or was never here."
    )
    assert teaching(jobs(nothing, words=Filter(task="send"))) == "No job here fits the filter."


# One job.


def page(seen: JobSeen) -> list[str]:
    return [line.rstrip() for line in job_page(seen).plain.split("\n")]


def explained(verdict: Verdict, sentence: str, **fields: Any) -> Explanation:
    return Explanation(verdict=verdict, sentence=sentence, **fields)


def test_the_page_of_a_running_job_with_its_stack() -> None:
    running = job(
        status=JobStatus.RUNNING,
        started_at=ago(12),
        worker="web-1-4711",
        key="customer-7",
        crashes=1,
        progress=Progress(450, 1000, "rows", ago(1)),
    )
    why = explained(Verdict.RUNNING, "runs since 08:01:00, for 12 s, on web-1-4711", job=running)
    stack = Stack(NOW, ("/srv/shop/mail.py:12 send", "/srv/shop/smtp.py:40 talk"))
    assert page(JobSeen(running, why, NOW, stack=stack)) == [
        "Job order-17 runs since 08:01:00, for 12 s, on web-1-4711.",
        "",
        "task      send",
        "id        order-17",
        "queue     mail",
        "status    running",
        "created   2026-11-29 07:59:42 UTC, 90 s ago",
        "started   2026-11-29 08:01:00 UTC, 12 s ago",
        "worker    web-1-4711",
        "progress  450 of 1,000 rows (45 %)",
        "try       1 of 4",
        "crashes   1 of its workers disappeared",
        "key       customer-7",
        "",
        "Stack at 08:01:12 UTC",
        "  /srv/shop/mail.py:12 send",
        "  /srv/shop/smtp.py:40 talk",
    ]
    silent = page(JobSeen(running, why, NOW, stack=Stack(NOW, None)))
    assert silent[-1] == "The job does not run, or its worker has not answered within two seconds."


def test_the_page_of_a_dead_job_has_its_traceback() -> None:
    failed = job(status=JobStatus.FAILED, retries=3, error="builtins.KeyError")
    dead = DeadJob(
        job=failed,
        died_at=ago(60),
        reason="exhausted",
        error="builtins.KeyError",
        message="'ann'",
        traceback="Traceback (most recent call last):\n  File \x1b[2J\nKeyError: 'ann'\n",
    )
    why = explained(Verdict.DEAD, "is dead since 08:00:12: exhausted, builtins.KeyError", job=failed)
    lines = page(JobSeen(failed, why, NOW, dead))
    assert lines[0] == "Job order-17 is dead since 08:00:12: exhausted, builtins.KeyError."
    assert lines[-7:] == [
        "",
        "Died 2026-11-29 08:00:12 UTC, 60 s ago  reason: exhausted",
        "builtins.KeyError: 'ann'",
        "",
        "Traceback (most recent call last):",
        r"  File \x1b[2J",
        "KeyError: 'ann'",
    ]
    assert "error     builtins.KeyError" not in lines
    assert "status    dead" in lines


def test_the_page_of_other_jobs_and_no_arguments() -> None:
    parked = job(status=JobStatus.WAITING, parked_at=ago(60), at=ago(-60), error="builtins.KeyError")
    why = explained(Verdict.PARKED, "is parked", job=parked)
    lines = page(JobSeen(parked, why, NOW))
    assert lines[-2:] == [
        "error     builtins.KeyError",
        "parked    2026-11-29 08:00:12 UTC, 60 s ago",
    ]
    assert "due       2026-11-29 08:02:12 UTC, in 60 s" in lines
    gone = page(JobSeen(job(HOSTILE), explained(Verdict.UNKNOWN, "is unknown"), NOW))
    assert "status    stored no more" in gone
    text = "\n".join([*lines, *gone])
    assert "CANARY" not in text
    assert "\x1b" not in text


# The edges of a screen.


def test_the_title_leaves_out_what_has_no_room() -> None:
    right = Content("43 of 48 slots busy")
    assert title_bar(["aiospinach", "shop"], right, 60).plain == (
        "aiospinach / shop                        43 of 48 slots busy"
    )
    assert title_bar(["aiospinach", "shop"], right, 32).plain == "aiospinach / shop  43 of 48 slo…"
    assert title_bar(["aiospinach", "shop"], right, 12).plain == "aiospinach …"


def test_a_store_that_is_away_is_named_with_the_moment_of_its_first_error() -> None:
    def line(connection: Connection, now: datetime = NOW) -> str:
        return status_line(connection, Content("note"), now).plain

    fresh = Connection().answered(ago(30))
    assert line(fresh) == "note"
    away = fresh.failed(ago(20), "no answer").failed(ago(10), "connection refused\x1b[2J")
    assert line(away) == (
        r"No data since 08:00:52 UTC, for 20 s. The last data is shown. connection refused\x1b[2J"
    )
    assert line(Connection().failed(ago(3), "refused")) == "No data since 08:01:09 UTC, for 3.0 s. refused"
    assert line(away.answered(NOW)) == "note"
