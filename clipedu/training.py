"""The training loop: everything between a model and a dataset, and the history of a run."""

from __future__ import annotations

import hashlib
import json
import math
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from clipedu.checkpoint import (
    checkpoint_folder,
    damaged,
    load_checkpoint,
    load_weights,
    newest_epoch,
    only_writer,
    publish,
    save_checkpoint,
)
from clipedu.data import ImageTextDataset
from clipedu.environment import choose_device, say
from clipedu.errors import CheckpointError, TrainingError
from clipedu.evaluation import evaluate, model_inputs
from clipedu.files import whole_file
from clipedu.history import Record, describe, score
from clipedu.loss import contrastive_loss
from clipedu.model import CLIP
from clipedu.optimization import TrainConfig, choose_precision, make_optimizer, make_scheduler
from clipedu.pictures import epoch_batches, image_batches
from clipedu.tokenizer import SimpleTokenizer


def train(
    model: CLIP,
    tokenizer: SimpleTokenizer,
    train_set: ImageTextDataset,
    val_set: ImageTextDataset | None = None,
    config: TrainConfig = TrainConfig(),
    run_dir: str | Path | None = None,
    callbacks: Sequence[Callable[[Record], None]] = (),
) -> list[Record]:
    """Train `model` in place and return the history, a record per epoch.

    With a `run_dir`, the state after every epoch is kept in `run_dir/checkpoints` (the newest `epoch_N.pt`,
    `best_model.pt` by recall on `val_set` or else by loss, `final_model.pt`) and the history in
    `run_dir/history.json`. A run that was interrupted, at whatever moment, goes on from there and ends with the same
    weights, bit for bit on the CPU, as one that was not.

    Args:
        callbacks: called after every step with `epoch step loss lr logit_scale`, and after every epoch with its
            record: `epoch step loss lr logit_scale train_seconds val` (seconds since the start of training, without
            validation; `val` as `evaluate` gives it, None without `val_set`).

    Raises:
        TrainingError: fewer than two pairs; a loss or weights that are no numbers (the last good checkpoint stays).
        CheckpointError: `run_dir` holds a run with other settings or other data, or another process trains there.

    Ctrl-C ends training early: what was finished is kept and returned.
    """
    run = _Run(model, tokenizer, train_set, val_set, config, Path(run_dir) if run_dir else None)
    with only_writer(run.run_dir) if run.run_dir and run.rank == 0 else nullcontext():
        run.resume()
        try:
            while len(run.history) < config.epochs:
                run.one_epoch(callbacks)
        except KeyboardInterrupt:
            say(f"\n已中断，保留了 {len(run.history)} 轮 | interrupted, {len(run.history)} epochs are kept")
    return run.history


