"""Compare our training step with open_clip's, on the same batch of sample_data and with models of the same size.

python -m benchmarks.against_open_clip

Both have a ResNet-18 with random weights (open_clip's from timm), a text Transformer of width 256 with 8 heads and an
MLP twice as wide, and a 256-dimensional shared space, so they have the same number of parameters. Both take the same
step (forward, loss, backward, clipping at 1.0, fused AdamW); ours is `clipedu.train_step`. Attention in open_clip's
text encoder is causal, in ours it is bidirectional. open_clip has no dropout and runs in float32; so do our arms,
except "ours", which uses the dropout (0.1) and the precision of `train`: bf16 if the processor has instructions for it.
"Exact" texts are padded only to the longest in the batch. The first `--warm-up` rounds are discarded.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from benchmarks.harness import in_turn, ratio_of_medians, read_options, write_result
from clipedu import CLIP, ImageEncoder, ImageTextDataset, SimpleTokenizer, TextEncoder, TrainConfig, train_step
from clipedu.classroom.measure import seconds
from clipedu.ground.environment import choose_device
from clipedu.optimization import OptimizationState, choose_precision
from clipedu.tokenizer import SEP

WIDTH, HEADS, EMBEDDING, FULL, SHORT = 256, 8, 256, 77, 16  # FULL and SHORT are paddings, in tokens
PAIRS = {  # comparison -> open_clip's arm, our arm
    "equal, padded to 77": ("open_clip 77", "ours 77"),
    "equal, padded to 16": ("open_clip 16", "ours 16"),
    "equal, padded to 16, channels last": ("open_clip 16 channels last", "ours 16 channels last"),
    "its default against exact texts, channels last": ("open_clip 77", "ours exact channels last"),
    "its default against the settings of train": ("open_clip 77", "ours"),
}
MANY = 1000  # steps in the schedule: more than are measured


@dataclass(frozen=True)
class Batch:
    """Pictures `[B, 3, S, S]` (normalised float32, channels first), their captions, and the tokenizer."""

    images: Tensor
    captions: list[str]
    tokenizer: SimpleTokenizer

    def tokens(self, length: int | None) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, padded to `length` tokens, or to the longest caption if it is None."""
        padding = {"padding": "max_length", "max_length": length} if length else {"padding": "longest"}
        return {name: rows.to(self.images.device) for name, rows in self.tokenizer(self.captions, **padding).items()}


def read_batch(data_dir: Path, batch_size: int, image_size: int, device: torch.device) -> Batch:
    """The first pairs of the `train` split."""
    pairs = ImageTextDataset(data_dir, "train", "en")
    tokenizer = SimpleTokenizer.from_texts(pairs.all_captions()[0])
    first = pairs.subset(batch_size)
    images = first.pictures(image_size)
    assert isinstance(images, Tensor)  # a single batch is always held in memory
    captions = [first.caption(index) for index in range(len(first))]
    return Batch(((images / 255 - 0.5) / 0.25).to(device), captions, tokenizer)


class ChannelsFirst(ImageEncoder):
    """Our ResNet-18 in the default memory layout, instead of the channels-last one that it normally uses."""

    def __init__(self) -> None:
        super().__init__("resnet18", pretrained=False)
        self.model.to(memory_format=torch.contiguous_format)

    def forward(self, images: Tensor) -> Tensor:
        """`[B, 3, H, W]` to `[B, 512]`."""
        return self.model(images)


def open_clip_model(batch: Batch, layers: int, length: int) -> nn.Module:
    """Their CLIP, the same size as ours; it pads every text to its context length."""
    torch.manual_seed(0)
    image = open_clip.CLIPVisionCfg(timm_model_name="resnet18", image_size=batch.images.shape[-1])
    words = {"vocab_size": len(batch.tokenizer), "pool_type": "eos", "eos_id": SEP}
    text = open_clip.CLIPTextCfg(length, width=WIDTH, heads=HEADS, layers=layers, mlp_ratio=2.0, **words)
    model: nn.Module = open_clip.CLIP(EMBEDDING, image, text)
    return model


