"""A blind questionnaire in one HTML file: which of several pictures is easiest to understand?"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from captum_neuroinspect._core.checks import check_whole
from captum_neuroinspect._core.files import read_text, write_text
from captum_neuroinspect._core.kept_file import reading
from captum_neuroinspect._core.page_templates import page_templates
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.photos._on_white import on_white

LETTERS = "ABCDEF"
NONE = "none"  # the answer of who cannot tell
_SIDE = 288  # pixels of a picture in the page
_KIND = "captum_neuroinspect questionnaire key"
_MODES = ("RGB", "L", "P", "1", "RGBA", "LA")
_ID = re.compile(r"[0-9a-f]{16}")
_DEFAULT_TITLE = "Which picture is easiest to understand?"


@dataclass(frozen=True, eq=False)
class Question:
    """Pictures of one feature, which a participant compares.

    Attributes:
        class_name: the class that the feature belongs to; participants read it.
        pictures: by condition; participants do not learn which is which.
        about: what the key says of the pictures, such as ``"neuron 12"``.
    """

    class_name: str
    pictures: Mapping[str, Image.Image]
    about: str = ""


@dataclass(frozen=True)
class KeyRow:
    """What the letters of one question stand for.

    Attributes:
        question: its name in the answers, such as ``"q01"``.
        class_name: what participants read.
        about: what the maker noted.
        conditions: by letter.
    """

    question: str
    class_name: str
    about: str
    conditions: Mapping[str, str]


@dataclass(frozen=True)
class QuestionnaireKey:
    """What is needed to read the answers, and what participants must not see.

    Attributes:
        questionnaire: 16 hexadecimal digits that the page writes into its answers.
        seed: of the order.
        rows: one a question, in the order of the page.
    """

    questionnaire: str
    seed: int
    rows: tuple[KeyRow, ...]

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions, in alphabetical order."""
        return tuple(sorted(self.rows[0].conditions.values()))

    def save(self, path: str | Path) -> Path:
        """Write it as JSON, whole or not at all."""
        record = {"kind": _KIND, "version": 1, **asdict(self)}
        return write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> QuestionnaireKey:
        """Read what :meth:`save` wrote.

        Raises:
            OSError: when it cannot be read.
            ValueError: when it is no key, or a damaged one; names the file.
        """
        text = read_text(path)
        with reading(path, "the key of a questionnaire"):
            record = json.loads(text)
            if not isinstance(record, dict) or record.get("kind") != _KIND:
                raise ValueError("it is another JSON file")
            if record.get("version") != 1:
                raise ValueError(
                    f"its version is {record.get('version')!r}, expected 1: update "
                    "captum_neuroinspect, or take the version that made the questionnaire"
                )
            rows = tuple(KeyRow(**row) for row in record["rows"])
            key = cls(record["questionnaire"], record["seed"], rows)
            _check_key(key)
        return key


@dataclass(frozen=True)
class _ShownPicture:
    letter: str
    data_uri: str


@dataclass(frozen=True)
class _ShownQuestion:
    name: str
    class_name: str
    pictures: tuple[_ShownPicture, ...]


def write_questionnaire(
    questions: Sequence[Question],
    page: str | Path,
    key: str | Path,
    *,
    seed: int = 0,
    title: str = _DEFAULT_TITLE,
) -> QuestionnaireKey:
    """Write the page for participants and, apart from it, the key that stays with the maker.

    The page is one HTML file that opens from a disk and loads nothing. Questions stand in an
    order drawn by ``seed``; in each of them the order of the pictures is drawn so that every
    condition is first, second and so on about equally often. Nothing in the page says which
    condition a picture is of. At its end a participant downloads the answers as CSV, which
    :func:`~captum_neuroinspect.experiments.questionnaire_answers.read_answers` reads.

    Args:
        questions: at least one; all with the same two to six conditions.
        page: the HTML file.
        key: the JSON file with what each letter stands for. Do not send it to participants.
        seed: of the order.
        title: heading of the page.

    Returns:
        The key.

    Raises:
        TypeError: for a picture that is no PIL image, or a seed that is not whole.
        ValueError: for no questions, conditions that differ or are too few or many or called
            "none", pictures of one question that differ in size or have more than 8 bits, or a
            key at the place of the page.
        OSError: when a file cannot be written.

    Examples::

        >>> import tempfile
        >>> pictures = {name: Image.new("RGB", (8, 8), name) for name in ("red", "blue")}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     key = write_questionnaire(
        ...         [Question("fox", pictures)], f"{folder}/page.html", f"{folder}/key.json"
        ...     )
        >>> key.conditions, key.rows[0].class_name
        (('blue', 'red'), 'fox')
    """
    page, key = Path(page), Path(key)
    check_whole("seed", seed)
    conditions = _checked(questions)
    if page.resolve() == key.resolve():
        raise ValueError(f"page and key are both {shown(page)}, expected two files")
    rng = random.Random(seed)
    orders = _orders(conditions, len(questions), rng)
    in_order = rng.sample(list(questions), len(questions))
    asked, rows = [], []
    for number, (question, order) in enumerate(zip(in_order, orders, strict=True), 1):
        name = f"q{number:02d}"
        letters = dict(zip(LETTERS, order, strict=False))
        pictures = tuple(
            _ShownPicture(letter, _data_uri(question.pictures[condition]))
            for letter, condition in letters.items()
        )
        asked.append(_ShownQuestion(name, question.class_name, pictures))
        rows.append(KeyRow(name, question.class_name, question.about, letters))
    made = QuestionnaireKey(_identity(title, asked), seed, tuple(rows))
    write_text(page, _page(title, made.questionnaire, asked))
    made.save(key)
    return made


