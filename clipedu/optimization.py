"""What determines a run besides model and data: settings, optimizer, learning-rate schedule, precision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.amp import GradScaler
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from clipedu.data.pictures import IMAGE_SIZES
from clipedu.encoders import IMAGE_ENCODERS
from clipedu.ground.errors import ConfigError
from clipedu.model import CLIP

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class TrainConfig:
    """What determines a run besides model and data. The same config gives the same run on the same machine.

    Attributes:
        epochs: passes over the training pictures.
        batch_size: pairs per step, over all processes together.
        lr: peak learning rate, reached after `warmup` (a fraction of all steps), then a cosine down to 0.
        image_lr_scale: the image encoder's learning rate relative to `lr`; a pretrained one may need less than 1.
        weight_decay: of AdamW, on weights with two or more dimensions other than position embeddings.
        clip_norm: the gradient's norm is clipped to this.
        image_size: side of the pictures in px.
        seed: for the data order and dropout; the command line also uses it for the weights and captions.
        augment: change each picture a little in every epoch: its crop and its light (data/augmentation.py).
        sync_batch_norm: compute batch norm over all processes instead of each one's share; only on GPUs.
        device: `auto`, or a torch device name.
        precision: `fp32`, `bf16`, `fp16`; `auto` is bf16 where that is faster, else fp16 on CUDA, else fp32.

    Raises:
        ConfigError: a value is outside its range.
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
    augment: bool = False
    sync_batch_norm: bool = False
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        limits = {
            "epochs": (1, 10**6),
            "batch_size": (2, 10**6),
            "image_size": (IMAGE_SIZES[0], IMAGE_SIZES[-1]),
            "seed": (0, 2**32 - 1),  # torch's seeds have at most 64 bits, and a run multiplies this one
            **dict.fromkeys(("lr", "image_lr_scale", "weight_decay", "clip_norm"), (0, 10**6)),
        }
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if not least <= value <= most:  # NaN is not within any limits either
                raise ConfigError(
                    f"{name}={value} 无效：应在 {least} 与 {most} 之间",
                    f"{name}={value} is invalid: it must be between {least} and {most}",
                )
        if not 0 <= self.warmup < 1:
            raise ConfigError(
                f"warmup={self.warmup} 无效：应至少为 0，且小于 1",
                f"warmup={self.warmup} is invalid: it must be at least 0 and less than 1",
            )
        if self.precision not in PRECISIONS:
            choices = ", ".join(PRECISIONS)
            raise ConfigError(
                f"precision={self.precision!r} 无效；可选：{choices}",
                f"precision={self.precision!r} is invalid; choose one of {choices}",
            )


@dataclass
class OptimizationState:
    """What a training step changes besides the model: AdamW's averages, the schedule's position, fp16's loss scale."""

    optimizer: Optimizer
    scheduler: LambdaLR
    scaler: GradScaler
    precision: torch.dtype

    @classmethod
    def start(cls, model: CLIP, config: TrainConfig, steps: int) -> OptimizationState:
        """The state before the first of `steps` steps, for a model that is already on its device."""
        device = model.logit_scale.device
        optimizer = make_optimizer(model, config)
        precision = choose_precision(config.precision, device, model.image_encoder.model_name)
        scaler = GradScaler(device.type, enabled=precision == torch.float16)
        return cls(optimizer, make_scheduler(optimizer, config, steps), scaler, precision)

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; ValueError if it belongs to a model of another size."""
        self.optimizer.load_state_dict(content["optimizer"])  # compares the number of tensors, not their sizes
        for weights, averages in self.optimizer.state.items():
            if any(tensor.shape not in (weights.shape, ()) for tensor in averages.values()):
                raise ValueError("the optimizer's sizes do not match the model's")
        self.scheduler.load_state_dict(content["scheduler"])
        self.scaler.load_state_dict(content["scaler"])


def make_optimizer(model: CLIP, config: TrainConfig) -> Optimizer:
    """AdamW without weight decay on biases, norms, `logit_scale` (all chosen by shape) or position embeddings.

    The image encoder's learning rate is `config.image_lr_scale * config.lr`; all others learn at `config.lr`, which is
    also the rate of the first group.
    """
    groups: dict[tuple[float, float], list[Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            lr = config.lr * (config.image_lr_scale if "image_encoder." in name else 1)
            decay = 0.0 if parameter.ndim <= 1 or "position_embedding" in name else config.weight_decay
            groups.setdefault((lr, decay), []).append(parameter)  # logit_scale comes first
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
        # A GPU that only emulates bf16, such as a T4, is faster in fp16.
        name = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    elif name == "auto":
        is_faster = device.type == "cpu" and IMAGE_ENCODERS[image_encoder].bf16_pays_on_cpu and _cpu_has_bf16()
        name = "bf16" if is_faster else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def _cpu_has_bf16() -> bool:
    """Whether the processor has bf16 instructions; without them it would only emulate bf16, slowly."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions of torch
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
