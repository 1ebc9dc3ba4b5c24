"""Images per second and memory of a ResNet-18 training step, by batch size, precision and layout (notebook 05).

python -m benchmarks.steps                                        # CUDA, Apple MPS or CPU, whatever there is
python -m benchmarks.steps --image-size 224 --batch-sizes 32 64 128 256 512 --repeats 20   # on a GPU
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torchvision.models import resnet18

from benchmarks.record import FOLDER, write_result
from clipedu.classroom.measure import kept_bytes, seconds
from clipedu.ground.environment import choose_device

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LAYOUTS = {  # and whether torch.compile makes one program of the network
    "channels first": (torch.contiguous_format, False),
    "channels last": (torch.channels_last, False),
    "channels last, compiled": (torch.channels_last, True),
}


def precisions(device: torch.device) -> list[str]:
    """What is worth a try there: TF32 and fp16 are for CUDA."""
    return list(PRECISIONS) if device.type == "cuda" else ["fp32", "bf16"]


def layouts(device: torch.device) -> list[str]:
    """torch.compile is for CUDA: elsewhere it asks for a compiler of C++."""
    return list(LAYOUTS) if device.type == "cuda" else ["channels first", "channels last"]


def measure(
    batch_size: int, image_size: int, precision: str, layout: str, device: torch.device, repeats: int
) -> dict[str, Any]:
    """A whole step (forward, backward, clipping, AdamW) on random pictures; a batch that does not fit says so."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    found = {"batch_size": batch_size, "image_size": image_size, "precision": precision, "layout": layout}
    try:
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        found |= _measure(batch_size, image_size, PRECISIONS[precision], *LAYOUTS[layout], device, repeats)
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
        return found | {"peak_bytes": peak}
    except torch.OutOfMemoryError:
        return found | {"images_per_second": None, "kept_bytes": None, "peak_bytes": None}


def _measure(
    batch_size: int,
    image_size: int,
    dtype: torch.dtype,
    layout: torch.memory_format,
    compiled: bool,
    device: torch.device,
    repeats: int,
) -> dict[str, Any]:
    torch.manual_seed(0)
    network = resnet18()
    network.fc = nn.Identity()
    network = network.to(device, memory_format=layout)
    run: Callable[[Tensor], Tensor] = torch.compile(network) if compiled else network
    optimizer = AdamW(network.parameters(), lr=1e-4, fused=device.type in ("cpu", "cuda"))
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    images = torch.randn(batch_size, 3, image_size, image_size, device=device).to(memory_format=layout)

    def forward() -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            features = run(images)  # (B, 512)
        return features.float().square().mean()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(forward()).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    kept = kept_bytes(forward, without=[*network.parameters(), *network.buffers()])
    return {"images_per_second": round(batch_size / seconds(step, device, repeats), 1), "kept_bytes": kept}


def main() -> None:
    """Measure every combination and write the results down after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5, help="steps timed; the median counts")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--name", help="of the file in benchmarks/results; steps_cpu or the like by itself")
    options = parser.parse_args()
    device = choose_device(options.device)
    results = []
    for batch_size in options.batch_sizes:
        for precision in precisions(device):
            for layout in layouts(device):
                result = measure(batch_size, options.image_size, precision, layout, device, options.repeats)
                print(result, flush=True)
                results.append(result)
                write_result(FOLDER / f"{options.name or f'steps_{device.type}'}.json", results)


if __name__ == "__main__":
    main()
