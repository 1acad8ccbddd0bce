"""The files of the view: its colours can be read by everybody, and it names what is missing."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from aiospinach.contrib.web.rendering import STATIC

STYLES = (STATIC / "view.css").read_text()
COLOURS = {
    name: (light, dark)
    for name, light, dark in re.findall(
        r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", STYLES, re.IGNORECASE
    )
}
ON = {
    "text": ("back", "card", "raised", "warn-back", "bad-back", "accent-soft"),
    "quiet": ("back", "card", "raised"),
    "accent": ("back", "card", "raised", "accent-soft"),
    "bad": ("card", "raised", "bad-back"),
    "warn": ("warn-back",),
    "run": ("card", "raised", "run-back"),
}
"""Which colours of text stand on which grounds."""


def brightness(colour: str) -> float:
    """The relative luminance of a colour, as WCAG defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def contrast(text: str, ground: str) -> float:
    low, high = sorted((brightness(text), brightness(ground)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_text_has_enough_contrast_to_its_ground(mode: int) -> None:
    weak = {
        (text, ground): round(found, 2)
        for text, grounds in ON.items()
        for ground in grounds
        if (found := contrast(COLOURS[text][mode], COLOURS[ground][mode])) < 4.5
    }
    assert weak == {}
    assert contrast("#ffffff", COLOURS["accent-back"][mode]) >= 4.5


def test_nothing_is_loaded_from_elsewhere() -> None:
    own = STYLES + (STATIC / "view.js").read_text()
    assert "url(" not in own
    assert "@import" not in own
    assert "http" not in own.replace("without https", "")


def test_a_missing_library_is_named_with_the_remedy() -> None:
    code = "import sys; sys.modules['jinja2'] = None; import aiospinach.contrib.web"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert "the web view needs jinja2: pip install 'aiospinach[web]'" in ran.stderr