class _Run:
    """The state of a run between its epochs, and the way to make one more."""

    def __init__(
        self,
        model: CLIP,
        tokenizer: SimpleTokenizer,
        train_set: ImageTextDataset,
        val_set: ImageTextDataset | None,
        config: TrainConfig,
        run_dir: Path | None,
    ) -> None:
        self.model, self.tokenizer, self.config, self.run_dir = model, tokenizer, config, run_dir
        self.train_set, self.val_set = train_set, val_set
        self.device = choose_device(config.device)
        model.to(self.device)
        model.image_size = config.image_size
        self.processes, self.rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
        self.batch_size = self._fitting_batch_size()
        if self.rank > 0:  # the first process computes a frozen encoder's features, the others then read them
            dist.barrier()
        self.pictures = model_inputs(model, train_set)
        self.val_pictures = model_inputs(model, val_set) if val_set and self.rank == 0 else None
        if self.rank == 0 and self.processes > 1:
            dist.barrier()
        self.forward: nn.Module = DistributedDataParallel(model) if self.processes > 1 else model
        self.optimizer = make_optimizer(model, config)
        self.steps_per_epoch = len(train_set) // self.batch_size
        self.scheduler = make_scheduler(self.optimizer, config, config.epochs * self.steps_per_epoch)
        self.precision = choose_precision(config.precision, self.device, model.image_encoder.model_name)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)
        self.history: list[Record] = []
        self.best = -math.inf

    def _fitting_batch_size(self) -> int:
        pairs, wanted = len(self.train_set), self.config.batch_size
        if min(pairs, wanted) < 2 * self.processes:
            raise TrainingError(
                f"训练集只有 {pairs} 对，批次为 {wanted}：对比学习每个进程至少需要两对（没有负样本，损失恒为 0）",
                f"only {pairs} training pairs, in batches of {wanted}: contrastive learning needs two per process "
                "(without negatives the loss is always 0)",
            )
        fitting = min(wanted, pairs) // self.processes * self.processes
        if fitting != wanted:
            say(f"批次 {wanted} 改为 {fitting}（共 {pairs} 对）| batch size {wanted} becomes {fitting} ({pairs} pairs)")
        return fitting

    # ------------------------------------------------------------------------------------------ one epoch

    def one_epoch(self, callbacks: Sequence[Callable[[Record], None]]) -> None:
        epoch = len(self.history) + 1
        before = self.history[-1]["train_seconds"] if self.history else 0.0
        start = time.perf_counter()
        loss = self._train_epoch(epoch, callbacks)
        record: Record = {
            "epoch": epoch,
            "step": epoch * self.steps_per_epoch,
            "loss": loss,
            "lr": self.optimizer.param_groups[0]["lr"],
            "logit_scale": self.model.logit_scale.exp().item(),
            "train_seconds": before + time.perf_counter() - start,
            "val": None,
        }
        if self.rank == 0:
            if self.val_set is not None:
                record["val"] = evaluate(self.model, self.tokenizer, self.val_set, self.val_pictures)
            self._save([*self.history, record])
            say(describe(record, self.config.epochs))
        self.history.append(record)  # not before it is saved: Ctrl-C may come in between
        if self.processes > 1:
            dist.barrier()
        for callback in callbacks:
            callback(record)

    def _train_epoch(self, epoch: int, callbacks: Sequence[Callable[[Record], None]]) -> float:
        # The seed of every epoch follows from the config: an interrupted run repeats the same dropout.
        torch.manual_seed(self.config.seed * 1_000_003 + epoch * 1_009 + self.rank)
        self.model.train()
        self.train_set.set_epoch(epoch)
        share = self.batch_size // self.processes
        mine = slice(self.rank * share, (self.rank + 1) * share)
        batches = epoch_batches(len(self.train_set), self.batch_size, self.config.seed, epoch)
        batches = [batch[mine] for batch in batches]
        losses: list[float] = []
        bar = tqdm(
            image_batches(self.pictures, batches),
            desc=f"epoch {epoch}",
            total=len(batches),
            leave=False,
            disable=True if self.rank else None,  # None: only where someone watches
        )
        for indices, images in zip(batches, bar, strict=True):
            captions = [self.train_set.caption(index) for index in indices]
            step = (epoch - 1) * self.steps_per_epoch + len(losses) + 1
            losses.append(self._train_step(images, captions, step))
            lr, scale = self.optimizer.param_groups[0]["lr"], self.model.logit_scale.exp().item()
            bar.set_postfix({"Loss": f"{losses[-1]:.3f}", "LR": f"{lr:.1e}", "Scale": f"{scale:.1f}"}, refresh=False)
            for callback in callbacks:
                callback({"epoch": epoch, "step": step, "loss": losses[-1], "lr": lr, "logit_scale": scale})
        if not all(value.isfinite().all() for value in self.model.state_dict().values()):
            raise TrainingError(
                f"第 {epoch} 轮之后权重里有 NaN 或无穷大：请降低 --lr 或检查图片；最近的检查点完好",
                f"NaN or infinity in the weights after epoch {epoch}: lower --lr or look at the pictures; the last "
                "checkpoint is whole",
            )
        return sum(losses) / len(losses)

    def _train_step(self, images: Tensor, captions: list[str], step: int) -> float:
        tokens = self.tokenizer(captions, padding="longest")
        input_ids, attention_mask = tokens["input_ids"].to(self.device), tokens["attention_mask"].to(self.device)
        caption_ids = torch.tensor(
            [zlib.crc32(caption.encode(errors="surrogatepass")) for caption in captions], device=self.device
        )
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            image_embedding, text_embedding = self.forward(
                images.to(self.device, non_blocking=True), input_ids, attention_mask
            )
        loss = contrastive_loss(
            image_embedding, text_embedding, self.model.logit_scale, caption_ids=caption_ids, gather=self.processes > 1
        )
        value = self._mean_over_processes(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"第 {step} 步的损失是 {value}：请降低 --lr 或检查图片；最近的检查点完好",
                f"the loss is {value} at step {step}: lower --lr or look at the pictures; the last checkpoint is whole",
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.model.clamp_logit_scale()
        return value

    def _mean_over_processes(self, loss: Tensor) -> float:
        if self.processes > 1:
            dist.all_reduce(loss)
        return loss.item() / self.processes

    # ------------------------------------------------------------------------------- keeping and going on

    def _save(self, history: list[Record]) -> None:
        if self.run_dir is None:
            return
        self.best = max(self.best, score(history[-1]))
        path = checkpoint_folder(self.run_dir) / f"epoch_{len(history)}.pt"
        state = {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
            "history": history,
            **self._identity(),
        }
        save_checkpoint(path, self.model, self.tokenizer, state)
        self._publish(path, history)

    def _publish(self, path: Path, history: list[Record]) -> None:
        """Give the newest checkpoint its other names, then drop the ones before it."""
        assert self.run_dir is not None
        if score(history[-1]) == self.best:
            publish(path, "best_model.pt")
        if len(history) == self.config.epochs:
            publish(path, "final_model.pt")
        with whole_file(self.run_dir / "history.json") as temporary:
            temporary.write_text(json.dumps(history, indent=1), encoding="utf-8")
        for other in path.parent.glob("epoch_*.pt"):
            if other != path:
                other.unlink()

    def resume(self) -> None:
        """Take up the newest checkpoint of the run's folder, if there is one."""
        path = newest_epoch(self.run_dir) if self.run_dir else None
        if path is None:
            return
        content = load_checkpoint(path)
        state = content["training"]
        for name, wanted in self._identity().items():
            if state.get(name) != wanted:
                raise CheckpointError(
                    f"{path} 属于另一次训练（{name} 不同：{_differences(state.get(name), wanted)}）；"
                    "请换一个 --run-dir，或用 --force-train 重新训练",
                    f"{path} belongs to another run ({name} differs: {_differences(state.get(name), wanted)}); "
                    "choose another --run-dir, or --force-train anew",
                )
        load_weights(self.model, content, path)
        try:
            self.optimizer.load_state_dict(state["optimizer"])  # which looks at the number of tensors, not at sizes
            for weights, averages in self.optimizer.state.items():
                if any(tensor.shape not in (weights.shape, ()) for tensor in averages.values()):
                    raise ValueError("the optimizer's sizes are not the model's")
            self.scheduler.load_state_dict(state["scheduler"])
            self.scaler.load_state_dict(state["scaler"])
            self.history, self.best = state["history"], max(state["best"], score(state["history"][-1]))
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise damaged(path, repr(error)) from error
        if self.rank == 0:
            self._publish(path, self.history)
            say(f"从第 {len(self.history)} 轮之后继续 | going on after epoch {len(self.history)} ({path})")

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a run to go on: everything that decides its numbers, and the data."""
        digest = hashlib.sha256()
        for record in self.train_set.records:
            pair = f"{record.image_path.name} {record.texts(self.train_set.language)}"
            digest.update(pair.encode(errors="surrogatepass"))
        config = {name: value for name, value in asdict(self.config).items() if name != "device"}
        return {
            "config": config,
            "frozen": self.model.image_encoder.frozen,
            "processes": self.processes,
            "vocabulary": hashlib.sha256(
                " ".join(self.tokenizer.id_to_token).encode(errors="surrogatepass")
            ).hexdigest(),
            "data": digest.hexdigest(),
        }


def _differences(found: Any, wanted: Any) -> str:
    if not isinstance(found, dict) or not isinstance(wanted, dict):
        return "…"
    return ", ".join(
        f"{name} {found.get(name)} -> {value}" for name, value in wanted.items() if found.get(name) != value
    )
