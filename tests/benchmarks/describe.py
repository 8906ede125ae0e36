"""How often the built-in words name what images show: plain cosine against contrasts.

Each "neuron" is six images of known content: photos of one kind of clothes (``--data``, an
image folder with ``train`` and ``test``), or crops of one photo of scikit-image or
scikit-learn. A description is right when it holds a word of ``RIGHT``, written down before
anything was measured; no class names are offered. Ten draws of images; the background is
photos and crops that serve as nothing else.

*Together*: all contents are described at once. *Same*: five neurons of the same content, as
neurons of one mistaken class often are. ``--neurons N`` then prints what is said of the top
crops of N neurons of EfficientNet-Lite0, drawn at random, in the test photos.
Run with the package installed: ``python tests/benchmarks/describe.py --data clothing``.
"""

from __future__ import annotations

import argparse
import random
import time
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from captum_neuroinspect import collect_features
from captum_neuroinspect.analysis import crops, top_photos
from captum_neuroinspect.describe import describe_neurons, word_list
from captum_neuroinspect.describe._embedding import embed_images, embed_phrases
from captum_neuroinspect.describe.matching import TEMPLATES, contrasted
from captum_neuroinspect.encoders import DEFAULT_TEMPLATES, LabelSpaceEncoder
from captum_neuroinspect.models import load_efficientnet_lite

SCENES = {
    "astronaut": data.astronaut,
    "chelsea": data.chelsea,
    "coffee": data.coffee,
    "rocket": data.rocket,
    "motorcycle": lambda: data.stereo_motorcycle()[0],
    "china": lambda: load_sample_image("china.jpg"),
    "flower": lambda: load_sample_image("flower.jpg"),
    "brick": data.brick,
    "grass": data.grass,
    "gravel": data.gravel,
    "camera": data.camera,
    "page": data.page,
    "horse": lambda: data.horse() * 255,
    "moon": data.moon,
    "coins": data.coins,
    "clock": data.clock,
    "hubble": data.hubble_deep_field,
}
RIGHT = {
    "dress": "dress gown ballgown",
    "hat": "hat cap",
    "longsleeve": "sweatshirt sweater jersey shirt sleeve sleeves jumper",
    "outwear": "coat jacket overcoat parka raincoat",
    "pants": "pants trousers jeans denim jean",
    "shirt": "shirt blouse",
    "shoes": "shoe shoes sneaker sneakers boot boots loafers",
    "shorts": "shorts",
    "skirt": "skirt",
    "t-shirt": "shirt jersey",
    "astronaut": "astronaut spacesuit",
    "chelsea": "cat kitten",
    "coffee": "coffee cup mug espresso cappuccino",
    "rocket": "rocket missile",
    "motorcycle": "motorcycle motorbike bike moped",
    "china": "temple palace pagoda building shrine",
    "flower": "flower flowers blossom petal daisy floral",
    "brick": "brick bricks wall",
    "grass": "grass lawn meadow grassy",
    "gravel": "gravel stone stones pebble pebbles rock rocks rocky",
    "camera": "camera photographer tripod",
    "page": "text page book letters document",
    "horse": "horse pony",
    "moon": "moon planet",
    "coins": "coin coins money cash",
    "clock": "clock watch",
    "hubble": "star stars galaxy nebula",
}
N_EVIDENCE, N_DRAWS, N_BACKGROUND = 6, 10, 4  # the last of each content
WAYS = ("cosine", "half of the others", "all of the others", "background")


def read(path: Path) -> Tensor:
    return pil_to_tensor(Image.open(path).convert("RGB")).float() / 255


def scene_crops(name: str, n: int, chance: random.Random) -> list[Tensor]:
    pixels = torch.tensor(SCENES[name]().copy()).float().clamp(0, 255) / 255
    image = pixels.expand(3, *pixels.shape) if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    cut = []
    for _ in range(n):
        side = int(min(image.shape[1:]) * chance.uniform(0.5, 1))
        top, left = (chance.randint(0, length - side) for length in image.shape[1:])
        cut.append(image[:3, top : top + side, left : left + side])
    return cut


def contents(folder: Path, encoder: LabelSpaceEncoder) -> dict[str, Tensor]:
    """For each content the embeddings of its images."""
    chance = random.Random(0)
    n = N_EVIDENCE * N_DRAWS + N_BACKGROUND
    embeddings = {}
    for name in RIGHT:
        if name in SCENES:
            images = scene_crops(name, n, chance)
        else:
            paths = sorted((folder / "train" / name).iterdir())
            images = [read(path) for path in chance.sample(paths, n)]
        embeddings[name] = embed_images(images, encoder, 8, progress=False)
    return embeddings


def means(embeddings: dict[str, Tensor], names: list[str], draw: int) -> Tensor:
    """Evidence of these contents; a content that occurs again has other images."""
    rows = []
    for number, name in enumerate(names):
        shift = names[:number].count(name)
        start = (draw + shift) % N_DRAWS * N_EVIDENCE
        rows.append(embeddings[name][start : start + N_EVIDENCE].mean(0))
    return F.normalize(torch.stack(rows), dim=-1)


