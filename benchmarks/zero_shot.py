"""What prompt templates bring, and how sure a model is of pairs it never saw, on two seeds of training (notebook 07).

python -m benchmarks.zero_shot

Trains the small model of the notebooks, as `trained_model` does, once for each seed: EfficientNet-Lite0 pretrained on
ImageNet, everything learns, captions in both languages, three epochs. It then classifies newly drawn pictures of one
shape each among all 48 pairs of colour and shape, 12 of which training never showed. `only_unseen` chooses among those
12 alone; `only_seen`, its control, among the right one and 11 that training showed, two of each shape as well.
`temperatures` lists the mean confidence, its expected calibration error (10 bins) and the accuracy, with the template
`a {}`; the first temperature is the one that training learned.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import read_options, write_result
from clipedu import CLIP, ImageTextDataset, SimpleTokenizer, TrainConfig, train
from clipedu.classroom import small_clip
from clipedu.classroom.searching import CLASS_NAMES, IS_SEEN, PAIRS, calibration, draw_shapes, right_among_seen
from clipedu.embedding import embed_images
from clipedu.evaluation import class_embeddings

TEMPLATES = {
    "en": [
        "{}", "a {}", "there is one {}", "a picture of a {}", "a big {}", "a small {}",
        "a photo of a {}", "a {} left of a blue square",
    ],
    "zh": ["{}", "一个{}", "图中有一个{}", "画着一个{}", "一张{}的照片", "一个{}在一个蓝色的正方形的左边"],
}  # fmt: skip
ENSEMBLES = {"en": {"four": slice(0, 4), "six": slice(0, 6), "eight": slice(0, 8)}, "zh": {"four": slice(0, 4)}}
DEGREES = (0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3)


def shares(scores: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy on seen and unseen pairs; of the mistakes on unseen ones, what is right and which were seen."""
    guesses = scores.argmax(dim=1)
    seen, right = IS_SEEN[labels], guesses == labels
    wrong = ~seen & ~right
    pairs = [(PAIRS[guess], PAIRS[label]) for guess, label in zip(guesses[wrong], labels[wrong], strict=True)]
    among_unseen = scores[~seen].masked_fill(IS_SEEN, -torch.inf).argmax(dim=1) == labels[~seen]
    found = {
        "seen": right[seen].float().mean().item(),
        "unseen": right[~seen].float().mean().item(),
        "only_unseen": among_unseen.float().mean().item(),
        "only_seen": right_among_seen(scores, labels),
        "to_seen": IS_SEEN[guesses[wrong]].float().mean().item(),
        "colour_right": sum(guess[0] == label[0] for guess, label in pairs) / max(1, len(pairs)),
        "shape_right": sum(guess[1] == label[1] for guess, label in pairs) / max(1, len(pairs)),
    }
    return {name: round(value, 4) for name, value in found.items()}


def certainty(scores: Tensor, labels: Tensor, temperature: float) -> dict[str, float]:
    """Mean confidence and expected calibration error at this temperature, of seen and unseen pairs."""
    confidence, guesses = (scores / temperature).softmax(dim=1).max(dim=1)
    found = {"temperature": temperature}
    for name, part in (("seen", IS_SEEN[labels]), ("unseen", ~IS_SEEN[labels])):
        is_right = guesses[part] == labels[part]
        found[f"{name}_confidence"] = confidence[part].mean().item()
        found[f"{name}_error"] = calibration(confidence[part], is_right).error
        found[f"{name}_accuracy"] = is_right.float().mean().item()
    return {name: round(value, 4) for name, value in found.items()}


def trained(data_dir: Path, seed: int, epochs: int) -> tuple[CLIP, SimpleTokenizer]:
    """The small bilingual model of the notebooks, with this seed."""
    train_set = ImageTextDataset(data_dir, "train", "both", seed=seed)
    tokenizer = SimpleTokenizer.from_texts(train_set.all_captions()[0])
    model = small_clip(tokenizer, seed=seed)
    train(model, tokenizer, train_set, config=TrainConfig(epochs=epochs, seed=seed), quiet=True)
    return model, tokenizer


def run(data_dir: Path, seed: int, epochs: int, each: int) -> dict[str, Any]:
    """Train one model and classify `each` pictures of every pair with every template."""
    start = time.process_time()
    model, tokenizer = trained(data_dir, seed, epochs)
    seconds = round(time.process_time() - start, 1)
    pictures, labels = draw_shapes(each, seed=100 + seed)
    images = embed_images(model, pictures)
    found: dict[str, Any] = {}
    for language, templates in TEMPLATES.items():
        sets = {template: [template] for template in templates}
        sets |= {name: templates[part] for name, part in ENSEMBLES[language].items()}
        for name, chosen in sets.items():
            scores = images @ class_embeddings(model, tokenizer, CLASS_NAMES[language], chosen).T
            found[f"{language} {name}"] = shares(scores, labels)
    scores = images @ class_embeddings(model, tokenizer, CLASS_NAMES["en"], ["a {}"]).T
    learned = math.exp(-model.logit_scale.item())
    temperatures = [certainty(scores, labels, degree) for degree in (round(learned, 4), *DEGREES)]
    return {"seed": seed, "cpu_seconds": seconds, "templates": found, "temperatures": temperatures}


def main() -> None:
    """Measure every seed and record the results after each."""
    options = read_options(__doc__, data_dir=Path("sample_data"), name="zero_shot", seeds=[0, 1], epochs=3, each=25)
    results = []
    for seed in options.seeds:
        results.append(run(options.data_dir, seed, options.epochs, options.each))
        print(results[-1], flush=True)
        write_result(options.name, results)


if __name__ == "__main__":
    main()
