"""The page of an atlas: what is on its sheets, who is near whom, and what it is made from."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scale_examples import bytes_of, write_net

from captum_neuroinspect.models import load_model
from captum_neuroinspect.scale import (
    AtlasSettings,
    IllusionAtlas,
    ScaleOptions,
    render_atlas,
    write_atlas_site,
)
from captum_neuroinspect.scale.site.neighbours import nearest, nearest_by_words

HERE = ScaleOptions(n_workers=0, progress=False)
SIZE, N = 16, 20
SETTINGS = AtlasSettings(tuple(range(N)), classes_per_neuron=2, n_steps=1, size=SIZE)
HOSTILE = "</script><script>alert(1)</script>"
TABLE = f"""unit,description,is_certain
3,a red fox,True
7,a fox,False
9,{HOSTILE},
31,far,False
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> IllusionAtlas:
    folder = tmp_path_factory.mktemp("site")
    words = folder / "words.csv"
    words.write_text(TABLE)
    spec = write_net(folder)
    return render_atlas(spec, folder / "atlas", words=words, settings=SETTINGS, options=HERE)


def data_of(folder: Path) -> dict:
    page = (folder / "index.html").read_text()
    found = re.search(r'id="atlas-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_each_picture_is_at_its_place_on_a_sheet(made: IllusionAtlas) -> None:
    data = data_of(made.folder)
    sheets = sorted((made.folder / "sheets").iterdir())
    assert len(sheets) == -(-len(made) // data["perSheet"]) == 2
    for pair, illusion in enumerate(made):
        row, column = divmod(pair % data["perSheet"], data["perRow"])
        place = (column * SIZE, row * SIZE, (column + 1) * SIZE, (row + 1) * SIZE)
        shown = Image.open(sheets[pair // data["perSheet"]]).convert("RGB").crop(place)
        [exact] = illusion.to_pil()
        distance = np.asarray(shown, float) - np.asarray(exact, float)
        others = np.asarray(shown, float) - np.asarray(
            made.illusion((pair + 7) % 40).to_pil()[0], float
        )
        assert np.abs(distance).mean() < np.abs(others).mean() / 2


def test_the_page_says_what_the_records_say(made: IllusionAtlas) -> None:
    data = data_of(made.folder)
    assert data["neurons"] == [one["neuron"] for one in made.pairs]
    assert data["classes"] == [one["class"] for one in made.pairs]
    for numbers, record in zip(data["numbers"], made.pairs, strict=True):
        expected = [record["weight"], record["activation"], record["logit"]]
        assert numbers[:3] == pytest.approx(expected, rel=1e-3)
        assert numbers[3] == record["answers"]
        assert numbers[3][0][0] == record["predicted"]
    spec = json.loads((made.folder / "plan.json").read_text())["model"]["spec"]
    weight, first = load_model(spec).model.head.weight.detach(), made.pairs[0]
    assert first["weight"] == float(weight[first["class"], first["neuron"]])


def test_neighbours_are_those_of_the_largest_cosines(made: IllusionAtlas) -> None:
    spec = json.loads((made.folder / "plan.json").read_text())["model"]["spec"]
    model = load_model(spec).model
    columns = torch.nn.functional.normalize(model.head.weight.detach()[:, :N].double(), dim=0)
    cosines = columns.T @ columns - 2 * torch.eye(N)
    near = data_of(made.folder)["near"]
    for neuron in range(N):
        best, value = near["weights"][str(neuron)][0]
        assert best == int(cosines[neuron].argmax())
        assert value == pytest.approx(float(cosines[neuron].max()), abs=1e-3)
    with torch.no_grad():
        seen = torch.stack([model.backbone(one.images)[0] for one in made]).double()
    means = seen.view(N, 2, -1).mean(1)
    means = torch.nn.functional.normalize(means - means.mean(0), dim=1)
    alike = means @ means.T - 2 * torch.eye(N)
    for neuron, others in near["illusions"].items():
        for other, value in others:
            assert value == pytest.approx(float(alike[int(neuron), other]), abs=2e-3)
    assert near["words"] == {"3": [[7, 0.605]], "7": [[3, 0.605]], "9": []}


def test_words_that_are_guesses_are_named_as_such(made: IllusionAtlas) -> None:
    assert data_of(made.folder)["guesses"] == [7]  # of 9 the table does not say it


def test_near_by_words_is_the_cosine_of_weighted_counts() -> None:
    # idf = ln((1 + n) / (1 + df)) + 1, as scikit-learn has it: "fox" is in two of three.
    rare, common = np.log(4 / 2) + 1, np.log(4 / 3) + 1
    expected = common / np.hypot(rare, common)
    found = nearest_by_words({5: ["red fox"], 6: ["fox"], 8: ["sea"]})
    assert found[5] == [[6, round(expected, 3)]]
    assert found[8] == []
    assert nearest_by_words({}) == {}
    assert nearest_by_words({1: ["?"], 2: ["!"]}) == {1: [], 2: []}


def test_equally_near_ones_come_in_their_order() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    assert nearest([4, 5, 6, 7, 8], rows, n=2) == {
        4: [[6, 1.0], [7, 1.0]], 5: [], 6: [[4, 1.0], [7, 1.0]], 7: [[4, 1.0], [6, 1.0]], 8: [],
    }  # fmt: skip


def test_nothing_that_was_said_becomes_code(made: IllusionAtlas) -> None:
    page = (made.folder / "index.html").read_text()
    assert HOSTILE not in page
    assert page.count("</script>") == 2
    assert data_of(made.folder)["words"]["9"] == [HOSTILE]
    assert "http" not in page.replace("http-equiv", "")


def test_it_is_made_again_from_the_pairs_alone(made: IllusionAtlas, tmp_path: Path) -> None:
    again = tmp_path / "atlas"
    shutil.copytree(made.folder, again)
    (again / "index.html").unlink()
    shutil.rmtree(again / "sheets")
    assert write_atlas_site(again) == again / "index.html"
    assert bytes_of(again) == bytes_of(made.folder)


def test_it_can_be_read_while_it_grows(made: IllusionAtlas, tmp_path: Path) -> None:
    part = tmp_path / "atlas"
    shutil.copytree(made.folder, part)
    for pair in (0, 1, 38):
        (part / "pairs" / f"part-{pair:06d}.json").unlink()
    (part / "features" / "part-000002.json").unlink()
    (part / "index.json").unlink()
    write_atlas_site(part)
    assert "37 of 40 pictures are there" in (part / "index.html").read_text()
    numbers = data_of(part)["numbers"]
    assert [pair for pair, one in enumerate(numbers) if one is None] == [0, 1, 38]


def test_what_is_no_table_of_words_is_refused(made: IllusionAtlas, tmp_path: Path) -> None:
    table = tmp_path / "words.csv"
    table.write_text("neuron,text\n3,fox\n")
    before = bytes_of(made.folder)
    with pytest.raises(ValueError, match="has the columns"):
        write_atlas_site(made.folder, words=table)
    table.write_text("unit,description\nthree,fox\n")
    with pytest.raises(ValueError, match="line 2: unit='three'"):
        write_atlas_site(made.folder, words=table)
    table.write_text(f"unit,description\n3,{'fox' * 50_000}\n")
    with pytest.raises(ValueError, match="is no CSV of phrases: field larger"):
        write_atlas_site(made.folder, words=table)
    table.write_text("unit,description\n3,fox\n32,fox\n")
    spec = write_net(tmp_path)
    with pytest.raises(ValueError, match="has a unit 32, but there are 32 neurons"):
        render_atlas(spec, tmp_path / "out", words=table, settings=SETTINGS, options=HERE)
    table.write_text("unit,description\nthree,fox\n")
    with pytest.raises(FileNotFoundError):
        write_atlas_site(tmp_path / "nothing", words=table)
    with pytest.raises(ValueError, match="line 2"):
        render_atlas(spec, tmp_path / "out", words=table, settings=SETTINGS, options=HERE)
    assert not (tmp_path / "out").exists()
    assert bytes_of(made.folder) == before


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="pairs_per_batch=0"):
        replace(SETTINGS, pairs_per_batch=0)
    with pytest.raises(TypeError, match="n_steps"):
        replace(SETTINGS, n_steps=2.5)
