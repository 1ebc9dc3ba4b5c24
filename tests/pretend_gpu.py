"""A GPU for computers that have none: CPU tensors that say they are on "cuda", with real numbers.

Inside `pretend_gpu()`, what a GPU refuses is refused: operations on tensors of both devices, and NumPy's arrays of GPU
tensors. What makes the program wait for the GPU is counted. It sees calls from Python, in the thread that entered; the
backward pass is C++, so gradients are where their parameters are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

GPU = torch.device("cuda", 0)
# To know these values, a program waits until the GPU has computed everything before them.
READING = {
    "item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__format__", "__repr__", "__contains__",
    "equal", "allclose", "is_nonzero", "nonzero", "argwhere", "masked_select", "unique", "unique_consecutive",
}  # fmt: skip
MAY_MIX = {"_has_compatible_shallow_copy_type", "__deepcopy__", "data"}  # they compute nothing


class MixedDevices(RuntimeError):
    """Tensors of both devices in one operation."""


class Waited(RuntimeError):
    """The program waited for the GPU where it must not."""


class PretendGPU(TorchFunctionMode):
    """Knows which tensors are on the GPU by their storage, so that views and `parameter.data = ...` follow.

    Attributes:
        waits: how often the program waited for the GPU to read a value from it.
        uploads: how often it waited for a copy to the GPU: one that is blocking, or not from pinned memory.
        refused: all that was refused, even if somebody caught the exception.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits = self.uploads = 0
        self.refused: list[Exception] = []
        self._may_wait = True
        self._on_gpu: set[StorageWeakRef] = set()  # while one exists, its address is not given to another storage
        self._pinned: set[StorageWeakRef] = set()

    @contextmanager
    def no_waiting(self) -> Iterator[None]:
        """Inside the block, waiting raises Waited."""
        self._may_wait = False
        try:
            yield
        finally:
            self._may_wait = True

    def wait(self, name: str, is_upload: bool = False) -> None:
        """Count that the program waits in `name`."""
        self.waits, self.uploads = self.waits + (not is_upload), self.uploads + is_upload
        if not self._may_wait:
            self._refuse(Waited(f"{name} waits for the GPU"))

    def has(self, tensor: Tensor) -> bool:
        return StorageWeakRef(tensor.untyped_storage()) in self._on_gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        name = func.__self__.__name__ if name in ("__get__", "__set__") else name  # a property
        first = args[0] if args and isinstance(args[0], Tensor) else None
        is_on_gpu = first is not None and self.has(first)
        if is_on_gpu and name in ("device", "is_cuda", "is_cpu", "get_device"):
            return {"device": GPU, "is_cuda": True, "is_cpu": False, "get_device": 0}[name]
        if is_on_gpu and name in ("numpy", "__array__"):
            self._refuse(TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first"))
        if first is not None and name in ("pin_memory", "is_pinned"):
            return self._pin(name, first, is_on_gpu)
        if first is not None and name in ("to", "cuda", "cpu", "as_tensor"):
            return self._move(Tensor.to if name == "as_tensor" else func, name, first, *args[1:], **kwargs)
        if first is not None and name in ("__getitem__", "__setitem__", "copy_"):
            self._check_rows(name, first, *args[1:])
            return self._put(func(*args, **kwargs), is_on_gpu)
        tensors = list(_tensors((args, kwargs)))
        here = any(map(self.has, tensors))
        if here and name not in MAY_MIX and not all(self.has(t) or (t.ndim == 0 and name != "stack") for t in tensors):
            self._refuse(MixedDevices(f"{name}: expected all tensors to be on the same device, cuda:0 or cpu"))
        if here and name in {"tensor", *READING}:
            self.wait(name)
        target = here and (name != "tensor" or is_on_gpu)
        if kwargs.get("device") is not None:
            target = torch.device(kwargs["device"]).type == "cuda"
            kwargs = kwargs | {"device": _real(kwargs["device"])}
        if target and not here and name in ("tensor", "as_tensor"):
            self.wait(name, is_upload=True)
        if target and kwargs.get("generator") is not None:
            self._refuse(RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'"))
        return self._put(func(*args, **kwargs), target)

    def _put(self, result: Any, on_gpu: bool) -> Any:
        if on_gpu:
            self._on_gpu.update(StorageWeakRef(tensor.untyped_storage()) for tensor in _tensors(result))
            if len(self._on_gpu) > 20_000:
                self._on_gpu = {storage for storage in self._on_gpu if not storage.expired()}
        return result

    def _refuse(self, error: Exception) -> None:
        self.refused.append(error)
        raise error

    def _pin(self, name: str, tensor: Tensor, is_on_gpu: bool) -> Any:
        if name == "is_pinned":
            return StorageWeakRef(tensor.untyped_storage()) in self._pinned
        if is_on_gpu:
            self._refuse(RuntimeError("cannot pin a tensor that is on the GPU: only CPU tensors can be pinned"))
        pinned = tensor.clone()
        self._pinned.add(StorageWeakRef(pinned.untyped_storage()))
        return pinned

    def _move(self, func: Any, name: str, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        before = target = self.has(tensor)
        for value in (*args, *kwargs.values(), name if name in ("cpu", "cuda") else None):
            if isinstance(value, Tensor):
                target = self.has(value)
            elif isinstance(value, (str, torch.device)):
                target = torch.device(value).type == "cuda"
        keywords = {key: _real(value) for key, value in kwargs.items()}
        result = tensor if name in ("cpu", "cuda") else func(tensor, *map(_real, args), **keywords)
        if target != before:
            is_async = kwargs.get("non_blocking") or any(value is True for value in args)
            if not (is_async and (before or self._pin("is_pinned", tensor, before))):
                self.wait(name, is_upload=target)
            result = result.clone() if result.data_ptr() == tensor.data_ptr() else result
        return self._put(result, target)

    def _check_rows(self, name: str, tensor: Tensor, rows: Any, value: Any = None, *_: Any) -> None:
        """Reading `tensor[rows]`, writing `tensor[rows] = value`, or `tensor.copy_(rows)`."""
        if name == "copy_":
            rows, value = (), rows
        is_on_gpu, indices = self.has(tensor), list(_tensors(rows))
        if is_on_gpu and isinstance(rows, list):
            self.wait("a list of indices", is_upload=True)
        for index in indices:
            if self.has(index) and not is_on_gpu:
                self._refuse(MixedDevices("indices should be on the CPU, like the indexed tensor"))
            if self.has(index) and (index.ndim == 0 or index.dtype in (torch.bool, torch.uint8)):
                self.wait("an index")
            elif is_on_gpu and not self.has(index) and index.ndim:
                self.wait("an index", is_upload=True)
        if isinstance(value, Tensor) and self.has(value) != is_on_gpu and (value.ndim or not is_on_gpu):
            if indices:  # a copy from one device to the other works for slices only
                self._refuse(MixedDevices(f"{name}: expected all tensors to be on the same device, cuda:0 or cpu"))
            self.wait(name, is_upload=is_on_gpu)


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, Mapping):
        yield from _tensors(list(values.values()))


def _real(value: Any) -> Any:
    """The CPU instead of the GPU, and any other value as it is."""
    is_gpu = isinstance(value, (str, torch.device)) and torch.device(value).type == "cuda"
    return torch.device("cpu") if is_gpu else value


@contextmanager
def pretend_gpu() -> Iterator[PretendGPU]:
    """Inside the block, this computer has one GPU, which is what `choose_device()` chooses."""
    precision = torch.get_float32_matmul_precision()
    with pytest.MonkeyPatch.context() as patch, PretendGPU() as gpu:
        for setting in ("allow_tf32", "benchmark"):  # what a program sets for a GPU goes with it
            patch.setattr(torch.backends.cudnn, setting, getattr(torch.backends.cudnn, setting))
        answers = {
            "is_available": True, "is_initialized": True, "device_count": 1, "current_device": 0, "set_device": None,
            "is_bf16_supported": True, "get_device_name": "a pretended GPU", "get_device_capability": (8, 0),
            "get_device_properties": SimpleNamespace(total_memory=2**34, major=8, minor=0), "empty_cache": None,
            "mem_get_info": (2**33, 2**34), "memory_allocated": 0, "memory_reserved": 0, "max_memory_allocated": 0,
            "reset_peak_memory_stats": None, "manual_seed": None, "manual_seed_all": None, "set_rng_state": None,
        }  # fmt: skip
        for name, answer in answers.items():
            patch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
        patch.setattr(torch.cuda, "synchronize", lambda *_: gpu.wait("synchronize"))
        patch.setattr(torch.cuda, "get_rng_state", lambda *_: torch.get_rng_state())
        autocast, grouped = torch.autocast.__init__, torch._C._group_tensors_by_device_and_dtype

        def on_cpu(self: torch.autocast, device_type: str, *args: Any, **kwargs: Any) -> None:
            autocast(self, "cpu" if device_type == "cuda" else device_type, *args, **kwargs)

        def group(lists: Any, *args: Any) -> dict[Any, Any]:
            """Optimizers group parameters in C++, which knows their real device."""
            groups: dict[Any, Any] = dict(grouped(lists, *args))
            return {(rows[0][0].device, dtype): (rows, indices) for (_, dtype), (rows, indices) in groups.items()}

        patch.setattr(torch.autocast, "__init__", on_cpu)
        patch.setattr(torch._C, "_group_tensors_by_device_and_dtype", group)
        for check in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):  # newer, older
            patch.setattr(torch.optim.Optimizer, check, lambda self: None, raising=False)
        try:
            yield gpu
        finally:
            torch.set_float32_matmul_precision(precision)
