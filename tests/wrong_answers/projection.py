"""Wrong answers to the exercises of notebook 03: by exercise, what is wrong, the reason, the code."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from tests.wrong_answers import WrongAnswers


def unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1)


WRONG: WrongAnswers = {
    "normalize": [
        ("along the columns", "axis", lambda x: F.normalize(x, dim=0)),
        ("by the whole matrix", "whole_matrix", lambda x: x / x.norm()),
        ("without the square root", "square_root", lambda x: x / x.pow(2).sum(dim=-1, keepdim=True).clamp(1e-9)),
        ("L1", "L1", lambda x: F.normalize(x, p=1, dim=-1)),
        ("by the largest", "length", lambda x: x / x.amax(dim=-1, keepdim=True).clamp(1e-9)),
        ("LayerNorm", "length", lambda x: F.layer_norm(x, x.shape[-1:])),
        ("divides 0 by 0", "zero_nan", lambda x: x / x.norm(dim=-1, keepdim=True)),
        ("forgets keepdim", "no_keepdim", lambda x: x / x.norm(dim=-1)),
        ("forgets that dim is 1 by default", "three_axes", lambda x: F.normalize(x)),
        ("gives zero a direction", "zero", lambda x: F.normalize(x + 1e-9, dim=-1)),
        ("adds too much", "short", lambda x: x / (x.norm(dim=-1, keepdim=True) + 1e-6)),
        ("loses the sign", "sign", lambda x: F.normalize(x.abs(), dim=-1)),
    ],
    "clip_similarity": [
        ("dot products", "not_normalized", lambda x, y, v, w: x @ v.T @ (y @ w.T).T),
        ("normalizes images only", "one_side", lambda x, y, v, w: unit(x @ v.T) @ (y @ w.T).T),
        ("normalizes texts only", "one_side", lambda x, y, v, w: x @ v.T @ unit(y @ w.T).T),
        ("normalizes the features", "too_early", lambda x, y, v, w: unit(x) @ v.T @ (unit(y) @ w.T).T),
        ("texts down", "transposed", lambda x, y, v, w: unit(y @ w.T) @ unit(x @ v.T).T),
        ("columns", "columns", lambda x, y, v, w: F.normalize(x @ v.T, dim=0) @ F.normalize(y @ w.T, dim=0).T),
        ("softmax on top", "softmax", lambda x, y, v, w: (unit(x @ v.T) @ unit(y @ w.T).T).softmax(dim=1)),
        ("swaps the matrices", "swapped", lambda x, y, v, w: unit(x @ w.T) @ unit(y @ v.T).T),
        ("does not turn the matrix", "error", lambda x, y, v, w: unit(x @ v) @ unit(y @ w).T),
    ],
    "best_images": [
        ("gives the cosines", "values", lambda similarity, k: similarity.topk(k, dim=0).values.T),
        ("farthest first", "ascending", lambda similarity, k: similarity.argsort(dim=0)[:k].T),
        ("in the wrong order", "order", lambda similarity, k: similarity.topk(k, dim=0).indices.flip(0).T),
        ("sorts the texts of each image", "shape", lambda similarity, k: similarity.topk(k, dim=1).indices),
        ("forgets to transpose", "transposed", lambda similarity, k: similarity.topk(k, dim=0).indices),
        ("sorts the texts of the first images", "axis", lambda similarity, k: similarity.argsort(dim=1)[:3, :k]),
        ("gives all", "shape", lambda similarity, k: similarity.argsort(dim=0, descending=True).T),
    ],
}
