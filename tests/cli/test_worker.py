"""The command worker: its signals, exit codes, probes, recycling and supervised processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from aiospinach import Batch, Engine, RedisBroker
from aiospinach.cli.address import address_of
from aiospinach.cli.exits import WrongUsage
from aiospinach.cli.supervisor import Supervisor

from ..faults.ledger import Ledger
from ..faults.worker import faulty_tasks
from ..servers import Server, free_port
from ..waiting import until
from .conftest import CommandLine
from .processes import WorkerCommand, probe, probed

pytestmark = pytest.mark.large


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger")
    yield ledger
    ledger.close()


@pytest.fixture
def worker(tmp_path: Path, ledger: Ledger, url: str, namespace: str) -> Iterator[WorkerCommand]:
    worker = WorkerCommand(tmp_path, ledger, url, namespace)
    yield worker
    worker.close()


@pytest.fixture
async def engine(url: str, namespace: str, ledger: Ledger) -> AsyncIterator[Engine]:
    async with Engine(RedisBroker(url), namespace) as engine:
        engine.attach_tasks(faulty_tasks(ledger))
        yield engine


async def begun(ledger: Ledger, worker: WorkerCommand, key: str) -> None:
    await until(lambda: ledger.of("start", key), f"{key} starts", timeout=20, show=lambda: worker.log)


@pytest.mark.parametrize("options", [[], ["--processes", "2"]], ids=["one", "supervised"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_running_jobs_end(
    worker: WorkerCommand, engine: Engine, ledger: Ledger, options: list[str], number: signal.Signals
) -> None:
    process = worker.start(*options)
    await engine.schedule("once", "a", 1.0)
    await begun(ledger, worker, "a")
    process.send_signal(number)
    assert await worker.ended() == 0, worker.log
    assert ledger.counted("end") == {"a": 1}


@pytest.mark.parametrize("options", [[], ["--processes", "2"]], ids=["one", "supervised"])
async def test_a_second_signal_cancels_running_jobs(
    worker: WorkerCommand, engine: Engine, ledger: Ledger, options: list[str]
) -> None:
    process = worker.start(*options)
    await engine.schedule("again", "a", 300)
    await begun(ledger, worker, "a")
    process.send_signal(signal.SIGTERM)
    await worker.logs("once more cancels them")
    process.send_signal(signal.SIGTERM)
    assert await worker.ended() == 0, worker.log
    assert ledger.counted("cancelled") == {"a": 1}
    job = await anext(engine.jobs())
    assert job.retries == 0


async def test_a_signal_after_the_end_of_the_workers_is_no_failure(worker: WorkerCommand) -> None:
    worker.text += """
import atexit, sys, time

@atexit.register
def leave() -> None:
    print("leaving", file=sys.stderr, flush=True)
    time.sleep(30)
