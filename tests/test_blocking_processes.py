"""``engine.blocking`` at the end of the interpreter and across forks, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from .brokers_under_test import shared_server

START = """
import asyncio, collections, logging, os, sys, threading, time
from aiospinach import Engine, MemoryBroker, RedisBroker, Tasks

url, namespace = sys.argv[1:]
logging.getLogger("aiospinach").addHandler(logging.NullHandler())  # MemoryBroker warns of jobs at the end
engine = Engine(MemoryBroker() if url == "memory" else RedisBroker(url), namespace)
ran = collections.Counter()

@engine.task
async def job(number: int) -> None:
    ran[number] += 1

def schedule(first: int, last: int) -> None:
    for number in range(first, last):
        engine.blocking.schedule(job, number)

def in_threads(count: int, first: int, each: int) -> None:
    starts = range(first, first + count * each, each)
    threads = [threading.Thread(target=schedule, args=(start, start + each)) for start in starts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

def in_child(function) -> int:
    child = os.fork()
    if child == 0:
        function()
        sys.exit()  # as a server does, with all that happens at the end of the interpreter
    return child

def run_all() -> None:
    asyncio.run(engine.start_workers(100, stop_when_queue_empty=True))

def wait_for(*children: int) -> None:
    for child in children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
LAST_LINE = """
print(time.monotonic())
"""


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    return "memory" if request.param == "memory" else shared_server().url


def run(program: str, url: str, namespace: str) -> str:
    """What a process prints that runs the program; it must print no errors or warnings."""
    options = ["-W", "default", "-W", "ignore::DeprecationWarning"]  # Python 3.12 warns of forks with threads
    done = subprocess.run(
        [sys.executable, *options, "-c", START + program, url, namespace],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parent.parent,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


ENDS = {
    "after calls of many threads": "in_threads(32, 0, 10)",
    "with an open pool of threads": """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(4)
list(pool.map(lambda number: schedule(number, number + 1), range(8)))
""",
    "with a daemon thread that goes on": """
is_used = threading.Event()
def go_on():
    while True:
        schedule(0, 1)
        is_used.set()
threading.Thread(target=go_on, daemon=True).start()
is_used.wait()
""",
    "with a call at the exit": """
import atexit
schedule(0, 1)
atexit.register(schedule, 1, 2)
""",
    "after an exit": "schedule(0, 1)\nprint(time.monotonic())\nsys.exit()",
}


@pytest.mark.parametrize("program", ENDS.values(), ids=ENDS)
def test_the_interpreter_ends_within_a_second_and_leaves_nothing(
    program: str, url: str, namespace: str
) -> None:
    took = []
    for _ in range(3):  # a busy machine may be slow
        last = float(run(program + LAST_LINE, url, namespace))
        took.append(time.monotonic() - last)
        if took[-1] < 1:
            return
    pytest.fail(f"the interpreter took {took} seconds to end")


def test_the_end_of_the_interpreter_waits_for_the_call_of_a_daemon_thread(namespace: str) -> None:
    program = """
is_called = threading.Event()
class Slow(MemoryBroker):
    async def enqueue(self, *args, **kwargs):
        is_called.set()
        await asyncio.sleep(0.2)  # the main thread ends meanwhile
        stored = await super().enqueue(*args, **kwargs)
        print("stored", flush=True)
        return stored
engine = Engine(Slow(), namespace)
tasks = Tasks()
tasks.add(job)
engine.attach_tasks(tasks)
threading.Thread(target=schedule, args=(0, 1), daemon=True).start()
is_called.wait()
print("the main thread ends", flush=True)
"""
    assert run(program, "memory", namespace).splitlines() == ["the main thread ends", "stored"]


@pytest.mark.large
def test_children_of_a_process_that_made_calls_store_each_job_once(namespace: str) -> None:
    program = """
schedule(0, 10)
children = [in_child(lambda: in_threads(4, 10 + half * 5000, 1250)) for half in range(2)]
schedule(10_010, 10_020)  # the thread of the parent goes on
wait_for(*children)
run_all()
assert ran == collections.Counter(range(10_020)), len(ran)
"""
    run(program, shared_server().url, namespace)


def test_a_broker_in_memory_is_empty_in_a_child(namespace: str) -> None:
    program = """
def child():
    in_threads(4, 100, 10)
    run_all()
    assert ran == collections.Counter(range(100, 140)), ran
schedule(0, 10)
wait_for(in_child(child), in_child(child))
run_all()
assert ran == collections.Counter(range(10)), ran
"""
    run(program, "memory", namespace)


def test_a_fork_in_the_middle_of_calls_holds_up_neither_side(url: str, namespace: str) -> None:
    program = """
callers = [threading.Thread(target=schedule, args=(0, 300)) for _ in range(4)]
for caller in callers:
    caller.start()
children = [in_child(lambda: in_threads(2, 0, 20)) for _ in range(5)]
with engine._portal._lock:  # as if another thread had it at the moment of the fork
    children.append(in_child(lambda: schedule(0, 20)))
wait_for(*children)
for caller in callers:
    caller.join()
run_all()
children = 0 if url == "memory" else 5 * 40 + 20
assert sum(ran.values()) == 1200 + children, sum(ran.values())
"""
    run(program, url, namespace)


def test_a_child_of_a_child_makes_calls(url: str, namespace: str) -> None:
    program = """
def child():
    schedule(1, 2)
    wait_for(in_child(lambda: schedule(2, 3)))
    schedule(3, 4)
schedule(0, 1)
wait_for(in_child(child))
schedule(4, 5)
run_all()
assert sorted(ran) == ([0, 4] if url == "memory" else [0, 1, 2, 3, 4]), ran
"""
    run(program, url, namespace)
