"""What a training step costs in memory and time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from itertools import chain

import torch
from torch import Tensor, nn


def kept_bytes(forward: Callable[[], object], without: Iterable[Tensor] = ()) -> int:
    """Bytes that autograd keeps from `forward()` for the backward pass: each storage once, leaving out `without`.

    This is a count, not a measurement: it needs no GPU and is nearly the same on all devices.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in without}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    del result  # it kept the graph alive until here, so that no address was reused
    return sum(kept.values())


def step_memory(model: nn.Module, forward: Callable[[], object]) -> dict[str, int]:
    """Bytes of a step with AdamW: `weights`, `gradients`, `Adam` (two numbers per weight), `kept` by autograd."""
    fixed = list(chain(model.parameters(), model.buffers()))
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    return {
        "weights": sum(tensor.nbytes for tensor in fixed),
        "gradients": trained,
        "Adam": 2 * trained,
        "kept": kept_bytes(forward, without=fixed),
    }


def seconds(step: Callable[[], object], device: torch.device, repeats: int = 3, enough: float = 10.0) -> float:
    """The median time of `step()`, including the device's work; the first call is not counted.

    Repeats stop once they have taken `enough` seconds.
    """
    step()
    times: list[float] = []
    while len(times) < repeats and sum(times) < enough:
        _wait_for(device)
        start = time.perf_counter()
        step()
        _wait_for(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _wait_for(device: torch.device) -> None:
    """GPU calls return before the work is done: without waiting, we would time only the launch."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
