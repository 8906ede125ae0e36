"""Language models behind one method: any OpenAI-compatible server, or a local pipeline."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from captum_neuroinspect._core.checks import check_whole
from captum_neuroinspect._core.optional import optional
from captum_neuroinspect._core.texts import shown

LLM = '"captum-neuroinspect[llm]"'
Message = Mapping[str, Any]  # "role" and "content", as in OpenAI's chat API

_MOST_BYTES = 1 << 20  # of one answer; a server that sends more is not believed


class LanguageModelError(RuntimeError):
    """The language model gave no usable answer: the message says why. It never holds a key."""


@runtime_checkable
class LanguageModel(Protocol):
    """What :func:`describe_with_language_model` asks. Any object with these members serves."""

    @property
    def name(self) -> str:
        """Which model it is; answers are kept under it."""
        ...

    def answer(self, messages: Sequence[Message]) -> str:
        """The model's answer to a chat.

        Raises:
            LanguageModelError: when there is none.
        """
        ...


class OpenAIModel:
    """A model behind an OpenAI-compatible server, through the ``openai`` client.

    Args:
        name: of the model, as the server calls it.
        base_url: of the server, such as ``"http://localhost:8000/v1"``; ``None``: OpenAI's, or
            ``OPENAI_BASE_URL``.
        api_key: ``None``: ``OPENAI_API_KEY``. It is in no message, log, kept answer or report.
        timeout: seconds that one answer may take in all, above 0.
        max_tokens: of one answer, at least 1.

    Raises:
        ImportError: without the ``openai`` package.
        TypeError: for a number of tokens that is not whole.
        ValueError: for a timeout or number of tokens outside its range, or no key for OpenAI's
            own server.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        max_tokens: int = 2000,
    ) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout={timeout}, expected seconds above 0")
        check_whole("max_tokens", max_tokens)
        if max_tokens < 1:
            raise ValueError(f"max_tokens={max_tokens}, expected at least 1")
        self._openai = optional("openai", LLM)
        if base_url is not None and api_key is None:
            api_key = _from_environment() or "none"  # servers of one's own need no key
        try:
            self._client = self._openai.OpenAI(
                base_url=base_url, api_key=api_key, timeout=timeout, max_retries=0
            )
        except self._openai.OpenAIError:
            raise ValueError(
                "api_key is None and OPENAI_API_KEY is not set; a server of your own needs "
                "base_url instead"
            ) from None
        self._name, self._timeout, self._max_tokens = name, timeout, max_tokens

    def __repr__(self) -> str:
        return f"OpenAIModel({self._name!r})"

    @property
    def name(self) -> str:
        return self._name

    def answer(self, messages: Sequence[Message]) -> str:
        """The answer to a chat.

        Raises:
            LanguageModelError: for a server that is not there, refuses, is too slow, or sends
                something else than a chat's answer of at most 1 MB.
        """
        try:
            body = self._body(messages)
        except self._openai.APITimeoutError:
            raise self._too_slow() from None
        except self._openai.APIStatusError as error:
            raise LanguageModelError(
                f"{self._name}: the server answered with status {error.status_code}"
            ) from None
        except self._openai.OpenAIError as error:
            raise LanguageModelError(
                f"{self._name}: no answer from the server ({type(error).__name__})"
            ) from None
        try:
            content = json.loads(body)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            content = None
        if not isinstance(content, str):
            raise LanguageModelError(f"{self._name}: the server sent no chat's answer")
        return content

    def _body(self, messages: Sequence[Message]) -> bytes:
        until = time.monotonic() + self._timeout
        found = bytearray()
        request = self._client.chat.completions.with_streaming_response.create(
            model=self._name,
            messages=list(messages),
            max_tokens=self._max_tokens,
            temperature=0,
        )
        with request as response:
            try:
                # As it comes: a chunk of a given size would wait for a server that dribbles.
                for part in response.iter_bytes():
                    found += part
                    if len(found) > _MOST_BYTES:
                        raise LanguageModelError(
                            f"{self._name}: the answer is larger than {_MOST_BYTES >> 20} MB"
                        )
                    if time.monotonic() > until:
                        raise self._too_slow()
            except LanguageModelError:
                raise
            except Exception as error:  # the client's network errors are another package's
                if "timeout" in type(error).__name__.lower():
                    raise self._too_slow() from None
                raise LanguageModelError(
                    f"{self._name}: the answer broke off ({type(error).__name__})"
                ) from None
        return bytes(found)

    def _too_slow(self) -> LanguageModelError:
        return LanguageModelError(f"{self._name}: no whole answer within {self._timeout:g} s")


def _from_environment() -> str | None:
    import os

    return os.environ.get("OPENAI_API_KEY")


class PipelineModel:
    """A local Hugging Face pipeline for text generation. It sees no images.

    Args:
        pipeline: as ``transformers.pipeline("text-generation", model=...)`` makes it.
        max_tokens: of one answer, at least 1.

    Raises:
        TypeError: for something that cannot be called.

    Examples::

        >>> said = lambda messages, **_: [{"generated_text": [*messages, {"content": "hello"}]}]
        >>> PipelineModel(said).answer([{"role": "user", "content": "hi"}])
        'hello'
    """

    def __init__(self, pipeline: Callable[..., Any], *, max_tokens: int = 2000) -> None:
        if not callable(pipeline):
            raise TypeError(f"pipeline is a {type(pipeline).__name__}, expected a pipeline")
        self._pipeline, self._max_tokens = pipeline, max_tokens

    def __repr__(self) -> str:
        return f"PipelineModel({self.name!r})"

    @property
    def name(self) -> str:
        config = getattr(getattr(self._pipeline, "model", None), "config", None)
        return str(getattr(config, "name_or_path", None) or type(self._pipeline).__name__)

    def answer(self, messages: Sequence[Message]) -> str:
        """The answer to a chat.

        Raises:
            LanguageModelError: for messages with images, or a pipeline that gives no text.
        """
        if any(not isinstance(message["content"], str) for message in messages):
            raise LanguageModelError(f"{shown(self.name)} reads no images, expected texts only")
        said = self._pipeline(list(messages), max_new_tokens=self._max_tokens, do_sample=False)
        try:
            content = said[0]["generated_text"][-1]["content"]
        except (KeyError, IndexError, TypeError):
            content = None
        if not isinstance(content, str):
            raise LanguageModelError(f"{shown(self.name)} gave no text")
        return content
