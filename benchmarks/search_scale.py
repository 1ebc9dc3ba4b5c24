"""Queries per second over 1,000 to 1,000,000 embeddings: exact, as in clipedu/search.py, and approximate, with faiss.

python -m benchmarks.search_scale

The embeddings are 256-dimensional unit vectors around 1,000 random centres: a centre plus noise 0.7 times as long,
normalized to length 1, so the cosine is about 0.67 within a cluster and about 0 between clusters. Real embeddings are
clustered too, and uniform ones have no neighbours worth finding. The queries come from the same centres and are run one
at a time, as a user would. The approximate indexes divide the space into sqrt(N) cells (k-means) and search 16 of them:
`cells` stores float32, `cells, 8 bits` one byte per number; both are quick to build. `recall_at_10` is the share of the
exact ten that the index finds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.harness import in_turn, ratio_of_medians, read_options, write_result
from clipedu.classroom.measure import seconds
from clipedu.search import nearest

faiss: Any = import_module("faiss") if find_spec("faiss") else None  # an optional extra

WIDTH, CENTRES, NOISE, TOP = 256, 1000, 0.7, 10
INDEXES = {"cells": "IVF{cells},Flat", "cells, 8 bits": "IVF{cells},SQ8"}  # for faiss.index_factory
PROBES = 16  # cells searched per query
TRAINING_PER_CELL = 64  # embeddings per cell for k-means; more would only take longer
BLOCK = 100_000  # embeddings drawn at a time, to bound the memory

Search = Callable[[Tensor], Tensor]  # a query [1, 256] to the indices found, [1, 10]


def draw_embeddings(count: int, seed: int) -> Tensor:
    """Unit vectors `[count, 256]` around the centres, which are the same for every seed."""
    centres = F.normalize(torch.randn(CENTRES, WIDTH, generator=torch.Generator().manual_seed(0)), dim=1)
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.empty(count, WIDTH)
    for block in embedding.split(BLOCK):
        chosen = torch.randint(CENTRES, (len(block),), generator=generator)
        noise = F.normalize(torch.randn(len(block), WIDTH, generator=generator), dim=1)
        block.copy_(F.normalize(centres[chosen] + NOISE * noise, dim=1))
    return embedding


def build(embedding: Tensor, description: str) -> tuple[Search, dict[str, Any]]:
    """A search function over a new faiss index, the time it took to build, and its size."""
    start = time.perf_counter()
    cells = round(len(embedding) ** 0.5)
    index = faiss.index_factory(WIDTH, description.format(cells=cells), faiss.METRIC_INNER_PRODUCT)
    index.nprobe = PROBES
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, TRAINING_PER_CELL
    index.train(embedding.numpy())
    index.add(embedding.numpy())
    elapsed = time.perf_counter() - start
    facts = {"build_seconds": round(elapsed, 2), "index_bytes": faiss.serialize_index(index).nbytes}
    return lambda query: torch.from_numpy(index.search(query.numpy(), TOP)[1]), facts


def ask(search: Search, queries: Tensor) -> Tensor:
    """Run the queries one at a time; the indices found, `[Q, 10]`."""
    return torch.cat([search(query[None]) for query in queries])


def recall(found: Tensor, right: Tensor) -> float:
    """Share of the `right` neighbours `[Q, 10]` that are among those `found` `[Q, 10]`."""
    return (found[:, :, None] == right[:, None, :]).any(dim=1).float().mean().item()


def measure(count: int, queries: Tensor, rounds: int) -> dict[str, Any]:
    """Measure every search method over `count` embeddings, in turn."""
    embedding = draw_embeddings(count, seed=1)
    searches: dict[str, Search] = {"exact": lambda query: nearest(embedding, query, TOP)[1]}
    ways: dict[str, dict[str, Any]] = {"exact": {"build_seconds": 0.0, "index_bytes": embedding.nbytes}}
    for name, description in (INDEXES if faiss else {}).items():
        searches[name], ways[name] = build(embedding, description)
    right = ask(searches["exact"], queries)
    speeds: dict[str, list[float]] = {name: [] for name in searches}
    timed = {
        name: partial(seconds, partial(ask, search, queries), queries.device, 1) for name, search in searches.items()
    }
    for name, elapsed in in_turn(timed, rounds):
        speeds[name].append(round(len(queries) / elapsed, 2))
    for name, way in ways.items():
        way["recall_at_10"] = round(recall(ask(searches[name], queries), right), 4)
        way |= {"queries_per_second": speeds[name], "ratio": ratio_of_medians(speeds[name], speeds["exact"])}
    return {"embeddings": count, "ways": ways}


def main() -> None:
    """Measure every size and record the results after each."""
    sizes = [1_000, 10_000, 100_000, 1_000_000]
    options = read_options(__doc__, sizes=sizes, queries=100, rounds=3, name="search_scale")
    if faiss is None:
        print("exact search only; for approximate search, run: pip install -e '.[ann]' (faiss-cpu)")
    queries = draw_embeddings(options.queries, seed=2)
    measured = []
    for count in options.sizes:
        measured.append(measure(count, queries, options.rounds))
        print(measured[-1], flush=True)
        results = {"approximate": faiss is not None, "queries": options.queries, "sizes": measured}
        write_result(options.name, results, packages=["faiss-cpu"] if faiss else [])


if __name__ == "__main__":
    main()
