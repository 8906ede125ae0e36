"""A page too large for one file: its pictures lie beside it, and change with it."""

from __future__ import annotations

import base64
import re
import urllib.parse
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_examples import example_data

from captum_neuroinspect.inspection.report.report_data import ReportData
from captum_neuroinspect.inspection.report.write import write_report

_SMALL = 10_000  # bytes, less than any page


class _Sources(HTMLParser):
    """What a page loads: sources of images, and what its policy allows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.images: list[str] = []
        self.policy = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        if tag == "img":
            self.images.append(known["src"])
        if known.get("http-equiv") == "Content-Security-Policy":
            self.policy = known["content"]


def _files(page: Path) -> list[Path]:
    return [page.parent / urllib.parse.unquote(source) for source in _Sources(page).images]


def _said(page: Path) -> str | None:
    found = re.search(r'<p class="soft" id="picture-folder">(.*?)</p>', page.read_text("utf-8"))
    return found and found[1]


def test_pictures_are_files_beside_a_large_page(tmp_path: Path) -> None:
    data = example_data()
    inside = write_report(data, tmp_path / "small.html")
    beside = write_report(data, tmp_path / "report.html", max_bytes=_SMALL)
    files = _files(beside)
    assert {path.parent for path in files} == {tmp_path / "report_files"}
    # The very pictures that the small page holds, in its order.
    coded = [source.removeprefix("data:image/jpeg;base64,") for source in _Sources(inside).images]
    assert [path.read_bytes() for path in files] == [base64.b64decode(code) for code in coded]
    assert set(files) == set((tmp_path / "report_files").iterdir())
    assert f"The {len(set(files))} pictures of this page" in (_said(beside) or "")
    assert "<bdi>report_files</bdi>" in (_said(beside) or "")


def test_a_page_with_files_loads_nothing_else(tmp_path: Path) -> None:
    page = write_report(example_data(), tmp_path / "report.html", max_bytes=_SMALL)
    images = next(p for p in _Sources(page).policy.split("; ") if p.startswith("img-src"))
    assert images == "img-src data: 'self' file:"
    assert _Sources(page).policy.startswith("default-src 'none'")
    html = page.read_text(encoding="utf-8")
    assert str(tmp_path) not in html
    links = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert all(re.match(r"data:|#|report_files/[0-9a-f]{32}\.jpg$", link) for link in links)


def test_a_page_below_the_limit_is_alone(tmp_path: Path) -> None:
    page = write_report(example_data(), tmp_path / "report.html")
    n_bytes = page.stat().st_size
    assert write_report(example_data(), page, max_bytes=n_bytes).stat().st_size == n_bytes
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert "img-src data:;" in _Sources(page).policy + ";"
    assert _said(page) is None
    write_report(example_data(), page, max_bytes=n_bytes - 1)
    assert (tmp_path / "report_files").is_dir()


def test_a_page_without_pictures_has_no_folder(tmp_path: Path) -> None:
    data = replace(example_data(), mistakes=(), neurons=(), slices=(), cue=None, edit=None)
    page = write_report(data, tmp_path / "report.html", max_bytes=0)
    assert _said(page) is None
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (
        write_report(example_data(), tmp_path / name / "report.html", max_bytes=_SMALL)
        for name in ("a", "b")
    )
    assert first.read_bytes() == second.read_bytes()


def test_equal_pictures_share_a_file(tmp_path: Path) -> None:
    data = example_data(0, 1)
    many = replace(data, mistakes=data.mistakes * 5, slices=(), cue=None, edit=None)
    page = write_report(many, tmp_path / "report.html", max_bytes=_SMALL)
    assert len(_files(page)) == 5
    assert len(list((tmp_path / "report_files").iterdir())) == 1
    assert "The 1 picture of this page" in (_said(page) or "")


def _others(n: int) -> ReportData:
    return example_data(1, n, side=56)


def test_pictures_of_an_earlier_page_go_and_other_files_stay(tmp_path: Path) -> None:
    page = write_report(example_data(), tmp_path / "report.html", max_bytes=_SMALL)
    folder = tmp_path / "report_files"
    before = set(folder.iterdir())
    own = [folder / "notes.txt", folder / "holiday.jpg", folder / f"{'A' * 32}.jpg"]
    for path in own:
        path.write_text("mine")
    write_report(_others(3), page, max_bytes=_SMALL)
    assert set(folder.iterdir()) == {*_files(page), *own}
    assert not before & set(folder.iterdir())
    write_report(_others(3), page)  # small enough now
    assert set(folder.iterdir()) == set(own)
    for path in own:
        path.unlink()
    write_report(_others(3), page, max_bytes=_SMALL)
    write_report(_others(3), page)
    assert not folder.exists()


def test_a_write_that_fails_leaves_the_old_page_with_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = write_report(example_data(), tmp_path / "report.html", max_bytes=_SMALL)
    old = page.read_bytes()

    def full(*_: Any) -> Path:
        raise OSError(28, "No space left on device", str(page))

    with monkeypatch.context() as patch:
        patch.setattr(
            "captum_neuroinspect.inspection.report._picture_folder.write_atomically", full
        )
        with pytest.raises(OSError, match="No space left"):
            write_report(_others(3), page, max_bytes=_SMALL)
    assert page.read_bytes() == old
    assert all(path.is_file() for path in _files(page))
    write_report(_others(3), page, max_bytes=_SMALL)
    assert set((tmp_path / "report_files").iterdir()) == set(_files(page))


def test_a_link_or_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    kept = elsewhere / f"{'0' * 32}.jpg"
    kept.write_text("mine")
    page = tmp_path / "report.html"
    folder = tmp_path / "report_files"
    folder.symlink_to(elsewhere)
    with pytest.raises(NotADirectoryError, match=f"link or a file: '{folder}'"):
        write_report(example_data(), page, max_bytes=_SMALL)
    write_report(example_data(), page)  # a small page has nothing to do with it
    assert list(elsewhere.iterdir()) == [kept]
    folder.unlink()
    folder.write_text("mine")
    with pytest.raises(NotADirectoryError, match="link or a file"):
        write_report(example_data(), page, max_bytes=_SMALL)
    assert folder.read_text() == "mine"


@pytest.mark.parametrize("name", ["my run #1 100%", 'a"b<c', "javascript:x", "鳥?", "..."])
def test_pages_with_odd_names_find_their_pictures(name: str, tmp_path: Path) -> None:
    page = write_report(example_data(1, 1), tmp_path / f"{name}.html", max_bytes=_SMALL)
    assert all(path.is_file() for path in _files(page))
    assert all(re.match(r"[\w.%-]+/", source) for source in _Sources(page).images)


def test_a_name_that_is_no_unicode(tmp_path: Path) -> None:
    name = b"run\xff.html".decode("utf-8", "surrogateescape")
    page = write_report(example_data(1, 1), tmp_path / name, max_bytes=_SMALL)
    assert {source.split("/")[0] for source in _Sources(page).images} == {"run%FF_files"}


def test_a_limit_below_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_bytes=-1, expected 0 or more"):
        write_report(example_data(1, 1), tmp_path / "report.html", max_bytes=-1)
    assert not list(tmp_path.iterdir())
