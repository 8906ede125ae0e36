"""What was asked and answered: in order, kept on disk, without images and without keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captum_neuroinspect._core.files import read_text, write_text
from captum_neuroinspect._core.version import __version__
from captum_neuroinspect.describe.language_model.models import LanguageModel, Message


@dataclass(frozen=True)
class Exchange:
    """One question and what came back.

    Attributes:
        model: its name.
        asked: the messages as text; an image is told by the digest of its bytes.
        answered: the answer as it came, or why there was none.
        is_kept: whether it came from kept answers, not from the model.
        is_usable: whether it was what had been asked for.
    """

    model: str
    asked: tuple[str, ...]
    answered: str
    is_kept: bool = False
    is_usable: bool = True


def as_text(message: Message) -> str:
    """One message, with the digests of its images in place of them."""
    content = message["content"]
    if isinstance(content, str):
        return f"{message['role']}: {content}"
    parts = [part["text"] if part["type"] == "text" else _digest_of(part) for part in content]
    return f"{message['role']}: {' '.join(parts)}"


def _digest_of(part: Any) -> str:
    return f"[image {hashlib.sha256(part['image_url']['url'].encode()).hexdigest()[:16]}]"


class KeptAnswers:
    """Usable answers in a folder, by what was asked of which model. ``None`` keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def find(self, model: LanguageModel, messages: Sequence[Message]) -> str | None:
        """The kept answer, or ``None``; what cannot be read counts as none."""
        if self._folder is None:
            return None
        try:
            record = json.loads(read_text(self._path(model, messages)))
        except (OSError, ValueError):
            return None
        answer = record.get("answer") if isinstance(record, dict) else None
        return answer if isinstance(answer, str) else None

    def keep(self, model: LanguageModel, messages: Sequence[Message], answer: str) -> None:
        """Keep an answer that was usable."""
        if self._folder is not None:
            record = {"model": model.name, "answer": answer}
            write_text(self._path(model, messages), json.dumps(record, indent=1))

    def _path(self, model: LanguageModel, messages: Sequence[Message]) -> Path:
        assert self._folder is not None
        asked = json.dumps([__version__, model.name, *map(as_text, messages)])
        return self._folder / f"{hashlib.sha256(asked.encode()).hexdigest()[:32]}.json"
