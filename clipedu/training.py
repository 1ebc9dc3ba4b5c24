"""Training, in pieces that can be read and called separately: one step, then the loop around it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from clipedu.data.augmentation import augmentation
from clipedu.data.dataset import Batch, ImageTextDataset
from clipedu.data.loading import Pictures
from clipedu.embedding import model_inputs
from clipedu.evaluation import evaluate
from clipedu.ground.environment import choose_device, rank_and_processes, say
from clipedu.ground.errors import ConfigError, TrainingError
from clipedu.loss import contrastive_loss
from clipedu.model import CLIP
from clipedu.optimization import OptimizationState, TrainConfig
from clipedu.runs.folder import only_writer
from clipedu.runs.history import EpochRecord, StepRecord, describe
from clipedu.runs.resume import resume, run_identity, save_epoch
from clipedu.tokenizer import SimpleTokenizer

READ_EVERY = 20


def _ignore(_: StepRecord) -> None:
    """What a callback does by default."""


@dataclass(frozen=True)
class Callback:
    """Functions that `train` calls while it runs.

    Attributes:
        on_step: called after every step.
        on_epoch: called after every epoch, once its checkpoint (if there is a `run_dir`) is on disk.
    """

    on_step: Callable[[StepRecord], None] = _ignore
    on_epoch: Callable[[EpochRecord], None] = _ignore


def train_step(
    model: CLIP,
    state: OptimizationState,
    images: Tensor,
    input_ids: Tensor,
    attention_mask: Tensor,
    caption_ids: Tensor | None = None,
    clip_norm: float = 1.0,
    parallel: DistributedDataParallel | None = None,
) -> Tensor:
    """Forward, loss, backward, clip, update: one optimizer step on B pairs.

    On a GPU, nothing here waits for the result: the next step can be prepared while this one is computed.

    Args:
        model: in training mode; its weights are changed.
        state: optimizer, schedule and scaler, also changed; and the precision of the forward pass.
        images: uint8 `[B, 3, S, S]`, or features `[B, D]`; on the model's device, like all tensors here.
        input_ids, attention_mask: int64 `[B, T]`, as the tokenizer makes them.
        caption_ids: int64 `[B]`, equal for equal captions; see `contrastive_loss`.
        clip_norm: the gradient's norm is clipped to this.
        parallel: `BatchLoss(model)`, wrapped to train in several processes.

    Returns:
        The loss before the step, a scalar without gradient; with several processes, this one's share.
    """
    with torch.autocast(images.device.type, state.precision, enabled=state.precision != torch.float32):
        loss = (parallel or BatchLoss(model))(images, input_ids, attention_mask, caption_ids)
    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(loss).backward()
    state.scaler.unscale_(state.optimizer)  # before clipping, so that the norm is the true one
    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.scheduler.step()
    model.clamp_logit_scale()
    return loss.detach()


class BatchLoss(nn.Module):
    """A model with its loss, in one `forward`: DistributedDataParallel wants to see all parameters used there."""

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, input_ids: Tensor, attention_mask: Tensor, caption_ids: Tensor | None) -> Tensor:
        """The contrastive loss, a scalar: for an ensemble, the mean of its members' losses."""
        features = images if images.ndim == 2 else self.model.image_encoder(images)
        several = rank_and_processes()[1] > 1
        losses = []
        for member in self.model.members:
            image_embedding, text_embedding = member(features, input_ids, attention_mask)
            losses.append(
                contrastive_loss(
                    image_embedding, text_embedding, member.logit_scale, caption_ids=caption_ids, gather=several
                )
            )
        return torch.stack(losses).mean()


