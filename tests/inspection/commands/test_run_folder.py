from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from helpers import left_unchanged
from session_examples import SIZE, loaded, photos, write_model, write_photos

from captum_neuroinspect.inspection.commands._run_folder import (
    RunSettings,
    check_place_of_report,
    names_record,
    next_command,
    open_session,
    restore_edit,
    retrace,
    save_edit,
)

SETTINGS = RunSettings(
    model="m.py:net", weights=None, data="photos", train=None, test=None,
    class_names=("größe", "'\""), image_size=None, resize="squash", device="cpu", encoder="none",
    guide=None, target=None, predicted=None, slices=None, n_neurons=3, n_steps=2, size=None,
    held_out=0.5, skip_unreadable=False, by_position=False, seed=0,
)  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        replace(
            SETTINGS, class_names=None, resize=None, guide=False, target="1", size=64, train="t"
        ),
        replace(SETTINGS, slices="auto"),
        replace(SETTINGS, held_out=1),  # JSON does not tell 1 from 1.0
    ],
)
def test_settings_come_back(tmp_path: Path, settings: RunSettings) -> None:
    settings.save(tmp_path / "new")
    assert RunSettings.load(tmp_path / "new") == settings


@pytest.mark.parametrize("name", list(asdict(SETTINGS)))
def test_a_setting_of_another_kind_or_missing(tmp_path: Path, name: str) -> None:
    path = SETTINGS.save(tmp_path)
    record = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(record | {name: {"a": 1}}))
    with pytest.raises(ValueError, match=rf"run.json cannot be read \(`{name}` is"):
        RunSettings.load(tmp_path)
    del record[name]
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="run `neuroinspect inspect` again"):
        RunSettings.load(tmp_path)


def test_a_run_is_opened_and_retraced(tmp_path: Path) -> None:
    settings = replace(
        SETTINGS,
        model=f"{write_model(tmp_path)}:net",
        data=str(write_photos(tmp_path / "photos")),
        class_names=None, image_size=SIZE, resize=None, target="coat", predicted="apple",
    )  # fmt: skip
    session = open_session(settings, tmp_path, progress=False, trust=True)
    with left_unchanged(session.model.model):
        retrace(session, settings)
    assert session.explanation is not None
    assert (session.explanation.target, session.explanation.predicted) == (2, 0)
    assert session.illusions is not None
    assert session.illusions.neurons[::2] == session.explanation.neurons(3)
    assert session.descriptions is not None  # attributes and classes need no encoder
    assert len(session.descriptions) == session.head.in_features
    assert (tmp_path / "work" / "features").is_dir()


def test_an_edit_is_taken_up_only_where_it_was_made(tmp_path: Path) -> None:
    made = loaded()
    made.explain("coat")
    edit = made.edit("coat", method="equation8")
    path = save_edit(made, tmp_path)
    assert not set(edit.remarks) & {"made_from"}  # the caller's object stays as it is

    again = loaded()
    again.explain("coat")
    assert restore_edit(again, tmp_path)
    assert again.last_edit is not None
    assert again.compare().edit.after == made.compare().edit.after

    others = [loaded(seed=1), loaded(data=photos(87)), loaded(), loaded()]
    others[2].explain("apple")
    others[3].explain("coat")
    others[3].head.weight.data *= 1.01
    for other in others:
        if other.explanation is None:
            other.explain("coat")
        with pytest.warns(UserWarning, match="is left out of the report, as it was made from"):
            assert not restore_edit(other, tmp_path)
        assert other.last_edit is None

    kept = again.last_edit
    replace(kept, remarks={**kept.remarks, "notes": "[[3]]"}).save(path)
    with pytest.warns(UserWarning, match=r"cannot be read \(the `notes` in its remarks"):
        assert not restore_edit(again, tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UserWarning, match="it cannot be read"):
        assert not restore_edit(again, tmp_path)
    assert not restore_edit(again, tmp_path / "nothing")


@pytest.mark.parametrize("name", ["plain", "a b", "it's", "two\nlines", "\x1b[2J\\t'", "\u202egpj"])
def test_the_next_command_can_be_pasted_whatever_the_folder_is_called(
    tmp_path: Path, name: str
) -> None:
    command = next_command(tmp_path / name)
    assert command.isprintable()
    words = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True).stdout
    assert words.decode().split("\0")[3] == str(tmp_path / name)


def test_what_a_run_names_is_not_taken_for_an_option(tmp_path: Path) -> None:
    settings = replace(SETTINGS, model="lite:0", weights=str(tmp_path / "gone.safetensors"))
    with (
        pytest.raises(FileNotFoundError, match=r"gone.*no such file \(named in .*run.json"),
        names_record(tmp_path),
    ):
        open_session(settings, tmp_path)


def test_a_folder_in_the_place_of_the_report_is_refused_at_once(tmp_path: Path) -> None:
    check_place_of_report(tmp_path)
    (tmp_path / "report.html").mkdir()
    with pytest.raises(IsADirectoryError, match=r"report\.html is a folder"):
        check_place_of_report(tmp_path)


def test_an_unknown_class_is_refused_before_photos_are_read(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), "
        "nn.Linear(4, 2))\n"
    )
    settings = replace(
        SETTINGS,
        model=f"{tmp_path}/net.py:net",
        weights=None,
        data=str(tmp_path / "no photos"),
        class_names=("cat", "dog"),
        device="cpu",
        encoder="none",
    )
    for name in ("target", "predicted"):
        with pytest.raises(ValueError, match=r"class 'fox' is unknown: expected one of cat, dog"):
            open_session(replace(settings, **{name: "fox"}), tmp_path / "run", trust=True)
