"""The pages of the documentation: their links, their list, the benchmarks that they name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def _id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _text(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)


def _anchors(page: Path) -> set[str]:
    """The names that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ +(.+?) *$", _text(page), re.M)
    bare = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", one).lower() for one in headings]
    return {re.sub(r"[^\w\- ]", "", one).replace(" ", "-") for one in bare}


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Files and headings; pages elsewhere are not opened."""
    for target in re.findall(r"\]\(([^)]+)\)", _text(page)):
        if target.startswith("https://"):
            continue
        name, _, heading = target.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), target
        if heading and there.suffix == ".md":
            assert heading in _anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_printed_benchmarks_exist_with_their_options(page: Path) -> None:
    """They run for minutes to hours, so only their names are looked up."""
    folder = ROOT / "tests" / "benchmarks"
    code = "".join(one.read_text(encoding="utf-8") for one in folder.glob("*.py"))
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            command = shlex.split(line, comments=True)
            if command[:1] == ["python"] and command[1].startswith("tests/benchmarks/"):
                assert (ROOT / command[1]).is_file()
                for option in command[2:]:
                    assert not option.startswith("--") or f'"{option}"' in code, line


def test_every_page_is_in_the_list_that_is_the_navigation() -> None:
    docs = ROOT / "docs"
    linked = {
        (docs / target.partition("#")[0]).resolve()
        for page in (docs / "README.md", docs / "measurements.md", docs / "api.md")
        for target in re.findall(r"^(?:-|\|) \[.+?\]\(([^)]+)\)", page.read_text("utf-8"), re.M)
    }
    pages = {page for page in PAGES if page not in (README, docs / "README.md")}
    assert pages | set((ROOT / "tutorials").glob("*.ipynb")) <= linked


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "measurements").glob("*.md")), ids=_id)
def test_a_measurement_answers_its_question_first(page: Path) -> None:
    """Title, answer, tables; then the command, the machine and the month."""
    title, _, answer, *_ = page.read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"# .+\?", title)
    assert answer.startswith("**")
    command = page.read_text(encoding="utf-8").partition("\n## The command\n")[2]
    assert command.startswith("\n```bash\n")
    assert re.search(r"^(2 CPU cores|One H100).* [A-Z][a-z]+ 20\d\d\.", command, re.MULTILINE)
