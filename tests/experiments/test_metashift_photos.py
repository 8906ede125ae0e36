"""MetaShift's three layouts, and which photos a scenario draws."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from fake_archives import ANIMALS, write_metashift
from toy_experiments import write_photo

from captum_neuroinspect.experiments.metashift_photos import Subsets, draw, read_subsets

SCENARIO = "dog(chair)"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_metashift(tmp_path_factory.mktemp("metashift"))


def _drawn(subsets: Subsets, seed: int = 0, **others):
    return draw(subsets, SCENARIO, ANIMALS, (10, 10, 8), seed, **others)


def test_only_training_photos_of_the_class_show_the_cue(published: Path) -> None:
    subsets = read_subsets(published)
    drawn = _drawn(subsets)
    dog, shown = ANIMALS.index("dog"), set(subsets.photos[SCENARIO])
    for name, part in drawn.items():
        mine = [p for p, label in zip(part.paths, part.labels, strict=True) if label == dog]
        assert mine
        assert all((path in shown) == (name == "train") for path in mine)
        for path, label in zip(part.paths, part.labels, strict=True):
            assert path in subsets.of_class(ANIMALS[label])
    every = [path for part in drawn.values() for path in part.paths]
    assert len(set(every)) == len(every)
    assert [drawn["train"].labels.count(i) for i in range(5)] == [10] * 5
    # 40 dogs, 14 with a chair, one is a cat too: all that are left judge.
    assert drawn["test"].labels.count(dog) == 40 - 14 - 1 - 10
    assert _drawn(subsets, n_test_target=5)["test"].labels.count(dog) == 5


def test_a_seed_draws_and_a_photo_of_two_classes_is_left_out(published: Path) -> None:
    subsets = read_subsets(published)
    assert _drawn(subsets) == _drawn(subsets)
    assert _drawn(subsets) != _drawn(subsets, seed=1)
    both = next(p for p in subsets.photos["cat(grass)"] if p.stem == "3001")
    for seed in range(5):
        assert all(both not in part.paths for part in _drawn(subsets, seed).values())


def test_what_its_script_writes_gives_the_same(published: Path, tmp_path: Path) -> None:
    for key, paths in read_subsets(published).photos.items():
        for path in paths:
            place = tmp_path / key.split("(")[0] / key / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)
    found = read_subsets(tmp_path)
    names = {k: sorted(p.name for p in v) for k, v in found.photos.items()}
    assert names == {
        k: sorted(p.name for p in v) for k, v in read_subsets(published).photos.items()
    }
    dogs = [p.name for p in _drawn(found)["train"].paths]
    assert dogs == [p.name for p in _drawn(read_subsets(published))["train"].paths]


def test_photos_of_ones_own(tmp_path: Path) -> None:
    for kind, name in enumerate(ANIMALS):
        for i in range(30):
            cue = "with_cue" if name == "dog" and i < 10 else "without_cue"
            write_photo(tmp_path / SCENARIO / name / cue / f"{kind}-{i}.png", kind, i)
    subsets = read_subsets(tmp_path, SCENARIO)
    assert subsets.is_own
    train = _drawn(subsets, n_test_target=8)["train"]
    assert sum(train.has_cue) == 10
    (tmp_path / SCENARIO / "cat/with-cue").mkdir()
    write_photo(tmp_path / SCENARIO / "cat/with-cue/1.png", 0, 0)
    with pytest.raises(ValueError, match=r"has \['with-cue'\], expected with_cue and without_cue"):
        read_subsets(tmp_path, SCENARIO)


def test_a_pickle_that_runs_code_is_refused(published: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return print, ("ran",)

    (tmp_path / "images").mkdir()
    table = tmp_path / "full-candidate-subsets.pkl"
    for content, said in (
        (pickle.dumps(Evil()), "asks for builtins.print"),
        (pickle.dumps([1, 2]), "expected sets of photos by name"),
        (b"cut", "damaged or no table"),
    ):
        table.write_bytes(content)
        with pytest.raises(ValueError, match=said):
            read_subsets(tmp_path)


def test_what_is_missing_is_said(published: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no MetaShift: expected"):
        read_subsets(tmp_path)
    (tmp_path / "full-candidate-subsets.pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(FileNotFoundError, match="but no photos: expected"):
        read_subsets(tmp_path)
    subsets = read_subsets(published)
    with pytest.raises(ValueError, match="class 'bear' has 40 photos, expected at least 100"):
        draw(subsets, SCENARIO, ANIMALS, (100, 10, 8), 0)
    with pytest.raises(ValueError, match="no photo of 'dog' shows 'moon'"):
        draw(subsets, "dog(moon)", ANIMALS, (10, 10, 8), 0)
    with pytest.raises(ValueError, match="'cow' is not one of the classes"):
        draw(subsets, "cow(grass)", ANIMALS, (10, 10, 8), 0)
    with pytest.raises(ValueError, match=r"expected a class and its cue as 'dog\(chair\)'"):
        draw(subsets, "dog", ANIMALS, (10, 10, 8), 0)
