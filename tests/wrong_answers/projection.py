"""Wrong answers to the exercises of notebook 03: by exercise, what is wrong, the reason, the code."""

from __future__ import annotations

from torch.nn import functional as F

from tests.wrong_answers import WrongAnswers

WRONG: WrongAnswers = {
    "normalize": [
        ("along the columns", "axis", lambda x: F.normalize(x, dim=0)),
        ("by the whole matrix", "whole_matrix", lambda x: x / x.norm()),
        ("without the square root", "square_root", lambda x: x / x.pow(2).sum(dim=-1, keepdim=True).clamp(1e-9)),
        ("L1", "L1", lambda x: F.normalize(x, p=1, dim=-1)),
        ("by the largest", "length", lambda x: x / x.amax(dim=-1, keepdim=True).clamp(1e-9)),
        ("LayerNorm", "length", lambda x: F.layer_norm(x, x.shape[-1:])),
        ("divides 0 by 0", "nan", lambda x: x / x.norm(dim=-1, keepdim=True)),
        ("forgets keepdim", "error", lambda x: x / x.norm(dim=-1)),
        ("gives zero a direction", "zero", lambda x: F.normalize(x + 1e-9)),
        ("loses the sign", "sign", lambda x: F.normalize(x.abs())),
    ],
    "cosine_matrix": [
        ("dot products", "not_normalized", lambda images, texts: images @ texts.T),
        ("normalizes images only", "one_side", lambda images, texts: F.normalize(images) @ texts.T),
        ("normalizes texts only", "one_side", lambda images, texts: images @ F.normalize(texts).T),
        ("texts down", "transposed", lambda images, texts: F.normalize(texts) @ F.normalize(images).T),
        ("columns", "value", lambda images, texts: F.normalize(images, dim=0) @ F.normalize(texts, dim=0).T),
        ("row by row", "error", F.cosine_similarity),
        ("softmax on top", "value", lambda images, texts: (F.normalize(images) @ F.normalize(texts).T).softmax(1)),
        ("forgets to transpose", "error", lambda images, texts: F.normalize(images) @ F.normalize(texts)),
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