"""
    worker.program.write_text(worker.text)
    process = worker.start("--processes", "2")
    await worker.up(2)
    process.send_signal(signal.SIGTERM)
    await until(lambda: worker.log.count("leaving") == 2, "both leave", show=lambda: worker.log)
    process.send_signal(signal.SIGTERM)
    assert await worker.ended() == 0, worker.log


async def test_running_jobs_are_cancelled_after_the_time_out(
    worker: WorkerCommand, engine: Engine, ledger: Ledger
) -> None:
    worker.start("--shutdown-timeout", "0.5", "-p", "2")
    await engine.schedule("again", "a", 300)
    await begun(ledger, worker, "a")
    began = time.monotonic()
    assert await worker.stop() == 0, worker.log
    assert time.monotonic() - began < 2.5
    assert ledger.counted("cancelled") == {"a": 1}


async def test_queues_are_named_in_their_order(worker: WorkerCommand) -> None:
    worker.text += "\n@engine.task(queue='mail')\nasync def mail() -> None: ...\n"
    worker.program.write_text(worker.text)
    worker.start("-q", "mail", "-q", "default", "-n", "7")
    await worker.logs("the queues mail, default, 7 at a time")
    assert await worker.stop() == 0


@pytest.mark.parametrize("processes", [1, 2])
async def test_probes_are_answered(
    worker: WorkerCommand, engine: Engine, ledger: Ledger, processes: int
) -> None:
    port = free_port()
    worker.start("--health", f"127.0.0.1:{port}", "-p", str(processes))
    await engine.schedule("once", "a", 0.0)
    ready = await probed(port, "/ready", 200, worker)
    if processes == 1:
        assert ready["is_connected"]
    else:
        assert [row["process"] for row in ready] == [1, 2]
        assert all(row["is_up"] and row["health"]["is_connected"] for row in ready)
        assert sorted(row["pid"] for row in ready) == sorted(worker.pids)
    assert (await probe(port, "/live")).status_code == 200
    await until(lambda: ledger.of("finished", "a"), "the job has ended", timeout=20)
    text = (await probe(port, "/metrics")).text
    assert 'outcome="succeeded"' in text
    assert ('process="2"' in text) == (processes == 2)
    assert (await probe(port, "/live?verbose=1")).status_code == 200
    assert (await probe(port, "/secret")).status_code == 404
    assert (await probe(port, "/live", "POST")).status_code == 405
    head = await probe(port, "/live", "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x" * 10_000 + b"\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 400")
    writer.close()
    assert await worker.stop() == 0, worker.log


@pytest.mark.parametrize("processes", [1, 2])
async def test_workers_without_a_store_are_live_and_not_ready(
    tmp_path: Path, ledger: Ledger, namespace: str, processes: int
) -> None:
    server = Server().start()
    worker = WorkerCommand(tmp_path, ledger, server.url, namespace)
    port = free_port()
    try:
        worker.start("--health", f"127.0.0.1:{port}", "-p", str(processes))
        await probed(port, "/ready", 200, worker)
        server.kill()
        await probed(port, "/ready", 503, worker)
        assert (await probe(port, "/live")).status_code == 200
        server.start()
        await probed(port, "/ready", 200, worker)
        assert await worker.stop() == 0
    finally:
        worker.close()
        server.close()


async def test_a_process_that_hangs_is_not_live(
    worker: WorkerCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    worker.start("--health", f"127.0.0.1:{port}", "-p", "2")
    first, _ = await worker.up(2)
    await probed(port, "/live", 200, worker)
    os.kill(first, signal.SIGSTOP)
    try:
        rows = await probed(port, "/live", 503, worker)
        assert sum(row["health"] is None for row in rows) == 1
    finally:
        os.kill(first, signal.SIGCONT)
    await probed(port, "/live", 200, worker)
    assert await worker.stop() == 0


async def test_a_port_in_use_is_one_sentence(worker: WorkerCommand) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        worker.start("--health", f"127.0.0.1:{taken.getsockname()[1]}")
        assert await worker.ended() == 1
    assert "aiospinach: --health cannot listen at 127.0.0.1:" in worker.log
    assert "Traceback" not in worker.log


@pytest.mark.parametrize("text", ["8081", "localhost", "localhost:", ":8081", "localhost:http", "h:99999"])
def test_other_texts_are_no_addresses(text: str) -> None:
    with pytest.raises(WrongUsage):
        address_of(text)


def test_addresses_are_read() -> None:
    assert str(address_of("127.0.0.1:8081")) == "127.0.0.1:8081"
    assert address_of("[::1]:80") == ("::1", 80)
    assert str(address_of("[::1]:80")) == "[::1]:80"


async def test_processes_are_recycled_and_no_job_is_lost(
    worker: WorkerCommand, engine: Engine, ledger: Ledger
) -> None:
    worker.start("--recycle-after", "10", "-n", "2")
    await worker.up(1)
    for number in range(35):
        await engine.schedule("once", f"once-{number}", 0.01)
    await until(lambda: len(ledger.counted("end")) == 35, "all have run", timeout=30, show=lambda: worker.log)
    assert set(ledger.counted("start").values()) == {1}
    assert len(await worker.up(4)) >= 4
    assert "ended" not in worker.log.replace("have ended", "")
    assert "recycling after 1" in worker.log, "10 jobs, or one more"
    assert await worker.stop() == 0, worker.log


@pytest.mark.parametrize("options", [[], ["-p", "3"], ["--recycle-after", "5"]], ids="-".join)
async def test_a_program_that_cannot_be_imported_ends_the_command(
    worker: WorkerCommand, options: list[str]
) -> None:
    worker.program.write_text("1 / 0")
    worker.start(*options)
    assert await worker.ended() == 2
    assert "the import of program raises ZeroDivisionError" in worker.log
    assert "Traceback" not in worker.log


@pytest.mark.parametrize("options", [[], ["-p", "2"]], ids=["one", "supervised"])
async def test_a_store_that_is_away_at_the_start_ends_the_command(
    tmp_path: Path, ledger: Ledger, namespace: str, options: list[str]
) -> None:
    worker = WorkerCommand(tmp_path, ledger, f"redis://:canary@127.0.0.1:{free_port()}/0", namespace)
    worker.start(*options)
    assert await worker.ended() == 3
    assert "does not answer" in worker.log
    assert "canary" not in worker.log


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--url", "redis://localhost"], "needs the program"),
        (["a:b", "-p", "0"], "--processes"),
        (["a:b", "-p", "-1"], "--processes"),
        (["a:b", "--recycle-after", "0"], "--recycle-after"),
        (["a:b", "--reload", "-p", "2"], "--reload"),
        (["a:b", "--health", "8081"], "HOST:PORT"),
        (["a:b", "-n", "many"], "many"),
        (["a:b", "-q", "mail=6", "-q", "web"], "-q web=3"),
        (["a:b", "-q", "mail=six"], "-q mail=3"),
        (["a:b", "-q", "mail=6", "-q", "mail=2"], "mail twice"),
    ],
)
async def test_wrong_options_are_wrong_usage(cli: CommandLine, options: list[str], words: str) -> None:
    code, _, err = await cli("worker", *options)
    assert code == 2
    assert words in err


SHARES = """
from pathlib import Path