def train(
    model: CLIP,
    tokenizer: SimpleTokenizer,
    train_set: ImageTextDataset,
    val_set: ImageTextDataset | None = None,
    config: TrainConfig = TrainConfig(),
    run_dir: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    *,
    quiet: bool = False,
) -> list[EpochRecord]:
    """Train `model` in place and return the history, one record per epoch.

    With a `run_dir`, the state after every epoch is kept in `run_dir/checkpoints` (the newest `epoch_N.pt`,
    `best_model.pt` by recall on `val_set` or else by loss, `final_model.pt`) and the history in
    `run_dir/history.json`. A run that was interrupted at any moment resumes after its last finished epoch
    and ends with the same weights, bit for bit on the CPU, as one that was not.

    Args:
        callbacks: called after every step and after every epoch.
        quiet: print nothing and show no bar of the training steps.

    Raises:
        TrainingError: fewer than two pairs, or a loss or weights that are not finite (the last good checkpoint stays).
        CheckpointError: `run_dir` contains a run with other settings or data, or another process is training there.

    Ctrl-C ends training early: finished epochs are kept and returned.
    """
    report: Callable[[str], None] = (lambda _: None) if quiet else say
    rank, processes = rank_and_processes()
    device = choose_device(config.device)
    model.to(device)
    model.image_size = config.image_size
    batch_size = fitting_batch_size(len(train_set), config.batch_size, processes)
    if batch_size != config.batch_size:
        pairs = len(train_set)
        report(
            f"批次大小 {config.batch_size} 改为 {batch_size}（共 {pairs} 对）| "
            f"batch size reduced from {config.batch_size} to {batch_size} ({pairs} pairs)"
        )
    if config.augment:
        train_set = train_set.with_transform(augmentation(config.image_size))
    images, val_images = _open_inputs(model, train_set, val_set, quiet)
    captions = train_set.tokenized(tokenizer, device)
    parallel = _in_parallel(model, config) if processes > 1 else None
    steps_per_epoch = len(train_set) // batch_size
    state = OptimizationState.start(model, config, config.epochs * steps_per_epoch)
    folder = Path(run_dir) if run_dir else None
    identity = run_identity(tokenizer, train_set, config, state, processes)
    own_random_numbers = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with only_writer(folder) if folder and rank == 0 else nullcontext(), own_random_numbers:
        history = resume(folder, model, state, identity, config.epochs) if folder else []
        if history:
            report(f"从第 {len(history)} 轮之后继续（{folder}）| resuming after epoch {len(history)} ({folder})")
        try:
            for epoch in range(len(history) + 1, config.epochs + 1):
                start = time.perf_counter()
                # Each epoch's seed is derived from the config, so that a resumed run repeats the same dropout.
                torch.manual_seed(config.seed * 1_000_003 + epoch * 1_009 + rank)
                order = {"epoch": epoch, "seed": config.seed, "rank": rank, "processes": processes}
                last = train_epoch(
                    model,
                    state,
                    train_set.batches(images, captions, batch_size, **order),
                    epoch=epoch,
                    steps_per_epoch=steps_per_epoch,
                    clip_norm=config.clip_norm,
                    parallel=parallel,
                    callbacks=callbacks,
                    show_bar=rank == 0 and not quiet,
                )
                seconds = (history[-1]["train_seconds"] if history else 0) + time.perf_counter() - start
                record: EpochRecord = {**last, "train_seconds": seconds, "val": None}
                if rank == 0:
                    if val_set is not None:
                        record["val"] = evaluate(model, tokenizer, val_set, val_images)
                    if folder:
                        save_epoch(folder, model, tokenizer, state, [*history, record], identity, config.epochs)
                    report(describe(record, config.epochs, batch_size))
                history.append(record)  # only after saving: Ctrl-C may come in between
                if processes > 1:
                    dist.barrier()
                for callback in callbacks:
                    callback.on_epoch(record)
        except KeyboardInterrupt:
            report(f"\n已中断，保留了 {len(history)} 轮 | interrupted, {len(history)} epochs are kept")
    return history


