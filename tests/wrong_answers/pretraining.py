"""Wrong answers to the exercises of notebook 06: by exercise, what is wrong, the reason, the code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.wrong_answers import WrongAnswers

Pair = tuple[float, float]


def drift_by(measure: Callable[[Tensor, Tensor], Any]) -> Callable[..., Any]:
    return lambda a, b: {name: measure(a[name], b[name]) for name in a if a[name].is_floating_point()}


def recall(
    similarity: Tensor, text_to_image: Tensor, k: int, own: str = "amax", for_the_model: bool = False
) -> tuple[Tensor, Tensor]:
    """Which images and which texts are hits; `own` says which of an image's captions must rank within k."""
    belongs = torch.arange(len(similarity))[:, None] == text_to_image
    best = getattr(similarity.masked_fill(~belongs, -9 if own == "amax" else 9), own)(dim=1, keepdim=True)
    mine = similarity[text_to_image, torch.arange(len(text_to_image))]
    ahead_of = torch.gt if for_the_model else torch.ge
    images = (ahead_of(similarity, best) & ~belongs).sum(dim=1) < k
    return images.float(), ((ahead_of(similarity, mine) & ~belongs).sum(dim=0) < k).float()


def shares(hits: tuple[Tensor, Tensor]) -> Pair:
    return hits[0].mean().item(), hits[1].mean().item()


def first_captions_only(similarity: Tensor, text_to_image: Tensor, k: int) -> Pair:
    first = torch.stack([(text_to_image == image).nonzero()[0, 0] for image in range(len(similarity))])
    return shares(recall(similarity[:, first], torch.arange(len(similarity)), k))


def one_caption_of_each(similarity: Tensor, text_to_image: Tensor, k: int) -> Pair:
    """The first caption of an image must be among the k nearest; its other captions stand in the way."""
    first = torch.stack([(text_to_image == image).nonzero()[0, 0] for image in range(len(similarity))])
    found = similarity.topk(k, dim=1).indices
    return (found == first[:, None]).any(dim=1).float().mean().item(), shares(recall(similarity, text_to_image, k))[1]


def by_image(similarity: Tensor, text_to_image: Tensor, k: int) -> Pair:
    images, texts = recall(similarity, text_to_image, k)
    found = [texts[text_to_image == image].max() for image in range(len(similarity))]
    return images.mean().item(), torch.stack(found).mean().item()


def nearest_k(similarity: Tensor, text_to_image: Tensor, k: int) -> Pair:
    """With `topk`, which breaks a tie by position."""
    images = (text_to_image[similarity.topk(k, dim=1).indices] == torch.arange(len(similarity))[:, None]).any(dim=1)
    texts = (similarity.topk(k, dim=0).indices == text_to_image).any(dim=0)
    return images.float().mean().item(), texts.float().mean().item()


def the_diagonal(similarity: Tensor, text_to_image: Tensor, k: int) -> Pair:
    hits = similarity.argmax(dim=1) == torch.arange(similarity.shape[1])
    return hits.float().mean().item(), hits.float().mean().item()


Losses = list[float]


def end_of(
    train: Losses,
    val: Losses,
    rates: Losses,
    rise: float = 0.1,
    lowest: Callable[[Losses], float] = min,
    peak: Callable[[Losses], float] = max,
) -> str:
    if val[-1] > lowest(val) + rise:
        return "overfitting"
    if val[-1] < val[-2] - 0.05:
        return "learning"
    return "schedule over" if rates[-1] < 0.05 * peak(rates) else "plateau"


def gap(train: Losses, val: Losses, rates: Losses) -> str:
    return "overfitting" if val[-1] > train[-1] + 0.5 else end_of(train, val, rates)


WRONG: WrongAnswers = {
    "recall_at_k": [
        ("the wrong axis first", "swapped", lambda s, b, k: shares(recall(s, b, k))[::-1]),
        ("in percent", "percent", lambda s, b, k: tuple(100 * share for share in shares(recall(s, b, k)))),
        ("one caption of each image", "one_caption", first_captions_only),
        ("other captions stand in the way", "one_caption", one_caption_of_each),
        ("all captions must rank", "all_captions", lambda s, b, k: shares(recall(s, b, k, own="amin"))),
        ("an average over images", "by_image", by_image),
        ("first place only", "first_place", lambda s, b, k: shares(recall(s, b, 1))),
        ("k wrong ones ahead", "too_lax", lambda s, b, k: shares(recall(s, b, k + 1))),
        ("ties for the model", "ties", lambda s, b, k: shares(recall(s, b, k, for_the_model=True))),
        ("topk", "ties", nearest_k),
        ("the diagonal", "error", the_diagonal),
        ("one direction", "type", lambda s, b, k: shares(recall(s, b, k))[0]),
        ("a hit for each image", "type", lambda s, b, k: recall(s, b, k)),
        ("counts", "value", lambda s, b, k: tuple(hits.sum().item() for hits in recall(s, b, k))),
    ],
    "drift": [
        ("absolute", "absolute", drift_by(lambda a, b: (b - a).norm())),
        ("by the new norm", "new_norm", drift_by(lambda a, b: ((b - a).norm() / b.norm()).item())),
        ("counts batches", "integers", lambda a, b: {n: (1.0 * b[n] - a[n]).norm() / (1.0 * a[n]).norm() for n in a}),
        ("norm of an integer", "error", lambda a, b: {n: ((b[n] - a[n]).norm() / a[n].norm()).item() for n in a}),
        ("subtracts the norms", "difference_of_norms", drift_by(lambda a, b: (b.norm() - a.norm()).abs() / a.norm())),
        ("forgets the root", "squared", drift_by(lambda a, b: (b - a).pow(2).sum() / a.pow(2).sum())),
        ("each element", "not_one_number", drift_by(lambda a, b: (b - a).abs() / a.norm())),
        ("average of elements", "value", drift_by(lambda a, b: (b - a).abs().mean().item())),
        ("the weights alone", "names", lambda a, b: {n: (b[n] - a[n]).norm() for n in a if "weight" in n}),
        ("as a list", "type", lambda a, b: [(b[n] - a[n]).norm() / a[n].norm() for n in a if "num" not in n]),
    ],
    "verdict": [
        ("compares with the beginning", "from_the_start", lambda t, v, r: end_of(t, v, r, lowest=lambda x: x[0])),
        ("training alone", "from_the_start", lambda t, v, r: end_of(t, t, r)),
        ("a gap", "from_the_start", lambda t, v, r: "learning" if v[-1] < v[0] + 1 else "overfitting"),
        ("a gap is enough", "gap", gap),
        ("any rise", "noise", lambda t, v, r: end_of(t, v, r, rise=0.01)),
        ("never looks at the rate", "schedule", lambda t, v, r: end_of(t, v, [1.0])),
        ("a flat end is a finished schedule", "still_on", lambda t, v, r: end_of(t, v, [1.0, 0.0])),
        ("compares with the first rate", "first_rate", lambda t, v, r: end_of(t, v, r, peak=lambda x: x[0])),
        ("yes or no", "type", lambda t, v, r: v[-1] > min(v) + 0.1),
        ("a name of its own", "value", lambda t, v, r: "memorizes"),
    ],
}
