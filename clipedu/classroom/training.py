"""For notebook 05: its quick model, its figures, and what it asks its readers to write, for those who have not yet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from clipedu.classroom.lessons import small_clip
from clipedu.classroom.measure import step_memory
from clipedu.classroom.plots import bars, curves, table
from clipedu.classroom.recorded import FOLDER, recorded
from clipedu.classroom.view import View, card, together
from clipedu.data.dataset import Batch, ImageTextDataset, caption_ids
from clipedu.loss import contrastive_loss
from clipedu.model import CLIP, MAX_LOGIT_SCALE
from clipedu.tokenizer import SimpleTokenizer


def quick_clip(tokenizer: SimpleTokenizer, seed: int = 0, temperature: float = 0.07) -> CLIP:
    """An untrained CLIP whose image side is four convolutions: a step on 32 pictures takes a tenth of a second."""
    model = small_clip(tokenizer, "resnet18", pretrained=False, seed=seed)
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 128), (128, 512)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    model.image_encoder.model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.logit_scale.data.fill_(math.log(1 / temperature))
    return model


def distinct_pairs(dataset: ImageTextDataset, pictures: Tensor, tokenizer: SimpleTokenizer, count: int) -> list[Batch]:
    """Two batches of `count` pairs of a dataset; all captions differ."""
    place = {dataset.caption(index): index for index in range(len(dataset))}
    batches = []
    for start in (0, count):
        texts = list(place)[start : start + count]
        tokens = tokenizer(texts, padding="longest")
        chosen = [place[text] for text in texts]
        batches.append(Batch(pictures[chosen], tokens["input_ids"], tokens["attention_mask"], caption_ids(texts)))
    return batches


def recorded_curves() -> View:
    """The losses of the two recorded runs "as it is", with their recall on the test pictures."""
    choices = recorded("choices")
    lines = {}
    for run in choices.where(choice="as it is"):
        scores, losses = run["scores"]["en"], run["losses"]
        name = f"SEED {run['seed']}: R@1 {scores['i2t_R@1']:.2f}, R@5 {scores['i2t_R@5']:.2f}"
        lines[name] = range(1, len(losses) + 1), losses
    title = "{command}, {date}, {device}".format(**choices.origin)
    return curves(lines, "步 | step", "训练损失 | training loss", {"ln 64 = 4.16": math.log(64)}, title=title)


@cache
def _memory(size: int, precision: torch.dtype) -> tuple[dict[str, int], int]:
    """Bytes of a ResNet-18's step that do not depend on the batch, and those that each picture adds."""
    words = SimpleTokenizer.from_texts(["a"])

    def count(pictures: int) -> dict[str, int]:
        model = small_clip(words, "resnet18", pretrained=False).train()
        images = torch.zeros(pictures, 3, size, size, dtype=torch.uint8)
        input_ids = torch.ones(pictures, 12, dtype=torch.int64)

        def forward() -> Tensor:
            with torch.autocast("cpu", precision, enabled=precision != torch.float32):
                image_embedding, text_embedding = model(images, input_ids, input_ids)
            return contrastive_loss(image_embedding, text_embedding, model.logit_scale)

        return step_memory(model, forward)

    with torch.random.fork_rng(devices=[]):
        one, two = count(1), count(2)
    each = two["kept"] - one["kept"]
    return one | {"kept": one["kept"] - each}, each


def _memory_of(batch_size: int, size: int, precision: str) -> dict[str, int]:
    parts, each = _memory(size, {"fp32": torch.float32, "bf16": torch.bfloat16}[precision])
    return parts | {"kept": parts["kept"] + batch_size * each}


def memory_at(batch_size: int, size: int, precision: str) -> View:
    """The memory of a training step of a ResNet-18, in GiB: counted for one and two pictures, and extrapolated."""
    parts = _memory_of(batch_size, size, precision)
    parts["total"] = sum(parts.values())
    gib = {name: {"GiB": value / 2**30} for name, value in parts.items()}
    return bars(gib, "GiB", {"8 GiB": 8}, title=f"ResNet-18, B = {batch_size}, {size} px, {precision}")


def memory_table(rows: Sequence[tuple[int, int, str]]) -> View:
    """The same memory, in GiB, for several batch sizes, picture sizes and precisions."""
    columns = ["B", "px", "", "weights", "gradients", "Adam", "kept"]
    cells = []
    for batch_size, size, precision in rows:
        parts = _memory_of(batch_size, size, precision)
        cells.append([str(batch_size), str(size), precision, *(f"{parts[name] / 2**30:.3f}" for name in columns[3:])])
    return table(columns, cells, title="ResNet-18, GiB")


def read_curve(losses: Sequence[float], batch_size: int) -> str:
    """What a loss curve shows: `not finite`, `collapsed`, `unmoved` or `moving`."""
    if not all(map(math.isfinite, losses)):
        return "not finite"
    away = [abs(loss - math.log(batch_size)) for loss in losses]
    if all(one < 0.02 for one in away[-5:]) and any(one > 0.1 for one in away):
        return "collapsed"
    return "unmoved" if abs(sum(losses[:5]) - sum(losses[-5:])) / 5 < 0.1 else "moving"


def fp16_step(
    model: Any, optimizer: Optimizer, scaler: GradScaler, images: Tensor, input_ids: Tensor, attention_mask: Tensor
) -> float:
    """One step in fp16; returns the loss before it. A gradient that is not finite changes no weight."""
    with torch.autocast(images.device.type, torch.float16):
        image_embedding, text_embedding = model(images, input_ids, attention_mask)
        loss = contrastive_loss(image_embedding, text_embedding, model.logit_scale)
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    with torch.no_grad():
        model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
    return loss.item()


def save(path: Path, model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler, step: int) -> Path:
    """Write all that the next step depends on, after `step` steps; returns `path`."""
    content = {
        "weights": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "step": step,
        "random": torch.get_rng_state(),
    }
    torch.save(content, path)
    return path


def resume(path: Path, model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler) -> int:
    """Restore what `save` wrote; returns how many steps are done."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(content["weights"])
    optimizer.load_state_dict(content["optimizer"])
    scheduler.load_state_dict(content["scheduler"])
    torch.set_rng_state(content["random"])
    step: int = content["step"]
    return step


def adamw(w: Tensor, gradients: Sequence[Tensor], lr: float, decay: float) -> Tensor:
    """The weights after a step of AdamW for each gradient."""
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        w = w - lr * decay * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    return w


def gpu_figures() -> View:
    """What `python -m benchmarks.gpu` has recorded on real GPUs, or a card if it never ran on one."""
    names = [path.stem for path in sorted(FOLDER.glob("gpu_*.json"))]
    if not names:
        return card(
            None,
            "还没有任何 GPU 的记录，所以这里没有 GPU 的数字。有 GPU 的话，在终端运行 python -m benchmarks.gpu"
            "（不到 8 分钟），再运行这一格",
            "nothing has been recorded on a GPU, so there are no figures of one here. If you have one, run python -m "
            "benchmarks.gpu in a terminal (under 8 minutes), then run this cell again",
        )
    columns = ["精度 | precision", "图片 | pictures", "张/秒 | images/s", "等数据 | waiting", "显存 | peak, GiB"]
    tables = []
    for name in names:
        record = recorded(name)
        rows = [
            [
                run["arm"],
                run["pictures"],
                *(str(run.get(key)) for key in ("images_per_second", "waiting_share", "peak_gib")),
            ]
            for run in record.results["runs"]
        ]
        tables.append(table(columns, rows, title=f"{record.origin['device']}, {record.origin['date']}"))
    return together(*tables)
