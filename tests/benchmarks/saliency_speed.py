"""Saliency of many neurons at once against Captum, one neuron at a time, on real photos.

EfficientNet-Lite0 and the neurons that are most active on all photos, so that hardly a
gradient is zero. Captum's time is that of its fastest neuron times their number, ours the
fastest of ``--repeats`` runs: other work on the machine would blur sums. Integrated
gradients take ``--steps`` points instead of 50, and Captum runs on ``--few`` neurons only.
It passes all points at once; in the line "same batches" it gets the batches of ours.
Run with the package installed: ``python tests/benchmarks/saliency_speed.py``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from captum.attr import LayerGradCam, NeuronGradient, NeuronIntegratedGradients
from skimage import data
from sklearn.datasets import load_sample_image
from torch import Tensor, nn
from torch.nn import functional as F

from captum_neuroinspect._core.modules import captured_input
from captum_neuroinspect.attr import neuron_saliency
from captum_neuroinspect.models import load_efficientnet_lite

PHOTOS = {
    "chelsea": data.chelsea,
    "coffee": data.coffee,
    "rocket": data.rocket,
    "china": lambda: load_sample_image("china.jpg"),
    "flower": lambda: load_sample_image("flower.jpg"),
    "astronaut": data.astronaut,
    "motorcycle": lambda: data.stereo_motorcycle()[0],
    "grass": lambda: data.grass()[..., None].repeat(3, 2),
}


def photos(n: int, size: int) -> Tensor:
    """The middles of the first n photos, (n, 3, size, size) in 0..1."""
    cut = []
    for load in list(PHOTOS.values())[:n]:
        pixels = torch.tensor(load()).permute(2, 0, 1)[None].float() / 255
        side = min(pixels.shape[2:])
        top, left = ((length - side) // 2 for length in pixels.shape[2:])
        square = pixels[..., top : top + side, left : left + side]
        cut.append(F.interpolate(square, (size, size), mode="bilinear", antialias=True))
    return torch.cat(cut).clamp(0, 1)


class Features(nn.Module):
    """The model up to its decision layer: the target of LayerGradCam is then a neuron."""

    def __init__(self, model: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, images: Tensor) -> Tensor:
        with captured_input(self.head) as features:
            self.model(images)
            return features.value


One = Callable[[int], Tensor]


def captums(model: nn.Module, images: Tensor, steps: int, batch: int) -> dict[str, dict[str, One]]:
    """For each method Captum's ways to one neuron."""
    head = model[1]._fc
    asked = images.clone().requires_grad_()  # else Captum warns
    gradient, integrated = NeuronGradient(model, head), NeuronIntegratedGradients(model, head)
    grad_cam = LayerGradCam(Features(model, head), model[1]._swish)
    at_input = {"attribute_to_neuron_input": True}

    def integrate(neuron: int, internal_batch_size: int | None = None) -> Tensor:
        return integrated.attribute(
            *(images, neuron), n_steps=steps, internal_batch_size=internal_batch_size, **at_input
        )

    return {
        "gradient": {"": lambda j: gradient.attribute(asked, j, **at_input)},
        "input_x_gradient": {"": lambda j: gradient.attribute(asked, j, **at_input) * images},
        "gradcam": {"": lambda j: grad_cam.attribute(images, j)},
        "integrated_gradients": {
            f", {steps} steps": integrate,
            f", {steps} steps, same batches": lambda j: integrate(j, batch),
        },
    }


def timed(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def captum_one_by_one(one: One, neurons: list[int]) -> tuple[float, Tensor]:
    """Seconds of the fastest neuron, and the results of all."""
    one(neurons[0])  # the first pass is slow for everybody
    seconds, results = zip(*[timed(lambda j=j: one(j).detach()) for j in neurons], strict=True)
    return min(seconds), torch.stack(results, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4, help=f"photos, at most {len(PHOTOS)}")
    parser.add_argument("--neurons", type=int, default=32)
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--steps", type=int, default=4, help="of integrated gradients")
    parser.add_argument("--few", type=int, default=2, help="neurons of Captum's integration")
    parser.add_argument("--repeats", type=int, default=2, help="runs of ours")
    parser.add_argument("--threads", type=int, help="torch's threads; its own choice if not given")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    model = load_efficientnet_lite(0)
    images = photos(options.images, options.size)
    with torch.no_grad():
        features = Features(model, model[1]._fc)(images)
    neurons = features.amin(0).topk(options.neurons).indices.tolist()
    n, batch = len(neurons), max(4, len(images))
    print(
        f"{len(images)} photos of {options.size} px, {n} neurons, "
        f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}\n"
    )
    print("| method | Captum, s | ours, s | times faster | largest difference | largest value |")
    print("| --- | --- | --- | --- | --- | --- |")
    for method, ways in captums(model, images, options.steps, batch).items():
        ours = partial(
            neuron_saliency,
            *(model, model[1]._fc, images, neurons, method),
            n_steps=options.steps,
            internal_batch_size=batch,
        )
        runs = [timed(ours) for _ in range(options.repeats)]
        seconds, found = min(runs, key=lambda run: run[0])
        for name, one in ways.items():
            chosen = neurons[: options.few] if "steps" in name else neurons
            each, expected = captum_one_by_one(one, chosen)
            difference = (found[:, : len(chosen)] - expected).abs().max()
            print(
                f"| {method}{name} | {n} x {each:.3f} = {n * each:.2f} | {seconds:.2f} "
                f"| {n * each / seconds:.1f} | {difference:.1e} | {expected.abs().max():.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