from aiospinach import Engine, RedisBroker

engine = Engine(RedisBroker({url!r}), {namespace!r})

@engine.task(queue="mail")
def in_mail() -> None:
    with Path("starts").open("a") as file:
        file.write("m")

@engine.task(queue="web")
def in_web() -> None:
    with Path("starts").open("a") as file:
        file.write("w")
"""


@pytest.mark.parametrize("options", [[], ["--processes", "2"]], ids=["one", "supervised"])
async def test_queues_have_shares(
    worker: WorkerCommand, url: str, namespace: str, tmp_path: Path, options: list[str]
) -> None:
    batch = Batch()
    for task in ("in_web", "in_mail"):
        for _ in range(120):
            batch.schedule(task)
    async with Engine(RedisBroker(url), namespace) as engine:
        engine.task(name="in_web", queue="web")(lambda: None)
        engine.task(name="in_mail", queue="mail")(lambda: None)
        await engine.schedule_batch(batch)
    worker.program.write_text(SHARES.format(url=url, namespace=namespace))
    starts = tmp_path / "starts"
    worker.start("-n", "1", "-q", "web=1", "-q", "mail=3", *options)
    await until(lambda: starts.exists() and starts.stat().st_size == 240, timeout=30, show=lambda: worker.log)
    first = starts.read_text()[:80]
    assert 50 <= first.count("m") <= 70, first


async def test_processes_whose_supervisor_was_killed_drain(
    worker: WorkerCommand, engine: Engine, ledger: Ledger
) -> None:
    process = worker.start("-p", "2")
    pids = await worker.up(2)
    await engine.schedule("once", "a", 1.0)
    await begun(ledger, worker, "a")
    process.kill()
    process.wait()

    def live() -> list[int]:
        return [pid for pid in pids if Path(f"/proc/{pid}").exists()]

    await until(lambda: not live(), "the processes have ended", timeout=20, show=lambda: worker.log)
    assert ledger.counted("end") == {"a": 1}


async def test_two_signals_count_as_two_for_a_process_that_has_not_taken_the_first(
    worker: WorkerCommand, engine: Engine, ledger: Ledger
) -> None:
    process = worker.start("-p", "2", "--shutdown-timeout", "300")
    pids = await worker.up(2)
    for key in ("a", "b"):
        await engine.schedule("again", key, 300)
        await begun(ledger, worker, key)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for number in (1, 2):
        process.send_signal(signal.SIGTERM)
        await until(
            lambda: worker.log.count("it goes to all processes") == number,  # noqa: B023
            "the supervisor has passed it on",
            show=lambda: worker.log,
        )
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    assert await worker.ended(timeout=60) == 0


async def test_changes_during_a_drain_cancel_no_job(
    worker: WorkerCommand, engine: Engine, ledger: Ledger
) -> None:
    worker.start("--reload")
    await worker.up(1)
    await engine.schedule("once", "a", 2.0)
    await begun(ledger, worker, "a")
    for number in range(3):
        worker.program.write_text(f"{worker.text}\n# {number}\n")
        await until(
            lambda: worker.log.count("program.py changed") > number,  # noqa: B023
            "the change is seen",
            timeout=20,
            show=lambda: worker.log,
        )
    assert not ledger.of("end"), "all changes were seen while the job ran"
    await worker.up(2)
    assert ledger.counted("end") == {"a": 1}
    assert not ledger.of("cancelled")
    assert await worker.stop() == 0, worker.log


async def test_a_reload_waits_for_running_jobs_and_for_a_program_that_can_be_imported(
    worker: WorkerCommand, engine: Engine, ledger: Ledger
) -> None:
    worker.start("--reload")
    await worker.up(1)
    await engine.schedule("once", "a", 0.5)
    await begun(ledger, worker, "a")
    worker.program.write_text(worker.text + "\ndef broken(:\n")
    await worker.logs("SyntaxError")
    await worker.logs("the next change of a file starts them again")
    assert ledger.counted("end") == {"a": 1}
    worker.program.write_text(
        worker.text + "\n@engine.task\nasync def new() -> None: ledger.write('new', 'x')\n"
    )
    await worker.up(2)
    await engine.schedule("once", "b", 0.0)
    await until(lambda: ledger.of("end", "b"), "the new process runs jobs", timeout=20)
    assert await worker.stop() == 0, worker.log


# The supervisor by itself.

UP = "import os; os.write(0, b'up\\n'); "


def supervised(code: str, number: int = 1) -> Supervisor:
    return Supervisor([sys.executable, "-c", code], number)


async def test_a_process_that_ends_is_started_again_with_growing_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = asyncio.create_task(supervised(UP + "raise SystemExit(9)").run())
    await until(lambda: "started in 2 s" in caplog.text, "pauses grow", timeout=20)
    assert caplog.text.index("started in 0.5 s") < caplog.text.index("started in 1 s")
    assert "ended with exit code 9" in caplog.text
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0


async def test_a_process_that_cannot_be_made_is_tried_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*command: str, **options: object) -> None:
        raise BlockingIOError("no more processes")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "create_subprocess_exec", refuse)
        supervisor = supervised(UP + "import time; time.sleep(60)")
        running = asyncio.create_task(supervisor.run())
        await until(lambda: "no process can be started" in caplog.text, "it is logged")
    await until(lambda: supervisor.processes[0] and supervisor.processes[0].is_up, timeout=20)
    os.kill(os.getpid(), signal.SIGTERM)
    await running


async def test_a_process_that_ends_badly_when_it_is_to_stop_is_not_well() -> None:
    code = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(4)); " + UP + "time.sleep(60)"
    supervisor = supervised(code, 2)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: all(each and each.is_up for each in supervisor.processes), timeout=20)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 1


async def test_a_process_that_cannot_start_ends_the_supervisor_and_the_others(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "try: os.mkdir(sys.argv[1])\n"
        "except FileExistsError: time.sleep(60)\n"
        "raise SystemExit(3)"
    )
    supervisor = Supervisor([sys.executable, "-c", code, str(tmp_path / "first")], 3)
    assert await supervisor.run() == 3
