"""The page: what a script needs to show pictures, numbers and neighbours, and the script."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import torch
from markupsafe import Markup

from captum_neuroinspect._core.page_templates import page_templates
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect._core.without_paths import source_without_paths
from captum_neuroinspect.scale.atlas_folder import AtlasFolder
from captum_neuroinspect.scale.site.neighbours import Near, nearest, nearest_by_words
from captum_neuroinspect.scale.site.sheets import PER_ROW, PER_SHEET
from captum_neuroinspect.scale.site.words import Words

_DIGITS = 4  # of numbers on the page
_AT_LEAST = 0.1  # what is less alike is no neighbour


def page_of(atlas: AtlasFolder, words: Words) -> str:
    """The HTML of an atlas as far as it is there.

    Args:
        atlas: its folder.
        words: phrases of its neurons, or of others as well.
    """
    environment = page_templates("captum_neuroinspect.scale.site")
    style = environment.get_template("atlas.css.j2").render()
    script = environment.get_template("atlas.js.j2").render()
    return environment.get_template("atlas.html.j2").render(
        facts=_facts(atlas),
        title=_title(atlas),
        n_pairs=len(atlas.records),
        n_there=sum(record is not None for record in atlas.records),
        has_words=bool(words),
        block=page_data(atlas, words),
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
    )


def page_data(atlas: AtlasFolder, words: Words) -> dict[str, Any]:
    """What the script reads; lists of one length say of each pair what it is."""
    plan, neurons = atlas.plan, atlas.neurons
    described = {neuron: words[neuron] for neuron in neurons if neuron in words}
    own = {neuron: [shown(one) for one in found.phrases] for neuron, found in described.items()}
    names = plan["class_names"]
    return {
        "size": plan["settings"]["size"],
        "perRow": PER_ROW,
        "perSheet": PER_SHEET,
        "classNames": None if names is None else [shown(name) for name in names],
        "neurons": [neuron for neuron, _ in plan["pairs"]],
        "classes": [of_class for _, of_class in plan["pairs"]],
        "numbers": [None if one is None else _numbers(one) for one in atlas.records],
        "words": own,
        "guesses": [neuron for neuron, found in described.items() if found.is_certain is False],
        "near": {
            "weights": _among(atlas.near_by_weights(), set(neurons)),
            "illusions": _near_by_illusions(atlas),
            "words": _among(nearest_by_words(own), set(neurons)),
        },
    }


def _numbers(record: dict[str, Any]) -> list[Any]:
    """Weight, activation, logit, and the model's answers with their probabilities."""
    values = [_rounded(record[name]) for name in ("weight", "activation", "logit")]
    return [*values, record["answers"]]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def _near_by_illusions(atlas: AtlasFolder) -> Near:
    """Neurons whose pictures the model sees alike: what all have in common is taken off."""
    features = atlas.features()
    if len(features) < 2:
        return {}
    rows = torch.stack([*features.values()])
    return nearest([*features], rows - rows.mean(0), above=_AT_LEAST)


def _among(near: Near, neurons: set[int]) -> Near:
    return {
        neuron: [one for one in others if one[0] in neurons]
        for neuron, others in near.items()
        if neuron in neurons
    }


def _title(atlas: AtlasFolder) -> str:
    return f"What {len(atlas.neurons):,} neurons of {_model(atlas)} look for"


def _model(atlas: AtlasFolder) -> str:
    return shown(source_without_paths(atlas.plan["model"]["spec"])[0])


def _facts(atlas: AtlasFolder) -> list[tuple[str, str]]:
    settings, there = atlas.plan["settings"], [one for one in atlas.records if one is not None]
    hits = sum(one["predicted"] == one["class"] for one in there)
    weights = atlas.plan["model"]["weights"]
    encoder = settings["encoder"]
    found = [
        ("Model", _model(atlas)),
        ("Pictures", f"{len(there):,} of {len(atlas.records):,}"),
        ("Taken for their class", f"{hits / len(there):.0%}" if there else "none yet"),
        ("Each picture", f"{settings['size']} pixels, {settings['n_steps']:,} steps"),
        ("Weight of the class", f"{settings['gamma']:g}"),
        ("Encoder", "none" if encoder == "none" else shown(source_without_paths(encoder)[0])),
    ]
    if weights is not None:
        found.insert(1, ("Weights", shown(source_without_paths("", weights)[1])))
    return found


def _hash(text: str) -> str:
    """What the page's policy lets through: this and no other, should a name slip through."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
