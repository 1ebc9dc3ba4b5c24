"""Checkpoints: one file with everything needed to use a model and to resume its run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clipedu.data.pictures import IMAGE_SIZES
from clipedu.encoders import ImageEncoder, TextEncoder, WordAverage
from clipedu.ground.errors import CheckpointError
from clipedu.ground.files import cannot_write, whole_file
from clipedu.model import CLIP, Ensemble
from clipedu.runs.folder import find_checkpoint
from clipedu.tokenizer import SimpleTokenizer

FORMAT = "clipedu checkpoint 1"
_REQUIRED = {"architecture": dict, "weights": dict, "vocabulary": dict, "training": dict}
# What checkpoints of older versions do not say: there was no choice yet.
_OLDER = {"members": 1, "deep": False, "projection_norm": False}
_OLDER_TEXT_ENCODER = {"norm_first": True}
_OLDER_FROZEN_DROPOUT = 0.2


def save_checkpoint(
    path: str | Path, model: CLIP, tokenizer: SimpleTokenizer, training: Mapping[str, Any] | None = None
) -> None:
    """Write model and vocabulary to `path`, completely or not at all.

    `training` adds what a run needs to resume (optimizer, scheduler, step, config, history ...): tensors, numbers,
    strings, and dicts and lists of these.
    """
    content = {
        "format": FORMAT,
        "architecture": architecture(model),
        "weights": model.state_dict(),
        "vocabulary": tokenizer.to_dict(),
        "training": dict(training or {}),
    }
    with whole_file(Path(path)) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # how torch reports a full disk
            raise cannot_write(Path(path), error) from error


def architecture(model: CLIP) -> dict[str, Any]:
    """What determines a model besides its weights."""
    image_size, members = model.image_size, len(model.members)
    model = model.members[0]
    text = model.text_encoder
    size = {"vocab_size": text.vocab_size, "hidden_size": text.hidden_size, "dropout": text.dropout}
    return {
        "members": members,
        "image_encoder": model.image_encoder.model_name,
        "deep": model.image_encoder.deep,
        "image_size": image_size,
        "frozen": model.image_encoder.frozen,
        "feature_dropout": model.feature_dropout,
        "shared_embedding_dim": model.shared_embedding_dim,
        "projection_norm": model.projection_norm,
        "text_encoder": size
        if isinstance(text, WordAverage)
        else {
            **size,
            "num_layers": text.num_layers,
            "num_heads": text.num_heads,
            "pooling": text.pooling,
            "norm_first": text.norm_first,
        },
    }


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, loaded to the CPU.

    Raises:
        CheckpointError: the file is missing, damaged or not a checkpoint. It is read with `weights_only=True`: a
            pickle that would run code is refused.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"找不到检查点 {path}；请先训练", f"checkpoint {path} does not exist; train first"
        ) from error
    except Exception as error:  # damaged bytes can make zip and pickle fail in any way
        raise damaged(path, type(error).__name__) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} 不是本项目的检查点（需要 {FORMAT!r}）",
            f"{path} is not a clipedu checkpoint (expected {FORMAT!r})",
        )
    for key, kind in _REQUIRED.items():
        if not isinstance(content.get(key), kind):
            raise damaged(path, f"no {key!r}")
    described = content["architecture"]
    older_dropout = _OLDER_FROZEN_DROPOUT if described.get("frozen") else 0.0
    described = content["architecture"] = {**_OLDER, "feature_dropout": older_dropout, **described}
    text_encoder = described.get("text_encoder")
    if isinstance(text_encoder, dict) and "num_layers" in text_encoder:  # not a WordAverage, nor damaged
        described["text_encoder"] = {**_OLDER_TEXT_ENCODER, **text_encoder}
    return content


def load_model(path: str | Path) -> tuple[CLIP, SimpleTokenizer]:
    """Model (in evaluation mode, on the CPU) and tokenizer from a checkpoint or from a run's folder (its best)."""
    path = Path(path)
    if path.is_dir():
        path = find_checkpoint(path)
    content = load_checkpoint(path)
    try:
        tokenizer = SimpleTokenizer.from_dict(content["vocabulary"])
        model = _build(content["architecture"])
    except Exception as error:  # a damaged architecture can make building the model fail in any way
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    load_weights(model, content, path)
    return model.eval(), tokenizer


def load_weights(model: CLIP, content: Mapping[str, Any], path: Path) -> None:
    """Put a checkpoint's weights into `model`.

    Raises:
        CheckpointError: they belong to another architecture, or are not finite.
    """
    try:
        model.load_state_dict(content["weights"])
    except (RuntimeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} 的权重与模型结构不符；请换一个 --run-dir，或用 --force-train 重新训练",
            f"the weights in {path} belong to another model; choose another --run-dir, or start over (--force-train)",
        ) from error
    if not all(tensor.isfinite().all() for tensor in model.state_dict().values()):
        raise CheckpointError(
            f"{path} 的权重里有 NaN 或无穷大；请换一个检查点，或降低 --lr、用 --force-train 重新训练",
            f"the weights in {path} contain NaN or infinity; use another checkpoint, or --force-train and a lower --lr",
        )


def _build(described: Mapping[str, Any]) -> CLIP:
    if described["image_size"] not in IMAGE_SIZES:
        raise ValueError(f"image_size={described['image_size']!r}")
    image_encoder = ImageEncoder(described["image_encoder"], pretrained=False, deep=described["deep"])
    if described["frozen"]:
        image_encoder.freeze()
    names = "shared_embedding_dim", "image_size", "feature_dropout", "projection_norm"
    others = {name: described[name] for name in names}

    def member() -> CLIP:
        text = described["text_encoder"]
        text_encoder = TextEncoder(**text) if "num_layers" in text else WordAverage(**text)
        return CLIP(image_encoder, text_encoder, **others)

    return member() if described["members"] == 1 else Ensemble([member() for _ in range(described["members"])])


def damaged(path: str | Path, why: str) -> CheckpointError:
    """The error for a checkpoint that can no longer be used."""
    return CheckpointError(
        f"检查点 {path} 已损坏（{why}）；请删除它再训练，或换一个",
        f"checkpoint {path} is damaged ({why}); delete it and train again, or use another",
    )
