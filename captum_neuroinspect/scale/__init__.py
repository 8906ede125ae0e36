"""Many photos and whole networks, in parts that many processes work on, through faults.

Ray and pyarrow (``pip install "captum-neuroinspect[scale]"``) are imported when they are used.
"""

from captum_neuroinspect.scale.atlas import (
    AtlasSettings,
    IllusionAtlas,
    pair_seed,
    render_atlas,
)
from captum_neuroinspect.scale.descriptions import describe_at_scale
from captum_neuroinspect.scale.exact_sum import ExactSum
from captum_neuroinspect.scale.features import (
    FeaturePart,
    FeatureParts,
    SkippedPhoto,
    collect_features_at_scale,
)
from captum_neuroinspect.scale.options import ScaleOptions
from captum_neuroinspect.scale.photo_lists import PhotoList, PhotoPlace
from captum_neuroinspect.scale.rankings import MistakesToRank, rank_at_scale
from captum_neuroinspect.scale.reduction import (
    ChangeDirections,
    ChangeTotals,
    ClassTotals,
    PhotoMoments,
    TopActivations,
    combined,
)
from captum_neuroinspect.scale.references import reference_at_scale
from captum_neuroinspect.scale.similarities import collect_similarities_at_scale
from captum_neuroinspect.scale.site.growing import write_atlas_site

__all__ = [
    "AtlasSettings",
    "ChangeDirections",
    "ChangeTotals",
    "ClassTotals",
    "ExactSum",
    "FeaturePart",
    "FeatureParts",
    "IllusionAtlas",
    "MistakesToRank",
    "PhotoList",
    "PhotoMoments",
    "PhotoPlace",
    "ScaleOptions",
    "SkippedPhoto",
    "TopActivations",
    "collect_features_at_scale",
    "collect_similarities_at_scale",
    "combined",
    "describe_at_scale",
    "pair_seed",
    "rank_at_scale",
    "reference_at_scale",
    "render_atlas",
    "write_atlas_site",
]
