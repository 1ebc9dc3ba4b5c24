"""Checkpoints: one file that holds all a model needs to be used, and all a run needs to go on."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from clipedu.encoders import ImageEncoder, TextEncoder
from clipedu.errors import CheckpointError, ClipEduError
from clipedu.files import cannot_write, lock, whole_file
from clipedu.model import CLIP
from clipedu.pictures import IMAGE_SIZES
from clipedu.tokenizer import SimpleTokenizer

FORMAT = "clipedu checkpoint 1"
_REQUIRED = {"architecture": dict, "weights": dict, "vocabulary": dict, "training": dict}


def save_checkpoint(
    path: str | Path, model: CLIP, tokenizer: SimpleTokenizer, training: Mapping[str, Any] | None = None
) -> None:
    """Write model and vocabulary to `path`: whole and on disk, or not at all.

    `training` adds what a run needs to go on (optimizer, scheduler, step, config, history ...): tensors, numbers,
    strings, and dicts and lists of these.
    """
    text = model.text_encoder
    content = {
        "format": FORMAT,
        "architecture": {
            "image_encoder": model.image_encoder.model_name,
            "image_size": model.image_size,
            "frozen": model.image_encoder.frozen,
            "shared_embedding_dim": model.shared_embedding_dim,
            "text_encoder": {
                "vocab_size": text.vocab_size,
                "hidden_size": text.hidden_size,
                "num_layers": text.num_layers,
                "dropout": text.dropout,
                "num_heads": text.num_heads,
                "pooling": text.pooling,
            },
        },
        "weights": model.state_dict(),
        "vocabulary": tokenizer.to_dict(),
        "training": dict(training or {}),
    }
    with whole_file(Path(path)) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # how torch reports a full disk
            raise cannot_write(Path(path), error) from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, or none of ours. It is read with `weights_only=True`:
            a pickle that would run code is refused.
    """
    try:
        if not Path(path).is_file():  # a named pipe would let its reader wait for ever
            raise FileNotFoundError
        with zipfile.ZipFile(path) as parts:  # ours is not packed: a small file must not become a huge one in memory
            if sum(part.file_size for part in parts.infolist()) > Path(path).stat().st_size:
                raise zipfile.BadZipFile
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"找不到检查点 {path}；请先训练", f"there is no checkpoint {path}; train first"
        ) from error
    except Exception as error:  # damaged bytes can fail in any way on their way through zip and pickle
        raise damaged(path, type(error).__name__) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} 不是本项目的检查点（需要 {FORMAT!r}）", f"{path} is none of our checkpoints (wanted: {FORMAT!r})"
        )
    for key, kind in _REQUIRED.items():
        if not isinstance(content.get(key), kind):
            raise damaged(path, f"no {key!r}")
    return content


def load_model(path: str | Path) -> tuple[CLIP, SimpleTokenizer]:
    """Model (in evaluation mode, on the CPU) and tokenizer from a checkpoint or from a run's folder (its best)."""
    path = Path(path)
    if path.is_dir():
        path = find_checkpoint(path)
    content = load_checkpoint(path)
    try:
        tokenizer = SimpleTokenizer.from_dict(content["vocabulary"])
        _check_sizes(content["architecture"], content["weights"], len(tokenizer))
        model = _build(content["architecture"])
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError, ClipEduError) as error:
        raise damaged(path, str(error)) from error
    load_weights(model, content, path)
    return model.eval(), tokenizer


def load_weights(model: CLIP, content: Mapping[str, Any], path: Path) -> None:
    """Put a checkpoint's weights into `model`; CheckpointError where they belong to another architecture."""
    try:
        model.load_state_dict(content["weights"])
    except (RuntimeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} 的权重与模型结构不符；请换一个 --run-dir，或用 --force-train 重新训练",
            f"the weights in {path} belong to another model; choose another --run-dir, or --force-train anew",
        ) from error
    if not all(tensor.isfinite().all() for tensor in model.state_dict().values()):
        raise CheckpointError(
            f"{path} 的权重里有 NaN 或无穷大；请换一个检查点，或降低 --lr、用 --force-train 重新训练",
            f"the weights in {path} hold NaN or infinity; take another checkpoint, or --force-train with a lower --lr",
        )


