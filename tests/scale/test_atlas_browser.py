"""The page of an atlas in a real browser: what a reader does with it."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scale_examples import write_net

from captum_neuroinspect.scale import AtlasSettings, ScaleOptions, render_atlas
from captum_neuroinspect.scale.atlas_folder import AtlasFolder
from captum_neuroinspect.scale.site.page import page_of
from captum_neuroinspect.scale.site.words import UnitWords

HOSTILE = '<img src=x onerror="alert(1)">'
TABLE = f'''unit,description,is_certain
3,a red fox,True
7,a fox,False
9,"{HOSTILE.replace(chr(34), chr(34) * 2)}",
'''
N = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("browsed")
    (at / "words.csv").write_text(TABLE)
    settings = AtlasSettings(classes_per_neuron=2, n_steps=1, size=64)
    here = ScaleOptions(n_workers=0, progress=False)
    render_atlas(
        write_net(at), at / "my atlas #1", words=at / "words.csv", settings=settings, options=here
    )
    return at / "my atlas #1"


Opener = Callable[..., Any]


@pytest.fixture
def opener(browser: Any, folder: Path) -> Iterator[Opener]:
    contexts = []

    def opened(url: str = "", width: int = 1200, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)  # a guard against hanging, on any machine
        page.messages, page.requests = [], []
        page.on("console", lambda message: page.messages.append(message.text))
        page.on("pageerror", lambda error: page.messages.append(str(error)))
        page.on("dialog", lambda dialog: (page.messages.append("dialog"), dialog.accept()))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(url if "://" in url else (folder / "index.html").as_uri() + url)
        return page

    yield opened
    for context in contexts:
        context.close()


def _shown(page: Any) -> list[int]:
    return [int(text) for text in page.locator("#grid .tile b").all_text_contents()]


def _title(page: Any) -> str:
    return str(page.locator("#panel-title").text_content())


def test_it_loads_its_sheets_and_nothing_else(opener: Opener, folder: Path) -> None:
    page = opener()
    page.wait_for_function("document.querySelectorAll('#grid .tile').length > 8")
    page.wait_for_load_state("networkidle")
    assert page.messages == []
    loaded = {url for url in page.requests if not url.startswith("data:")}
    sheets = {path.as_uri() for path in (folder / "sheets").iterdir()}
    assert loaded - {(folder / "index.html").as_uri()} <= sheets
    assert loaded & sheets


def test_a_web_server_serves_it(opener: Opener, folder: Path) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=folder.parent)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        page = opener(f"http://127.0.0.1:{server.server_port}/my%20atlas%20%231/#neuron-7")
        page.wait_for_load_state("networkidle")
        assert _title(page) == "Neuron 7"
        assert page.messages == []
        assert any(url.endswith(".webp") for url in page.requests)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_search_by_number_class_and_phrase(opener: Opener) -> None:
    page = opener()
    assert page.locator("#found").text_content() == "64 pictures"
    page.keyboard.press("/")
    page.keyboard.type("7")
    assert _shown(page) == [7, 7]
    page.locator("#search").fill("fox")
    assert _shown(page) == [3, 3, 7, 7]
    found_by = page.locator("#grid .tile .name").all_text_contents()
    assert found_by == ["\u201ca red fox\u201d"] * 2 + ["\u201ca fox\u201d"] * 2
    page.locator("#search").fill("fox red")
    assert _shown(page) == [3, 3]
    page.locator("#search").fill("fox class 2")
    assert set(_shown(page)) <= set()  # 2 is a number: no neuron 2 is a fox
    assert page.locator("#none").is_visible()
    page.locator("#search").fill("")
    page.locator("#show").select_option("no")
    n_no = int(str(page.locator("#found").text_content()).split()[0])
    page.locator("#show").select_option("yes")
    n_yes = int(str(page.locator("#found").text_content()).split()[0])
    assert n_no + n_yes == 64
    page.locator("#show").select_option("")
    page.locator("#order").select_option("weight")
    data = json.loads(str(page.locator("#atlas-data").text_content()))
    by_weight = sorted(range(64), key=lambda pair: -data["numbers"][pair][0])
    assert _shown(page)[:10] == [data["neurons"][pair] for pair in by_weight[:10]]


def test_a_link_opens_a_neuron_and_its_neighbours(opener: Opener) -> None:
    page = opener("#neuron-3")
    assert _title(page) == "Neuron 3"
    assert page.locator("#panel .pair").count() == 2
    assert "a red fox" in str(page.locator("#panel .phrases").text_content())
    near = page.locator("#panel section", has_text="Near by words").locator("a")
    assert page.locator("#panel h3", has_text="Described as").text_content() == "Described as"
    near.first.click()
    assert _title(page) == "Neuron 7"
    guess = page.locator("#panel h3", has_text="Described as")
    assert guess.text_content() == "Described as (a guess)"
    assert page.url.endswith("#neuron-7")
    page.go_back()
    page.wait_for_function("document.getElementById('panel-title').textContent === 'Neuron 3'")
    page.keyboard.press("Escape")
    assert not page.locator("#panel").is_visible()
    assert "#" not in page.url.replace("%23", "")
    opener("#neuron-999")
    assert opener("#neuron-9").messages == []


def test_keys_reach_every_picture(opener: Opener) -> None:
    page = opener(width=390)
    page.locator("#search").focus()
    page.keyboard.press("Enter")
    where = "() => Number(document.activeElement.dataset.place)"
    for place in range(1, 64):
        page.keyboard.press("ArrowRight")
        assert page.evaluate(where) == place
    page.keyboard.press("Home")
    assert page.evaluate(where) == 0
    page.keyboard.press("ArrowDown")
    below = page.evaluate(where)
    assert below == 3
    page.keyboard.press("Enter")
    page.wait_for_selector("#panel[open]")
    assert _title(page) == "Neuron 1"
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.getElementById('panel-title').textContent === 'Neuron 2'")
    page.keyboard.press("Escape")
    assert page.evaluate(where) == 4  # the open neuron's first picture


def test_only_what_is_seen_is_there(opener: Opener, folder: Path, tmp_path: Path) -> None:
    """20,480 pictures: the page has a few dozen tiles at any place, and a word finds its own."""
    atlas = AtlasFolder.read(folder)
    plan = atlas.plan | {"pairs": [[n, c] for n in range(2048) for c in range(10)]}
    many = AtlasFolder(folder, plan, tuple(atlas.records[n % 64] for n in range(20_480)))
    path = tmp_path / "index.html"
    path.write_text(page_of(many, {5: UnitWords(["needle"], None)}), encoding="utf-8")
    page = opener(path.as_uri())
    count = "() => document.querySelectorAll('#grid .tile').length"
    assert page.locator("#found").text_content() == "20,480 pictures"
    for share in (0, 0.3, 0.7, 1):
        page.evaluate("share => scrollTo(0, share * document.body.scrollHeight)", share)
        page.wait_for_function(
            "() => [...document.querySelectorAll('#grid .tile')].some(tile => {"
            "const box = tile.getBoundingClientRect();"
            "return box.top >= 0 && box.top < innerHeight; })"
        )
        assert page.evaluate(count) < 150
    assert 2047 in _shown(page)
    page.locator("#search").fill("needle")
    assert _shown(page) == [5] * 10


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_axe_finds_nothing_in_an_atlas(opener: Opener, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for address in ("", "#neuron-3"):
        page = opener(address, width=width, color_scheme=scheme)
        results = axe.run(page)
        assert results.violations_count == 0, results.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
