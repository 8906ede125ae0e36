"""The decision layer of a classifier, found by what it computes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._modules import first_tensor, frozen, logits_of


def find_head(model: nn.Module, example: Any) -> nn.Linear:
    """Find the decision layer: the ``nn.Linear`` whose output *is* the model's output.

    The model runs once on ``example``. Every linear layer whose output equals the
    logits, value by value, is a candidate; the one that ran last is the head. So
    names do not matter, and a layer that is followed by a softmax, a scale or
    another layer is never mistaken for the head.

    Args:
        model: a classifier that returns logits ``(N, C)``, or an object with
            ``.logits`` (Hugging Face).
        example: one batch as the model takes it, such as ``(1, 3, 224, 224)``.

    Returns:
        The decision layer, a submodule of ``model``.

    Raises:
        ValueError: when no linear layer computes the model's output, or that has NaN.
        TypeError: when the model returns no logits.

    Examples::

        >>> model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))
        >>> find_head(model, torch.zeros(1, 8)) is model[2]
        True
    """
    outputs: list[tuple[nn.Linear, Tensor | None]] = []
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    handles = [
        # The output is copied: a later in-place operation must not look like the head's work.
        m.register_forward_hook(lambda m, _, out: outputs.append((m, _copy(out))))
        for m in linears
    ]
    try:
        with frozen(model), torch.no_grad():
            logits = logits_of(model(example))
    finally:
        for handle in handles:
            handle.remove()
    if logits.isnan().any():  # NaN equals nothing: every layer would look innocent
        raise ValueError(
            f"the logits of {type(model).__name__} are NaN: look for NaN in its weights "
            "or in the example"
        )
    for module, output in reversed(outputs):
        if output is not None and output.shape == logits.shape and torch.equal(output, logits):
            return module
    raise ValueError(_no_head_message(model, logits, outputs))


def _copy(output: Any) -> Tensor | None:
    tensor = first_tensor(output)
    return None if tensor is None else tensor.clone()


def _no_head_message(
    model: nn.Module, logits: Tensor, outputs: list[tuple[nn.Linear, Tensor | None]]
) -> str:
    message = (
        f"no linear decision layer found in {type(model).__name__}: none of its "
        f"{len(outputs)} nn.Linear calls computes the output of shape {tuple(logits.shape)}. "
    )
    if any(o is not None and o.shape == logits.shape for _, o in outputs):
        return message + (
            "One has that shape, but something changes its output before the model returns it "
            "(a softmax, a scale): give a model that returns the linear layer's logits."
        )
    return message + (
        "The decision layer must be an nn.Linear on features (N, F), "
        "not a convolution or a prototype distance."
    )


def check_head(head: Any) -> nn.Linear:
    """Return ``head`` if it is a linear layer, else say what was expected.

    Raises:
        TypeError: when ``head`` is no ``nn.Linear``.
    """
    if not isinstance(head, nn.Linear):
        raise TypeError(
            f"head is {type(head).__name__}, expected nn.Linear: the decision layer that turns "
            "features (N, F) into logits (N, C)"
        )
    return head


def head_tensors(head: nn.Linear) -> tuple[Tensor, Tensor]:
    """Detached float32 copies of W (C, F) and b (C,) on the CPU; b is zero when absent."""
    weight = head.weight.detach().to("cpu", torch.float32, copy=True)
    if head.bias is None:
        return weight, torch.zeros(len(weight))
    return weight, head.bias.detach().to("cpu", torch.float32, copy=True)
