from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Boom, ConvNet, assert_same_set
from processes import Processes
from safetensors import SafetensorError

from captum_neuroinspect import FeatureSet, collect_features
from captum_neuroinspect._core import locks as _locks
from captum_neuroinspect.inspection.cache import entry as _cache_files
from captum_neuroinspect.inspection.cache import work_folder as workfolder
from captum_neuroinspect.inspection.cache.collect_in_parts import collect_in_parts
from captum_neuroinspect.inspection.cache.work_folder import WorkFolder
from captum_neuroinspect.optvis import Illusions
from captum_neuroinspect.photos import Photos

KEY = {"seed": 0, "photos": "ab12"}


def _features(n: int = 6) -> FeatureSet:
    return FeatureSet(torch.rand(n, 3), torch.rand(n, 2), torch.arange(n) % 2)


def _never() -> Any:
    pytest.fail("it was made again")


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    return WorkFolder(tmp_path / "work")


# Keeping


def test_features_are_made_once(work: WorkFolder) -> None:
    made = work.features(KEY, _features)
    assert_same_set(work.features(KEY, _never), made)
    assert_same_set(WorkFolder(work.path).features(KEY, _never), made)


def test_illusions_are_made_once(work: WorkFolder) -> None:
    images = torch.rand(2, 3, 4, 4)
    made = Illusions(images, None, torch.rand(2), None, None, neurons=(3, 4))
    work.illusions(KEY, lambda: made)
    kept = work.illusions(KEY, _never)
    assert torch.equal(kept.images, images)
    assert kept.neurons == (3, 4)


def test_plain_data_are_made_once(work: WorkFolder) -> None:
    made = work.json("ranking", KEY, lambda: {"neurons": [1, 2], "name": "Größe", "nothing": None})
    assert work.json("ranking", KEY, _never) == made
    assert work.json("nothing", KEY, lambda: None) is None
    assert work.json("nothing", KEY, _never) is None  # also when there is nothing to keep


def test_another_key_or_kind_is_another_result(work: WorkFolder) -> None:
    keys = [KEY, {**KEY, "seed": 1}, {"seed": 0}, {**KEY, "path": Path("a")}]
    for number, key in enumerate(keys):
        assert work.json("a", key, lambda n=number: n) == number
    assert work.json("b", KEY, lambda: "b") == "b"
    reordered = dict(reversed(KEY.items()))
    assert work.json("a", reordered, _never) == 0
    assert work.json("a", {**KEY, "path": "a"}, _never) == 3
    assert work.has("a", KEY, suffix=".value.json")


def test_fresh_makes_it_again_and_the_old_file_goes(work: WorkFolder) -> None:
    work.features(KEY, _features)
    new = _features()
    work.features(KEY, lambda: new, fresh=True)
    assert_same_set(work.features(KEY, _never), new)
    assert len(list((work.path / "features").glob("*.safetensors"))) == 1


def test_every_file_has_a_record_that_people_can_read(work: WorkFolder) -> None:
    work.features(KEY, _features)
    work.json("ranking", {"k": 5}, lambda: [1])
    entries = {entry["kind"]: entry for entry in work.entries()}
    assert entries["features"]["key"] == KEY
    assert entries["ranking"]["key"] == {"k": 5}
    for kind, entry in entries.items():
        file = work.path / kind / entry["file"]
        assert file.stat().st_size == entry["bytes"]
        assert _cache_files.checksum(file) == entry["sha256"]
        assert "T" in entry["made"]


def test_remove(work: WorkFolder) -> None:
    work.features(KEY, _features)
    work.remove("features", KEY)
    assert not work.has("features", KEY)
    assert not list(work.path.rglob("*.safetensors"))
    work.remove("features", KEY)
    work.remove("never", KEY)


def test_a_failure_leaves_nothing_and_the_old_result(work: WorkFolder) -> None:
    def fail() -> FeatureSet:
        raise Boom

    with pytest.raises(Boom):
        work.features(KEY, fail)
    assert not work.has("features", KEY)
    made = work.features(KEY, _features)
    with pytest.raises(Boom):
        work.features(KEY, fail, fresh=True)
    assert_same_set(work.features(KEY, _never), made)


# Damage


