"""What a stranger meets first: README on a package index, the pictures, the map, public CI."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
URL = "https://github.com/aiospinach/aiospinach"
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
WORKFLOW = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
PICTURES = ROOT / "docs" / "pictures"
SVG = "{http://www.w3.org/2000/svg}"


def prose(page: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page, flags=re.S | re.M)


def file_behind(url: str) -> Path | None:
    """The file or folder of the checkout that a URL of the project shows; None for its other pages."""
    found = re.fullmatch(rf"{re.escape(URL)}/(blob|raw|tree)/main/([^#]+)(#.*)?", url)
    if found is None:
        return None
    path = ROOT / found[2]
    assert path.is_dir() if found[1] == "tree" else path.is_file(), url
    return path


# Links: a package index shows README alone, so that what it links to has a whole address.


def test_every_address_of_the_project_leads_into_the_checkout() -> None:
    addresses = re.findall(rf"{re.escape(URL)}[^\s)>\"]*", README + SECURITY + CONTRIBUTING)
    files = [path for address in addresses if (path := file_behind(address)) is not None]
    assert {path.name for path in files} >= {"examples", "drain.svg", "CONTRIBUTING.md", "SECURITY.md"}
    others = {address for address in addresses if file_behind(address) is None}
    assert others <= {URL, f"{URL}/security/advisories/new"}


def test_readme_links_by_names_that_have_an_address() -> None:
    text, addresses = prose(README), dict(re.findall(r"^\[([a-z]+)\]: (\S+)$", README, re.MULTILINE))
    names = re.findall(r"\]\[([a-z]+)\]", text)
    assert set(names) == set(addresses)
    assert all(address.startswith(f"{URL}/") for address in addresses.values())
    images = re.findall(r"!\[[^\]]+\]\[([a-z]+)\]", text)
    assert images
    assert all(("/raw/main/" in address) == (name in images) for name, address in addresses.items())
    inline = re.findall(r"\]\(([^)]+)\)", text)
    assert all(target.startswith("https://") for target in inline)


def test_the_addresses_of_readme_stand_at_its_end() -> None:
    """An address within a list or a paragraph is text there, and the link by its name is none."""
    first = re.search(r"^\[[a-z-]+\]: ", README, re.MULTILINE)
    assert first is not None
    assert all(re.match(r"\[[a-z-]+\]: https://", line) for line in README[first.start() :].splitlines())


def test_the_urls_of_the_package_are_of_one_project() -> None:
    urls = PROJECT["project"]["urls"]
    assert set(urls) == {"Homepage", "Documentation", "Changelog", "Issues", "Source"}
    assert urls["Homepage"] == urls["Source"] == URL
    assert file_behind(urls["Documentation"]) == ROOT / "docs"
    assert file_behind(urls["Changelog"]) == ROOT / "CHANGELOG.md"
    assert urls["Issues"] == f"{URL}/issues"


def test_the_source_archive_has_what_readme_links_to() -> None:
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert [name for name in included if not (ROOT / name[1:]).exists()] == []
    for address in re.findall(rf"{re.escape(URL)}/\w+/main/\S+", README):
        path = file_behind(address)
        assert path is not None
        assert f"/{path.relative_to(ROOT).parts[0]}" in included


# Pictures.


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures, as the script draws them now."""
    folder = tmp_path_factory.mktemp("pictures")
    subprocess.run([sys.executable, "-W", "error", PICTURES / "draw.py", folder], check=True, timeout=50)
    return folder


def test_the_pictures_are_what_the_script_draws(drawn: Path) -> None:
    names = {path.name for path in PICTURES.glob("*.svg")}
    assert names == {path.name for path in drawn.iterdir()} == {"job.svg", "pool.svg"}
    for name in names:
        assert (PICTURES / name).read_text() == (drawn / name).read_text(), f"draw {name} anew"
        assert f"](pictures/{name})" in ARCHITECTURE


