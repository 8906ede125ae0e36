"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def user_path(text: str) -> Path:
    """A path as it is typed: no shell expands the ~ of ``--data=~/photos``."""
    return Path(text).expanduser()


MODEL_HELP = (
    "torchvision:NAME, timm:NAME, hf:NAME or hf:FOLDER, lite:0, or FILE.py:FUNCTION, which RUNS "
    "the file."
)
_WEIGHTS_HELP = (
    "The library's name of weights, 'random', or a checkpoint (safetensors, or what torch.save "
    "wrote, read without running code; FILE::NAME takes one of several sets of weights in it, such "
    "as an average). Default: the library's own."
)
_ENCODER_HELP = (
    "Finds words and can guide illusions: 'label-space' (nothing to download), 'openclip', "
    "'openclip:NAME/TAG', 'none', or 'auto': the best that is here."
)
_GUIDE_HELP = "Let the encoder guide the illusions too. Default: OpenCLIP does, label space not."

Model = Annotated[str, typer.Option(help=MODEL_HELP)]
Weights = Annotated[str | None, typer.Option(help=_WEIGHTS_HELP)]
ImageSize = Annotated[
    int | None, typer.Option(min=8, help="Pixels a side at which photos are seen.")
]
Resize = Annotated[
    str | None,
    typer.Option(
        help="How photos are brought to that size: 'squash', 'crop' (the shorter side, then "
        "the centre) or 'border' (the longer side, then borders), with or without pixels of that "
        "side, such as 'crop 256'. Default: as the model's library does."
    ),
]
ClassNames = Annotated[
    Path | None,
    typer.Option(
        parser=user_path,
        metavar="FILE",
        help="Text file: a class a line, in the order of the outputs.",
    ),
]
ByPosition = Annotated[
    bool,
    typer.Option(
        "--by-position",
        help="Take the photos' classes in their order (folders: sorted) as the model's, "
        "whatever they are called.",
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps, or 'auto'.")]
Encoder = Annotated[str, typer.Option(help=_ENCODER_HELP)]
Guide = Annotated[bool | None, typer.Option("--guide/--no-guide", help=_GUIDE_HELP)]
Steps = Annotated[int, typer.Option(min=1, help="Optimisation steps of the illusions.")]
Size = Annotated[
    int | None, typer.Option(min=8, help="Pixels a side of the illusions. Default: the photos'.")
]
Run = Annotated[
    Path,
    typer.Option(
        parser=user_path, metavar="FOLDER", help="Folder that `neuroinspect inspect` made."
    ),
]
_TRUST_HELP = (
    "Run the Python file that the run names. Without it `FILE.py:FUNCTION` runs only if you ran "
    "that very content before: a run folder from someone else could hold any code."
)
Trust = Annotated[bool, typer.Option("--trust", help=_TRUST_HELP)]
Seed = Annotated[int, typer.Option(min=0, help="The same seed, the same numbers.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Compute again what the work folder keeps.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
