"""The command as people meet it: what it prints, how it ends, what it leaves."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import ConvNet
from safetensors import SafetensorError
from safetensors.torch import load_file
from session_examples import (
    NAMES,
    SIZE,
    CountedNet,
    assert_one_sentence,
    inspect_arguments,
    n_images_in,
    write_model,
    write_photos,
)
from typer.testing import CliRunner, Result

from captum_neuroinspect import __version__
from captum_neuroinspect.edit import HeadEdit, RemovalRecord
from captum_neuroinspect.inspection.commands.cli import app, main
from captum_neuroinspect.optvis import Illusions
from captum_neuroinspect.photos import Photos

runner = CliRunner()
COMMANDS = (
    *("demo", "inspect", "describe", "edit", "report", "visualize", "experiment", "doctor"),
    *("questionnaire make", "questionnaire read"),
)


def _run(*arguments: object) -> Result:
    return runner.invoke(app, [str(one) for one in arguments])


def _json(*arguments: object) -> Any:
    result = _run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def finished(place: Path, tmp_path_factory) -> Path:
    """A finished inspection, which nobody changes."""
    folder: Path = tmp_path_factory.mktemp("finished") / "run"
    _json(*inspect_arguments(place, folder))
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished inspection."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def _select(folder: Path, **changes: Any) -> Path:
    record = {"format": 1, "run": "run", "target": 2, "neurons": [8, 4], **changes}
    path = folder / "selection.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    return path


# Whose classes these are


def test_by_position_is_kept_with_the_run(place: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("pomme\npain\nmanteau\n", encoding="utf-8")
    arguments = inspect_arguments(place, tmp_path / "run", "--class-names", names)
    assert_one_sentence(_run(*arguments), "no class of the model is called apple, bread, coat")
    found = _json(*arguments, "--by-position")
    assert found["target"]["name"] in ("pomme", "pain", "manteau")
    page = (tmp_path / "run/report.html").read_text("utf-8")
    assert "taken by position" in page
    _json("report", "--run", tmp_path / "run")  # opens the run again, without the option


def test_the_order_that_nobody_knows_is_said(place: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        result = _run(*inspect_arguments(place, tmp_path / "run"))
    assert "Warning: the model has no class names" in result.stderr
    assert "in their order (0 apple, 1 bread, 2 coat)" in result.stderr


# Help


def test_version() -> None:
    assert runner.invoke(app, ["--version"]).stdout.strip().endswith(__version__)


def test_help_names_every_option_and_does_not_load_torch() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from captum_neuroinspect.inspection.commands.cli import app\n"
        f"for command in {COMMANDS}:\n"
        "    result = CliRunner().invoke(app, [*command.split(), '--help'], "
        "env={'COLUMNS': '200'})\n"
        "    assert result.exit_code == 0, result.stderr\n"
        "    print(result.stdout)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    options = """
        --data --out --seed --quiet --debug --class --predicted --held-out --fresh --selection
        --method --save-model --run --json --layer --gamma --classes --train --test --class-names
        --neurons --steps --size --encoder --guide --no-guide --image-size --resize --device
        --weights
    """
    for option in options.split():
        assert option in done.stdout, option


def test_nothing_to_do_and_unknown_options_are_usage_errors() -> None:
    for arguments in (["inspect"], ["nothing"], ["inspect", "--nothing"], ["edit"],
                      ["inspect", "--model", "x", "--data", "y", "--steps", "0"],
                      ["inspect", "--model", "x", "--data", "y", "--seed", "-1"],
                      ["visualize", "--model", "x", "--neurons", "1", "--gamma", "2"]):  # fmt: skip
        result = runner.invoke(app, arguments)
        assert result.exit_code == 2, arguments
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("option", [[], ["--debug"]])
def test_a_bad_folder_is_one_sentence_and_a_traceback_only_with_debug(
    tmp_path: Path, option: list[str]
) -> None:
    result = runner.invoke(app, ["report", "--run", str(tmp_path), *option])

    assert result.exit_code == 1
    if option:
        assert isinstance(result.exception, FileNotFoundError)
    else:
        assert_one_sentence(result, "is no run, as it has no run.json: make one with")


# The whole way


def test_from_photos_to_an_edited_model(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = _json(*inspect_arguments(place, out, "--test", place / "test", "--class", "apple"))
    assert found["target"] == {"index": 0, "name": "apple"}
    assert found["n_photos"] == 90
    assert sum(row["n_samples"] for row in found["worst_classes"]) == 90
    assert found["report"] == str(out / "report.html")
    neurons = [row["neuron"] for row in found["neurons"]]

    selection = _select(tmp_path, target=0, neurons=neurons[:2], note="the <b>tag</b>")
    saved = tmp_path / "edited.safetensors"
    options = ("--selection", selection, "--method", "equation8", "--quiet", "--save-model", saved)
    edited = _json("edit", "--run", out, *options)
    assert edited["n_judged"] == 30
    assert edited["classes"]["apple"]["neurons"] == neurons[:2]
    # Thirty photos judge, and the same fit without the two neurons and with others stands beside.
    verdict = edited["verdict"]
    assert verdict["n_judged"] == 30
    assert [control["n_draws"] for control in verdict["controls"]] == [1, 5]
    assert (verdict["n_corrected"], verdict["n_broken"]) == (
        edited["n_corrected"],
        edited["n_broken"],
    )
    assert edited["head"] == ("edited" if verdict["decision"] == "keep" else "original")
    kept = json.loads((out / "selection.json").read_text())
    assert len(kept.pop("checksum")) == 8
    assert kept == json.loads(selection.read_text()) | {"notes": {}, "report": "", "cue": False}
    edit = HeadEdit.load(out / "edit.safetensors")
    assert edit.neurons == tuple(neurons[:2])

    page = (out / "report.html").read_bytes()
    again = _json("report", "--run", out, "--quiet")
    assert again == {"report": str(out / "report.html"), "has_edit": True}
    assert (out / "report.html").read_bytes() == page

    # The checkpoint is the model as it was, unless the edit is kept; here it is, in any case.
    assert edit.verdict.as_dict() == verdict
    if verdict["decision"] != "keep":
        net = CountedNet()
        net.load_state_dict(load_file(saved))
        assert torch.equal(net.head.weight, edit.original.weight)
    edited = _json("edit", "--run", out, *options, "--keep-anyway")
    assert edited["head"] == "edited"
    net = CountedNet()
    net.load_state_dict(load_file(saved))
    assert torch.equal(net.head.weight, edit.head.weight)
    assert not torch.equal(net.head.weight, edit.original.weight)
    images = Photos.of(place / "test", image_size=SIZE).images(range(30))
    expected = edit.head(net.eval().backbone(images)).argmax(1)
    assert torch.equal(net(images).argmax(1), expected)
    by_checkpoint = _json(
        *inspect_arguments(place, tmp_path / "2", "--weights", saved, "--data", place / "test")
    )
    assert by_checkpoint["accuracy"] == pytest.approx(edited["accuracy"]["after"])


@pytest.mark.filterwarnings("default")
def test_photos_that_cannot_be_read_are_named_or_skipped(place: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(place / "photos", photos)
    broken = next(photos.rglob("*.png"))
    broken.write_bytes(b"no picture")
    test = tmp_path / "test"
    shutil.copytree(place / "test", test)
    judge = next(test.rglob("*.png"))
    judge.write_bytes(b"no picture either")
    arguments = inspect_arguments(place, tmp_path / "run", "--data", photos)

    refused = _run(*arguments)
    assert refused.exit_code == 1
    assert f"{broken.relative_to(photos)} cannot be read" in refused.stderr
    assert "--skip-unreadable" in refused.stderr

    skipped = _run(*arguments, "--skip-unreadable", "--test", test)
    assert skipped.exit_code == 0, skipped.stderr
    assert f"Warning: {broken.relative_to(photos)} is left out" in skipped.stderr
    assert f"Warning: {judge.relative_to(test)} of test is left out" in skipped.stderr


@pytest.mark.skipif(
    sys.platform in ("darwin", "win32"), reason="file systems there take Unicode names only"
)
def test_names_that_are_not_utf8_are_no_trouble(place: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(place / "photos", photos)
    old = next(photos.rglob("*.png"))
    os.rename(os.fsencode(old), os.fsencode(old.parent) + b"/caf\xe9.png")

    done = _run(*inspect_arguments(place, tmp_path / "run", "--data", photos))

    assert done.exit_code == 0, done.stderr


def test_people_get_tables_and_the_way_on(place: Path, tmp_path: Path) -> None:
    result = _run(*inspect_arguments(place, tmp_path / "run"))
    assert result.exit_code == 0
    assert "worst" not in result.stdout
    assert "accuracy" in result.stdout
    assert f"Open {tmp_path / 'run' / 'report.html'}" in result.stdout
    assert result.stderr == ""  # no bars


def _next_command(stdout: str) -> list[str]:
    """The words of the command at the end of what `inspect` prints, as a shell reads them."""
    *_, last = stdout.strip().splitlines()
    return shlex.split(last)


def test_people_are_told_what_will_be_done_and_what_comes_next(
    place: Path, tmp_path: Path, monkeypatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    out = tmp_path / "it's my run"
    result = _run(*inspect_arguments(place, out, "--class", "coat"))
    assert result.exit_code == 0
    assert re.search(r"^accuracy: .*precision +magnitude", result.stdout, re.DOTALL | re.MULTILINE)
    assert "input: no preprocessing was given: the model sees pixels in 0..1" in result.stdout
    assert re.search(
        r"^coat: \d+ mistakes; \d+ explained, \d+ for validation, \d+ for test, \d+ for train$",
        result.stdout,
        re.M,
    )
    assert re.search(r"^illusions: 4 pictures of 2 steps, .* on this machine$", result.stdout, re.M)
    words = _next_command(result.stdout)
    assert words == [
        *("neuroinspect", "edit", "--run", str(out), "--selection", str(out / "selection.json"))
    ]
    (home / "Downloads").mkdir(parents=True)
    again = _run(*inspect_arguments(place, out, "--class", "coat"))
    assert "illusions: 4 pictures of 2 steps, kept from before" in again.stdout
    words = _next_command(again.stdout)
    assert words[-1] == str(home / "Downloads" / "selection.json")
    _select(home / "Downloads")
    assert _json(*words[1:], "--quiet", "--method", "equation8")["n_judged"]


def test_serious_findings_are_warnings_and_in_the_record_and_the_report(
    place: Path, tmp_path: Path
) -> None:
    turned = tmp_path / "photos"
    for name, other in zip(NAMES, (*NAMES[1:], NAMES[0]), strict=True):
        shutil.copytree(place / "photos" / name, turned / other)
    result = _run(*inspect_arguments(place, tmp_path / "run", "--data", turned, "--json"))
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)["preflight"]
    sentence = "labels look permuted: check the order of class names"
    assert any(text.startswith(sentence) for text in record["warnings"])
    assert record["renaming"]["names"] == [[0, 2], [1, 0], [2, 1]]
    assert f"Warning: {sentence}" in result.stderr
    assert sentence in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_programs_get_findings_and_no_times(place: Path, tmp_path: Path) -> None:
    record = _json(*inspect_arguments(place, tmp_path / "run"))["preflight"]
    assert record["guessing"]["n_photos"] == 90
    assert record["mistakes"]["name"] == "coat"
    assert record["rendering"] == {"n_pictures": 4, "n_steps": 2}
    assert record["preprocessing"]["is_given"] is False
    assert record["warnings"] == []


def test_no_time_of_a_run_is_in_its_report(place: Path, tmp_path: Path, monkeypatch) -> None:
    """However fast the machine is, and where it went on after an interrupt."""
    pages, printed = [], []
    for number, step in enumerate((0.001, 1000.0)):
        moments = itertools.count(0.0, step)
        clock = SimpleNamespace(perf_counter=lambda moments=moments: next(moments))
        monkeypatch.setattr("captum_neuroinspect.inspection.commands.inspect.time", clock)
        out = tmp_path / str(number) / "run"
        printed.append(_run(*inspect_arguments(place, out)).stdout)
        pages.append((out / "report.html").read_bytes())
    assert "a few seconds on this machine" in printed[0]
    assert "about 2000 seconds" not in printed[1]
    assert "about 33 minutes on this machine" in printed[1]
    assert pages[0] == pages[1]
    assert b"on this machine" not in pages[0]


def test_what_was_written_about_the_choice_is_in_the_edited_report(run: Path) -> None:
    note = "the <b>tag</b>\nnot the coat"
    picked = _select(run.parent, note=note, notes={"8": "a 'label'", "3": "unticked"})
    command = ("edit", "--run", run, "--quiet", "--method", "equation8")
    _json(*command, "--selection", picked)
    page = (run / "report.html").read_text("utf-8")
    assert "Why these neurons" in page
    assert "the &lt;b&gt;tag&lt;/b&gt;\nnot the coat" in page
    assert page.index("neuron 3</dt>") < page.index("neuron 8</dt>")
    assert "a &#39;label&#39;" in page
    _json("report", "--run", run, "--quiet")
    assert (run / "report.html").read_text("utf-8") == page
    _json(*command)  # of the blamed neurons: the note was about others
    assert "Why these neurons" not in (run / "report.html").read_text("utf-8")


def test_the_seed_draws_the_held_out_share_and_nothing_else_is_random(
    place: Path, tmp_path: Path
) -> None:
    records = [
        _json(*inspect_arguments(place, tmp_path / str(number) / "run", "--seed", seed))
        for number, seed in enumerate((0, 0, 1))
    ]
    for record in records:
        record.pop("report")
    assert records[0] == records[1]
    assert records[0]["neurons"] != records[2]["neurons"]
    pages = [(tmp_path / str(i) / "run" / "report.html").read_bytes() for i in range(3)]
    assert pages[0] == pages[1]
    assert pages[0] != pages[2]


def test_the_second_inspect_runs_no_photo_through_the_model(
    place: Path, tmp_path: Path, monkeypatch
) -> None:
    logs, pages = [tmp_path / "1", tmp_path / "2", tmp_path / "3"], []
    for log, more in zip(logs, ([], [], ["--fresh"]), strict=True):
        monkeypatch.setenv("PASSES", str(log))
        _json(*inspect_arguments(place, tmp_path / "run", *more))
        pages.append((tmp_path / "run" / "report.html").read_bytes())
    first, second, third = map(n_images_in, logs)
    assert second <= 2 < 0.05 * first
    assert third == first
    assert pages[0] == pages[1] == pages[2]


def test_paths_are_found_again_from_another_folder(
    place: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(place)
    arguments = [
        str(a).replace(f"{place}/", "") for a in inspect_arguments(place, tmp_path / "run")
    ]
    assert "model.py:net" in arguments
    _json(*arguments)
    monkeypatch.chdir(tmp_path)
    assert not _json("report", "--run", "run", "--quiet")["has_edit"]


def test_a_tilde_is_the_home_folder_as_no_shell_expands_it_here(
    place: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.chdir(tmp_path)
    arguments = [
        str(a).replace(str(place), "~") for a in inspect_arguments(place, tmp_path / "run")
    ]
    assert "~/model.py:net" in arguments
    _json(*arguments)
    assert not (tmp_path / "~").exists()


def test_a_ticked_cue_is_removed(run: Path, tmp_path: Path) -> None:
    picked = _select(tmp_path, neurons=[], cue=True)
    _json("edit", "--run", run, "--selection", picked, "--quiet")
    record = HeadEdit.load(run / "edit.safetensors").method
    assert isinstance(record, RemovalRecord)
    assert record.cue == "direction"
    assert record.n_located
    page = (run / "report.html").read_text("utf-8")
    assert "remove this cue" in page
    assert "cue removed by project" in page
    result = _run("edit", "--run", run, "--selection", picked, "--method", "mend", "--json")
    assert_one_sentence(result, "--method='mend', but the selection asks to remove the cue")


def test_an_edit_without_a_selection_takes_the_blamed_neurons(run: Path) -> None:
    found = _json("edit", "--run", run, "--method", "equation8", "--quiet")
    blamed = json.loads((run / "run.json").read_text())
    assert blamed["target"] is None  # the worst class
    assert list(found["classes"]) == ["coat"]
    assert len(found["classes"]["coat"]["neurons"]) == 6
    assert not (run / "selection.json").exists()


def test_slices_are_kept_with_the_run_and_edited_one_by_one(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    whole = _json(*inspect_arguments(place, run, "--json"))
    mark = json.loads((run / "run.json").read_text())["inspection"]
    assert whole["slices"] is None
    found = _json(*inspect_arguments(place, run, "--slices", 2, "--json"))
    kept = json.loads((run / "run.json").read_text())
    assert kept["slices"] == "2"
    assert kept["inspection"] != mark
    sizes = [one["n_mistakes"] for one in found["slices"]["slices"]]
    assert sum(sizes) == found["n_explained"]
    edited = _json("edit", "--run", run, "--slice", 2, "--method", "equation8", "--quiet")
    neurons = found["slices"]["slices"][1]["neurons"][:6]
    assert edited["classes"]["coat"]["neurons"] == neurons
    assert 'id="slice-2"' in (run / "report.html").read_text()
    result = _run("edit", "--run", run, "--slice", 5, "--json")
    assert_one_sentence(result, "slice=5, expected 1..2")


@pytest.mark.filterwarnings("always")
def test_an_edit_of_other_photos_or_another_class_is_not_shown(place: Path, run: Path) -> None:
    """Its photos may have taught the edit that they would judge now."""
    _json("edit", "--run", run, "--method", "equation8", "--quiet")
    assert _json("report", "--run", run, "--quiet")["has_edit"]
    for more in (["--class", "apple"], ["--seed", 3], ["--held-out", 0.3]):
        _json(*inspect_arguments(place, run, *more))
        result = _run("report", "--run", run, "--quiet", "--json")
        assert not json.loads(result.stdout)["has_edit"], more
        assert "edit.safetensors is left out of the report" in result.stderr
    _json(*inspect_arguments(place, run))
    assert _json("report", "--run", run, "--quiet")["has_edit"]
    (run / "edit.safetensors").write_bytes(b"nothing")
    result = _run("report", "--run", run, "--quiet", "--json")
    assert not json.loads(result.stdout)["has_edit"]
    assert "it cannot be read" in result.stderr


def test_names_in_a_file(place: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\ufeffcoat\n\n  apple \nbread\n", encoding="utf-8")
    found = _json(
        *inspect_arguments(place, tmp_path / "run", "--class-names", names, "--class", "coat")
    )
    assert found["target"] == {"index": 0, "name": "coat"}
    names.write_bytes(b"\xff\xfe\x00")
    result = _run(*inspect_arguments(place, tmp_path / "run", "--class-names", names))
    assert_one_sentence(result, "is no UTF-8 text")


def test_photos_are_resized_as_asked_and_the_report_says_how(place: Path, tmp_path: Path) -> None:
    pages = {}
    for resize, words in (
        ("squash", f"squashed to {SIZE} x {SIZE} pixels"),
        (f"crop {SIZE + 4}", f"shorter side {SIZE + 4}, centre {SIZE} x {SIZE} pixels"),
    ):
        out = tmp_path / resize
        _json(*inspect_arguments(place, out, "--resize", resize))
        pages[resize] = (out / "report.html").read_text("utf-8")
        assert words in pages[resize]
        assert json.loads((out / "run.json").read_text("utf-8"))["resize"] == resize
        _json("report", "--run", out, "--quiet")
        assert (out / "report.html").read_text("utf-8") == pages[resize]


def test_hostile_folders_stay_text(tmp_path: Path) -> None:
    names = ("<script>alert(1)<", "'\"><img src=x onerror=alert(1)>", "{{ 7 * 7 }} & ünï")
    write_model(tmp_path)
    write_photos(tmp_path / "photos", names)
    found = _json(*inspect_arguments(tmp_path, tmp_path / "run"))
    assert {row["name"] for row in found["worst_classes"]} == set(names)
    _json("edit", "--run", tmp_path / "run", "--quiet", "--method", "equation8")
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "49 &amp; ün" not in page
    assert "&lt;script&gt;alert(1)&lt;" in page


# Illusions without photos


def test_visualize_needs_no_photos(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    command = ["visualize", "--model", f"{place}/model.py:net", "--neurons", "8, 4", "--out", out,
               "--image-size", SIZE, "--steps", 2, "--quiet"]  # fmt: skip
    found = _json(*command)
    assert [row["neuron"] for row in found["illusions"]] == [8, 4]
    assert Illusions.load(out / "illusions.safetensors").classes is None
    assert (out / "illusions.png").read_bytes().startswith(b"\x89PNG")
    names = tmp_path / "names"
    names.write_text("\n".join(NAMES))
    found = _json(*command, "--classes", "coat, 0", "--class-names", names)
    rows = [(row["neuron"], row["class"], row["class_name"]) for row in found["illusions"]]
    wanted = [(n, c, NAMES[c]) for n in (8, 4) for c in (2, 0)]
    assert rows == wanted
    inner = _json(*command, "--layer", "backbone.0", "--neurons", 1, "--paper")
    assert [row["neuron"] for row in inner["illusions"]] == [1]
    made = Illusions.load(out / "illusions.safetensors").settings
    assert (made["gamma"], made["options"]["lr"]) == (0.5, 9e-3)
    for more, message in (
        (["--neurons", "a"], "--neurons='a', expected whole numbers such as 12,40"),
        (["--neurons", "99"], "neuron=99 is out of range"),
        (["--classes", "dog"], "class 'dog' is unknown: there are no class names"),
        (["--classes", "3"], "class 3 is out of range"),
        (["--layer", "nothing"], "layer='nothing' is not in"),
        (["--class-names", tmp_path / "none"], "none': there is no such file"),
        (["--encoder", "clip"], "encoder='clip', expected 'auto'"),
        (["--device", "tpu9"], "device='tpu9' cannot be used here"),
    ):
        assert_one_sentence(_run(*command, *more, "--json"), message)


# Doctor


def test_doctor_for_programs() -> None:
    result = _run("doctor", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == (0 if found["healthy"] else 1)
    assert {"name", "ok", "detail", "advice"} == set(found["findings"][0])
    assert "torch" in {finding["name"] for finding in found["findings"]}


def test_a_sick_machine_is_an_exit_code(monkeypatch) -> None:
    monkeypatch.setattr("captum_neuroinspect.inspection.doctor.is_healthy", lambda _: False)
    result = _run("doctor")
    assert result.exit_code == 1
    assert "torch" in result.stdout
    assert "Error" not in result.stderr


def test_doctor_keeps_a_space_after_each_name() -> None:
    from captum_neuroinspect.inspection.doctor import examine

    lines = _run("doctor").stdout.splitlines()
    for finding in examine():
        assert any(line[4:].startswith(f"{finding.name} ") for line in lines), finding.name


# What goes wrong


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--class", "dog"], "class 'dog' is unknown: expected one of apple, bread, coat"),
        (["--class", "7"], "class 7 is out of range: there are 3 classes"),
        (["--predicted", "dog"], "class 'dog' is unknown"),
        (["--class", "coat", "--predicted", "coat"], "is wrong taken for 'coat'"),
        (["--data", "/no/such"], "there is no such folder"),
        (["--test", "/no/such"], "test='/no/such': there is no such folder"),
        (["--train", "/no/such.csv"], "train='/no/such.csv': there is no such table"),
        (["--model", "/no/such.py:net"], "there is no file /no/such.py"),
        (["--model", "resnet50"], "resnet50"),
        (["--weights", "/no/such.safetensors"], "no such file"),
        (["--resize", "stretch"], "resize='stretch', expected 'crop'"),
        (["--resize", "crop 3"], "the crop no larger than what it is cut from"),
        (["--slices", "many"], "--slices='many', expected 'off', 'auto' or a whole number"),
        (["--held-out", "2"], "held_out=2.0, expected a share between 0 and 1"),
        (["--encoder", "clip"], "encoder='clip', expected 'auto'"),
        (["--class-names", "/no/such"], "--class-names='/no/such': there is no such file"),
        (["--model", "resnet18"], "did you mean torchvision:resnet18?"),
        (["--model", "resnet_18"], "'file.py:function'"),
    ],
)
def test_bad_inspections(place: Path, tmp_path: Path, more: list[str], message: str) -> None:
    result = _run(*inspect_arguments(place, tmp_path / "run", "--json", *more))
    assert_one_sentence(result, message)
    assert not (tmp_path / "run" / "run.json").exists()


def test_functions_of_a_file_that_make_no_model(place: Path, tmp_path: Path) -> None:
    for function, message in (("broken", "returned int, expected an nn.Module"),
                              ("nothing", "has no function 'nothing'")):  # fmt: skip
        more = ["--model", f"{place}/model.py:{function}", "--json"]
        assert_one_sentence(_run(*inspect_arguments(place, tmp_path / "run", *more)), message)


def test_without_mistakes(place: Path, tmp_path: Path) -> None:
    images = Photos.of(place / "photos", image_size=SIZE).images(range(90))
    found = CountedNet().eval()(images).argmax(1)
    for number, (image, label) in enumerate(zip(images, found.tolist(), strict=True)):
        path = tmp_path / "right" / NAMES[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        from torchvision.utils import save_image

        save_image(image, path)
    result = _run(
        *inspect_arguments(place, tmp_path / "run", "--data", tmp_path / "right", "--json")
    )
    assert_one_sentence(result, "is wrong, expected at least one mistake to explain")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 1}', "it is of another version"),
        ('{"format": 2}', "it has format 2, and this version reads 1: update"),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_damaged_run(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "run.json").write_text(content, encoding="utf-8", errors="surrogateescape")
    for command in ("edit", "report"):
        result = _run(command, "--run", tmp_path, "--json")
        assert_one_sentence(result, message)
        assert "run `neuroinspect inspect` again" in result.stderr


def test_no_run(tmp_path: Path) -> None:
    for command in ("edit", "report"):
        assert_one_sentence(_run(command, "--run", tmp_path, "--json"), "is no run, as it has no")


def test_numbers_of_a_run_that_are_none(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    for change in ({"n_steps": "2"}, {"seed": None}, {"held_out": "0.5"}, {"n_neurons": True},
                   {"model": 3}, {"class_names": [1]}, {"guide": "yes"}):  # fmt: skip
        (run / "run.json").write_text(json.dumps(record | change))
        result = _run("report", "--run", run, "--json")
        assert_one_sentence(result, f"`{next(iter(change))}` is ")


def test_bad_selections(run: Path, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"target": 3}, "the selection is for class 3, the run's model has 3 classes"),
        ({"neurons": [1, 16]}, "the selection has neuron 16, the run's model has 16"),
        ({"neurons": []}, "the selection has no neurons, and no cue: tick some in the report"),
        ({"cue": True}, "the selection has both the cue and neurons"),
        ({"cue": 1}, "`cue` is a number, expected true or false"),
        ({"target": 0}, "the selection is for 'apple', the run inspects 'coat'"),
        ({"target": "coat"}, "`target` is 'coat', expected a whole number"),
        ({"format": 9}, "`format` is 9, expected 1"),
        ({"report": "ab12"}, "the selection was made in another report than this run's now is"),
        ({"checksum": "00000000"}, "its content is not what its `checksum` says"),
    ]
    for changes, message in cases:
        result = _run("edit", "--run", run, "--selection", _select(tmp_path, **changes), "--json")
        assert_one_sentence(result, message)
    for more, message in (
        (["--selection", tmp_path / "none.json"], "none.json': there is no such file"),
        (["--method", "magic"], "--method='magic', expected one of mend, equation8, remove_cue"),
        (["--save-model", "model.bin"], "--save-model='model.bin', expected a name ending in"),
    ):
        assert_one_sentence(_run("edit", "--run", run, *more, "--json"), message)
    assert not (run / "edit.safetensors").exists()


def test_debug_shows_the_traceback(place: Path, tmp_path: Path) -> None:
    result = _run(*inspect_arguments(place, tmp_path / "run", "--class", "dog", "--debug"))
    assert isinstance(result.exception, ValueError)


def test_an_interrupt_before_a_command_begins_is_told(tmp_path: Path, monkeypatch, capsys) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("captum_neuroinspect.inspection.commands.report.safely", interrupted)
    monkeypatch.setattr(sys, "argv", ["neuroinspect", "report", "--run", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr().err
    # Older typers end with 1 and "Aborted".
    assert (caught.value.code, said) == (
        130,
        "Interrupted. The same command goes on from here.\n",
    ) or "Aborted" in said


def test_an_interrupt_that_a_class_in_the_making_wraps_is_told(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    """Python 3.11 makes a ``RuntimeError`` of what ``__set_name__`` raises, as in an import."""

    def interrupted(*_: Any, **__: Any) -> Any:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise RuntimeError("Error calling __set_name__ on 'x'") from error

    monkeypatch.setattr("captum_neuroinspect.inspection.commands.report.safely", interrupted)
    monkeypatch.setattr(sys, "argv", ["neuroinspect", "report", "--run", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 130
    assert capsys.readouterr().err == "Interrupted. The same command goes on from here.\n"


def test_a_surprise_asks_for_a_report(place: Path, tmp_path: Path, monkeypatch) -> None:
    def surprise(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("1 / 0")

    monkeypatch.setattr("captum_neuroinspect.models.load.load_model", surprise)
    monkeypatch.setattr("captum_neuroinspect.inspection.commands._run_folder.load_model", surprise)
    result = _run(*inspect_arguments(place, tmp_path / "run", "--json"))
    assert_one_sentence(result, "ZeroDivisionError: 1 / 0. This should not happen: run again")


def _full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "file")


@pytest.mark.parametrize(
    "place_of_writing",
    [
        "captum_neuroinspect._core.kept_file.save_file",
        "captum_neuroinspect.optvis._pictures.illusions_file.write_kept",
        "captum_neuroinspect.inspection.cache.work_folder.write_kept",
        "captum_neuroinspect.inspection.commands._run_folder.write_text",
        "captum_neuroinspect.inspection.report._picture_folder.write_atomically",
    ],
)
def test_a_full_disk_is_one_sentence(
    place: Path, tmp_path: Path, monkeypatch, place_of_writing: str
) -> None:
    monkeypatch.setattr(place_of_writing, _full)
    result = _run(*inspect_arguments(place, tmp_path / "run", "--json"))
    assert_one_sentence(result, "No space left on device")


def _full_in_rust(*_: Any, **__: Any) -> Any:
    raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")


@pytest.mark.parametrize(
    ("place_of_writing", "named"),
    [
        ("captum_neuroinspect._core.kept_file.save_file", "edit.safetensors"),
        ("captum_neuroinspect.models.saving.save_file", "edited.safetensors"),
    ],
)
@pytest.mark.parametrize("full", [_full, _full_in_rust])
def test_a_full_disk_in_edit_is_one_sentence(
    run: Path, tmp_path: Path, monkeypatch, place_of_writing: str, named: str, full: Any
) -> None:
    monkeypatch.setattr(place_of_writing, full)
    saved = tmp_path / "edited.safetensors"
    command = ["edit", "--run", run, "--method", "equation8", "--save-model", saved, "--json"]
    result = _run(*command)
    assert_one_sentence(result, "No space left on device: ")
    assert named in result.stderr
    assert "should not happen" not in result.stderr
    assert not saved.exists()
    assert not list(tmp_path.rglob(".neuroinspect-*"))


def test_with_space_again_it_goes_on(place: Path, tmp_path: Path, monkeypatch) -> None:
    command = inspect_arguments(place, tmp_path / "run", "--json")
    with monkeypatch.context() as patch:
        patch.setattr("captum_neuroinspect.inspection.cache.work_folder.write_kept", _full)
        assert _run(*command).exit_code == 1
    monkeypatch.setenv("PASSES", str(tmp_path / "log"))
    assert _run(*command).exit_code == 0
    assert n_images_in(tmp_path / "log") < 90  # the features are there


def test_a_place_that_is_a_file(place: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = _run(*inspect_arguments(place, tmp_path / "file", "--json"))
    assert result.exit_code == 1
    assert_one_sentence(result, "file")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_read_only_folder(place: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        result = _run(*inspect_arguments(place, tmp_path / "run", "--json"))
        assert_one_sentence(result, "make it writable, or choose another work folder")
    finally:
        tmp_path.chmod(0o755)


def test_another_net_in_the_same_file_is_another_question(place: Path, tmp_path: Path) -> None:
    first = _json(*inspect_arguments(place, tmp_path / "run"))
    other = _json(*inspect_arguments(place, tmp_path / "run", "--model", f"{place}/model.py:other"))
    assert first["accuracy"] != other["accuracy"]
    assert first == _json(*inspect_arguments(place, tmp_path / "run"))
    assert isinstance(CountedNet(), ConvNet)
