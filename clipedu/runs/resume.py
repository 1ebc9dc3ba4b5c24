"""Saving a run after each epoch, and resuming it where it was interrupted."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clipedu.data.dataset import ImageTextDataset
from clipedu.ground.environment import is_first_process
from clipedu.ground.errors import CheckpointError
from clipedu.ground.files import whole_file
from clipedu.model import CLIP
from clipedu.optimization import OptimizationState, TrainConfig
from clipedu.runs.checkpoint import damaged, load_checkpoint, load_weights, save_checkpoint
from clipedu.runs.folder import checkpoint_folder, newest_epoch, publish
from clipedu.runs.history import EpochRecord, score
from clipedu.tokenizer import SimpleTokenizer


def run_identity(
    model: CLIP, tokenizer: SimpleTokenizer, train_set: ImageTextDataset, config: TrainConfig, processes: int
) -> dict[str, Any]:
    """What must be equal for a run to resume: the settings that decide its numbers, the vocabulary and the data."""
    vocabulary = " ".join(tokenizer.id_to_token).encode(errors="surrogatepass")
    return {
        "config": {name: value for name, value in asdict(config).items() if name != "device"},
        "frozen": model.image_encoder.frozen,
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
    for name, wanted in identity.items():
        if training.get(name) != wanted:
            differences = _differences(training.get(name), wanted)
            raise CheckpointError(
                f"{path} 属于另一次训练（{name} 不同：{differences}）；请换一个 --run-dir，或用 --force-train 重新训练",
                f"{path} belongs to another run ({name} differs: {differences}); "
                "choose another --run-dir, or start over with --force-train",
            )
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


def _differences(found: Any, wanted: Any) -> str:
    if not isinstance(found, dict) or not isinstance(wanted, dict):
        return "…"
    return ", ".join(
        f"{name} {found.get(name)} -> {value}" for name, value in wanted.items() if found.get(name) != value
    )