def _value(work: WorkFolder) -> Path:
    (path,) = (work.path / "features").glob("*.safetensors")
    return path


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda work: _flip(_value(work)), "has other contents"),
        (lambda work: _value(work).write_bytes(b""), "has other contents"),
        (lambda work: _value(work).unlink(), "is missing"),
        (lambda work: _record(work).write_text("{"), "cannot be read"),
        (lambda work: _record(work).write_text("[]"), "cannot be read"),
        (lambda work: _record(work).write_text("[" * 100_000), "cannot be read"),
        (lambda work: _changed(work, file="../../x"), "names no file of its own"),
        (lambda work: _changed(work, file=3), "cannot be read"),
        (lambda work: _changed(work, sha256=None), "names no file of its own"),
        (lambda work: _changed(work, key={"seed": 1}), "of another result"),
        (lambda work: _in_place_of(_record(work), "folder"), "is a folder, expected a file"),
        (lambda work: _in_place_of(_record(work), "full folder"), "is a folder, expected a file"),
        (lambda work: _in_place_of(_value(work), "full folder"), "is a folder, expected a file"),
        (lambda work: _in_place_of(_record(work), "loop"), "symbolic link"),
        (lambda work: _in_place_of(_value(work), "loop"), "symbolic link"),
        (lambda work: _in_place_of(_record(work), "/dev/zero"), "is a device, expected a file"),
        (lambda work: _in_place_of(_value(work), "/dev/zero"), "is a device, expected a file"),
        (lambda work: _in_place_of(_record(work), "pipe"), "is a pipe, expected a file"),
        (lambda work: _in_place_of(_value(work), "pipe"), "is a pipe, expected a file"),
    ],
)
def test_a_damaged_result_is_reported_and_made_again(work, damage: Any, message: str) -> None:
    work.features(KEY, _features)
    damage(work)
    new = _features()
    with pytest.warns(UserWarning, match=f"damaged and is made again.*{message}"):
        again = work.features(KEY, lambda: new)
    assert_same_set(again, new)
    assert_same_set(work.features(KEY, _never), new)


def _record(work: WorkFolder) -> Path:
    (path,) = (work.path / "features").glob("*.entry.json")
    return path


def _changed(work: WorkFolder, **fields: Any) -> None:
    path = _record(work)
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def _in_place_of(path: Path, kind: str) -> None:
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif "folder" in kind:
        path.mkdir()
        if kind == "full folder":
            (path / "precious").touch()
    else:
        path.symlink_to(path if kind == "loop" else kind)


def test_a_folder_in_a_files_place_is_moved_aside(work: WorkFolder) -> None:
    work.features(KEY, _features)
    _in_place_of(_record(work), "full folder")
    with pytest.warns(UserWarning, match="made again"):
        work.features(KEY, _features)
    assert [p.name for p in work.path.rglob("precious")] == ["precious"]


