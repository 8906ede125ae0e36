"""From the command that makes a questionnaire to the one that reads its answers."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from captum_neuroinspect.experiments import Setup
from captum_neuroinspect.experiments.experiment import Part
from captum_neuroinspect.experiments.human_proxy import HumanProxyExperiment
from captum_neuroinspect.experiments.illusion_draws import strongest_pairs
from captum_neuroinspect.experiments.questionnaire import QuestionnaireKey
from captum_neuroinspect.experiments.running import make_experiment
from captum_neuroinspect.inspection.commands.cli import app


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("questionnaire")
    done = CliRunner().invoke(
        app, ["questionnaire", "make", "--quick", "--out", str(out), "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["questions"] == 3
    return out


def test_each_picture_is_of_the_condition_that_the_key_says(made: Path) -> None:
    key = QuestionnaireKey.load(made / "key" / "questionnaire-key.json")
    page = (made / "questionnaire.html").read_text()
    shown = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(one))))
        for one in re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    ]
    experiment = make_experiment("human-proxy", Setup(made), quick=True)
    assert isinstance(experiment, HumanProxyExperiment)
    names = experiment.networks.class_names
    draw = strongest_pairs(experiment.networks.head, 3, 0)
    rows = experiment._rows(Part("questionnaire", 0), draw, False)
    pictures = {
        row.title: experiment.rendered(Part("questionnaire", 0), row).to_pil() for row in rows
    }
    for number, row in enumerate(key.rows):
        pair = [names[label] for label in draw.classes].index(row.class_name)
        assert row.about == f"neuron {draw.neurons[pair]}, class {draw.classes[pair]}"
        for place, condition in enumerate(row.conditions.values()):
            expected = np.asarray(pictures[condition][pair])
            assert (shown[3 * number + place] == expected).all()


def test_answers_are_read_by_the_command(made: Path, tmp_path: Path) -> None:
    key = made / "key" / "questionnaire-key.json"
    known = QuestionnaireKey.load(key)
    lines = ["questionnaire,participant,group,question,answer"]
    for row in known.rows:
        letter = next(k for k, v in row.conditions.items() if v == "CLIP-Illusion")
        lines.append(f"{known.questionnaire},{7:016x},other,{row.question},{letter}")
    file = tmp_path / "answers.csv"
    file.write_text("\n".join(lines) + "\n")
    done = CliRunner().invoke(app, ["questionnaire", "read", str(key), str(file)])
    assert done.exit_code == 0, done.output
    assert "| everybody | CLIP-Illusion | 3 of 3 | 100.0% |" in done.stdout
    done = CliRunner().invoke(app, ["questionnaire", "read", str(key), str(file), "--json"])
    (first, *_) = json.loads(done.stdout)["shares"]
    assert (first["condition"], first["n_chosen"], first["n"]) == ("CLIP-Illusion", 3, 3)
    file.write_text(lines[0])
    done = CliRunner().invoke(app, ["questionnaire", "read", str(key), str(file)])
    assert done.exit_code == 1
    assert "answers.csv: it holds no answer" in done.stderr
    done = CliRunner().invoke(app, ["questionnaire", "read", str(file), str(file)])
    assert done.exit_code == 1
    assert "cannot be read as the key of a questionnaire" in done.stderr