def our_model(batch: Batch, layers: int, dropout: float, channels_last: bool) -> CLIP:
    """Our CLIP; the output at [CLS] represents the sentence."""
    torch.manual_seed(0)
    encoder = ImageEncoder("resnet18", pretrained=False) if channels_last else ChannelsFirst()
    return CLIP(encoder, TextEncoder(len(batch.tokenizer), WIDTH, layers, dropout, HEADS), EMBEDDING)


def open_clip_step(batch: Batch, layers: int, length: int, layout: torch.memory_format) -> Callable[[], object]:
    """A training step with open_clip."""
    device = batch.images.device
    model = open_clip_model(batch, layers, length).to(device).to(memory_format=layout).train()
    images = batch.images.contiguous(memory_format=layout)
    input_ids = batch.tokens(length)["input_ids"]
    loss_of = open_clip.ClipLoss()
    optimizer = AdamW(model.parameters(), lr=1e-4, fused=device.type in ("cpu", "cuda"))

    def step() -> None:
        loss = loss_of(*model(images, input_ids))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def our_step(
    batch: Batch, layers: int, length: int | None, channels_last: bool, dropout: float = 0.0, precision: str = "fp32"
) -> Callable[[], object]:
    """A training step with clipedu; texts are padded to `length` tokens, or to the longest if it is None."""
    model = our_model(batch, layers, dropout, channels_last).to(batch.images.device).train()
    state = OptimizationState.start(model, TrainConfig(lr=1e-4, precision=precision), MANY)
    tokens = batch.tokens(length)
    return partial(train_step, model, state, batch.images, tokens["input_ids"], tokens["attention_mask"])


def steps(batch: Batch, layers: int) -> dict[str, Callable[[], object]]:
    """The arms: a training step for each, with its own model."""
    first, last = torch.contiguous_format, torch.channels_last
    return {
        "open_clip 77": open_clip_step(batch, layers, FULL, first),
        "ours 77": our_step(batch, layers, FULL, channels_last=False),
        "open_clip 16": open_clip_step(batch, layers, SHORT, first),
        "ours 16": our_step(batch, layers, SHORT, channels_last=False),
        "open_clip 16 channels last": open_clip_step(batch, layers, SHORT, last),
        "ours 16 channels last": our_step(batch, layers, SHORT, channels_last=True),
        "ours exact channels last": our_step(batch, layers, None, channels_last=True),
        "ours": our_step(batch, layers, None, channels_last=True, dropout=0.1, precision="auto"),
    }


def measure(batch: Batch, layers: int, warm_up: int, rounds: int) -> dict[str, Any]:
    """Seconds per arm and round, their medians, and open_clip's over ours; warm-up rounds are discarded."""
    device = batch.images.device
    # Take an untimed step before each timed one, since the previous arm has filled the processor's caches.
    timed = {name: partial(seconds, step, device, 1) for name, step in steps(batch, layers).items()}
    times: dict[str, list[float]] = {name: [] for name in timed}
    for name, elapsed in in_turn(timed, warm_up + rounds):
        times[name].append(round(elapsed, 5))
    times = {name: values[warm_up:] for name, values in times.items()}
    return {
        "seconds": times,
        "median_seconds": {name: statistics.median(values) for name, values in times.items()},
        "ratios": {name: ratio_of_medians(times[theirs], times[ours]) for name, (theirs, ours) in PAIRS.items()},
    }


def main() -> None:
    """Measure all arms in turn and record the result."""
    options = read_options(
        __doc__, data_dir=Path("sample_data"), batch_size=64, image_size=64, text_layers=2, warm_up=2, rounds=15,
        name="against_open_clip",
    )  # fmt: skip
    batch = read_batch(options.data_dir, options.batch_size, options.image_size, choose_device())
    settings = {name: getattr(options, name) for name in ("batch_size", "image_size", "text_layers")}
    settings["longest_text"] = batch.tokens(None)["input_ids"].shape[1]
    settings["precision of ours"] = str(choose_precision("auto", batch.images.device)).removeprefix("torch.")
    measured = measure(batch, options.text_layers, options.warm_up, options.rounds)
    write_result(options.name, settings | measured, packages=("open_clip_torch", "timm"))
    print(measured["median_seconds"], measured["ratios"], sep="\n")


if __name__ == "__main__":
    main()
