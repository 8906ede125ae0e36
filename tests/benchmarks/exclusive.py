"""What it costs to hold a model: nothing that one sees beside a forward pass.

    python tests/benchmarks/exclusive.py

`alone`: the block as it was before models were held; `held`: with the hold; both on one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
import torchvision
from torch import nn

from captum_neuroinspect._core.exclusive import exclusive, exclusive_layer
from captum_neuroinspect._core.modules import _frozen, frozen

_REPEATS = 200


def _milliseconds(run: Callable[[], object], repeats: int = _REPEATS) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times)[repeats // 2]


def _entered(make: Callable[[], AbstractContextManager[object]]) -> Callable[[], None]:
    def run() -> None:
        with make():
            pass

    return run


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'model':<12}{'modules':>8}{'pass':>9}{'frozen':>9}{'held':>9}{'hold':>9}{'layer':>9}")
    print(f"{'':<20}{'ms':>9}{'alone ms':>9}{'ms':>9}{'ms':>9}{'ms':>9}")
    nets: dict[str, nn.Module] = {
        "resnet18": torchvision.models.resnet18(),
        "resnet50": torchvision.models.resnet50(),
        "swin_t": torchvision.models.swin_t(),
    }
    for name, net in nets.items():
        image = torch.rand(1, 3, 224, 224)
        layer = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
        with torch.no_grad():
            one_pass = _milliseconds(lambda net=net, image=image: net.eval()(image), 10)
        times = (
            _milliseconds(_entered(lambda net=net: _frozen(net))),
            _milliseconds(_entered(lambda net=net: frozen(net))),
            _milliseconds(_entered(lambda net=net: exclusive(net))),
            _milliseconds(_entered(lambda layer=layer: exclusive_layer(layer))),
        )
        numbers = "".join(f"{t:>9.3f}" for t in times)
        print(f"{name:<12}{len(list(net.modules())):>8}{one_pass:>9.1f}{numbers}")


if __name__ == "__main__":
    main()
