"""Images per second and memory of a ResNet-18 training step, by batch size, precision and layout (notebook 05).

python -m benchmarks.steps                                        # on CUDA, Apple MPS or the CPU
python -m benchmarks.steps --image-size 224 --batch-sizes 32 64 128 256 512 --repeats 20   # on a GPU

TF32, fp16 and torch.compile are tried on CUDA only: elsewhere torch.compile needs a C++ compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torchvision.models import resnet18

from benchmarks.harness import read_options, write_result
from clipedu.classroom.measure import kept_bytes, seconds
from clipedu.ground.environment import choose_device

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LAYOUTS = {  # memory format, and whether to use torch.compile
    "channels first": (torch.contiguous_format, False),
    "channels last": (torch.channels_last, False),
    "channels last, compiled": (torch.channels_last, True),
}
ON_CUDA_ONLY = {"tf32", "fp16", "channels last, compiled"}


def measure(
    batch_size: int, image_size: int, precision: str, layout: str, device: torch.device, repeats: int
) -> dict[str, Any]:
    """Measure a full step (forward, backward, clipping, AdamW) on random pictures; None if a batch does not fit."""
    on_cuda, dtype, (memory_format, compiled) = device.type == "cuda", PRECISIONS[precision], LAYOUTS[layout]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if on_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    network = resnet18()
    network.fc = nn.Identity()
    network = network.to(device, memory_format=memory_format)
    run: Callable[[Tensor], Tensor] = torch.compile(network) if compiled else network
    optimizer = AdamW(network.parameters(), lr=1e-4, fused=device.type in ("cpu", "cuda"))
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def forward(images: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            features = run(images)  # (B, 512)
        return features.float().square().mean()

    def step(images: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(forward(images)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    result = {"batch_size": batch_size, "image_size": image_size, "precision": precision, "layout": layout}
    try:
        images = torch.randn(batch_size, 3, image_size, image_size, device=device).to(memory_format=memory_format)
        kept = kept_bytes(partial(forward, images), without=[*network.parameters(), *network.buffers()])
        speed = round(batch_size / seconds(partial(step, images), device, repeats), 1)
    except torch.OutOfMemoryError:
        return result | {"images_per_second": None, "kept_bytes": None, "peak_bytes": None}
    peak = torch.cuda.max_memory_allocated(device) if on_cuda else None
    return result | {"images_per_second": speed, "kept_bytes": kept, "peak_bytes": peak}


def main() -> None:
    """Measure every combination and record the results after each."""
    options = read_options(__doc__, batch_sizes=[16, 32, 64, 128], image_size=64, repeats=5, device="auto", name="")
    device = choose_device(options.device)
    skipped = set() if device.type == "cuda" else ON_CUDA_ONLY
    results = []
    for batch_size, precision, layout in product(options.batch_sizes, PRECISIONS, LAYOUTS):
        if not skipped & {precision, layout}:
            results.append(measure(batch_size, options.image_size, precision, layout, device, options.repeats))
            print(results[-1], flush=True)
            write_result(options.name or f"steps_{device.type}", results)


if __name__ == "__main__":
    main()
