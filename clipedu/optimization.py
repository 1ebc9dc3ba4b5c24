"""What decides a run beside model and data: settings, optimizer, learning-rate schedule, precision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from clipedu.errors import ConfigError
from clipedu.model import CLIP
from clipedu.pictures import IMAGE_SIZES


@dataclass(frozen=True)
class TrainConfig:
    """What decides a run, beside model and data. The same config gives the same run.

    Attributes:
        epochs: passes over the training pictures.
        batch_size: pairs per step, over all processes together.
        lr: peak learning rate, reached after `warmup` (a fraction of all steps), then a cosine down to 0.
        image_lr_scale: the image encoder's share of `lr`; a pretrained one may want less than 1.
        weight_decay: of AdamW, on matrices only.
        clip_norm: the gradient's norm is cut to this.
        image_size: side of the pictures in px.
        seed: of the order of the data, the captions drawn, and dropout.
        device: `auto`, or as torch names it.
        precision: `fp32`, `bf16`, `fp16`; `auto` takes bf16 where that is faster, else fp16 on CUDA, else fp32.
    """

    epochs: int = 10
    batch_size: int = 64
    lr: float = 5e-4
    image_lr_scale: float = 1.0
    weight_decay: float = 0.05
    warmup: float = 0.03
    clip_norm: float = 1.0
    image_size: int = 64
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        limits = {
            "epochs": (1, 10**6),
            "batch_size": (2, 10**6),
            "image_size": (IMAGE_SIZES[0], IMAGE_SIZES[-1]),
            "seed": (0, 2**32 - 1),  # torch's end at 64 bits, and a run multiplies its own
            **dict.fromkeys(("lr", "image_lr_scale", "weight_decay", "clip_norm"), (0, 10**6)),
        }
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if not least <= value <= most:  # nor is NaN
                raise ConfigError(
                    f"{name}={value} 无效：应在 {least} 与 {most} 之间",
                    f"{name}={value} makes no sense: it must be within {least} and {most}",
                )
        if self.precision not in ("auto", "fp32", "bf16", "fp16") or not 0 <= self.warmup < 1:
            raise ConfigError(
                f"precision={self.precision!r} 或 warmup={self.warmup} 无效",
                f"precision={self.precision!r} or warmup={self.warmup} makes no sense",
            )


def make_optimizer(model: CLIP, config: TrainConfig) -> Optimizer:
    """AdamW; no weight decay on biases, norms and `logit_scale` (chosen by shape) nor on position embeddings.

    The image encoder learns at `config.image_lr_scale` times the rate of all else, which is that of the first group.
    """
    positions, image_encoder = model.text_encoder.position_embedding.weight, set(model.image_encoder.parameters())
    groups: dict[tuple[float, float], list[Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            lr = config.lr * (config.image_lr_scale if parameter in image_encoder else 1)
            decay = 0.0 if parameter.ndim <= 1 or parameter is positions else config.weight_decay
            groups.setdefault((lr, decay), []).append(parameter)  # logit_scale comes first of all
    settings = [{"params": members, "lr": lr, "weight_decay": decay} for (lr, decay), members in groups.items()]
    return AdamW(settings, lr=config.lr, fused=model.logit_scale.device.type in ("cpu", "cuda"))


def make_scheduler(optimizer: Optimizer, config: TrainConfig, steps: int) -> LambdaLR:
    """Per step: linear warm-up, then half a cosine down to 0."""
    warmup = math.ceil(config.warmup * steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return LambdaLR(optimizer, factor)


def choose_precision(name: str, device: torch.device, image_encoder: str = "resnet18") -> torch.dtype:
    """The dtype of the forward pass: `auto` is bf16 where that is faster, else fp16 on CUDA, else float32."""
    if name == "auto" and device.type == "cuda":
        name = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    elif name == "auto":
        # EfficientNet's depthwise convolutions were slower in bf16 on the CPU that we tried.
        pays = device.type == "cpu" and image_encoder.startswith("resnet") and _cpu_has_bf16()
        name = "bf16" if pays else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def _cpu_has_bf16() -> bool:
    """Whether the processor has bf16 instructions: without them it would only imitate bf16, slowly."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions of torch
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
