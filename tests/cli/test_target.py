"""The engine of a command, exit codes, and sentences that name the remedy and no password."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..servers import free_port
from .conftest import PASSWORD, CommandLine, ran

URL = f"redis://user:{PASSWORD}@127.0.0.1:{{port}}/0"


async def test_an_engine_may_come_from_the_environment(
    cli: CommandLine, program: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOSPINACH_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("AIOSPINACH_ENGINE", program)
    assert (await cli("counts")).code == 0
    assert (await cli("counts", "--url", url)).code == 0
    monkeypatch.delenv("AIOSPINACH_ENGINE")
    assert (await cli("counts")).code == 3
    monkeypatch.setenv("AIOSPINACH_URL", url)
    assert (await cli("counts", "--namespace", "empty")).code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name the engine, as in shop:engine"),
        (["nowhere:engine"], "there is no module nowhere"),
        (["nowhere.deep:engine"], "there is no module nowhere"),
        (["json"], "names no engine"),
        (["json:"], "names no engine"),
        (["json:engine"], "json has no engine"),
        (["json:dumps"], "json:dumps is of the type function"),
        (["a:b", "--url", "redis://localhost"], "not both"),
        (["--url", "memory://"], "jobs in memory"),
        (["--url", "http://localhost"], "http"),
        (["json:engine", "--namespace", "shop"], "goes with --url"),
        (["--url", "redis://localhost", "--namespace", "a b"], "namespace"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
async def test_a_wrong_target_is_wrong_usage(
    cli: CommandLine, folder: Path, arguments: list[str], words: str
) -> None:
    code, out, err = await cli("counts", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.startswith("aiospinach: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def engine(:", "SyntaxError: invalid syntax"),
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit('no')", "SystemExit: no"),
        ("from aiospinach import Engine, MemoryBroker\nengine = Engine(MemoryBroker())", "in the memory"),
    ],
)
async def test_a_program_that_cannot_be_used_is_wrong_usage(
    cli: CommandLine, write_program: Callable[[str], str], text: str, words: str
) -> None:
    engine = write_program(text)
    code, out, err = await cli("counts", engine)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    sys.modules.pop(engine.partition(":")[0], None)
    assert "Traceback" in (await cli("counts", engine, "--debug")).err


async def test_a_store_that_is_away_is_unreachable_and_no_password_shows(cli: CommandLine) -> None:
    url = URL.format(port=free_port())
    for arguments in (["counts", "--url", url], ["ping", "--url", url, "--json"], ["job", "a", "--url", url]):
        code, out, err = await cli(*arguments)
        assert (code, out) == (3, "")
        assert "does not answer" in err
        assert PASSWORD not in err
    code, _, err = await cli("counts", "--url", url, "--debug")
    assert code == 3
    assert "Traceback" in err
    assert PASSWORD not in err


async def test_a_password_in_the_wrong_place_does_not_show(cli: CommandLine) -> None:
    for arguments in (
        ["counts", URL.format(port=1)],
        ["counts", "a:b", "--url", URL.format(port=1)],
        ["counts", "--url", f"redis://user:{PASSWORD}@[::1"],
        ["counts", "--url", f"http://user:{PASSWORD}@host"],
        ["counts", "--url", URL.format(port=1), "--url", URL.format(port=2)],
        ["counts", "--ulr", URL.format(port=1)],
        ["cuonts", "--url", URL.format(port=1)],
        ["counts", "a:b", URL.format(port=1)],
    ):
        code, out, err = await cli(*arguments)
        assert (code, out) == (2, ""), arguments
        assert PASSWORD not in err, arguments


def test_help_and_version_import_neither_redis_nor_the_program(folder: Path) -> None:
    code = (
        "import sys; from aiospinach.cli import main; sys.argv = ['aiospinach', *sys.argv[1:]]; main();"
        "print(sorted({'redis', 'watchfiles', 'textual'} & set(sys.modules)))"
    )
    import subprocess

    from .conftest import environment

    for arguments in (["--help"], ["counts", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, *arguments],
            capture_output=True,
            text=True,
            timeout=50,
            env=environment(AIOSPINACH_ENGINE="nowhere:engine"),
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "[]", done.stdout


def test_without_the_extra_one_sentence_names_it(folder: Path) -> None:
    import subprocess

    from .conftest import environment

    code = (
        "import sys; sys.modules['cyclopts'] = None; import importlib.util as u; found = u.find_spec;"
        "u.find_spec = lambda name, *rest: None if name == 'cyclopts' else found(name, *rest);"
        "from aiospinach.cli import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=50, env=environment()
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "pip install 'aiospinach[cli]'" in done.stderr


def test_the_command_runs_as_a_module(program: str) -> None:
    code, out, err = ran("counts", program)
    assert (code, err) == (0, "")
    assert out.startswith("queue ")


async def test_a_namespace_without_a_queue_is_noted(
    cli: CommandLine, program: str, url: str, store: list[str]
) -> None:
    """A typing error in a namespace would else look like a store without jobs."""
    code, out, err = await cli("counts", "--url", url, "--namespace", "shopp", "--json")
    assert (code, out.strip()) == (0, "[]")
    assert err == "aiospinach: the store has no queue of the namespace 'shopp': is that its name?\n"
    assert (await cli("counts", program)).err == ""  # its tasks name queues


async def test_a_sentence_about_an_option_has_one_end(cli: CommandLine) -> None:
    _, _, err = await cli("jobs", "--status", "failed")
    assert err.endswith('"dead"; --help shows the usage\n')
