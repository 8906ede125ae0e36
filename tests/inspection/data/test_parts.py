"""Photos as features, and their four roles in one inspection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_same_set, left_unchanged
from session_examples import NAMES, SIZE, CountedNet, photos, write_photos

from captum_neuroinspect import collect_features
from captum_neuroinspect.edit import compare_heads
from captum_neuroinspect.inspection.cache.work_folder import WorkFolder
from captum_neuroinspect.inspection.data.parts import InspectionData, load_inspection_data
from captum_neuroinspect.inspection.session.arguments import loaded_model, model_key

ROLES = ("train", "deployment", "validation", "test")


def _load(
    folder: Path, data: Any = None, train: Any = None, test: Any = None, **options: Any
) -> InspectionData:
    net = options.pop("net", None) or CountedNet()
    model = loaded_model(net, None, NAMES, SIZE)
    defaults = {"on_error": "raise", "seed": 0, "fresh": False, "progress": False}
    options = {"held_out": 0.5, **defaults, **options}
    key, work = model_key(model, net.head), WorkFolder(folder / "work")
    given = photos() if data is None else data
    return load_inspection_data(model, net.head, given, train, test, key=key, work=work, **options)


def _counts(found: InspectionData) -> dict[str, int]:
    return {role: len(getattr(found, role).features) for role in ROLES}


def test_parts_are_what_collect_features_gives(tmp_path: Path) -> None:
    net, sets = CountedNet(), [photos(30, seed=seed) for seed in (1, 2, 3)]
    state = torch.random.get_rng_state()
    with left_unchanged(net):
        found = _load(tmp_path, *sets, net=net)
    assert torch.equal(torch.random.get_rng_state(), state)
    for part, data in zip((found.inspected, found.train, found.test), sets, strict=True):
        expected = collect_features(net, data, progress=False, class_names=NAMES)
        assert_same_set(part.features, expected)


def test_rows_lead_back_to_their_photos(tmp_path: Path) -> None:
    found = _load(tmp_path)
    images, _ = photos()
    for role in ROLES:
        part = getattr(found, role)
        assert torch.equal(part.images(part.features), images[part.features.indices])
        assert part.names(part.features) == [str(i) for i in part.features.indices.tolist()]


def test_all_arguments_are_looked_at_before_the_backbone_runs(tmp_path: Path) -> None:
    net = CountedNet()
    bad: list[tuple[dict[str, Any], Any, str]] = [
        ({"test": 3}, TypeError, "data is int"),
        ({"train": "/no/such"}, FileNotFoundError, "no such folder"),
        ({"held_out": 2}, ValueError, "held_out=2, expected a share between 0 and 1"),
        ({"held_out": None}, TypeError, "held_out is None"),
        ({"test": photos()}, ValueError, "test= are the same photos as data="),
    ]
    for options, kind, message in bad:
        with pytest.raises(kind, match=message):
            _load(tmp_path, net=net, **options)
    assert net.n_images <= len(bad)  # the pass that names the model


def _table(folder: Path, name: str, groups: list[str], seed: int) -> Path:
    """A table of photos with a group each, as given in turn."""
    write_photos(folder / name, n=30, seed=seed)
    files = sorted((folder / name).rglob("*.png"))
    rows = [
        f"{file.relative_to(folder).as_posix()},{file.parent.name},{groups[i % len(groups)]}"
        for i, file in enumerate(files)
    ]
    path = folder / f"{name}.csv"
    path.write_text("\n".join(["path,label,group", *rows]), encoding="utf-8")
    return path


def test_a_group_has_one_number_in_all_sets(tmp_path: Path) -> None:
    tables = (
        _table(tmp_path, "data", ["snow", "grass"], 1),
        _table(tmp_path, "train", ["snow"], 2),
        _table(tmp_path, "test", ["sand", "snow"], 3),
    )
    found = _load(tmp_path, *tables)
    for part, names in ((found.train, {"snow"}), (found.test, {"sand", "snow"})):
        features = part.features
        assert features.group_names == found.inspected.features.group_names
        assert {features.group_name(i) for i in features.groups.tolist()} == names
    with pytest.raises(ValueError, match="the groups of test are numbers, those of another set"):
        _load(tmp_path, tables[0], test=_table(tmp_path, "test", ["0", "1"], 3))


# Roles


@pytest.mark.parametrize("held_out", [0.2, 0.5])
@pytest.mark.parametrize("given", [(), ("train",), ("test",), ("train", "test")])
def test_every_photo_of_data_has_one_role(
    tmp_path: Path, given: tuple[str, ...], held_out: float
) -> None:
    own = {name: photos(30, seed=5 + i) for i, name in enumerate(given)}
    found = _load(tmp_path, photos(240), **own, held_out=held_out)
    dealt = [role for role in ROLES if role not in given]
    rows = torch.cat([getattr(found, role).features.indices for role in dealt])
    assert rows.sort().values.tolist() == list(range(240))
    counts = _counts(found)
    held = sum(counts[role] for role in dealt if role in ("validation", "test"))
    assert held == pytest.approx(240 * held_out, abs=2)
    assert abs(counts["validation"] - held / (1 if "test" in given else 2)) <= 2
    others = 240 - held
    assert abs(counts["deployment"] - others / (1 if "train" in given else 2)) <= 2
    for name in given:
        assert counts[name] == 30
        assert getattr(found, name).photos is not found.inspected.photos


def test_each_role_has_its_share_of_each_class_and_of_its_mistakes(tmp_path: Path) -> None:
    found = _load(tmp_path, photos(240))
    everything = found.inspected.features
    for target in range(3):
        for right in (True, False):
            n = int((everything.of_class(target) & (everything.is_correct == right)).sum())
            for role in ROLES:
                part = getattr(found, role).features
                n_here = int((part.of_class(target) & (part.is_correct == right)).sum())
                assert abs(n_here - n / 4) <= 1, (target, right, role)


def test_the_seed_deals_out_the_photos(tmp_path: Path) -> None:
    one, again, other = (_load(tmp_path, seed=seed) for seed in (3, 3, 4))
    for role in ROLES:
        rows = [getattr(found, role).features.indices for found in (one, again, other)]
        assert torch.equal(rows[0], rows[1])
    assert not torch.equal(one.test.features.indices, other.test.features.indices)


def test_the_roles_in_words(tmp_path: Path) -> None:
    data, train, test = photos(240), photos(30, seed=2), photos(33, seed=3)
    assert _load(tmp_path, data).roles() == (
        "train 60, deployment 60, validation 60, test 60 (all from data)"
    )
    assert _load(tmp_path, data, train=train).roles() == (
        "train 30, deployment 120, validation 60, test 60 "
        "(train from the photos given for it, the others from data)"
    )
    assert _load(tmp_path, data, train=train, test=test).roles() == (
        "train 30, deployment 120, validation 120, test 33 "
        "(train and test from the photos given for it, the others from data)"
    )


def test_few_test_photos_of_a_class_share_their_work(tmp_path: Path) -> None:
    few, many = _load(tmp_path, photos(216)), _load(tmp_path, photos(246))
    assert int(few.test.features.of_class(0).sum()) < 20
    assert [few.is_cross_fitted(0), many.is_cross_fitted(0)] == [True, False]
    assert not _load(tmp_path, photos(30), test=photos(30, seed=2)).is_cross_fitted(0)
    held = few.held_out.features.indices
    expected = torch.cat([few.validation.features.indices, few.test.features.indices])
    assert torch.equal(held, expected.sort().values)


@pytest.mark.parametrize(("n", "how"), [(90, "cross-fitted"), (246, "used for nothing else")])
def test_a_fit_sees_the_photos_of_its_roles_and_others_judge(
    tmp_path: Path, n: int, how: str
) -> None:
    found = _load(tmp_path, photos(n))
    head = CountedNet().head
    seen: list[tuple[set[int], ...]] = []

    def fit(train: Any, deployment: Any, validation: Any, neurons: Any) -> Any:
        seen.append(tuple(set(s.indices.tolist()) for s in (train, deployment, validation)))
        other = torch.nn.Linear(head.in_features, 3)
        return compare_heads(head, other, validation, {0: neurons})

    edit = found.edited(fit, 0, [3])
    assert how in edit.judged.how
    judged = edit.judged.before.indices.tolist()
    assert judged == (found.held_out if n == 90 else found.test).features.indices.tolist()
    for train, deployment, validation in seen:
        assert not train & deployment
        assert not (train | deployment) & (validation | set(judged))
    if n != 90:
        assert not seen[0][2] & set(judged)
        return
    whole, *folds = seen
    assert whole[2] == set(judged)
    # What a fold leaves out of validation is what it judges: each photo once.
    assert sorted(row for fold in folds for row in whole[2] - fold[2]) == judged


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (photos(3), {}, "data has 3 photos, expected at least 4: one or more each for train, dep"),
        (photos(40), {"held_out": 0.01}, "data has 40 photos, which leaves none for"),
        (
            (photos(1)[0].expand(40, -1, -1, -1), torch.zeros(40, dtype=torch.int64)),
            {},
            "data has 40 photos, 1 of them different to the model, expected at least 4",
        ),
    ],
)
def test_too_few_photos_for_the_roles(
    tmp_path: Path, data: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _load(tmp_path, data, **options)


# The same photo in two sets


def _copied(folder: Path, into: str, names: list[str]) -> list[Path]:
    """Copies of photos under other names, in another folder of the same class."""
    made = []
    for number, name in enumerate(names):
        source = folder / name
        target = folder.parent / into / source.parent.name / f"copy-{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        made.append(target)
    return made


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name, seed in (("data", 1), ("train", 2), ("test", 3)):
        write_photos(tmp_path / name, n=60, seed=seed)
    return tmp_path


def test_copies_in_test_and_train_are_left_out(folders: Path) -> None:
    _copied(folders / "data", "test", ["apple/000.png", "coat/002.png"])
    _copied(folders / "train", "test", ["bread/001.png"])
    _copied(folders / "data", "train", ["apple/003.png"])
    arguments = [folders / name for name in ("data", "train", "test")]
    with pytest.warns(UserWarning, match="are left out") as said:
        found = _load(folders, *arguments)
    messages = [str(one.message) for one in said]
    assert messages == [
        "1 of 61 photos of train are the same as in data, and are left out of train: "
        "apple/copy-0.png",
        "3 of 63 photos of test are the same as in data and train, and are left out of test: "
        "apple/copy-0.png, bread/copy-0.png, coat/copy-1.png",
    ]
    assert (len(found.train.features), len(found.test.features)) == (60, 60)
    assert not any("copy" in name for name in found.test.names(found.test.features))


def test_a_copy_in_another_format_is_found_by_what_the_model_sees(folders: Path) -> None:
    from PIL import Image

    Image.open(folders / "data/apple/000.png").save(folders / "test/apple/other.bmp")
    with pytest.warns(UserWarning, match=r"1 of 61 photos of test are the same as in data to the"):
        found = _load(folders, folders / "data", test=folders / "test")
    assert "apple/other.bmp" not in found.test.names(found.test.features)
    assert len(found.test.features) == 60


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_set_with_no_other_photos_is_refused(folders: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}= are the same photos as data=: expected others"):
        _load(folders, folders / "data", **{name: folders / "data"})


def test_tensors_in_two_sets_are_found(tmp_path: Path) -> None:
    images, labels = photos(60)
    test = torch.cat([photos(30, seed=4)[0], images[:2]]), torch.arange(32) % 3
    with pytest.warns(UserWarning, match="2 of 32 photos of test are the same as in data"):
        found = _load(tmp_path, (images, labels), test=test)
    assert len(found.test.features) == 30


def test_copies_within_data_have_one_role(folders: Path) -> None:
    names = [f"{name}/{i:03}.png" for i, name in enumerate(NAMES * 5)]
    _copied(folders / "data", "data", names)
    for seed in range(3):
        found = _load(folders, folders / "data", seed=seed)
        role_of = {
            name: role
            for role in ROLES
            for name in getattr(found, role).names(getattr(found, role).features)
        }
        assert len(role_of) == 75
        for number, name in enumerate(names):
            copy = f"{name.split('/')[0]}/copy-{number}.png"
            assert role_of[name] == role_of[copy]


def test_a_photo_under_two_labels_is_said(folders: Path) -> None:
    (folders / "data/coat/again.png").write_bytes((folders / "data/apple/000.png").read_bytes())
    with pytest.warns(UserWarning, match="under two labels") as said:
        _load(folders, folders / "data")
    (message,) = (str(one.message) for one in said)
    assert message == (
        "a photo is there under two labels: apple/000.png of data (apple) and "
        "coat/again.png of data (coat)"
    )


def test_a_photo_of_test_under_another_label_than_in_data_is_said(folders: Path) -> None:
    (folders / "test/coat/again.png").write_bytes((folders / "data/apple/000.png").read_bytes())
    words = r"apple/000.png of data \(apple\) and coat/again.png of test \(coat\)"
    with (
        pytest.warns(UserWarning, match=f"a photo is there under two labels: {words}"),
        pytest.warns(UserWarning, match=r"left out of test: coat/again.png"),
    ):
        _load(folders, folders / "data", test=folders / "test")