def _checked(questions: Sequence[Question]) -> tuple[str, ...]:
    """The conditions that all questions have, sorted."""
    if not questions:
        raise ValueError("questions is empty, expected at least one")
    conditions = tuple(sorted(map(str, questions[0].pictures)))
    if NONE in conditions:
        raise ValueError(f"a condition is called {NONE!r}, which is the answer of who cannot tell")
    if not 2 <= len(conditions) <= len(LETTERS):
        raise ValueError(
            f"questions[0] has {len(conditions)} conditions, expected 2 to {len(LETTERS)}"
        )
    for number, question in enumerate(questions):
        found = tuple(sorted(question.pictures))
        if found != conditions:
            raise ValueError(
                f"questions[{number}] has the conditions {list(found)}, the first one has "
                f"{list(conditions)}"
            )
        for condition, picture in question.pictures.items():
            if not isinstance(picture, Image.Image):
                raise TypeError(
                    f"questions[{number}].pictures[{condition!r}] is "
                    f"{type(picture).__name__}, expected a PIL image"
                )
            if picture.mode not in _MODES:
                # What is converted would be cut off at 255.
                raise ValueError(
                    f"questions[{number}].pictures[{condition!r}] has the mode {picture.mode!r}, "
                    f"expected one of 8 bits: {', '.join(_MODES)}"
                )
        sizes = {picture.size for picture in question.pictures.values()}
        if len(sizes) > 1:
            # A size would tell the conditions apart.
            raise ValueError(
                f"questions[{number}] has pictures of {sorted(sizes)} pixels, expected one size"
            )
    return conditions


def _orders(conditions: tuple[str, ...], n: int, rng: random.Random) -> Iterator[tuple[str, ...]]:
    """An order for each question: all orders once, drawn anew, before one comes again."""
    every = list(permutations(conditions))
    while n > 0:
        yield from rng.sample(every, min(n, len(every)))
        n -= len(every)


def _data_uri(picture: Image.Image) -> str:
    """The pixels alone: a file's name and remarks would tell where a picture is from."""
    plain = on_white(picture)
    plain.thumbnail((_SIDE, _SIDE))
    bare = Image.new("RGB", plain.size)
    bare.paste(plain)
    buffer = io.BytesIO()
    bare.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _identity(title: str, asked: Iterable[_ShownQuestion]) -> str:
    """A name made of what participants see, so that it tells nothing of the conditions."""
    text = json.dumps([title, [asdict(question) for question in asked]])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _check_key(key: QuestionnaireKey) -> None:
    if not isinstance(key.questionnaire, str) or not _ID.fullmatch(key.questionnaire):
        raise ValueError(f"questionnaire={key.questionnaire!r}, expected 16 hexadecimal digits")
    if not key.rows:
        raise ValueError("it has no question")
    names = [row.question for row in key.rows]
    if len(set(names)) < len(names):
        raise ValueError("a question is there twice")
    conditions = sorted(key.rows[0].conditions.values())
    if any(sorted(row.conditions.values()) != conditions for row in key.rows):
        raise ValueError("its questions differ in their conditions")
    if len(set(conditions)) < len(conditions) or NONE in conditions:
        raise ValueError(f"its conditions are {conditions}, expected different ones")
    if any(not set(row.conditions) <= set(LETTERS) for row in key.rows):
        raise ValueError(f"its letters are others than {LETTERS}")


def _page(title: str, questionnaire: str, asked: Sequence[_ShownQuestion]) -> str:
    environment = page_templates("captum_neuroinspect.experiments")
    environment.filters["shown"] = shown
    script = environment.get_template("questionnaire.js.j2").render()
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    values: dict[str, Any] = {
        "title": title,
        "questionnaire": questionnaire,
        "questions": asked,
        "untold": NONE,
        "style": Markup(environment.get_template("questionnaire.css.j2").render()),
        "script": Markup(script),
        "script_hash": "sha256-" + base64.b64encode(digest).decode("ascii"),
    }
    return environment.get_template("questionnaire.html.j2").render(values)
