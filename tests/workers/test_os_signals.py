"""SIGINT and SIGTERM: the first drains the workers, the second cancels bodies; handlers are restored."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from aiospinach import Engine, MemoryBroker, signals

from ..conftest import Heard
from ..waiting import until
from .failing import FailingBroker

ROOT = Path(__file__).parents[2]

PROGRAM = textwrap.dedent(
    """
    import asyncio, logging, signal, sys
    from aiospinach import Engine, MemoryBroker, signals

    def say(*words):
        print(*words, flush=True)

    class Say(logging.Handler):
        def emit(self, record):
            say(record.levelname, record.getMessage().split(":")[0])

    logging.getLogger("aiospinach").setLevel("INFO")
    logging.getLogger("aiospinach").addHandler(Say())
    engine = Engine(MemoryBroker())

    @engine.task(max_retries=1)
    async def job(number):
        say("began", number)
        try:
            await asyncio.to_thread(sys.stdin.readline)
        except asyncio.CancelledError:
            say("cancelled", number)
            await asyncio.sleep(0.01)
            say("cleaned", number)
            raise
        say("ended", number)

    @signals.job_finished.connect
    def finished(namespace, job, err, **kwargs):
        say("finished", job.status.name, type(err).__name__)

    @signals.worker_terminated.connect
    def terminated(namespace, **kwargs):
        say("terminated")

    def handlers():
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    async def main():
        before = handlers()
        await job.schedule(1)
        await job.schedule(2)
        await engine.start_workers(1)
        say("restored", handlers() == before)

    if sys.argv[1] == "uvloop":
        import uvloop
        new_loop = uvloop.new_event_loop
    else:
        new_loop = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    say("over")
    """
)


class Program:
    """The program above, in a process of its own."""

    def __init__(self, path: Path, loop: str) -> None:
        path.write_text(PROGRAM)
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(path), loop],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.lines: list[str] = []

    def wait_for(self, line: str) -> None:
        """Read the program's output up to this line."""
        for printed in self._stream(self.process.stdout):
            self.lines.append(printed.rstrip("\n"))
            if self.lines[-1] == line:
                return
        raise AssertionError(f"it did not print {line!r}, but {self.lines}")

    def answer(self) -> None:
        """Write the line that a body waits for."""
        stream = self._stream(self.process.stdin)
        stream.write("\n")
        stream.flush()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> int:
        """Read the output to its end, and return the exit status."""
        self.lines += [line.rstrip("\n") for line in self._stream(self.process.stdout)]
        return self.process.wait(30)

    @staticmethod
    def _stream(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream


@pytest.fixture
def program(tmp_path: Path, loop_name: str) -> Iterator[Program]:
    program = Program(tmp_path / "program.py", loop_name)
    with program.process as process:
        yield program
        if process.poll() is None:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_running_jobs_finish(program: Program, number: signal.Signals) -> None:
    program.wait_for("began 1")
    program.send(number)
    program.wait_for(f"WARNING {number.name}")
    program.answer()
    assert program.end() == 0
    assert [
        line for line in program.lines if not line.startswith(("INFO worker", "WARNING MemoryBroker"))
    ] == [
        "began 1",
        f"WARNING {number.name}",
        "ended 1",
        "finished SUCCEEDED NoneType",
        "terminated",
        "restored True",
        "over",
    ]


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_cancels_the_bodies(
    program: Program, first: signal.Signals, second: signal.Signals
) -> None:
    program.wait_for("began 1")
    program.send(first)
    program.wait_for(f"WARNING {first.name}")
    program.send(second)
    program.wait_for("restored True")
    program.answer()  # ends the thread that reads, which the body started and left behind
    assert program.end() == 0
    assert [
        line
        for line in program.lines
        if not line.startswith(("INFO <Job", "INFO worker", "WARNING MemoryBroker"))
    ] == [
        "began 1",
        f"WARNING {first.name}",
        f"WARNING {second.name}",
        "cancelled 1",
        "cleaned 1",
        "finished QUEUED Interrupted",
        "terminated",
        "restored True",
        "over",
    ]


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="tests run in another thread"
)
async def test_handlers_are_installed_while_a_start_blocks_and_restored_afterwards(
    engine: Engine, heard: Heard
) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    during: list[object] = []
    signals.worker_started.connect(
        lambda namespace, **kwargs: during.append(signal.getsignal(signal.SIGTERM)), engine.namespace
    )
    for _ in range(3):
        await engine.start_workers(stop_when_queue_empty=True)
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert len(during) == 3
    assert before[1] not in during


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="tests run in another thread"
)
async def test_two_engines_both_stop_and_the_last_restores_the_handlers(
    engine: Engine, namespace: str
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    other = Engine(MemoryBroker(), f"{namespace}-other")
    ended: list[str] = []
    signals.worker_terminated.connect(lambda namespace, **kwargs: ended.append(namespace))
    first = asyncio.create_task(engine.start_workers())
    await until(lambda: signal.getsignal(signal.SIGTERM) != before, "the handlers are installed")
    second = asyncio.create_task(other.start_workers())
    await until(lambda: other.health().is_running and engine.health().is_running, "both run")
    await engine.stop_workers()
    await first
    assert signal.getsignal(signal.SIGTERM) != before
    os.kill(os.getpid(), signal.SIGTERM)
    await second
    assert ended == [engine.namespace, other.namespace]
    assert signal.getsignal(signal.SIGTERM) == before


async def test_handlers_are_restored_after_a_start_that_failed(namespace: str) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    broker = FailingBroker()
    broker.broken["open"] = RuntimeError
    with pytest.raises(RuntimeError):
        await Engine(broker, namespace).start_workers()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


async def test_handlers_are_restored_after_a_start_that_was_cancelled(engine: Engine, heard: Heard) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    task = asyncio.create_task(engine.start_workers())
    await until(lambda: heard.count("worker_started"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


async def test_a_start_that_does_not_block_installs_no_handlers(engine: Engine) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    await engine.start_workers(block=False)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    await engine.stop_workers()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


async def test_a_start_in_another_thread_installs_no_handlers(namespace: str, heard: Heard) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    engine = Engine(FailingBroker(), namespace)
    thread = threading.Thread(target=lambda: asyncio.run(engine.start_workers()), daemon=True)
    thread.start()
    await until(lambda: heard.count("worker_started"))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    await engine.stop_workers()
    await until(lambda: not thread.is_alive())
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


TERMINATES_A_CHILD = """
import asyncio, multiprocessing, signal, time
from aiospinach import Engine, MemoryBroker

engine = Engine(MemoryBroker())
codes = []

def sleep(began):
    began.set()
    time.sleep(30)

@engine.task
def job() -> None:
    context = multiprocessing.get_context("fork")
    began = context.Event()
    child = context.Process(target=sleep, args=(began,))
    child.start()
    began.wait()
    child.terminate()
    child.join(10)
    codes.append(child.exitcode)
    child.kill()

async def main() -> None:
    await job.schedule()
    await engine.start_workers(stop_when_queue_empty=True)

asyncio.run(main())
assert codes == [-signal.SIGTERM], codes
"""


async def test_a_child_process_of_a_job_has_the_handlers_from_before_the_start() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TERMINATES_A_CHILD, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_handler_of_a_surrounding_server_is_called_as_well(
    engine: Engine, heard: Heard, number: signal.Signals
) -> None:
    of_the_server: list[int] = []
    before = signal.signal(number, lambda number, frame: of_the_server.append(number))
    try:
        workers = asyncio.create_task(engine.start_workers())
        await until(lambda: heard.count("worker_started"))
        await until(lambda: engine.health().is_connected)
        os.kill(os.getpid(), number)
        await workers
        assert of_the_server == [number]
    finally:
        signal.signal(number, before)
