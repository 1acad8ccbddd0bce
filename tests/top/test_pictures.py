"""The pictures of the terminal view, and what a program without Textual is told."""

from __future__ import annotations

import html
import subprocess
import sys
from pathlib import Path

PICTURES = Path(__file__).parent.parent.parent / "docs" / "pictures"
WORDS = {
    "top.svg": ("shop", "payments", "its template is being mended", "43 of 48 slots busy"),
    "top-jobs.svg": ("payments-84224", "httpx.ConnectTimeout", "Dead 14", "Requeue"),
    "top-job.svg": (
        "Job payments-84224 died at 2026-11-27 19:30:42 UTC",
        "no answer of api.bank.example",
    ),
}


def words_of(picture: Path) -> str:
    return html.unescape(picture.read_text()).replace("\xa0", " ").replace("</text>", "")


def test_the_script_draws_the_pictures(tmp_path: Path) -> None:
    script = [sys.executable, "-W", "error", str(PICTURES / "top.py"), str(tmp_path)]
    subprocess.run(script, check=True, timeout=100, capture_output=True)
    for folder in (tmp_path, PICTURES / "screens"):
        assert {path.name for path in folder.glob("top*.svg")} == set(WORDS)
        for name, words in WORDS.items():
            text = words_of(folder / name)
            assert [word for word in words if word not in text] == [], name


def test_without_textual_the_error_names_the_extra() -> None:
    code = """
import sys
sys.modules["textual"] = None
try:
    import aiospinach.top
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.stdout.strip() == "aiospinach.top needs Textual: pip install 'aiospinach[top]'", done.stderr