def score(way: str, evidence: Tensor, texts: Tensor, background: Tensor) -> Tensor:
    if way == "cosine":
        return evidence @ texts.T
    if way == "background":
        return contrasted(evidence, texts, background)
    halved = contrasted(evidence, texts)
    return halved if way == "half of the others" else 2 * halved - evidence @ texts.T


def rights(found: Tensor, names: list[str], words: tuple[str, ...]) -> list[tuple[str, bool, bool]]:
    """Content, whether the first word is right, and whether one of five is."""
    judged = []
    for name, best in zip(names, found.topk(5).indices.tolist(), strict=True):
        hits = [words[p] in RIGHT[name].split() for p in best]
        judged.append((name, hits[0], any(hits)))
    return judged


def share(judged: list[tuple[str, bool, bool]], scenes: bool) -> str:
    chosen = [(one, five) for name, one, five in judged if (name in SCENES) == scenes]
    one, five = (100 * sum(column) / len(chosen) for column in zip(*chosen, strict=True))
    return f"{one:.0f} / {five:.0f}"


def print_table(
    embeddings: dict[str, Tensor], background: Tensor, encoder: LabelSpaceEncoder
) -> None:
    words = word_list()
    together, same = [list(RIGHT)], [[name] * 5 for name in RIGHT]
    columns = "clothes together | scenes together | clothes same | scenes same"
    print(f"{len(words)} words; right first word / among five, in %\n")
    print(f"| templates | contrast | {columns} |\n| --- | --- | --- | --- | --- | --- |")
    for templates in (TEMPLATES, DEFAULT_TEMPLATES):
        start = time.perf_counter()
        texts = embed_phrases(words, encoder, templates, progress=False)
        seconds = time.perf_counter() - start
        for way in WAYS:
            cells = []
            for groups in (together, same):
                judged = [
                    judgement
                    for draw in range(N_DRAWS)
                    for names in groups
                    for judgement in rights(
                        score(way, means(embeddings, names, draw), texts, background), names, words
                    )
                ]
                cells += [share(judged, False), share(judged, True)]
            first = f"{len(templates)} ({seconds:.1f} s)"
            print(f"| {first} | {way} | {' | '.join(cells)} |", flush=True)


def print_by_score(
    embeddings: dict[str, Tensor], background: Tensor, encoder: LabelSpaceEncoder
) -> None:
    """Does a high score mean a right word? With the background, all contents."""
    words, names = word_list(), list(RIGHT)
    texts = embed_phrases(words, encoder, TEMPLATES, progress=False)
    judged = []
    for draw in range(N_DRAWS):
        found = contrasted(means(embeddings, names, draw), texts, background)
        highest = found.amax(1).tolist()
        judged += list(zip(highest, rights(found, names, words), strict=True))
    print("\n| score of the first word | descriptions | first right, % | one of five right, % |")
    print("| --- | --- | --- | --- |")
    for low, high in pairwise((0, 0.2, 0.3, 0.4, 2)):
        of_bin = [(one, five) for value, (_, one, five) in judged if low <= value < high]
        if of_bin:
            one, five = (100 * sum(column) / len(of_bin) for column in zip(*of_bin, strict=True))
            print(f"| {low}..{high} | {len(of_bin)} | {one:.0f} | {five:.0f} |")


def print_neurons(folder: Path, encoder: LabelSpaceEncoder, n_neurons: int) -> None:
    paths = sorted((folder / "test").glob("*/*"))
    photos = [F.interpolate(read(path)[None], (224, 224), mode="area")[0] for path in paths]
    model = load_efficientnet_lite(0)
    features = collect_features(model, [(photo, 0) for photo in photos], progress=False)
    neurons = sorted(random.Random(0).sample(range(features.features.shape[1]), n_neurons))
    evidence = {
        neuron: crops(model, torch.stack([photos[i] for i in rows]), neuron).images
        for neuron, rows in zip(
            neurons, top_photos(features, neurons).indices.tolist(), strict=True
        )
    }
    background = torch.stack(random.Random(1).sample(photos, 64))
    print("\n| neuron | cosine | half of the others | background |\n| --- | --- | --- | --- |")
    halved, contrast = (
        describe_neurons(evidence, encoder, n_phrases=3, background=given)
        for given in (None, background)
    )
    for neuron in neurons:
        (plain,) = describe_neurons({neuron: evidence[neuron]}, encoder, n_phrases=3)
        cells = [plain.text(), halved.of(neuron).text(), contrast.of(neuron).text()]
        print(f"| {neuron} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train and test")
    parser.add_argument("--neurons", type=int, default=0, help="of Lite0, to be described")
    options = parser.parse_args()
    encoder = LabelSpaceEncoder.pretrained()
    embeddings = contents(options.data, encoder)
    background = torch.cat([of_one[-N_BACKGROUND:] for of_one in embeddings.values()])
    print_table(embeddings, background, encoder)
    print_by_score(embeddings, background, encoder)
    if options.neurons:
        print_neurons(options.data, encoder, options.neurons)


if __name__ == "__main__":
    main()
