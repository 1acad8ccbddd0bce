"""Every example runs as its docstring says, and prints the expected lines."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from examples.checksums import Ledger, checksum, files_under
from examples.fastapi_app import app, engine

from .contrib import ROOT, Server
from .waiting import until

EXAMPLES = ROOT / "examples"
# No byte code is written: the standard library must not change while it is hashed.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
PATIENCE = 50


def command(name: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)]


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(name, *arguments), capture_output=True, timeout=PATIENCE, env=ENVIRONMENT)


def printed(name: str) -> list[str]:
    """The lines that an example prints; it must exit with 0 and print no errors."""
    ran = run(name)
    assert (ran.returncode, ran.stderr) == (0, b"")
    return ran.stdout.decode().splitlines()


def test_every_example_is_tested_here_and_documents_its_command() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {
        "batch.py",
        "checksums.py",
        "dependencies.py",
        "fastapi_app.py",
        "observability.py",
        "periodic.py",
        "plain_callers.py",
        "progress_bar.py",
        "quickstart.py",
        "request_context.py",
        "redis_worker.py",  # run by test_redis_examples.py, like web_and_worker.py
        "signals.py",
        "web_and_worker.py",
    }
    for name in names - {"fastapi_app.py"}:
        assert f"\n    python examples/{name}" in (EXAMPLES / name).read_text()
    assert "\n    uvicorn --app-dir examples fastapi_app:app\n" in (EXAMPLES / "fastapi_app.py").read_text()


def test_the_id_of_a_request_reaches_its_job_the_retry_and_the_child() -> None:
    ran = run("request_context.py")
    assert ran.returncode == 0
    assert ran.stdout.decode().splitlines() == [
        "r-1: charge order 1",
        "r-1: charge order 1",
        "r-1: receipt for order 1",
        "r-2: charge order 2",
        "r-2: receipt for order 2",
    ]


def test_the_quickstart_adds_and_is_short() -> None:
    assert printed("quickstart.py") == ["5 + 3 = 8"]
    assert len((EXAMPLES / "quickstart.py").read_text().splitlines()) <= 30


def test_the_signals_trace_each_order() -> None:
    lines = printed("signals.py")
    for order in (1, 2):
        assert [line for line in lines if line.startswith(f"[trace-{order}]")] == [
            f"[trace-{order}] shipping order {order}",
            f"[trace-{order}] mail: order {order} is on its way",
            f"[trace-{order}] ship succeeded: parcel {order}",
        ]
    assert len(lines) == 6


def test_the_periodic_task_ticks_three_times() -> None:
    assert printed("periodic.py") == ["tick 1", "tick 2", "tick 3"]


def test_the_threads_of_plain_callers_schedule() -> None:
    *queued, last = printed("plain_callers.py")
    assert [line.partition(" ")[0] for line in queued] == ["queued"] * 3
    assert last == "made ann.jpg, bob.jpg, eve.jpg"


def test_a_job_is_followed_from_its_schedule_to_its_end() -> None:
    scheduled, started, *steps, finished = printed("progress_bar.py")
    assert [scheduled, started, finished] == ["job_scheduled", "job_started", "job_finished"]
    assert steps
    assert all(re.fullmatch(r"\[#* *\] \d+ of 1000 rows", step) for step in steps)


def test_the_batch_is_stored_run_and_summed() -> None:
    assert printed("batch.py") == [
        "stored 1001 jobs",
        "good night",
        f"the sum of the squares is {sum(number * number for number in range(1000))}",
    ]


def test_jobs_are_logged_traced_and_counted() -> None:
    lines = [re.sub("'[0-9a-f]{32}'", "ID", line) for line in printed("observability.py")]
    assert lines == [
        "event='out of stock' task_name='order' job_try=1 job_id=ID queue='default'",
        "event='shipped' task_name='order' job_try=2 job_id=ID queue='default'",
        "event='sent' task_name='mail' job_try=1 job_id=ID queue='default'",
        "schedule order, from request",
        "request, from nowhere",
        "process order, from schedule order",
        "schedule mail, from process order",
        "process order, from schedule order",
        "process mail, from schedule mail",
        "order: 1 succeeded, 1 retries",
        "mail: 1 succeeded, 0 retries",
    ]


def test_dependencies_are_opened_and_closed_around_jobs() -> None:
    assert printed("dependencies.py") == [
        "lifespan: enter",
        "client: connect",
        "session of order 17: commit ['bill 17 by client']",
        "session of order 13: roll back, nobody pays this",
        "client: disconnect",
        "lifespan: leave",
    ]


async def test_the_web_application_adds_in_the_background(tmp_path: Path) -> None:
    async with Server("fastapi_app:app", tmp_path, f"--app-dir={EXAMPLES}") as server:
        answer = server.request("POST", "/sums", json={"a": 1, "b": 2})
        assert answer.status_code == 202
        job_id = answer.json()["id"]
        assert re.fullmatch("[0-9a-f]{32}", job_id)

        ended = server.request("GET", f"/results/{job_id}?wait=10").json()
        assert ended == {"id": job_id, "status": "done", "result": 3}
        assert server.request("GET", f"/results/{job_id}").json() == ended
        explained = server.request("GET", f"/jobs/{job_id}").json()
        assert (explained["verdict"], "it succeeded" in explained["sentence"]) == ("ended", True), explained
        assert server.request("GET", "/jobs/unknown").status_code == 404
        assert server.request("GET", "/results/unknown").status_code == 404
        assert server.request("POST", "/sums", json={"a": "one"}).status_code == 422
        answer = server.request("GET", "/ready")
        assert answer.status_code == 200
        assert (answer.json()["is_running"], answer.json()["is_connected"]) == (True, True)
        assert answer.json()["exchange_age"] < 60
        server.terminate()
        assert await server.ended() == -signal.SIGTERM
    assert "Traceback" not in server.log


async def test_the_web_application_is_not_ready_while_its_workers_do_not_run() -> None:
    transport = httpx.ASGITransport(app)  # runs no lifespan, and so starts no workers
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["detail"]["is_running"] is False


async def test_the_web_application_answers_for_a_job_that_was_cancelled() -> None:
    transport = httpx.ASGITransport(app)
    async with engine, httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        job_id = (await client.post("/sums", json={"a": 1, "b": 2})).json()["id"]
        assert (await client.get(f"/results/{job_id}")).json()["status"] == "pending"
        await engine.cancel(job_id)
        assert (await client.get(f"/results/{job_id}")).json()["status"] == "cancelled"


async def test_two_processes_of_the_web_application_run_separate_jobs(tmp_path: Path) -> None:
    async with Server("fastapi_app:app", tmp_path, f"--app-dir={EXAMPLES}", "--workers=2") as server:
        job_id = server.request("POST", "/sums", json={"a": 1, "b": 2}).json()["id"]
        where: set[int] = set()

        def found_and_not_found() -> bool:
            """One process has the result, the other does not know the job."""
            where.add(server.request("GET", f"/results/{job_id}").status_code)
            return where == {200, 404}

        await until(found_and_not_found, "both processes answered", timeout=30, show=lambda: server.log)
        server.terminate()
        await server.ended()
    assert "Traceback" not in server.log


# The larger example. Its expected output comes from find and sha256sum.

needs_oracle = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("sha256sum") is None, reason="needs GNU's sha256sum"
)
STANDARD_LIBRARY = sysconfig.get_path("stdlib")


def sha256sum(folder: str | Path, *but: str) -> bytes:
    """The output of sha256sum for all files under a folder, sorted by path."""
    found = subprocess.run(
        ["find", folder, *but, "-xtype", "f", "-print0"], capture_output=True, check=True, timeout=PATIENCE
    )
    paths = sorted(found.stdout.split(b"\0")[:-1])
    summed = subprocess.run(
        ["xargs", "-0", "-r", "sha256sum", "--"],
        input=b"".join(path + b"\0" for path in paths),
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    return summed.stdout


@pytest.fixture(scope="module")
def of_standard_library() -> list[bytes]:
    lines = sha256sum(STANDARD_LIBRARY, "-name", "site-packages", "-prune", "-o").splitlines(keepends=True)
    assert len(lines) > 1000
    return lines


class Totals(NamedTuple):
    """The numbers of the last line on standard error."""

    files: int
    hashed: int
    unreadable: int
    not_run: int
    starts: int


def totals(errors: bytes) -> Totals:
    last = errors.decode().splitlines()[-1]
    found = re.fullmatch(
        r"checksums: (\d+) files: (\d+) hashed, (\d+) unreadable, (\d+) not run; jobs started (\d+) times",
        last,
    )
    assert found is not None, errors.decode()
    return Totals(*map(int, found.groups()))


def folder_of(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_text(f"the content of {name}")
    return folder


@needs_oracle
def test_the_sums_of_the_standard_library_equal_those_of_sha256sum(of_standard_library: list[bytes]) -> None:
    ran = run("checksums.py")
    assert ran.stdout == b"".join(of_standard_library)
    assert ran.returncode == 0
    count = len(of_standard_library)
    assert totals(ran.stderr) == Totals(count, count, 0, 0, starts=count)


@needs_oracle
@pytest.mark.large
def test_all_sums_are_right_when_a_tenth_of_the_jobs_fails_at_first(
    of_standard_library: list[bytes],
) -> None:
    ran = run("checksums.py", "--flaky", "--number=20")
    assert ran.stdout == b"".join(of_standard_library)
    assert ran.returncode == 0
    count = len(of_standard_library)
    counted = totals(ran.stderr)
    assert counted[:4] == (count, count, 0, 0)
    # A tenth of the jobs fails one to three times.
    assert 1.15 * count < counted.starts < 1.25 * count


@needs_oracle
@pytest.mark.parametrize(("number", "options"), [(signal.SIGTERM, ["--flaky"]), (signal.SIGINT, [])])
def test_after_a_signal_the_finished_sums_are_printed(
    of_standard_library: list[bytes], tmp_path: Path, number: signal.Signals, options: list[str]
) -> None:
    output = tmp_path / "output"
    with (
        output.open("wb") as file,
        subprocess.Popen(
            command("checksums.py", *options), stdout=file, stderr=subprocess.PIPE, env=ENVIRONMENT
        ) as process,
    ):
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b" 10% ")
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE)
    lines = output.read_bytes().splitlines(keepends=True)
    assert process.returncode == 130
    assert lines == sorted(lines, key=lambda line: line.partition(b"  ")[2])
    assert set(lines) < set(of_standard_library)
    counted = totals(errors)
    assert counted.files == len(of_standard_library)
    assert counted.hashed == len(lines) >= counted.files // 10
    assert counted.unreadable == 0
    assert counted.not_run == counted.files - counted.hashed


@needs_oracle
async def test_a_job_that_runs_when_the_signal_arrives_finishes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "folder", ["a", "b", "d", "e", "f"])
    large = folder / "c"
    with large.open("wb") as file:
        file.truncate(2**29)  # zeros: no space on the disk, but a third of a second or more to hash
    with subprocess.Popen(
        command("checksums.py", "--number=1", folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:

        def is_hashing() -> bool:
            for opened in Path(f"/proc/{process.pid}/fd").iterdir():
                with contextlib.suppress(OSError):  # the file was closed meanwhile
                    if os.readlink(opened) == os.path.realpath(large):
                        return True
            return False

        await until(is_hashing, "the large file is hashed", timeout=30)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert output == b"".join(sha256sum(folder).splitlines(keepends=True)[:3])
    assert totals(errors) == Totals(files=6, hashed=3, unreadable=0, not_run=3, starts=3)


@needs_oracle
def test_odd_names_are_printed_as_sha256sum_prints_them(tmp_path: Path) -> None:
    names = [
        "plain",
        "two words",
        "-dash",
        "new\nline",
        "back\\slash",
        "\\",
        "\nboth\\",
        "ünïcödé",
        "a*b",
        " ",
    ]
    folder = folder_of(tmp_path / "odd\\folder", names)
    (folder / os.fsdecode(b"not text \xff\xfe")).write_bytes(bytes(range(256)))
    (folder / "empty").touch()
    (folder / "sub").mkdir()
    (folder / "sub" / "deeper").write_text("deeper")
    (folder / "link").symlink_to("plain")
    (folder / "link to folder").symlink_to("sub")
    os.mkfifo(folder / "pipe")
    ran = run("checksums.py", folder)
    assert ran.stdout == sha256sum(folder)
    assert ran.returncode == 0
    assert totals(ran.stderr) == Totals(14, 14, 0, 0, starts=14)


@needs_oracle
@pytest.mark.parametrize("options", [[], ["--flaky"]])
def test_an_unreadable_file_is_reported_and_the_others_are_hashed(tmp_path: Path, options: list[str]) -> None:
    folder = folder_of(tmp_path / "folder", [f"{number:02}" for number in range(30)])
    (folder / "dangling").symlink_to("nowhere")
    ran = run("checksums.py", folder, *options)
    assert ran.stdout == sha256sum(folder)
    assert ran.returncode == 1
    assert totals(ran.stderr)[:4] == (31, 30, 1, 0)
    assert ran.stderr.decode().splitlines()[-2] == f"checksums: {folder}/dangling: No such file or directory"


def test_an_unreadable_folder_is_reported(tmp_path: Path) -> None:
    missing = os.fsencode(tmp_path / "gone")
    paths, [error] = files_under(missing, set())
    assert paths == []
    assert (error.filename, error.strerror) == (missing, "No such file or directory")


def test_progress_is_a_line_for_every_tenth(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "folder", [f"{number:02}" for number in range(30)])
    ran = run("checksums.py", folder, "--flaky")
    *progress, last = ran.stderr.decode().splitlines()
    assert progress == [f"{10 * tenth:3}% {3 * tenth}/30 files" for tenth in range(1, 11)]
    assert last.startswith("checksums: 30 files: 30 hashed")


def test_progress_is_a_bar_on_a_terminal(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "folder", ["a", "b", "c", "d"])
    terminal, end = os.openpty()
    try:
        ran = subprocess.run(
            command("checksums.py", "--number=1", folder),
            stdout=subprocess.PIPE,
            stderr=end,
            timeout=PATIENCE,
            env=ENVIRONMENT,
        )
        shown = b""
        while select.select([terminal], [], [], 0)[0]:
            shown += os.read(terminal, 4096)
    finally:
        os.close(terminal)
        os.close(end)
    bars = [line.strip() for line in re.split(r"[\r\n]+", shown.decode()) if line.strip()]
    assert ran.returncode == 0
    assert bars[:-1] == [
        f"[{'#' * filled}{' ' * (25 - filled)}] {done * 25:3}% {done}/4 files"
        for done, filled in enumerate([6, 12, 18, 25], 1)
    ]
    assert bars[-1].startswith("checksums: 4 files: 4 hashed")


def test_an_empty_folder_prints_nothing(tmp_path: Path) -> None:
    ran = run("checksums.py", tmp_path)
    assert (ran.returncode, ran.stdout) == (0, b"")
    assert totals(ran.stderr) == Totals(0, 0, 0, 0, 0)


def test_the_seed_decides_which_jobs_fail(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "folder", [f"{number:03}" for number in range(200)])

    def failing(seed: int) -> list[str]:
        ran = run("checksums.py", folder, "--flaky", "--verbose", f"--seed={seed}")
        assert ran.returncode == 0
        tries = re.findall(r"retry=\d/3 namespace=checksums> raised MadeToFail", ran.stderr.decode())
        assert len(tries) == totals(ran.stderr).starts - 200 > 0
        return sorted(tries)

    assert failing(1) == failing(1) != failing(2)


def test_nothing_is_logged_without_verbose(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "folder", [f"{number:03}" for number in range(200)])
    ran = run("checksums.py", folder, "--flaky")
    assert totals(ran.stderr).starts > 200
    assert b"MadeToFail" not in ran.stderr


def test_the_help_lists_options_and_exit_status() -> None:
    ran = run("checksums.py", "--help")
    shown = ran.stdout.decode()
    assert (ran.returncode, ran.stderr) == (0, b"")
    for said in (
        "FOLDER",
        "--number N",
        "--flaky",
        "--seed N",
        "sha256sum --check",
        "SIGTERM",
        "Exit status",
    ):
        assert said in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-folder"], "'no-such-folder' is not a folder"),
        (["--number=0"], "a number from 1 to 1000 is needed"),
        (["--number=many"], "a number from 1 to 1000 is needed"),
        (["--seed=x"], "invalid int value: 'x'"),
    ],
)
def test_wrong_usage_is_reported_before_anything_is_hashed(arguments: list[str], message: str) -> None:
    ran = run("checksums.py", *arguments)
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert message in ran.stderr.decode()


def test_a_closed_pipe_ends_it_without_a_traceback(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "folder", ["a"])
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = subprocess.run(
            command("checksums.py", folder),
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            env=ENVIRONMENT,
        )
    finally:
        os.close(writing)
    assert ran.returncode == -signal.SIGPIPE
    assert b"Traceback" not in ran.stderr


def test_nothing_is_hashed_outside_of_a_job() -> None:
    with pytest.raises(AssertionError, match="in jobs only"):
        checksum(os.fsencode(__file__))


def test_the_ledger_notices_a_job_that_started_and_did_not_finish() -> None:
    ledger = Ledger()
    ledger.check()
    ledger.started["one"] += 1
    with pytest.raises(AssertionError):
        ledger.check()
    ledger.finished["one"] += 1
    ledger.check()
    ledger.finished["one"] += 1
    with pytest.raises(AssertionError):
        ledger.check()


def test_the_tests_of_the_shop_pass_without_a_server() -> None:
    """They are what docs/testing.md shows: an application, its jobs, and the clock in the hand of a test."""
    folder = EXAMPLES / "shop"
    plugin = [] if entry_points(group="pytest11", name="aiospinach") else ["-p", "pytest_aiospinach"]
    environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("PYTEST")}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", *plugin, folder],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.returncode == 0, ran.stdout
    assert "5 passed" in ran.stdout
    assert "\n    pytest examples/shop\n" in (folder / "shop.py").read_text()


def test_the_page_on_testing_shows_tests_of_the_shop() -> None:
    blocks = re.findall(r"^```py\n(.*?)^```", (ROOT / "docs/testing.md").read_text(), re.S | re.M)
    assert len(blocks) == 3
    tests = (EXAMPLES / "shop/test_shop.py").read_text()
    assert [block for block in blocks if block not in tests] == []