class Box(NamedTuple):
    """A rectangle of a picture."""

    kind: str
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def boxes_of(picture: ElementTree.Element) -> list[Box]:
    boxes = []
    for rect in picture.iter(f"{SVG}rect"):
        x, y, width, height = (float(rect.get(name, "0")) for name in ("x", "y", "width", "height"))
        boxes.append(Box(rect.get("class", ""), x, y, x + width, y + height))
    return boxes


@pytest.mark.parametrize("name", ["job.svg", "pool.svg"])
def test_a_picture_can_be_read(name: str) -> None:
    picture = ElementTree.parse(PICTURES / name).getroot()
    style = picture.findtext(f"{SVG}style") or ""
    sizes = dict(re.findall(r"\.(\w+) \{[^}]*font-size: (\d+)px", style))
    kinds = {text.get("class", "").split()[0] for text in picture.iter(f"{SVG}text")}
    assert kinds == set(sizes)
    assert min(map(int, sizes.values())) >= 12
    assert "prefers-color-scheme: dark" in style
    [ground] = [box for box in boxes_of(picture) if box.kind == "ground"]
    boxes = [box for box in boxes_of(picture) if box.kind not in ("ground", "lane")]
    assert len(boxes) >= 10
    assert [(a, b) for a, b in combinations(boxes, 2) if a.overlaps(b)] == []
    assert [box for box in boxes if box.right > ground.right or box.bottom > ground.bottom] == []


# Maps.


def test_the_architecture_names_each_file_of_the_way_once() -> None:
    files = re.findall(r"`((?!tests/|docs/)[\w/]+\.(?:py|lua))`", ARCHITECTURE)
    assert files[0] == "task.py"
    assert [name for name in files if not (ROOT / "aiospinach" / name).is_file()] == []
    assert sorted(files) == sorted(set(files))


@pytest.mark.parametrize("page", [CONTRIBUTING, ARCHITECTURE, SECURITY], ids=lambda page: page.split("\n")[0])
def test_other_paths_that_a_page_names_exist(page: str) -> None:
    paths = re.findall(r"`((?:tests|docs|benchmarks|examples)/[\w/]*(?:\.\w+)?)`", page)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_map_has_every_folder_of_the_package_and_the_checkout() -> None:
    mapped = set(re.findall(r"`([\w./]+)/`", CONTRIBUTING.partition("## The map")[2].partition("## ")[0]))
    packages = {str(path.parent.relative_to(ROOT)) for path in (ROOT / "aiospinach").rglob("*.py")}
    assert packages <= mapped
    assert {path.parent.name for path in ROOT.glob("*/*.py")} <= mapped
    assert [name for name in mapped if "/" in name and not (ROOT / name).is_dir()] == []


def test_every_session_and_test_that_the_pages_name_exists() -> None:
    noxfile = (ROOT / "noxfile.py").read_text()
    sessions = set(re.findall(r"^@nox\.session.*\ndef (\w+)", noxfile, re.MULTILINE))
    named = set(re.findall(r"nox -s (\w+)", README + CONTRIBUTING))
    assert named >= {"quick", "benchmarks", "servers"}
    assert named <= sessions
    [(path, word)] = re.findall(r"pytest (\S+) -k (\w+)", CONTRIBUTING)
    assert re.search(rf"^def test_\w*{word}", (ROOT / path).read_text(), re.MULTILINE)


# Public CI.


def test_public_ci_runs_the_command_of_the_readme_on_every_python() -> None:
    commands = re.findall(r"^```sh\n(.*?)\n```", README, re.S | re.M)
    assert f"- run: {commands[1]}\n" in WORKFLOW
    [listed] = re.findall(r"python: \[(.*)\]", WORKFLOW)
    classifiers = "\n".join(PROJECT["project"]["classifiers"])
    supported = re.findall(r"Python :: (3\.\d+)$", classifiers, re.MULTILINE)
    assert re.findall(r"[\d.]+", listed) == supported
    assert PROJECT["project"]["requires-python"] == f">={supported[0]}"
    assert re.findall(r"permissions:\n((?:  .+\n)+)", WORKFLOW) == ["  contents: read\n"]
    actions = re.findall(r"uses: (\S+)", WORKFLOW)
    assert actions
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in actions)
