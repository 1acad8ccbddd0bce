"""The terminal view in the hand of a user: keys, and what they show and do, on every broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import BrokerUnavailable, Engine, InvalidValue, JobStatus, MemoryBroker
from aiospinach.brokers.questions import Question
from aiospinach.top import TopApp, run_top
from aiospinach.top.app import show

from .samples import HOSTILE
from .screens import Driver, app_of


@asynccontextmanager
async def opened(engine: Engine, size: tuple[int, int] = (120, 30)) -> AsyncIterator[Driver]:
    app = app_of(engine)
    async with app.run_test(size=size) as pilot:
        yield Driver(app, pilot)


async def status_of(engine: Engine, job_id: str) -> JobStatus | None:
    found = await engine.job(job_id)
    return None if found is None else found.status


async def wait_for_status(engine: Engine, job_id: str, status: JobStatus | None) -> None:
    async with asyncio.timeout(10):
        while await status_of(engine, job_id) is not status:
            await asyncio.sleep(0.01)


async def test_a_failed_job_is_found_explained_and_requeued(engine: Engine) -> None:
    @engine.task(queue="mail", name="send")
    async def send(to: str) -> None:
        raise KeyError("no such address")

    @engine.task(queue="web", name="fetch")
    async def fetch() -> None: ...

    await send.options(id="order-17").schedule("CANARY")
    await engine.start_workers(stop_when_queue_empty=True)
    async with opened(engine) as user:
        screen = await user.until("mail", "web", "dead", "no worker")
        assert "order-17" not in screen
        await user.press("enter")
        await user.until("Ready 0", "Dead 1", "No job is ready")
        await user.press("left")
        await user.until("order-17", "send", "KeyError", "r Requeue", "D Discard")
        await user.press("enter")
        screen = await user.until("Job order-17 died at", "exhausted", "Traceback", "no such address")
        assert "CANARY" not in screen
        await user.press("r")
        await user.until("order-17 was queued again", "no live worker consumes the queue mail")
        assert await status_of(engine, "order-17") is JobStatus.QUEUED
        await user.press("escape", "escape")
        screen = await user.until("aiospinach /", "web", "no worker")
        await user.press("escape")
        assert "web" in await user.until("no worker"), "the first screen stays"


async def test_a_job_is_cancelled_only_if_the_user_is_sure(engine: Engine) -> None:
    @engine.task(queue="mail", name="send")
    async def send() -> None: ...

    for number in range(3):
        await send.options(id=f"order-{number}").schedule()
    async with opened(engine) as user:
        await user.until("mail")
        await user.press("enter")
        await user.until("order-0", "order-2", "C Cancel")
        await user.press("down", "C")
        await user.until("Cancel job order-1 of task send?", "This cannot be undone.")
        await user.press("n")
        await user.until("order-1", without=["cannot be undone"])
        assert await status_of(engine, "order-1") is JobStatus.QUEUED
        await user.press("C", "y")
        screen = await user.until("order-1 was cancelled, and never runs", "Ready 2")
        assert "order-0" in screen
        assert await status_of(engine, "order-1") is None


async def test_a_job_that_waits_is_run_now_and_a_dead_one_is_discarded(engine: Engine) -> None:
    @engine.task(queue="mail", name="send")
    async def send() -> None:
        raise ValueError

    await send.options(id="dead").schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    await send.options(id="later").schedule_at(datetime.now(UTC) + timedelta(hours=3))
    async with opened(engine) as user:
        await user.until("mail")
        await user.press("enter", "right", "right")
        await user.until("later", "due in", "2 h", "n Run now")
        await user.press("n")
        await user.until("later was queued, to run now", "No job waits")
        assert await status_of(engine, "later") is JobStatus.QUEUED
        await user.press("right")
        await user.until("ValueError", "D Discard")
        await user.press("D", "y")
        await user.until("dead was discarded", "Well done")
        assert await status_of(engine, "dead") is None


async def test_a_queue_is_paused_with_a_reason_and_resumed(engine: Engine) -> None:
    @engine.task(queue="mail", name="send")
    async def send() -> None: ...

    await send.schedule()
    async with opened(engine) as user:
        await user.until("mail", "p Pause", without=["u Resume"])
        await user.press("p")
        await user.until("Pause the queue mail?")
        await user.press("escape")
        await user.until("p Pause", without=["Pause the queue"])
        assert await engine.pauses() == []
        await user.press("p")
        await user.type("provider is down")
        await user.press("enter")
        await user.until("paused", "until it is resumed: provider is down", "u Resume")
        [pause] = await engine.pauses()
        assert (pause.queue, pause.task, pause.reason) == ("mail", None, "provider is down")
        await user.press("u")
        await user.until("the queue mail goes on", without=["u Resume"])
        assert await engine.pauses() == []


async def test_resume_ends_the_pauses_of_tasks_also_of_those_that_are_not_attached(engine: Engine) -> None:
    @engine.task(queue="mail", name="send")
    async def send() -> None: ...

    await send.schedule()
    await engine.pause(send)
    await engine.pause("old_task", queue="mail", reason="gone")
    async with opened(engine) as user:
        await user.until("2 tasks paused", "task old_task has been paused")
        await user.press("enter")
        await user.until("task old_task has been paused", "u Resume")
        await user.press("u")
        await user.until("old_task, send of the queue mail go on", without=["been paused"])
    assert await engine.pauses() == []


async def test_a_filter_shows_some_jobs_until_escape(engine: Engine) -> None:
    @engine.task(queue="mail", name="send")
    async def send() -> None: ...

    @engine.task(queue="mail", name="digest")
    async def digest() -> None: ...

    await send.options(id="first", key="ann").schedule()
    await digest.options(id="second").schedule()
    async with opened(engine) as user:
        await user.until("mail")
        await user.press("enter")
        await user.until("first", "second")
        for typed, shown, hidden in (
            ("digest", "second", "first "),
            ("key=ann", "first", "second"),
            ("id=second", "second", "first "),
        ):
            await user.press("slash")
            await user.until("Show only jobs with")
            await user.type(typed)
            await user.press("enter")
            await user.until("only ", shown, without=[hidden, "Show only"])
            await user.press("escape")
            await user.until("first", "second", without=["only "])
        await user.press("slash")
        await user.type("colour=red")
        await user.press("enter")
        await user.until("the filter has 'colour=red'")
        await user.press("escape")
        await user.until("first", "second", without=["Show only"])
        await user.press("slash")
        await user.type("task=a,b")
        await user.press("enter")
        await user.until("task name 'a,b'", without=["No data since"])
        await user.press("escape")
        await user.until("first", "second", without=["only "])
        await user.press("slash")
        await user.type("id=nobodys")
        await user.press("enter")
        await user.until("No job of this queue has the id nobodys")


async def test_pages_go_on_and_back(engine: Engine) -> None:
    @engine.task(queue="mail", name="send")
    async def send() -> None: ...

    for number in range(45):
        await send.options(id=f"job-{number:02}").schedule()
    async with opened(engine, (80, 24)) as user:
        await user.until("mail")
        await user.press("enter")
        first = await user.until("job-00", "> Next", without=["< Before"])
        shown = first.count("job-")
        assert 10 <= shown < 24, "a page has as many jobs as there is room for"
        await user.press("greater_than_sign")
        await user.until(f"job-{shown:02}", "page 2", "< Before", without=["job-00"])
        await user.press("less_than_sign")
        await user.until("job-00", without=["page 2"])


async def test_the_stack_of_a_running_job_is_asked_for(engine: Engine) -> None:
    release = asyncio.Event()

    @engine.task(queue="mail", name="hold")
    async def hold() -> None:
        await release.wait()

    await hold.options(id="held").schedule()
    await engine.start_workers(1, block=False)
    await wait_for_status(engine, "held", JobStatus.RUNNING)
    async with opened(engine) as user:
        await user.until("mail")
        await user.press("enter", "right")
        await user.until("held", "Running 1", "1/1")
        await user.press("enter")
        await user.until("Job held has run since", "s Stack")
        await user.press("s")
        await user.until("Stack at", "test_app.py", " hold")
        release.set()
        await user.until("stored no more", without=["s Stack"])


async def test_the_workers_are_listed(engine: Engine) -> None:
    @engine.task(queue="mail", name="send")
    async def send() -> None: ...

    await send.schedule_at(datetime.now(UTC) + timedelta(hours=3))
    async with opened(engine) as user:
        await user.until("mail", "w Workers")
        await user.press("w")
        await user.until("No worker is alive")
        await engine.start_workers(7, block=False)
        async with asyncio.timeout(10):
            while not (workers := await engine.workers()):
                await asyncio.sleep(0.01)
        await user.until(workers[0].name, "0/7", "0 of 7 slots busy", without=["No worker is alive"])
        await user.press("escape")
        await user.until("1 worker consumes the queue mail, with 7 slots")


async def test_the_highlight_stays_on_its_row(engine: Engine) -> None:
    for name in ("mail", "web"):

        @engine.task(queue=name, name=f"{name}.work")
        async def work() -> None: ...

    async with opened(engine) as user:
        await user.until("mail", "web")
        await user.press("down")

        @engine.task(queue="images", name="images.work")
        async def images() -> None: ...

        await engine.schedule("web.work")
        await user.until("images", "no live worker consumes the queue web")


async def test_hostile_names_reach_no_terminal(engine: Engine) -> None:
    @engine.task(queue="mail", name="send")
    async def send() -> None:
        raise ValueError(HOSTILE.encode(errors="replace").decode())

    await send.options(id="order-17", key="価格\u202e\x1b[2Jkey").schedule()
    await engine.pause(queue="mail", reason="\x1b]0;title\x07")
    async with opened(engine, (80, 24)) as user:
        screen = await user.until("mail", r"\x1b]0;title\x07")
        await user.press("enter")
        screen += await user.until("価格")
        await user.press("enter")
        screen += await user.until(r"\u202e\x1b[2Jkey")
    assert not set(screen) & {"\x1b", "\x07", "\u202e"}


async def test_an_empty_namespace_teaches(namespace: str) -> None:
    async with Engine(MemoryBroker(), namespace) as engine, opened(engine, (80, 24)) as user:
        await user.until("No queue to show", "aiospinach top app:engine", without=["p Pause"])
        await user.press("p", "u", "enter")

        @engine.task(queue="mail", name="send")
        async def send() -> None: ...

        await user.until("No job has been scheduled in the namespace", "mail")


class Away(MemoryBroker):
    """Does not answer while it is away."""

    is_away = False

    async def overview(self, *args: Any) -> Any:
        self.check()
        return await super().overview(*args)

    async def look(self, queue: str, question: Question[Any]) -> Any:
        self.check()
        return await super().look(queue, question)

    def check(self) -> None:
        if self.is_away:
            raise BrokerUnavailable("redis://db-1:6379 does not answer")


async def test_a_store_that_is_away_keeps_the_last_data_on_the_screen(namespace: str) -> None:
    broker = Away()
    async with Engine(broker, namespace) as engine:

        @engine.task(queue="mail", name="send")
        async def send() -> None: ...

        await send.schedule()
        async with opened(engine) as user:
            await user.until("mail", without=["No data since"])
            broker.is_away = True
            await user.until("mail", "No data since", "The last data is shown", "db-1:6379 does not answer")
            await user.press("u")
            await user.press("enter")
            await user.until("No data since")
            broker.is_away = False
            await user.until("send", "Ready 1", without=["No data since"])
            await user.press("C")
            broker.is_away = True
            await user.press("n", "escape")
            await user.until("mail", "No data since")


async def test_an_action_that_fails_is_reported(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = MemoryBroker()

    async def refuse(queue: str, act: object) -> None:
        raise BrokerUnavailable("redis://db-1:6379 does not answer")

    async with Engine(broker, namespace) as engine:

        @engine.task(queue="mail", name="send")
        async def send() -> None: ...

        await send.schedule()
        monkeypatch.setattr(broker, "steer", refuse)
        async with opened(engine) as user:
            await user.until("mail")
            await user.press("p", "enter")
            await user.until("db-1:6379 does not answer", without=["No data since"])


async def test_keys_that_come_while_the_store_is_asked_are_not_mixed_up(namespace: str) -> None:
    class Slow(MemoryBroker):
        async def overview(self, *args: Any) -> Any:
            await asyncio.sleep(0.1)
            return await super().overview(*args)

    async with Engine(Slow(), namespace) as engine:

        @engine.task(queue="mail", name="send")
        async def send() -> None: ...

        for number in range(45):
            await send.options(id=f"job-{number:02}").schedule()
        async with opened(engine, (80, 24)) as user:
            await user.until("mail")
            await user.press("enter")
            await user.until("job-00", "> Next")
            await user.press("greater_than_sign", "right")
            await user.press("right", "left", "left")
            await user.until("job-00", without=["page 2", "after="])
            await user.press("greater_than_sign")
            await user.until("page 2", without=["job-00"])
            await user.press("right")
            await user.until("No job runs", without=["page 2", "after="])


@pytest.mark.parametrize("size", [(80, 24), (200, 60), (30, 8)])
async def test_it_is_drawn_in_every_size(engine: Engine, size: tuple[int, int]) -> None:
    @engine.task(queue="mail", name="send")
    async def send() -> None: ...

    for _ in range(3):
        await send.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    await send.options(id="order-17").schedule()
    async with opened(engine, size) as user:
        screen = await user.until("mail")
        assert max(map(len, screen.split("\n"))) <= size[0]
        assert ("tries that ended in each minute" in screen) == (size[1] >= 28)
        await user.pilot.resize_terminal(100, 40)
        await user.until("tries that ended in each minute")
        await user.press("enter")
        await user.until("order-17")


async def test_q_ends_it_and_closes_the_connections(engine: Engine) -> None:
    @engine.task(queue="mail", name="send")
    async def send() -> None: ...

    app = app_of(engine)
    async with app.run_test() as pilot:
        await Driver(app, pilot).until("mail")
        await pilot.press("q")
    assert not app.is_running


async def test_the_connections_are_closed_also_if_the_store_is_away(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    closed: list[bool] = []

    async def run() -> None: ...

    async def aclose() -> None:
        closed.append(True)

    engine = Engine(broker, namespace)
    app = app_of(engine)
    monkeypatch.setattr(app, "run_async", run)
    monkeypatch.setattr(broker, "aclose", aclose)
    await show(app, engine)
    assert closed == [True]

    async def refuse(namespace: str, *, until: float | None = None) -> None:
        raise BrokerUnavailable("redis://db-1:6379 does not answer")

    monkeypatch.setattr(broker, "open", refuse)
    await show(app, engine)


@pytest.mark.parametrize("interval", [0, 0.01, 4000, "2", True, float("nan")])
def test_a_bad_interval_is_refused(interval: Any) -> None:
    with pytest.raises(InvalidValue, match=r"interval= takes 0\.1 to 3600 seconds"):
        run_top(Engine(MemoryBroker()), interval=interval)


def test_only_an_engine_is_shown() -> None:
    with pytest.raises(InvalidValue, match="top takes an Engine, not str"):
        TopApp("app:engine")  # type: ignore[arg-type]