def test_what_another_version_made_is_made_again_and_said_once(work: WorkFolder) -> None:
    old = [work.features({"seed": n}, _features) for n in range(3)]
    for path in (work.path / "features").glob("*.entry.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"made_by": "captum-neuroinspect 0.0.1, method 0"}))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        new = [work.features({"seed": n}, _features) for n in range(3)]
    assert [str(one.message) for one in caught] == [
        "a kept result (features) was made by captum-neuroinspect 0.0.1, method 0 and is made "
        f"again by {_cache_files.MADE_BY}"
    ]
    for n in range(3):
        assert not torch.equal(new[n].features, old[n].features)
        assert_same_set(work.features({"seed": n}, _never), new[n])


def test_a_new_number_of_the_method_is_another_version(work: WorkFolder, monkeypatch) -> None:
    work.json("words", KEY, lambda: 1)
    monkeypatch.setattr(_cache_files, "MADE_BY", "captum-neuroinspect 9.0")
    with pytest.warns(UserWarning, match=r"\(words\) was made by .* again by captum-neuro.* 9.0"):
        assert work.json("words", KEY, lambda: 2) == 2
    assert work.json("words", KEY, _never) == 2


def test_what_can_no_longer_be_loaded_is_made_again(work: WorkFolder) -> None:
    work.features(KEY, _features)

    def load(_: Path) -> FeatureSet:
        raise KeyError("a field of another version")

    with pytest.warns(UserWarning, match="cannot be loaded"):
        work.get_or_make("features", KEY, _features, FeatureSet.save, load)


# Bad arguments, full disks, folders without write access


def test_bad_arguments(work: WorkFolder, tmp_path: Path) -> None:
    for part in (torch.zeros(2), {1, 2}, float("nan"), object()):
        with pytest.raises(TypeError, match=r"key\['x'\] is .*expected numbers, strings"):
            work.json("a", {"x": part}, _never)
    for kind in ("", "../a", "A", "a/b"):
        with pytest.raises(ValueError, match="expected lower-case letters"):
            work.json(kind, KEY, _never)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file, expected a folder"):
        WorkFolder(tmp_path / "file")


def _full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _full_in_rust(*_: Any) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")


@pytest.mark.parametrize("save", [_full, _full_in_rust])
def test_a_full_disk_is_one_clear_error(work: WorkFolder, save: Any) -> None:
    with pytest.raises(OSError, match=r"No space left.*Free space there") as caught:
        work.get_or_make("features", KEY, _features, save, FeatureSet.load)
    assert caught.value.errno == errno.ENOSPC
    assert str(work.path) in str(caught.value)
    assert not work.has("features", KEY)
    assert not list(work.path.rglob("*.partial*"))
    assert len(work.features(KEY, _features)) == 6  # once there is space


def test_other_errors_of_saving_stay_what_they_are(work: WorkFolder) -> None:
    def save(*_: Any) -> None:
        raise SafetensorError("tensors share memory")

    with pytest.raises(SafetensorError, match="share memory"):
        work.get_or_make("features", KEY, _features, save, FeatureSet.load)


def test_without_write_access_results_are_read_but_not_made(work: WorkFolder, monkeypatch) -> None:
    made = work.features(KEY, _features)

    def refuse(_: Path) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(workfolder, "locked", refuse)
    assert_same_set(work.features(KEY, _never), made)
    with pytest.raises(PermissionError, match=r"make it writable, or choose another work folder"):
        work.features({"seed": 7}, _never)  # told before the work


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_read_only_folder(work: WorkFolder) -> None:
    made = work.features(KEY, _features)
    folders = [work.path, *(p for p in work.path.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert_same_set(work.features(KEY, _never), made)
        with pytest.raises(PermissionError, match="choose another work folder"):
            work.features({"seed": 7}, _never)
    finally:
        for folder in folders:
            folder.chmod(0o755)


# Several at once, and interrupts.
_FOR_EVER = 900.0  # seconds that a process waits for its end

WRITER = """
    import sys, time
    from pathlib import Path
    from captum_neuroinspect.inspection.cache.work_folder import WorkFolder

    def make():
        print("making", flush=True)
        time.sleep(float(sys.argv[2]))
        return {"made by": sys.argv[3], "numbers": list(range(20_000))}

    print(WorkFolder(sys.argv[1]).json("slow", {"seed": 0}, make)["made by"], flush=True)
"""


def test_two_processes_make_it_once(work: WorkFolder, commands: Processes) -> None:
    both = [commands.start_code(WRITER, work.path, 1.0, name) for name in ("one", "other")]
    done = [process.wait() for process in both]
    assert [one.code for one in done] == [0, 0], done
    lines = "".join(one.stdout for one in done).split()
    assert lines.count("making") == 1
    assert len(set(lines) - {"making"}) == 1  # both have the same result


def test_threads_make_it_once(work: WorkFolder) -> None:
    n_made = 0

    def make() -> int:
        nonlocal n_made
        n_made += 1
        time.sleep(0.05)
        return n_made

    threads = [threading.Thread(target=work.json, args=("a", KEY, make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert n_made == 1


def test_the_lock_of_a_killed_process_holds_nobody_up(
    work: WorkFolder, commands: Processes, monkeypatch
) -> None:
    process = commands.start_code(WRITER, work.path, _FOR_EVER, "killed")
    process.wait_for_line("making")
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait().code == -signal.SIGKILL
    # Waiting is sleeping: none is needed for a lock that nobody holds.
    monkeypatch.setattr(_locks.time, "sleep", lambda _: pytest.fail("waited for the dead"))
    assert work.json("slow", {"seed": 0}, lambda: 3) == 3


def test_killed_at_any_step_of_writing_it_is_there_whole_or_not_at_all(
    work: WorkFolder, monkeypatch
) -> None:
    """Every call that changes the disk is, in turn, the last one; nothing is tidied up."""
    old = work.features(KEY, _features)
    new = _features()
    seen = set()
    for n_calls in range(20):
        left = n_calls

        def dying(function: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
                return function(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for module, name in ((os, "replace"), (os, "fsync"), (Path, "unlink"), (Path, "mkdir")):
                patch.setattr(module, name, dying(getattr(module, name)))
            patch.setattr(shutil, "rmtree", lambda *_, **__: None)
            try:
                work.features(KEY, lambda: new, fresh=True)
                is_finished = True
            except KeyboardInterrupt:
                is_finished = False
        kept = work.features(KEY, _never)
        is_new = torch.equal(kept.features, new.features)
        assert is_new or torch.equal(kept.features, old.features)
        seen.add(is_new)
        if is_finished:
            break
        old = work.features(KEY, lambda: old, fresh=True)  # noqa: B023 - called at once
    assert is_finished
    assert seen == {False, True}
    assert len(list((work.path / "features").glob("*.safetensors"))) == 1


# Parts


def _photos(n: int = 50) -> Photos:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(n, 3, 12, 12, generator=generator)
    return Photos.of((images, torch.arange(n) % 4), image_size=12, class_names=list("abcd"))


def test_parts_are_what_collect_features_gives(work: WorkFolder) -> None:
    model, data = ConvNet(), _photos().dataset()
    options: dict[str, Any] = {"batch_size": 4, "progress": False}
    expected = collect_features(model, data, **options)
    found = collect_in_parts(work, model, data, key=KEY, part_size=10, **options)
    assert_same_set(found, expected)
    assert found.backbone_fingerprint == expected.backbone_fingerprint
    assert_same_set(collect_in_parts(work, model, data, key=KEY, part_size=99, **options), expected)
    assert not list((work.path / "features-part").glob("*.safetensors"))


class Dying:
    """A dataset that fails at one photo, and counts what was asked for."""

    def __init__(self, data: Any, at: int) -> None:
        self.data, self.at, self.asked = data, at, []
        self.classes = data.classes

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        if index == self.at:
            raise Boom
        self.asked.append(index)
        return self.data[index]


def test_an_interrupt_costs_one_part(work: WorkFolder) -> None:
    model, data = ConvNet(), _photos().dataset()
    options: dict[str, Any] = {"key": KEY, "batch_size": 4, "part_size": 8, "progress": False}
    with pytest.raises(Boom):
        collect_in_parts(work, model, Dying(data, 37), model.head, **options)
    again = Dying(data, -1)
    found = collect_in_parts(work, model, again, model.head, **options)
    assert min(again.asked) == 32
    assert_same_set(found, collect_features(model, data, batch_size=4, progress=False))


def test_other_weights_or_data_are_collected_again(work: WorkFolder) -> None:
    data = _photos().dataset()
    one, other = ConvNet(), ConvNet()
    options: dict[str, Any] = {"progress": False}
    first = collect_in_parts(work, one, data, key=KEY, **options)
    second = collect_in_parts(work, other, data, key=KEY, **options)
    assert not torch.equal(first.features, second.features)
    counting = Dying(data, -1)
    collect_in_parts(work, one, counting, one.head, key={"photos": "others"}, **options)
    assert len(counting.asked) == 50
    collect_in_parts(work, one, counting, one.head, key=KEY, fresh=True, **options)
    assert len(counting.asked) == 100


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch_size": 0}, "batch_size=0"), ({"part_size": 0}, "part_size=0")],
)
def test_bad_sizes(work: WorkFolder, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        collect_in_parts(work, ConvNet(), _photos().dataset(), key=KEY, **options)
    with pytest.raises(ValueError, match="data is empty"):
        collect_in_parts(work, ConvNet(), [], key=KEY)  # type: ignore[arg-type]


COLLECTOR = """
    import sys, time
    import torch
    from torch import nn
    from captum_neuroinspect.photos import Photos
    from captum_neuroinspect.inspection.cache.collect_in_parts import collect_in_parts
    from captum_neuroinspect.inspection.cache.work_folder import WorkFolder

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                        nn.Linear(16, 4)).eval()
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(40, 3, 12, 12, generator=generator)
    data = Photos.of((images, torch.arange(40) % 4), image_size=12).dataset()

    class Slow(torch.utils.data.Dataset):
        def __len__(self):
            return len(data)
        def __getitem__(self, index):
            print(index, flush=True)
            if index == int(sys.argv[2]):  # here it waits for its end
                time.sleep(float(sys.argv[3]))
            return data[index]

    found = collect_in_parts(WorkFolder(sys.argv[1]), net, Slow(), net[4], key={"seed": 0},
                             batch_size=4, part_size=8, progress=False)
    found.save(sys.argv[1] + "/result.safetensors")
"""


def _collected(commands: Processes, folder: Path) -> tuple[list[int], FeatureSet]:
    """What it asked for, and what it found, without an interrupt."""
    done = commands.start_code(COLLECTOR, folder, -1, 0).wait()
    assert done.code == 0, done.stderr
    asked = [int(line) for line in done.stdout.split()]
    return asked, FeatureSet.load(folder / "result.safetensors")


@pytest.fixture(scope="module")
def uninterrupted(commands: Processes, tmp_path_factory) -> FeatureSet:
    asked, found = _collected(commands, tmp_path_factory.mktemp("whole"))
    assert asked == list(range(40))
    return found


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_collection_goes_on_with_the_same_numbers(
    tmp_path: Path, commands: Processes, uninterrupted: FeatureSet, number: int
) -> None:
    process = commands.start_code(COLLECTOR, tmp_path, 21, _FOR_EVER)
    process.wait_for_line("21")
    os.kill(process.pid, number)
    assert process.wait().code != 0
    asked, found = _collected(commands, tmp_path)
    assert asked == list(range(16, 40))  # two parts of eight were finished
    assert_same_set(found, uninterrupted)
    assert [entry["kind"] for entry in WorkFolder(tmp_path).entries()] == ["features"]
