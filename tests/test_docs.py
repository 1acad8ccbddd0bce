"""What the documentation shows is run, and what it links to exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M), 1)
]


def run(block: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", block], capture_output=True, text=True, timeout=50, cwd=ROOT
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("block", BLOCKS)
def test_a_code_block_runs_as_it_stands(block: str) -> None:
    run(block)


def readme_block(title: str, number: int = 0) -> str:
    section = (ROOT / "README.md").read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    blocks: list[str] = re.findall(r"^```python\n(.*?)^```", section, re.S | re.M)
    return blocks[number]


def test_the_quickstart_computes() -> None:
    assert run(readme_block("Quickstart")) == "5 + 3 = 8\n"


def test_the_second_block_cancels_a_queued_job() -> None:
    assert run(readme_block("Quickstart", 1)) == "JobStatus.QUEUED\n"


def test_the_receivers_of_the_readme_are_called() -> None:
    assert run(readme_block("Signals")).splitlines() == [
        "fragile started",
        "fragile started",
        "fragile failed for ever: broken",
    ]


def test_the_readme_tells_of_the_benchmarks_what_their_results_tell() -> None:
    results = (ROOT / "benchmarks/RESULTS.md").read_text()
    readme = " ".join((ROOT / "README.md").read_text().split())
    for target, words in (
        (r"the fastest asyncio peer \(\w+\)", r"the fastest asyncio library"),
        ("spinach", "Spinach"),
        ("BullMQ on Node", "BullMQ on Node"),
    ):
        measured = re.search(rf"^\| drain, over {target} \| ≥ \S+ \| ([\d.]+) ", results, re.MULTILINE)
        told = re.search(rf"([\d.]+) times as many(?: no-op jobs a second)? as {words}", readme)
        assert measured, target
        assert told, words
        assert f"{float(measured[1]):.1f}" == told[1], target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_ci_runs_the_command_of_the_readme() -> None:
    commands = re.findall(r"^```sh\n(.*?)\n```", (ROOT / "README.md").read_text(), re.S | re.M)
    assert commands[1].replace(" install ", " install -q ") in (ROOT / ".ci/run").read_text()