def _check_sizes(architecture: Mapping[str, Any], weights: Mapping[str, Any], words: int) -> None:
    """The sizes named must be those of the weights in the file, before memory is taken for a model of that size."""
    text = architecture["text_encoder"]
    embedding, projection = weights["text_encoder.token_embedding.weight"], weights["text_projection.weight"]
    layers = sum(str(name).endswith(".linear1.weight") for name in weights)
    named = [text["vocab_size"], text["hidden_size"], text["num_layers"], architecture["shared_embedding_dim"]]
    found = [*embedding.shape, layers, len(projection)]
    whole_numbers = [*named, text["num_heads"], architecture["image_size"]]
    if named != found or not all(isinstance(number, int) for number in whole_numbers):
        raise ValueError(f"sizes {whole_numbers} are named, {found} are there")
    if embedding.untyped_storage().nbytes() < embedding.nbytes:
        raise ValueError("an embedding without numbers of its own")
    if words > text["vocab_size"]:
        raise ValueError(f"{words} words, but embeddings for {text['vocab_size']}")
    if architecture["image_size"] not in IMAGE_SIZES:
        raise ValueError(f"image_size={architecture['image_size']!r}")


def _build(architecture: Mapping[str, Any]) -> CLIP:
    image_encoder = ImageEncoder(architecture["image_encoder"], pretrained=False)
    if architecture["frozen"]:
        image_encoder.freeze()
    text_encoder = TextEncoder(**architecture["text_encoder"])
    return CLIP(image_encoder, text_encoder, architecture["shared_embedding_dim"], architecture["image_size"])


def damaged(path: str | Path, why: str) -> CheckpointError:
    """What to tell the reader of a file that was ours and can no longer be used."""
    return CheckpointError(
        f"检查点 {path} 已损坏（{why}）；请删除它再训练，或换一个",
        f"checkpoint {path} is damaged ({why}); delete it and train again, or take another",
    )


# -------------------------------------------------------------------------------------------- a run's folder


def checkpoint_folder(run_dir: Path) -> Path:
    """Where a run keeps its checkpoints."""
    return run_dir / "checkpoints"


def newest_epoch(run_dir: Path) -> Path | None:
    """The `epoch_N.pt` with the highest N: where a run goes on."""
    found = [
        (int(match[1]), path)
        for path in checkpoint_folder(run_dir).glob("epoch_*.pt")
        if (match := re.fullmatch(r"epoch_(\d+)\.pt", path.name))
    ]
    return max(found)[1] if found else None


def find_checkpoint(run_dir: Path) -> Path:
    """The checkpoint to use: `run_dir` itself if it is one, the best, else the final, else the newest epoch's."""
    folder = checkpoint_folder(run_dir)
    candidates = [run_dir, folder / "best_model.pt", folder / "final_model.pt", newest_epoch(run_dir)]
    for path in candidates:
        if path is not None and path.is_file():
            return path
    raise CheckpointError(
        f"{run_dir} 里没有检查点；请先训练：python -m clipedu train --run-dir {run_dir}",
        f"no checkpoint in {run_dir}; train first: python -m clipedu train --run-dir {run_dir}",
    )


def publish(checkpoint: Path, name: str) -> None:
    """Give `checkpoint` a second name in its folder, without writing 150 MB again where the disk has links."""
    with whole_file(checkpoint.with_name(name)) as temporary:
        try:
            os.link(checkpoint, temporary)
        except OSError:  # a disk without hard links
            shutil.copyfile(checkpoint, temporary)


@contextmanager
def only_writer(run_dir: Path) -> Iterator[None]:
    """Keep other processes from writing this run, until the block or the process ends.

    Raises:
        CheckpointError: another process is writing it.
    """
    with ExitStack() as stack:
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            held = lock(stack.enter_context((run_dir / ".lock").open("w")))
            if held:
                for leftover in checkpoint_folder(run_dir).glob(".*.tmp"):  # whoever was writing it is gone
                    leftover.unlink()
        except OSError as error:
            raise cannot_write(run_dir, error) from error
        if not held:
            raise CheckpointError(
                f"另一个进程正在 {run_dir} 里训练；请等它结束，或换一个 --run-dir",
                f"another process is training in {run_dir}; wait for it to end, or choose another --run-dir",
            )
        yield


def clear_run(run_dir: Path) -> None:
    """Forget a run: its checkpoints and its history."""
    with only_writer(run_dir):
        paths = [*checkpoint_folder(run_dir).glob("*.pt"), run_dir / "history.json", run_dir / "training_curve.png"]
        try:
            for path in paths:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(run_dir, error) from error
