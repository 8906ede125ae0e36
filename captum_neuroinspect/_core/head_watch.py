"""Whether a decision layer that was given is the one by which a model decides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.head import (
    SQUEEZED,
    WITHOUT_HEAD,
    check_head,
    is_squeezed,
    why_not_linear,
)
from captum_neuroinspect._core.modules import (
    Captured,
    as_input,
    frozen,
    is_close,
    logits_of,
    module_name,
    tensors_in,
)
from captum_neuroinspect._core.sites import Site


class HeadWatch:
    """The input and the output of a decision layer in a pass of its model.

    Made by :func:`watched`.
    """

    def __init__(self, model: nn.Module, head: nn.Linear) -> None:
        self._model, self._head = model, head
        self._input, self._output = Captured(), Captured()
        self._n_calls = 0

    @property
    def features(self) -> Tensor:
        """What the head took; of several calls, in the last.

        Raises:
            RuntimeError: when the pass did not run it.
        """
        return self._input.value

    def logits(self, output: Any) -> Tensor:
        """What the head made of it: the logits, if ``output`` of the model says so.

        One of the tensors that the model returned must be the head's output, or its
        softmax, log-softmax or sigmoid, whatever else the model returns.

        Raises:
            ValueError: when none is, or the head's weights are not what it computes by.
            RuntimeError: when the pass did not run the head.
        """
        features, logits = self._input.value, self._output.value
        reason = why_not_linear(self._head, features, logits)
        if reason:
            raise ValueError(f"head={self._name()}: {reason}. {WITHOUT_HEAD}")
        outputs = list(tensors_in(output)) or list(tensors_in(getattr(output, "logits", None)))
        if self._n_calls > 1:  # its calls are of several views: only the model's answer counts
            outputs = [logits_of(output)]
        if not any(_is_made_of(logits, returned) for returned in outputs):
            raise ValueError(self._message(logits, outputs))
        return logits

    def _message(self, logits: Tensor, outputs: list[Tensor]) -> str:
        shapes = " and ".join(str(tuple(t.shape)) for t in outputs) or "no tensor"
        message = (
            f"head={self._name()} is not the decision layer of this {type(self._model).__name__}: "
            f"its output {tuple(logits.shape)} is not the model's output {shapes}"
        )
        if self._n_calls > 1:
            return message + f"; it runs {self._n_calls} times in one pass"
        if any(t.shape == logits.shape for t in outputs):
            return message + (
                "; another layer makes that, or something (a scale, a mask, an average of heads) "
                "changes it before the model returns it"
            )
        if any(is_squeezed(logits, t) for t in outputs):
            return f"{message}. {SQUEEZED}"
        return message + "; the units of an inner layer are for layer="

    def _name(self) -> str:
        return repr(module_name(self._model, self._head))

    @contextmanager
    def _watching(self) -> Iterator[None]:
        # Copies: an operation in place behind the head would change what was read.
        def store_input(value: Tensor) -> None:
            self._input.store(value.detach().clone())

        def store_output(value: Tensor) -> None:
            self._output.store(value.detach().clone())
            self._n_calls += 1

        with (
            Site(self._head, at_input=True).visited(store_input),
            Site(self._head, at_input=False).visited(store_output),
        ):
            try:
                yield
            finally:
                self._input.clear()
                self._output.clear()


@contextmanager
def watched(model: nn.Module, head: nn.Linear) -> Iterator[HeadWatch]:
    """Watch the decision layer of a model during one pass.

    Examples::

        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(1))
        >>> with watched(net, net[2]) as watch:
        ...     logits = watch.logits(net(torch.rand(2, 4)))
        >>> logits.shape
        torch.Size([2, 3])
    """
    watch = HeadWatch(model, head)
    with watch._watching():
        yield watch


def check_belongs(model: nn.Module, head: nn.Linear, example: Any) -> nn.Linear:
    """Run the model once and refuse a head by which it does not decide.

    Args:
        model: the classifier.
        head: the layer that was given.
        example: one batch as the model takes it.

    Returns:
        The head.

    Raises:
        TypeError: when it is not linear.
        ValueError: when it is not in the model, or not its decision layer.
        RuntimeError: when the model does not run it.
    """
    module_name(model, check_head(head))
    with frozen(model), torch.no_grad(), watched(model, head) as watch:
        watch.logits(model(as_input(model, example)))
    return head


def _is_made_of(logits: Tensor, output: Tensor) -> bool:
    """Whether an output is the logits, or probabilities of them."""
    if output.shape != logits.shape or not output.is_floating_point():
        return False
    if is_close(output, logits):
        return True
    if logits.ndim < 2:
        return False
    double = logits.double()
    made = (double.softmax(1), double.log_softmax(1), double.sigmoid())
    return any(is_close(output, m, tolerance=1e-3) for m in made)
