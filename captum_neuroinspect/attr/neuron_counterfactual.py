"""Which neurons cause a mistake: a Captum layer attribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from captum.attr import LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn

from captum_neuroinspect._core.exclusive import exclusive
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.modules import check_indices, frozen
from captum_neuroinspect._core.sites import Site
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.attr._arguments import (
    Samples,
    check_features,
    find_layer,
    find_solver,
    head_in_working_dtype,
    usual_activations,
)
from captum_neuroinspect.attr._captum import TargetType
from captum_neuroinspect.attr._convergence import check_and_warn
from captum_neuroinspect.attr._last_layer import is_plain_linear
from captum_neuroinspect.attr._passes import Passes
from captum_neuroinspect.attr._places import find_channel_dims, is_at_input
from captum_neuroinspect.attr._solving import (
    Readings,
    Solver,
    SolverSettings,
    solve_head,
    solve_layer,
)
from captum_neuroinspect.attr._targets import Targets, classes_of
from captum_neuroinspect.attr.elastic_net import Counterfactual, ElasticNet
from captum_neuroinspect.attr.reference import Reference
from captum_neuroinspect.attr.sgd import SGD


class NeuronCounterfactual(LayerAttribution):
    r"""
    The smallest change ``w`` of a layer's activation that makes the model predict the right class.

    For a mistake with features ``z``, :math:`w_j > 0` marks an *insufficient* neuron
    (too little activation for the right class) and :math:`w_j < 0` an *excessive* one
    (undesired activation). ``w`` follows a descent on

    .. math:: CE(W(z + w) + b, y) + a ||w||_1 + b_2 ||w||_2

    from 0 and stops when the prediction is ``y`` (equation 1), or is its exact minimiser
    (``solver="fista"``). Average many mistakes with
    :func:`~captum_neuroinspect.attr.rank_neurons`.

    The layer is the linear decision layer, whose *inputs* are the neurons and where the
    rest is closed form; or any other layer: then what follows it is run again and again
    with the layer's activation replaced, and must be differentiable.

    More details regarding the method can be found in the paper:
    NeuroInspect, https://arxiv.org/abs/2310.07184
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: nn.Module | str,
        device_ids: list[int] | None = None,
        *,
        solver: Literal["sgd", "fista"] | Solver = "sgd",
        penalty: ElasticNet | None = None,
        options: Literal["paper"] | None = None,
    ) -> None:
        r"""
        Args:

            forward_func (Callable): The forward function of the model or any
                        modification of it; returns logits ``(N, C)`` or an object
                        with ``.logits``. May be the head itself when only features
                        are at hand. A module, or those that a function closes over or
                        names, are in eval mode while it runs.
            layer (torch.nn.Module or str): The decision layer, or any layer before it;
                        a module or its dotted name in ``forward_func``.
            device_ids (list[int]): Device ID list, necessary only if forward_func
                        applies a DataParallel model.
                        Default: None
            solver (str, SGD or FISTA, optional): ``"sgd"``: the paper's descent, of
                        which the early stop is part. ``"fista"``: the exact, sparse
                        minimiser (behind a linear head; else a stationary point).
                        Or one of the two with settings, as ``SGD(lr=0.1)``. Behind a
                        ReLU ``"sgd"`` is not yet the paper's: ``z + w`` then stays 0 or
                        more by default (``feasible`` of :meth:`attribute`), and ``w``
                        differs by half its length. ``options="paper"`` has no bound.
                        Default: "sgd"
            penalty (ElasticNet, optional): Weights of the two norms, and whether they
                        are divided by the number of features (``scaling="code"``) or
                        not (``"paper"``).
                        Default: None (the paper's weights, divided as in its code)
            options (str, optional): ``"paper"``: what the paper's authors publish, which
                        is ``"sgd"`` and ``ElasticNet()`` without the bound: where
                        ``feasible`` is not given it is False.
                        Default: None

        Raises:
            TypeError: when ``layer`` is neither a module nor a name.
            ValueError: when a name is not in ``forward_func``, the solver is unknown, other
                        ``options``, or ``"paper"`` with another solver than SGD.
        """
        LayerAttribution.__init__(self, forward_func, find_layer(forward_func, layer), device_ids)
        self.solver = find_solver(solver)
        self.penalty = penalty or ElasticNet()
        if options not in (None, "paper"):
            raise ValueError(f"options={options!r}, expected 'paper' or None")
        if options == "paper" and not isinstance(self.solver, SGD):
            raise ValueError(f"options='paper' with solver={solver!r}, expected SGD")
        self._feasible = False if options == "paper" else None

    @overload
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType = ...,
        additional_forward_args: object | None = ...,
        attribute_to_layer_input: bool | None = ...,
        *,
        channelwise: bool = ...,
        channel_dim: int | None = ...,
        reference: Samples | None = ...,
        feasible: bool | None = ...,
        internal_batch_size: int | None = ...,
        return_details: Literal[False] = ...,
        progress: bool = ...,
    ) -> Tensor | tuple[Tensor, ...]: ...

    @overload
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType = ...,
        additional_forward_args: object | None = ...,
        attribute_to_layer_input: bool | None = ...,
        *,
        channelwise: bool = ...,
        channel_dim: int | None = ...,
        reference: Samples | None = ...,
        feasible: bool | None = ...,
        internal_batch_size: int | None = ...,
        return_details: Literal[True],
        progress: bool = ...,
    ) -> Counterfactual: ...

    @log_usage()
    @undisturbed(keep_autocast=True)
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType = None,
        additional_forward_args: object | None = None,
        attribute_to_layer_input: bool | None = None,
        *,
        channelwise: bool = False,
        channel_dim: int | None = None,
        reference: Samples | None = None,
        feasible: bool | None = None,
        internal_batch_size: int | None = None,
        return_details: bool = False,
        progress: bool = False,
    ) -> Tensor | tuple[Tensor, ...] | Counterfactual:
        r"""
        Args:

            inputs (Tensor or tuple[Tensor, ...]): Input of ``forward_func``.
            target (int, tuple, list or Tensor): The *right* class, in Captum's formats:
                        one number for all samples; a list or a tensor ``(N,)`` with
                        one a sample; for an output ``(N, C, *positions)`` a tuple
                        ``(class, *position)``, or a list of such tuples. For a
                        network with one output (a sigmoid) the label 0 or 1.
            additional_forward_args (Any, optional): Further arguments of
                        ``forward_func``, as in every Captum method.
                        Default: None
            attribute_to_layer_input (bool, optional): Change the layer's input, or its
                        output. None: the input of every ``nn.Linear``, the output of
                        any other layer, whatever the network computes.
                        Default: None
            channelwise (bool, optional): One change for each channel, the same at all
                        positions, instead of one for each element.
                        Default: False
            channel_dim (int, optional): The dimension of the activation that counts
                        channels. None: the one that illusions take, 1 for maps
                        ``(N, C, H, W)``, the last for tokens ``(N, T, D)`` and for maps
                        ``(N, H, W, C)``, as in a Swin transformer.
                        Default: None
            reference (FeatureSet, Tensor or tuple, optional): Samples that the model gets
                        right; attributions then are their contrast
                        (:class:`~captum_neuroinspect.attr.Reference`): ``w`` weighted by
                        how far each activation lies from its natural level. Activations
                        ``(R, ...)`` of the layer (or ``(R, C)`` if ``channelwise``), a
                        tuple of them for a layer with several tensors, or a FeatureSet
                        with classes.
                        Default: None
            feasible (bool, optional): Keep ``z + w >= 0``. None: for each sample that
                        has no negative activation, as behind a ReLU; the samples
                        beside it do not count.
                        Default: None
            internal_batch_size (int, optional): Samples that run together.
                        Default: None (all)
            return_details (bool, optional): Return the
                        :class:`~captum_neuroinspect.attr.Counterfactual` with
                        ``.converged``, ``.n_steps``, ``.already_correct``,
                        ``.feasible``, ``.ran_out`` and ``.residual`` of each sample
                        beside ``.w``, and ``.contrast`` with the reference.
                        Default: False
            progress (bool, optional): Show a progress bar.
                        Default: False

        Returns:
            *Tensor* or *tuple[Tensor, ...]* of **attributions**:
            - **attributions** (*Tensor* or *tuple[Tensor, ...]*):
                        The change ``w``, the size of the layer's input or output;
                        ``(N, C)`` if ``channelwise``. For a layer with several tensors
                        a tuple, with the parts of one joint change. Zero for samples
                        that are already right. Float64 where the layer's activations
                        are, else float32: layers in float16 and bfloat16 are solved in
                        float32.

        Raises:
            ValueError: when ``target`` is missing, does not fit the output or is out of
                        range; when activations are not finite, or negative although
                        ``feasible=True``; when the layer runs several times, or has not
                        a row for each sample; when the single output of the network is
                        a probability; when a map's channel dimension cannot be determined.
            RuntimeError: when the layer is not run, or the network is random or becomes
                        NaN on the way.

        Warns:
            RuntimeWarning: when samples do not converge: how many, and what to do.

        Examples::

            >>> _ = torch.manual_seed(0)
            >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3))
            >>> counterfactual = NeuronCounterfactual(net, net[3])
            >>> w = counterfactual.attribute(torch.rand(5, 3, 2, 2), target=2)
            >>> w.shape
            torch.Size([5, 6])
        """
        with torch.inference_mode(False):  # there are gradients to compute
            passes = Passes.prepare(
                self.forward_func,
                inputs,
                additional_forward_args,
                internal_batch_size,
                self.device_ids,
            )
            targets = Targets.read(target, passes.n_samples)
            # In training mode a network would drop features at random and change its statistics.
            with frozen(*passes.models, self.layer):
                site = Site(self.layer, is_at_input(self.layer, attribute_to_layer_input))
                readings = Readings.take(passes, site, targets)
                dims = self._channel_dims(passes, readings, channelwise, channel_dim)
                usual = usual_activations(reference, readings.activations[0], dims)
                settings = self._settings(feasible, usual, progress)
                if readings.are_inputs_of_head:
                    features = torch.cat([z for (z,) in readings.activations])
                    found = self._solve_head(features, targets, settings)
                else:
                    found = solve_layer(passes, readings, targets, dims, settings)
        check_and_warn(found, stacklevel=5)
        return found if return_details else found.attribution

    @overload
    def attribute_features(
        self,
        features: Tensor,
        target: TargetType = ...,
        *,
        reference: FeatureSet | Reference | Tensor | None = ...,
        feasible: bool | None = ...,
        return_details: Literal[False] = ...,
        progress: bool = ...,
    ) -> Tensor: ...

    @overload
    def attribute_features(
        self,
        features: Tensor,
        target: TargetType = ...,
        *,
        reference: FeatureSet | Reference | Tensor | None = ...,
        feasible: bool | None = ...,
        return_details: Literal[True],
        progress: bool = ...,
    ) -> Counterfactual: ...

    @undisturbed(keep_autocast=True)
    def attribute_features(
        self,
        features: Tensor,
        target: TargetType = None,
        *,
        reference: FeatureSet | Reference | Tensor | None = None,
        feasible: bool | None = None,
        return_details: bool = False,
        progress: bool = False,
    ) -> Tensor | Counterfactual:
        r"""
        The same for features that were collected before: the backbone does not run.

        The layer must turn them into logits: the decision layer, or a module that ends
        with it (such as ``model.classifier``). Memory stays bounded for any number of
        samples behind a linear layer: 100,000 are a few batches.

        Args:

            features (Tensor): Inputs of the layer, shape ``(N, F)``.
            target (int, tuple, list or Tensor): As in :meth:`attribute`.
            reference (FeatureSet or Tensor, optional): As in :meth:`attribute`.
                        Default: None
            feasible (bool, optional): As in :meth:`attribute`.
                        Default: None
            return_details (bool, optional): As in :meth:`attribute`.
                        Default: False
            progress (bool, optional): Show a progress bar.
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
        check_features(features, self.layer)
        targets = Targets.read(target, len(features))
        settings = self._settings(feasible, reference, progress)
        with exclusive(self.layer):
            if is_plain_linear(self.layer):
                found = self._solve_head(features.detach(), targets, settings)
            else:
                with torch.inference_mode(False), frozen(self.layer):
                    passes = Passes.prepare(self.layer, features, None, None)
                    readings = Readings.take(passes, Site(self.layer, True), targets)
                    found = solve_layer(passes, readings, targets, None, settings)
        check_and_warn(found, stacklevel=4)
        if return_details:
            return found
        contrast = found.contrast
        return found.w if contrast is None else contrast

    def _settings(
        self,
        feasible: bool | None,
        reference: FeatureSet | Reference | Tensor | None,
        progress: bool,
    ) -> SolverSettings:
        usual = None if reference is None else Reference.of(reference)
        feasible = self._feasible if feasible is None else feasible
        return SolverSettings(self.solver, self.penalty, feasible, usual, progress)

    def _channel_dims(
        self, passes: Passes, readings: Readings, channelwise: bool, dim: int | None
    ) -> tuple[int, ...] | None:
        alone = passes.on_one_device()
        _, run = next(iter(alone))
        root = alone.modules[0] if alone.modules else None
        return find_channel_dims(
            readings.activations[0], channelwise, dim, readings.site, root, run
        )

    def _solve_head(
        self, features: Tensor, targets: Targets, settings: SolverSettings
    ) -> Counterfactual:
        assert isinstance(self.layer, nn.Linear)
        weight, bias = head_in_working_dtype(self.layer, features)
        of = classes_of(self.layer.out_features)
        check_indices("target", targets.classes, len(weight), of)
        return solve_head(features, weight, bias, targets.classes.to(features.device), settings)
