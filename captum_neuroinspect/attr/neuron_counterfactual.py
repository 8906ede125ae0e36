"""Which penultimate neurons made the model err: a Captum layer attribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from captum.attr import LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn

from captum_neuroinspect._captum import TargetType, forward_layer_eval
from captum_neuroinspect._head import check_head, head_tensors
from captum_neuroinspect._modules import as_indices, check_indices, frozen
from captum_neuroinspect.attr.elastic_net import Counterfactual, SGDOptions, solve_sgd


class NeuronCounterfactual(LayerAttribution):
    r"""
    The smallest change ``w`` of the features that makes the head say the right class.

    For a mistake with features ``z``, :math:`w_j > 0` marks an *insufficient* neuron
    (too little activation for the right class) and :math:`w_j < 0` an *excessive* one
    (undesired activation). ``w`` follows a descent on

    .. math:: CE(W(z + w) + b, y) + a ||w||_1 + b_2 ||w||_2

    from 0 and stops when the prediction is ``y`` (equation 1). Average many mistakes
    with :func:`~captum_neuroinspect.attr.rank_neurons`.

    More details regarding the method can be found in the paper:
    NeuroInspect, https://arxiv.org/abs/2310.07184
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: nn.Linear,
        device_ids: list[int] | None = None,
        options: SGDOptions | None = None,
    ) -> None:
        r"""
        Args:

            forward_func (Callable): The forward function of the model or any
                        modification of it. May be the head itself when only
                        features are at hand.
            layer (torch.nn.Linear): The decision layer. Attributions have the shape
                        of its *input*: one number for each feature.
            device_ids (list[int]): Device ID list, necessary only if forward_func
                        applies a DataParallel model.
                        Default: None
            options (SGDOptions, optional): Step size, weights of the two norms and
                        the bound on the number of steps. The paper's if not given.
                        Default: None

        Raises:
            TypeError: when ``layer`` is not an ``nn.Linear``.
        """
        LayerAttribution.__init__(self, forward_func, check_head(layer), device_ids)
        self.options = options or SGDOptions()

    @log_usage()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType = None,
        additional_forward_args: object | None = None,
        *,
        feasible: bool | None = None,
        progress: bool = False,
    ) -> Tensor:
        r"""
        Args:

            inputs (Tensor or tuple[Tensor, ...]): Input of ``forward_func``, for
                        which features are read at the input of the layer. A
                        ``forward_func`` that is a module runs in eval mode.
            target (int, list[int] or Tensor): The *right* class of each sample: one
                        number for all, or one for each, shape ``(N,)``.
            additional_forward_args (Any, optional): Further arguments of
                        ``forward_func``, as in every Captum method.
                        Default: None
            feasible (bool, optional): Keep ``z + w >= 0``. None: when no feature is
                        negative, as behind a ReLU.
                        Default: None
            progress (bool, optional): Show a progress bar over steps.
                        Default: False

        Returns:
            *Tensor* of **attributions**:
            - **attributions** (*Tensor*):
                        The change ``w``, shape ``(N, F)``: the size of the layer's
                        input. Zero for samples that are already right.

        Raises:
            ValueError: when ``target`` is missing or out of range, or features are
                        not finite.

        Examples::

            >>> _ = torch.manual_seed(0)
            >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3))
            >>> counterfactual = NeuronCounterfactual(net, net[3])
            >>> w = counterfactual.attribute(torch.rand(5, 3, 2, 2), target=2)
            >>> w.shape
            torch.Size([5, 6])
        """
        # A network in training mode would drop features at random and change its statistics.
        modules = [self.forward_func] if isinstance(self.forward_func, nn.Module) else []
        with frozen(*modules), torch.no_grad():
            (features,) = forward_layer_eval(
                self.forward_func,
                inputs,
                self.layer,
                additional_forward_args,
                device_ids=self.device_ids,
                attribute_to_layer_input=True,
            )
        return self.attribute_features(features, target, feasible=feasible, progress=progress)

    @overload
    def attribute_features(
        self,
        features: Tensor,
        target: TargetType = ...,
        *,
        feasible: bool | None = ...,
        progress: bool = ...,
        return_details: Literal[False] = ...,
    ) -> Tensor: ...

    @overload
    def attribute_features(
        self,
        features: Tensor,
        target: TargetType = ...,
        *,
        feasible: bool | None = ...,
        progress: bool = ...,
        return_details: Literal[True],
    ) -> Counterfactual: ...

    def attribute_features(
        self,
        features: Tensor,
        target: TargetType = None,
        *,
        feasible: bool | None = None,
        progress: bool = False,
        return_details: bool = False,
    ) -> Tensor | Counterfactual:
        r"""
        The same for features that were collected before: the backbone does not run.

        Args:

            features (Tensor): Inputs of the layer, shape ``(N, F)``.
            target (int, list[int] or Tensor): As in :meth:`attribute`.
            feasible (bool, optional): As in :meth:`attribute`.
                        Default: None
            progress (bool, optional): Show a progress bar over steps.
                        Default: False
            return_details (bool, optional): Return the
                        :class:`~captum_neuroinspect.attr.Counterfactual` with
                        ``.converged``, ``.n_steps`` and ``.already_correct`` of
                        each sample beside ``.w``.
                        Default: False

        Returns:
            *Tensor* of **attributions**, shape ``(N, F)``, or the details.

        Raises:
            TypeError: when ``features`` are no tensor.
            ValueError: when ``target`` is missing or out of range, or features are
                        empty, not ``(N, F)`` or not finite.

        Examples::

            >>> head = nn.Linear(2, 2, bias=False)
            >>> _ = head.weight.data.copy_(torch.eye(2))
            >>> z = torch.tensor([[1.0, 0.9]])
            >>> w = NeuronCounterfactual(head, head).attribute_features(z, target=1)
            >>> bool(w[0, 1] > 0 > w[0, 0])
            True
        """
        features = self._checked_features(features)
        weight, bias = (t.to(features.device) for t in head_tensors(self.layer))
        wanted = _targets(target, len(features), self.layer.out_features).to(features.device)
        keep_feasible = bool((features >= 0).all()) if feasible is None else feasible
        if keep_feasible and (features < 0).any():
            raise ValueError(
                f"feasible=True but features reach {float(features.min()):.3g}: "
                "z + w >= 0 is only meant for features that are never negative"
            )
        found = solve_sgd(
            features,
            weight,
            bias,
            wanted,
            feasible=keep_feasible,
            options=self.options,
            progress=progress,
        )
        return found if return_details else found.w

    def _checked_features(self, features: Tensor) -> Tensor:
        if not isinstance(features, Tensor):
            raise TypeError(
                f"features are {type(features).__name__}, expected a tensor (N, F): "
                "of a FeatureSet, its `.features`"
            )
        n_features = self.layer.in_features
        if features.ndim != 2 or features.shape[1] != n_features or not len(features):
            raise ValueError(
                f"features have shape {tuple(features.shape)}, expected (N, {n_features}) "
                "with at least one sample"
            )
        features = features.detach().float()
        if not features.isfinite().all():
            raise ValueError("features have NaN or infinite values")
        return features


def _targets(target: TargetType, n_samples: int, n_classes: int) -> Tensor:
    if target is None:
        raise ValueError(
            "target is missing: give the right class, an int for all samples or one an entry"
        )
    wanted = as_indices("target", target)
    if wanted.numel() == 1:
        wanted = wanted.expand(n_samples)
    if len(wanted) != n_samples:
        raise ValueError(f"target has {len(wanted)} entries for {n_samples} samples")
    check_indices("target", wanted, n_classes, f"the head has {n_classes} classes")
    return wanted
