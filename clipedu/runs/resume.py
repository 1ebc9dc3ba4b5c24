"""Saving a run after each epoch, and resuming it where it was interrupted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from clipedu.data.dataset import ImageTextDataset
from clipedu.ground.environment import is_first_process
from clipedu.ground.errors import CheckpointError
from clipedu.ground.files import whole_file
from clipedu.model import CLIP
from clipedu.optimization import OptimizationState, TrainConfig
from clipedu.runs.checkpoint import architecture, damaged, load_checkpoint, load_weights, save_checkpoint
from clipedu.runs.folder import checkpoint_folder, newest_epoch, publish
from clipedu.runs.history import EpochRecord, score
from clipedu.tokenizer import SimpleTokenizer

_OLDER_CONFIG = {"augment": False, "sync_batch_norm": False}  # what older checkpoints do not say


def run_identity(
    tokenizer: SimpleTokenizer,
    train_set: ImageTextDataset,
    config: TrainConfig,
    state: OptimizationState,
    processes: int,
) -> dict[str, Any]:
    """What must be equal, besides the architecture, for a run to resume: what decides its numbers."""
    vocabulary = " ".join(tokenizer.id_to_token).encode(errors="surrogatepass")
    return {
        "config": {name: value for name, value in asdict(config).items() if name != "device"},
        "precision": str(state.precision),
        "processes": processes,
        "vocabulary": hashlib.sha256(vocabulary).hexdigest(),
        "data": train_set.fingerprint(),
    }


def save_epoch(
    run_dir: Path,
    model: CLIP,
    tokenizer: SimpleTokenizer,
    state: OptimizationState,
    history: list[EpochRecord],
    identity: dict[str, Any],
    epochs: int,
) -> None:
    """Write `epoch_N.pt` for the last epoch of `history`, with everything that `resume` needs, and the history."""
    path = checkpoint_folder(run_dir) / f"epoch_{len(history)}.pt"
    training = {**state.state_dict(), "best": max(map(score, history)), "history": history, **identity}
    save_checkpoint(path, model, tokenizer, training)
    _publish(path, history, epochs)


def resume(
    run_dir: Path, model: CLIP, state: OptimizationState, identity: dict[str, Any], epochs: int
) -> list[EpochRecord]:
    """Load the newest epoch of the run into `model` and `state`, and return its history; [] if there is none.

    Raises:
        CheckpointError: the checkpoint is damaged, or belongs to a run with a different identity.
    """
    path = newest_epoch(run_dir)
    if path is None:
        return []
    content = load_checkpoint(path)
    training = content["training"]
    # Older checkpoints do not say which precision "auto" became.
    found = {"precision": identity["precision"], **training, "architecture": content["architecture"]}
    if isinstance(found.get("config"), dict):
        found["config"] = {**_OLDER_CONFIG, **found["config"]}
    for name, wanted in {**identity, "architecture": architecture(model)}.items():
        if found.get(name) != wanted:
            _refuse(path, name, ", ".join(_differences(found.get(name), wanted)))
    load_weights(model, content, path)
    try:
        state.load_state_dict(training)
        history: list[EpochRecord] = training["history"]
        score(history[-1])  # fails if the history is damaged
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise damaged(path, repr(error)) from error
    if is_first_process():
        _publish(path, history, epochs)
    return history


def _publish(path: Path, history: list[EpochRecord], epochs: int) -> None:
    """Give the newest checkpoint its other names, then delete the older ones."""
    if score(history[-1]) == max(map(score, history)):
        publish(path, "best_model.pt")
    if len(history) == epochs:
        publish(path, "final_model.pt")
    with whole_file(path.parent.parent / "history.json") as temporary:
        temporary.write_text(json.dumps(history, indent=1), encoding="utf-8")
    for checkpoint in path.parent.glob("epoch_*.pt"):
        if checkpoint != path:
            checkpoint.unlink()


def _refuse(path: Path, name: str, differences: str) -> NoReturn:
    is_longer = differences.startswith("epochs ")
    zh = "（轮数决定每一步的学习率，训练中途不能改）" if is_longer else ""
    en = " (the number of epochs decides the learning rate of every step, so it cannot change)" if is_longer else ""
    raise CheckpointError(
        f"{path} 属于另一次训练，{name} 不同：{differences}{zh}；请换一个 --run-dir"
        "（可用 --init-from 从它的权重开始），或用 --force-train 重新训练",
        f"{path} belongs to another run, {name} differs: {differences}{en}; choose another --run-dir (--init-from can "
        "start there from its weights), or start over with --force-train",
    )


def _differences(found: Any, wanted: Any) -> Iterator[str]:
    """`pooling mean -> cls` for each value that differs; of hashes, only that they do."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name, value in wanted.items():
            if isinstance(value, dict):
                yield from _differences(found.get(name), value)
            elif found.get(name) != value:
                yield f"{name} {found.get(name)} -> {value}"
    else:
        yield "…" if len(str(wanted)) > 40 else f"{found} -> {wanted}"
