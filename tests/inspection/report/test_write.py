"""The page as text: what is in it, what is not, and that names stay names."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from report_examples import Pictures, example_data, neuron_at

from captum_neuroinspect.inspection.report.report_data import (
    ClassResult,
    ConfusedPair,
    IllusionPicture,
    Mistake,
    MistakeSlice,
    NeuronCard,
    NeuronWords,
    Phrase,
    RankedNeuron,
    ReportData,
)
from captum_neuroinspect.inspection.report.write import write_report

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror="alert(1)">',
    "</script><script>alert('1')</script><!--",
    "{{ 7 * 7 }}{% raw %}",
    "x" * 400,
    "ציפור 鳥 \u202eعكس",
)


class _Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attrs: list[tuple[str, str | None]] = []
        self.images: list[dict[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attrs += attrs
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def ids(self) -> list[str]:
        return [value or "" for name, value in self.attrs if name == "id"]


def _html(data: ReportData, folder: Path) -> str:
    return write_report(data, folder / "report.html").read_text(encoding="utf-8")


def _block(html: str) -> dict[str, object]:
    match = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', html)
    assert match is not None
    return dict(json.loads(match[1]))


def _bare(**changes: object) -> ReportData:
    data = ReportData("Birds", "All is well.", "run", 0, (ClassResult("heron", 4, 4),))
    return replace(data, **changes)  # type: ignore[arg-type]


def test_same_data_give_the_same_bytes_and_a_finished_file(tmp_path: Path) -> None:
    first = write_report(example_data(), tmp_path / "new folder" / "a.html")
    second = write_report(example_data(), str(tmp_path / "b.html"))
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["b.html"]


def test_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    html = _html(example_data(), tmp_path)
    page = _Page(html)
    links = [value or "" for name, value in page.attrs if name in ("src", "href", "srcset")]
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "@import" not in html
    assert "url(" not in html
    assert "default-src 'none'" in html


def test_every_picture_has_a_text_and_a_size(tmp_path: Path) -> None:
    page = _Page(_html(example_data(), tmp_path))
    assert len(page.images) == 12 + 2 * 3 + 4 * (2 * 2 + 6 * 2 + 3 * 2) + 4 + 8
    for image in page.images:
        assert image["alt"]
        assert image["loading"] == "lazy"
        assert int(image["width"] or 0) > 0
        assert int(image["height"] or 0) > 0


def test_ids_are_unique_and_inner_links_lead_somewhere(tmp_path: Path) -> None:
    page = _Page(_html(example_data(), tmp_path))
    ids = page.ids()
    assert len(ids) == len(set(ids))
    targets = [v[1:] for name, v in page.attrs if name == "href" and v and v.startswith("#")]
    assert set(targets) <= set(ids)
    assert f"neuron-{neuron_at(0)}" in targets


def test_what_is_missing_leaves_no_trace(tmp_path: Path) -> None:
    page = _Page(_html(_bare(), tmp_path))
    assert page.ids() == ["errors", "report-data"]
    assert "footer" not in page.tags
    assert "img" not in page.tags
    text = " ".join(page.texts)
    for word in ("The mistakes", "Neurons behind them", "What they respond to", "The edit"):
        assert word not in text


def test_card_with_nothing_but_a_number(tmp_path: Path) -> None:
    html = _html(_bare(neurons=(NeuronCard(5),)), tmp_path)
    page = _Page(html)
    assert "neuron-5" in page.ids()
    assert "core-warning" not in page.ids()
    assert {"masks", "kind"}.isdisjoint(page.ids())
    assert "Illusion" not in html
    assert _block(html)["neurons"] == [
        {
            "neuron": 5,
            "kind": None,
            "score": None,
            "precision": None,
            "core": None,
            "text": "neuron 5\n",
        }
    ]


def test_illusion_without_mask_has_no_button(tmp_path: Path) -> None:
    card = NeuronCard(5, illusions=(IllusionPicture(0, Pictures()()),))
    page = _Page(_html(_bare(neurons=(card,)), tmp_path))
    assert len(page.images) == 1
    assert ("class", "mask js-only") not in page.attrs


def test_edit_without_groups_calibration_and_photos(tmp_path: Path) -> None:
    data = example_data()
    assert data.edit is not None
    edit = replace(data.edit, groups=(), calibration=None, photos=(), settings=(), neurons=())
    html = _html(replace(data, edit=edit), tmp_path)
    assert "by group" not in html
    assert "Calibration error" not in html
    assert "change-grid" not in html
    assert "31 corrected" in html


def test_each_slice_has_its_sentence_photos_and_neurons(tmp_path: Path) -> None:
    data = example_data()
    html = _html(data, tmp_path)
    for number, one in enumerate(data.slices, start=1):
        start = html.index(f'id="slice-{number}"')
        part = html[start : html.index("</section>", start)]
        assert one.sentence in part
        assert f"Slice {number}: {one.n_mistakes} mistakes" in part
        assert part.count("<img") == len(one.mistakes)
        neurons = ",".join(str(row.neuron) for row in one.ranking)
        assert f'data-selects="{neurons}"' in part


def test_mistakes_in_one_slice_look_as_without(tmp_path: Path) -> None:
    data = replace(example_data(), slices=())
    one, none = data, replace(data, slices_reason="")
    assert _html(one, tmp_path) == _html(none, tmp_path)
    assert "slice" not in re.sub(r"<(script|style).*?</\1>", "", _html(one, tmp_path), flags=re.S)


def test_a_card_says_of_how_many_mistakes(tmp_path: Path) -> None:
    data = example_data()
    shown = {card.neuron for card in data.neurons}
    row = next(row for row in data.ranking if row.neuron in shown)
    assert f"in {row.n_mistakes} of 16 mistakes</p>" in _html(
        replace(data, n_explained=16), tmp_path
    )


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    data = example_data(names=HOSTILE)
    mistakes = tuple(
        replace(mistake, file=HOSTILE[i % 6], group=HOSTILE[0])
        for i, mistake in enumerate(data.mistakes)
    )
    data = replace(data, title=HOSTILE[2], run=HOSTILE[2], mistakes=mistakes)
    html = _html(data, tmp_path)
    page = _Page(html)
    plain = _Page(_html(example_data(), tmp_path))
    assert page.tags.count("script") == plain.tags.count("script") == 2
    assert len(page.images) == len(plain.images)
    assert not [name for name, _ in page.attrs if name.startswith("on")]
    assert set(HOSTILE) <= set(page.texts)
    assert _block(html)["run"] == HOSTILE[2]


def test_the_title_steers_no_window(tmp_path: Path) -> None:
    odd = "cat\x1b]0;owned\x07\u202egpj"
    html = _html(replace(_bare(), title=odd, verdict=odd), tmp_path)
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "<title>cat\\x1b]0;owned\\x07\\u202egpj</title>" in html


def test_file_names_that_are_no_unicode_are_written(tmp_path: Path) -> None:
    name = b"photo\xff.jpg".decode("utf-8", "surrogateescape")
    mistake = Mistake(Pictures()(), name, 0, 0, 0.5)
    assert "photo?.jpg" in _html(_bare(mistakes=(mistake,)), tmp_path)


def test_words_of_a_thousand_neurons_stay_small(tmp_path: Path) -> None:
    one = example_data().words[0]
    words = tuple(replace(one, neuron=neuron) for neuron in range(1280))
    many, few = (_html(_bare(words=w), tmp_path) for w in (words, words[:1]))
    assert len(many) - len(few) < 150_000
    block = _block(many)["words"]
    assert isinstance(block, dict)
    assert len(block["phrases"]) == len(one.phrases)
    assert 'id="words"' not in _html(_bare(), tmp_path)


def test_matrix_only_for_few_classes(tmp_path: Path) -> None:
    def data(n: int) -> ReportData:
        classes = tuple(ClassResult(f"class {i}", 10, 8) for i in range(n))
        return _bare(classes=classes, confusions=(ConfusedPair(0, 1, 2),))

    assert "Confusion matrix" in _html(data(30), tmp_path)
    assert "Confusion matrix" not in _html(data(31), tmp_path)
    assert "Confusion matrix" not in _html(_bare(), tmp_path)


def test_of_many_classes_the_worst_thousand_and_the_inspected_one(tmp_path: Path) -> None:
    classes = tuple(ClassResult(f"class {i}", 10, 5 if i % 2 else 8) for i in range(2400))
    html = _html(_bare(classes=classes, target=2), tmp_path)
    rows = re.findall(r'<bdi class="name" title="class (\d+)">', html)
    assert sorted(map(int, rows)) == sorted([2, *range(1, 2000, 2)])
    assert "Accuracy by class: the 1,001 to look at first of 2,400" in html
    few = _html(_bare(classes=classes[:1000]), tmp_path)
    assert few.count('<bdi class="name"') == 1000
    assert "<caption>Accuracy by class</caption>" in few


def test_ten_neurons_and_fifty_mistakes_stay_small(tmp_path: Path) -> None:
    path = write_report(example_data(n_neurons=10, n_mistakes=50, side=224), tmp_path / "a.html")
    assert path.stat().st_size < 8_000_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ()}, "`classes` is empty"),
        ({"target": 6}, "`target` is class 6, expected an index below 6"),
        ({"confusions": (ConfusedPair(0, 9, 1),)}, "`predicted` of a confusion is class 9"),
        ({"confusions": (ConfusedPair(0, 0, 1),)}, "two different classes"),
        ({"confusions": (ConfusedPair(0, 1, 99),)}, "'heron' has 120 photos"),
        ({"neurons": (NeuronCard(1), NeuronCard(1))}, "`neurons` has neuron 1"),
        ({"words": (NeuronWords(1), NeuronWords(1))}, "`words` has neuron 1"),
        ({"words": (NeuronWords(1, (Phrase("a", float("inf")),)),)}, "`score` of 'a'=inf"),
        ({"neurons": (NeuronCard(-1),)}, "`neurons` has neuron -1"),
        (
            {"neurons": (NeuronCard(1, core_relevance=float("nan")),)},
            "`core_relevance` of neuron 1=nan",
        ),
        (
            {"mistakes": (Mistake(torch.rand(3, 8, 8), "a.jpg", 0, 1, 1.2),)},
            "`probability` of 'a.jpg'=1.2",
        ),
        ({"slices": (MistakeSlice("all", 0),)}, "slice 1 has 0 mistakes and 0 photos"),
        (
            {"slices": (MistakeSlice("one", 1, (), 2 * (RankedNeuron(3, "both", 1, 1, 1, 1),)),)},
            "`ranking of slice 1` has neuron 3",
        ),
    ],
)
def test_contradictions_are_refused_before_anything_is_written(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    data = replace(example_data(1, 1), **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=re.escape(message)):
        write_report(data, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())
