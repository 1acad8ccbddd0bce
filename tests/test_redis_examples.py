"""Every example that needs Redis runs on a real server as its docstring says, and resumes after a kill."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .brokers_under_test import shared_server
from .contrib import ROOT
from .contrib import Server as WebServer
from .servers import free_port
from .test_examples import (
    ENVIRONMENT,
    EXAMPLES,
    PATIENCE,
    command,
    folder_of,
    needs_oracle,
    sha256sum,
    totals,
)
from .waiting import until


@pytest.fixture
def url() -> str:
    """The URL of an empty database of the shared server, which only this test uses."""
    server = shared_server()
    with server.client() as client:
        client.execute_command("SELECT", 9)
        client.execute_command("FLUSHDB")
    return f"redis://127.0.0.1:{server.port}/9"


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are killed after the test, if they have not ended."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


class Worker:
    """A worker process; its output is written to a file."""

    def __init__(self, folder: Path, name: str, *arguments: str, **environment: str) -> None:
        self._output = folder / f"{name}.log"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
                env={**ENVIRONMENT, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    async def prints(self, line: str) -> None:
        await until(
            lambda: line in self.output.splitlines(), f"{line!r}", timeout=30, show=lambda: self.output
        )


@pytest.mark.parametrize("by_environment", [True, False])
async def test_the_worker_runs_what_another_process_schedules_and_drains_on_sigterm(
    url: str, tmp_path: Path, processes: list[subprocess.Popen[bytes]], by_environment: bool
) -> None:
    if by_environment:
        worker = Worker(tmp_path, "redis_worker.py", REDIS_URL=url)
    else:
        worker = Worker(tmp_path, "redis_worker.py", url, "--number=3")
    processes.append(worker.process)
    for name in ("Ann", "Bob"):
        scheduled = subprocess.run(
            command("redis_worker.py", url, "--schedule", name),
            capture_output=True,
            timeout=PATIENCE,
            env=ENVIRONMENT,
        )
        assert (scheduled.returncode, scheduled.stderr) == (0, b"")
        assert re.fullmatch(rb"scheduled [0-9a-f]{32}\n", scheduled.stdout)
        await worker.prints(f"hello, {name}")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(PATIENCE) == 0
    assert "Traceback" not in worker.output


def test_the_worker_needs_a_url() -> None:
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "REDIS_URL"}
    ran = subprocess.run(command("redis_worker.py"), capture_output=True, timeout=PATIENCE, env=environment)
    assert ran.returncode == 2
    assert b"set REDIS_URL" in ran.stderr


async def test_the_web_application_schedules_and_a_worker_process_runs_each_report_once(
    url: str, tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    async with WebServer("web_and_worker:app", tmp_path, f"--app-dir={EXAMPLES}", REDIS_URL=url) as server:
        order = {"id": "may", "lines": 3}
        first = server.request("POST", "/reports", json=order, headers={"X-Request-ID": "r-17"})
        assert (first.status_code, first.json()) == (202, {"id": "may", "is_new": True})
        again = server.request("POST", "/reports", json=order)
        assert (again.status_code, again.json()) == (202, {"id": "may", "is_new": False})
        worker = Worker(tmp_path, "web_and_worker.py", REDIS_URL=url)
        processes.append(worker.process)
        await worker.prints("report may has 3 lines, for request r-17")
        server.request("POST", "/reports", json={"id": "june", "lines": 4})
        await worker.prints("report june has 4 lines, for request -")
        quarter = server.request("POST", "/quarters", json={"id": "q2", "lines": 9})
        assert (quarter.status_code, quarter.json()) == (202, {"ids": ["q2-1", "q2-2", "q2-3"]})
        for month in (1, 2, 3):
            await worker.prints(f"report q2-{month} has 9 lines, for request -")
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(PATIENCE) == 0
        server.terminate()
        await server.ended()
    assert "report" not in server.log.replace("/reports", "")
    printed = [line for line in worker.output.splitlines() if not line.startswith("SIGTERM: ")]
    assert printed[:2] == [
        "report may has 3 lines, for request r-17",
        "report june has 4 lines, for request -",
    ]
    assert sorted(printed[2:]) == [f"report q2-{month} has 9 lines, for request -" for month in (1, 2, 3)]


async def test_the_web_application_does_not_start_without_redis(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "uvicorn", "web_and_worker:app", f"--app-dir={EXAMPLES}", "--port=0"],
        capture_output=True,
        timeout=PATIENCE,
        cwd=ROOT,
        env={**ENVIRONMENT, "REDIS_URL": f"redis://127.0.0.1:{free_port()}"},
    )
    assert ran.returncode != 0
    assert b"is it running, and is that its address?" in ran.stderr


def checksums(url: str, folder: Path, *options: str) -> list[str]:
    return command("checksums.py", "--redis", url, *options, folder)


@pytest.fixture
def large_files(tmp_path: Path) -> Path:
    """A hundred files of zeros of different lengths; hashing them takes half a second or more."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(100):
        with (folder / f"{number:03}").open("wb") as file:
            file.truncate(2**22 + number)
    return folder


@needs_oracle
@pytest.mark.large
@pytest.mark.parametrize("options", [[], ["--flaky"]])
async def test_after_three_kills_every_file_is_reported_once_with_the_right_sum(
    url: str, large_files: Path, options: list[str]
) -> None:
    starts = [checksums(url, large_files, "--number=2", *options) for _ in range(4)]
    for start in starts[:-1]:
        with subprocess.Popen(
            start, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
        ) as process:
            assert process.stderr is not None
            assert re.match(rb" 1\d% ", process.stderr.readline())
            process.kill()
            assert process.stdout is not None
            assert process.stdout.read() == b""
        assert process.returncode == -signal.SIGKILL
    ran = subprocess.run(starts[-1], capture_output=True, timeout=PATIENCE, env=ENVIRONMENT)
    assert ran.stdout == sha256sum(large_files), ran.stderr.decode()
    assert ran.returncode == 0
    counted = totals(ran.stderr)
    assert counted[:4] == (100, 100, 0, 0)
    if not options:
        assert counted.starts <= 100 - 3 * 10 + 2 * 3  # it resumed, and did not start over


@needs_oracle
def test_a_second_run_hashes_again_what_has_changed(url: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "folder", ["a", "b", "c"])
    (folder / "dangling").symlink_to("nowhere")
    for text in ("before", "after"):
        (folder / "b").write_text(text)
        ran = subprocess.run(checksums(url, folder), capture_output=True, timeout=PATIENCE, env=ENVIRONMENT)
        assert ran.stdout == sha256sum(folder)
        assert ran.returncode == 1
        assert totals(ran.stderr) == (4, 3, 1, 0, 4)
        assert f"checksums: {folder}/dangling: No such file or directory" in ran.stderr.decode()


@needs_oracle
@pytest.mark.large
def test_after_a_signal_the_next_start_resumes_and_prints_all(url: str, large_files: Path) -> None:
    start = checksums(url, large_files, "--number=2")
    with subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stderr is not None
        assert re.match(rb" 1\d% ", process.stderr.readline())
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    first = totals(errors)
    assert len(output.splitlines()) == first.hashed == 100 - first.not_run
    ran = subprocess.run(start, capture_output=True, timeout=PATIENCE, env=ENVIRONMENT)
    assert ran.stdout == sha256sum(large_files)
    assert totals(ran.stderr) == (100, 100, 0, 0, first.not_run)
