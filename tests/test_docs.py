"""The documentation leads somewhere: its links, their anchors, and the paths of the project that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "slurm/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").rglob("README.md")),
]
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)")
HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
PATH = re.compile(r"(?<![\w./-])(?:hpc_bench|tests)/[\w./*-]*")


def broken_links(page: Path) -> list[str]:
    """The relative links of a page whose file, or whose heading in it, does not exist."""
    prose = re.sub(r"`[^`\n]+`", "", CODE.sub("", page.read_text()))
    links = [link for link in LINK.findall(prose) if not re.match(r"[a-z]+:", link)]
    return [link for link in links if not leads_somewhere(page, *link.partition("#")[::2])]


def leads_somewhere(page: Path, file: str, anchor: str) -> bool:
    target = page.parent / file if file else page
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page: no punctuation, and a hyphen for each space."""
    headings = HEADING.findall(CODE.sub("", page.read_text()))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing_paths(page: Path) -> list[str]:
    """The paths in the package and its tests, and patterns of them, that a page names and nothing matches."""
    paths = [path.rstrip(".") for path in PATH.findall(page.read_text())]
    return [path for path in paths if not any(ROOT.glob(path))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_of_a_page_exist(page: Path) -> None:
    assert broken_links(page) == []
    assert missing_paths(page) == []


def test_links_and_paths_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# What `a.b` holds\n[gone](gone.md), [`here`](#what-ab-holds), [no heading](#nothing), [page](page.md#code),\n"
        "[far](https://example.org/gone), `[no](link.md)`, tests/test_docs.py, tests/gone_*.py, hpc_bench/gone.py.\n"
        "```\n# Code\n[no](link.md)\n```\n"
    )

    assert broken_links(page) == ["gone.md", "#nothing", "page.md#code"]
    assert missing_paths(page) == ["tests/gone_*.py", "hpc_bench/gone.py"]


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"

    listed = {line.partition("](")[2].partition(")")[0] for line in index.read_text().splitlines() if line[:3] == "- ["}

    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {index.name} <= listed
