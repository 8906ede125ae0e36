"""What several people answered a blind questionnaire: shares, exact tests, pairs."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from captum_neuroinspect._core.files import read_text
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.experiments.questionnaire import NONE, QuestionnaireKey

GROUPS = ("practitioner", "other")
EVERYBODY = "everybody"
_COLUMNS = ["questionnaire", "participant", "group", "question", "answer"]
_PARTICIPANT = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class ConditionShare:
    """How often a condition was chosen.

    Attributes:
        group: of participants.
        condition: its name.
        n_chosen: answers for it.
        n: answers of the group that chose a picture.
        low, high: 95 % interval of the share (Clopper and Pearson).
        p: of the exact binomial test, two-sided, that the share is that of chance.
    """

    group: str
    condition: str
    n_chosen: int
    n: int
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class ConditionPair:
    """Two conditions against each other, in the answers and over the people.

    Attributes:
        group: of participants.
        first, second: the conditions.
        n_first, n_second: answers for each.
        p_answers: of the exact binomial test that both are chosen equally often. It takes
            answers as independent, which those of one person are not.
        people_first, people_second: participants who chose one more often than the other.
        p_people: of the exact sign test over participants.
    """

    group: str
    first: str
    second: str
    n_first: int
    n_second: int
    p_answers: float
    people_first: int
    people_second: int
    p_people: float


@dataclass(frozen=True)
class QuestionnaireAnswers:
    """The answers of all participants, with the letters turned into conditions.

    Attributes:
        conditions: in alphabetical order.
        groups: of each participant.
        chosen: for each participant the condition by question; ``"none"`` where a person
            could not tell.
    """

    conditions: tuple[str, ...]
    groups: Mapping[str, str]
    chosen: Mapping[str, Mapping[str, str]]

    def shares(self) -> list[ConditionShare]:
        """A row for each condition, of everybody and of each group that has participants.

        Examples::

            >>> found = QuestionnaireAnswers(
            ...     ("a", "b"),
            ...     {"x": "other"},
            ...     {"x": {"q1": "a", "q2": "a", "q3": "b", "q4": "none"}},
            ... )
            >>> [(row.condition, row.n_chosen, row.n, row.p) for row in found.shares()[:2]]
            [('a', 2, 3, 1.0), ('b', 1, 3, 1.0)]
        """
        from scipy.stats import binomtest

        rows = []
        for group, people in self._people().items():
            counts = self._counts(people)
            n = sum(counts[condition] for condition in self.conditions)
            for condition in self.conditions:
                low, high, p = 0.0, 1.0, 1.0
                if n:
                    test = binomtest(counts[condition], n, 1 / len(self.conditions))
                    found = test.proportion_ci(0.95, method="exact")
                    low, high, p = float(found.low), float(found.high), float(test.pvalue)
                rows.append(ConditionShare(group, condition, counts[condition], n, low, high, p))
        return rows

    def pairs(self) -> list[ConditionPair]:
        """Every pair of conditions, of everybody and of each group that has participants."""
        rows = []
        for group, people in self._people().items():
            counts = self._counts(people)
            for first, second in combinations(self.conditions, 2):
                more = [self._preference(person, first, second) for person in people]
                ahead, behind = more.count(1), more.count(-1)
                rows.append(
                    ConditionPair(
                        *(group, first, second, counts[first], counts[second]),
                        _sign_test(counts[first], counts[second]),
                        *(ahead, behind, _sign_test(ahead, behind)),
                    )
                )
        return rows

    @property
    def n_untold(self) -> int:
        """Answers that nothing could be told."""
        return self._counts(self.chosen)[NONE]

    def markdown(self) -> str:
        """Both tables, and what they do not say."""
        chance = f"{1 / len(self.conditions):.0%}"
        lines = [
            f"Participants: {len(self.chosen)}. Answers: {sum(map(len, self.chosen.values()))}, of "
            f"which 'I cannot tell': {self.n_untold}. Chance: {chance}.",
            "",
            "| group | condition | chosen | share | 95 % interval | p against chance |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for row in self.shares():
            share = f"{row.n_chosen / row.n:.1%}" if row.n else ""
            interval = f"{row.low:.1%} to {row.high:.1%}"
            told = (row.group, row.condition, f"{row.n_chosen} of {row.n}", share, interval)
            lines.append(f"| {' | '.join(map(_cell, told))} | {row.p:.2g} |")
        lines += [
            "",
            "| group | pair | answers | p | people | p over people |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for pair in self.pairs():
            against = f"{pair.first} against {pair.second}"
            lines.append(
                f"| {_cell(pair.group)} | {_cell(against)} | {pair.n_first} : {pair.n_second} | "
                f"{pair.p_answers:.2g} | {pair.people_first} : {pair.people_second} | "
                f"{pair.p_people:.2g} |"
            )
        lines += [
            "",
            "All tests are exact and two-sided, and not corrected for their number. Those over "
            "answers take the answers of one person as independent; the sign test over people "
            "does not, and leaves out people who chose both equally often.",
        ]
        return "\n".join(lines) + "\n"

    def _people(self) -> dict[str, list[str]]:
        """Participants by group, those of all groups first."""
        found = {EVERYBODY: list(self.chosen)}
        for group in GROUPS:
            people = [person for person in self.chosen if self.groups[person] == group]
            if people:
                found[group] = people
        return found

    def _counts(self, people: Iterable[str]) -> Counter[str]:
        return Counter(answer for person in people for answer in self.chosen[person].values())

    def _preference(self, person: str, first: str, second: str) -> int:
        """1 where a person chose the first more often, -1 the second, 0 both equally often."""
        counts = self._counts([person])
        return (counts[first] > counts[second]) - (counts[first] < counts[second])


def read_answers(key: QuestionnaireKey, files: Sequence[str | Path]) -> QuestionnaireAnswers:
    """Read the CSV files that participants sent back.

    Args:
        key: of the questionnaire that they answered.
        files: one of each participant.

    Raises:
        OSError: when a file cannot be read.
        ValueError: for no files; one that is no such CSV, incomplete, or of another
            questionnaire; or a participant whose answers are there twice. Names the file.
    """
    if not files:
        raise ValueError("files is empty, expected the CSV file of at least one participant")
    groups: dict[str, str] = {}
    chosen: dict[str, dict[str, str]] = {}
    sources: dict[str, Path] = {}
    for file in map(Path, files):
        try:
            person, group, answers = _answers_of(key, read_text(file))
        except ValueError as error:
            raise ValueError(f"{shown(file)}: {error}") from None
        if person in chosen:
            raise ValueError(
                f"{shown(file)} and {shown(sources[person])} are both of participant {person}: "
                "give one of them"
            )
        groups[person], chosen[person], sources[person] = group, answers, file
    return QuestionnaireAnswers(key.conditions, groups, chosen)


def _answers_of(key: QuestionnaireKey, text: str) -> tuple[str, str, dict[str, str]]:
    """Participant, group, and the condition for each question."""
    rows = _rows(text)
    for number, row in enumerate(rows, 2):
        if row["questionnaire"] != key.questionnaire:
            raise ValueError(
                f"line {number} is of questionnaire {_short(row['questionnaire'])}, the key of "
                f"{key.questionnaire!r}"
            )
    person = _the_only("participant", rows)
    if not _PARTICIPANT.fullmatch(person):
        raise ValueError(f"participant={_short(person)}, expected 16 hexadecimal digits")
    group = _the_only("group", rows)
    if group not in GROUPS:
        raise ValueError(f"group={_short(group)}, expected one of {list(GROUPS)}")
    meanings = {row.question: row.conditions for row in key.rows}
    answers: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        question, answer = row["question"], row["answer"]
        if question not in meanings:
            raise ValueError(f"line {number} answers {_short(question)}, which was not asked")
        if question in answers:
            raise ValueError(f"line {number} answers {question} a second time")
        if answer != NONE and answer not in meanings[question]:
            expected = [*meanings[question], NONE]
            raise ValueError(f"line {number} has answer={_short(answer)}, expected {expected}")
        answers[question] = NONE if answer == NONE else meanings[question][answer]
    missing = [name for name in meanings if name not in answers]
    if missing:
        raise ValueError(f"{len(missing)} of {len(meanings)} answers are missing: {missing[:5]}")
    return person, group, answers


def _rows(text: str) -> list[dict[str, str]]:
    try:
        table = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise ValueError(f"it is no CSV ({error})") from None
    lines = [line for line in table if line]
    if not lines or lines[0] != _COLUMNS:
        found = lines[0] if lines else []
        raise ValueError(f"its first line is {_short(found)}, expected {','.join(_COLUMNS)}")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(_COLUMNS):
            raise ValueError(f"line {number} has {len(line)} values, expected {len(_COLUMNS)}")
    if len(lines) == 1:
        raise ValueError("it holds no answer")
    return [dict(zip(_COLUMNS, line, strict=True)) for line in lines[1:]]


def _the_only(column: str, rows: Sequence[Mapping[str, str]]) -> str:
    found = list(dict.fromkeys(row[column] for row in rows))
    if len(found) > 1:
        raise ValueError(f"it holds several values of {column}: {_short(found[:3])}")
    return found[0]


def _sign_test(first: int, second: int) -> float:
    from scipy.stats import binomtest

    n = first + second
    return float(binomtest(first, n).pvalue) if n else 1.0


def _short(value: object) -> str:
    return shown(repr(value)[:80])


def _cell(text: str) -> str:
    """A cell of Markdown: a bar would begin another one, a tag would be read as HTML."""
    plain = shown(text)
    for letter, code in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|")):
        plain = plain.replace(letter, code)
    return plain