def train_epoch(
    model: CLIP,
    state: OptimizationState,
    batches: Iterable[Batch],
    *,
    epoch: int,
    steps_per_epoch: int,
    clip_norm: float = 1.0,
    parallel: DistributedDataParallel | None = None,
    callbacks: Sequence[Callback] = (),
    show_bar: bool = False,
) -> StepRecord:
    """Run one step per batch; returns the record of the last step, with the mean loss of all.

    Reading a loss makes the processor wait for the GPU. There, unless there are callbacks, the losses of READ_EVERY
    steps are read together.

    Args:
        epoch: counted from 1, for the callbacks and the progress bar.
        steps_per_epoch: how many batches there are.
        clip_norm, parallel: see `train_step`.

    Raises:
        TrainingError: a loss is not finite, or the weights at the end are not.
    """
    device = model.logit_scale.device
    # With a callback, every step is read, so that it sees the model as it is after the step.
    read_every = 1 if device.type == "cpu" or (callbacks and parallel is None) else READ_EVERY
    model.train()
    steps: list[StepRecord] = []
    unread: list[tuple[float, Tensor]] = []  # of each step the learning rate, and the loss with the scale

    def read() -> None:
        values = _mean_over_processes(torch.stack([pair for _, pair in unread])).tolist()
        for (lr, _), (loss, scale) in zip(unread, values, strict=True):
            step = (epoch - 1) * steps_per_epoch + len(steps) + 1
            if not math.isfinite(loss):
                raise TrainingError(
                    f"第 {step} 步的损失是 {loss}：请降低 --lr 或检查图片；最近的检查点完好",
                    f"the loss is {loss} at step {step}: lower --lr or check the pictures; the last checkpoint is "
                    "intact",
                )
            steps.append({"epoch": epoch, "step": step, "loss": loss, "lr": lr, "logit_scale": scale})
            for callback in callbacks:
                callback.on_step(steps[-1])
        unread.clear()
        bar.set_postfix({"Loss": f"{loss:.3f}", "LR": f"{lr:.1e}", "Scale": f"{scale:.1f}"}, refresh=False)

    # disable=None shows the bar only on a terminal.
    bar = tqdm(batches, f"epoch {epoch}", steps_per_epoch, leave=False, disable=None if show_bar else True)
    for batch in bar:
        lr = state.lr
        images, input_ids, attention_mask, caption_ids = (tensor.to(device, non_blocking=True) for tensor in batch)
        loss = train_step(model, state, images, input_ids, attention_mask, caption_ids, clip_norm, parallel)
        unread.append((lr, torch.stack([loss, model.logit_scale.detach().exp()])))
        if len(unread) == read_every:
            read()
    if unread:
        read()
    # If the gradient of an epoch's last step isn't finite, none of the epoch's losses shows it.
    if not torch.stack([value.isfinite().all() for value in model.state_dict().values()]).all():
        raise TrainingError(
            f"第 {epoch} 轮之后权重里有 NaN 或无穷大：请降低 --lr 或检查图片；最近的检查点完好",
            f"NaN or infinity in the weights after epoch {epoch}: lower --lr or check the pictures; "
            "the last checkpoint is intact",
        )
    return {**steps[-1], "loss": sum(step["loss"] for step in steps) / len(steps)}


def fitting_batch_size(pairs: int, wanted: int, processes: int = 1) -> int:
    """`wanted`, or the largest batch size below it that the data allow and that splits evenly over the processes.

    Raises:
        TrainingError: there are fewer than two pairs per process.
    """
    if min(pairs, wanted) < 2 * processes:
        raise TrainingError(
            f"训练集有 {pairs} 对，批次大小为 {wanted}：对比学习每个进程至少需要两对（没有负样本，损失恒为 0）",
            f"{pairs} training pairs, in batches of {wanted}: contrastive learning needs two per process "
            "(without negatives the loss is always 0)",
        )
    return min(wanted, pairs) // processes * processes


def _open_inputs(
    model: CLIP, train_set: ImageTextDataset, val_set: ImageTextDataset | None, quiet: bool
) -> tuple[Tensor | Pictures, Tensor | Pictures | None]:
    """Pictures or features of both sets; what is held in memory for training is held on the model's device."""
    is_frozen, is_first = model.image_encoder.frozen, rank_and_processes()[0] == 0
    if is_frozen and train_set.transform is not None:
        raise ConfigError(
            "图像编码器冻结时，每张图片的特征只算一次，transform（--augment）无从生效；请去掉其中一个",
            "with a frozen image encoder, the features of each picture are computed once, so a transform (--augment) "
            "cannot take effect; drop one of the two",
        )
    # Features are computed by whichever process comes first, while the others wait for its file; so all of them open
    # both sets: if one still computed `val` while the others waited in a collective operation, that would time out.
    val_images = model_inputs(model, val_set, quiet) if val_set and (is_first or is_frozen) else None
    images = model_inputs(model, train_set, quiet)
    return images.to(model.logit_scale.device) if isinstance(images, Tensor) else images, val_images


def _in_parallel(model: CLIP, config: TrainConfig) -> DistributedDataParallel:
    if config.sync_batch_norm:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return DistributedDataParallel(BatchLoss(model))


def _mean_over_processes(values: Tensor) -> Tensor:
    _, processes = rank_and_processes()
    if processes > 1:
        dist.all_reduce(values)
    return values / processes
