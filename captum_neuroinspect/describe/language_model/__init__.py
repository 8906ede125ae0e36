"""Phrases that a language model proposes and revises; which of them hold, photos decide."""

from captum_neuroinspect.describe.language_model.explaining import (
    LanguageDescriptions,
    describe_with_language_model,
)
from captum_neuroinspect.describe.language_model.models import (
    LanguageModel,
    LanguageModelError,
    OpenAIModel,
    PipelineModel,
)
from captum_neuroinspect.describe.language_model.transcript import Exchange

__all__ = [
    "Exchange",
    "LanguageDescriptions",
    "LanguageModel",
    "LanguageModelError",
    "OpenAIModel",
    "PipelineModel",
    "describe_with_language_model",
]
