"""A model as files that a browser can run: two ONNX graphs, the vocabulary, and a card with its numbers."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clipedu.encoders import MAX_TEXT_LENGTH
from clipedu.ground.errors import ClipEduError
from clipedu.ground.files import whole_folder
from clipedu.model import CLIP, inference
from clipedu.runs.history import EpochRecord
from clipedu.tokenizer import SPECIAL_TOKENS, SimpleTokenizer

FORMAT = "clipedu export 1"
TOLERANCE = 1e-4  # of each number of an embedding, which has length 1
_LEAST_TORCH = 2, 6  # PyTorch documents its exporter for this version and newer
_BATCHES = 1, 2, 5


def export_model(
    model: CLIP,
    tokenizer: SimpleTokenizer,
    out: Path,
    *,
    image: bool = True,
    history: Sequence[EpochRecord] = (),
) -> dict[str, Any]:
    """Write `image.onnx`, `text.onnx`, `vocabulary.json` and `card.json` to the new folder `out`; returns the card.

    `image.onnx` maps uint8 `images [N, 3, S, S]` (0 to 255) to `embeddings [N, E]`; `text.onnx` maps int64 `input_ids`
    and `attention_mask`, both `[N, T]` with 2 <= T <= 77. ONNX Runtime has computed both and agreed with PyTorch before
    the folder appears.

    Args:
        model: on the CPU.
        tokenizer: the model's own.
        out: a new folder.
        image: False leaves out the image side, which a page that only searches does not need.
        history: of the run, for the card.

    Raises:
        ClipEduError: the packages for ONNX are missing, ONNX Runtime computes something else than PyTorch, or `out`
            exists or cannot be written.
    """
    require_onnx()
    with whole_folder(out) as folder:
        difference = {"text": _export(_TextSide(model), list(_tokens(tokenizer)), folder / "text.onnx")}
        if image:
            pictures = list(_pictures(model.image_size))
            difference["image"] = _export(_ImageSide(model), pictures, folder / "image.onnx")
        vocabulary = json.dumps(tokenizer.to_dict(), ensure_ascii=False, separators=(",", ":"))
        (folder / "vocabulary.json").write_text(vocabulary, encoding="utf-8")
        files = {path.name: _describe(path) for path in sorted(folder.iterdir())}
        last = history[-1] if history else None
        card = {
            "format": FORMAT,
            "image_encoder": model.image_encoder.model_name,
            "members": len(model.members),
            "image_size": model.image_size,
            "embedding_dim": model.shared_embedding_dim,
            "max_length": MAX_TEXT_LENGTH,
            "vocabulary_size": len(tokenizer),
            "languages": _languages(tokenizer),
            "logit_scale": (logit_scale := model.logit_scale.exp().item()),
            "tau": 1 / logit_scale,
            "run": last and {"epoch": last["epoch"], "loss": last["loss"], "val": last["val"]},
            "files": files,
            "difference_from_pytorch": difference,
        }
        (folder / "card.json").write_text(json.dumps(card, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return card


class _TextSide(nn.Module):
    inputs = "input_ids", "attention_mask"

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model.encode_texts(input_ids, attention_mask)


class _ImageSide(nn.Module):
    inputs = ("images",)

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode_images(images)


def require_onnx() -> None:
    """Raise ClipEduError, with what to install, if a package that exporting needs is missing or too old."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ClipEduError(
            f"导出要用的包 {error.name} 没有安装；请运行 pip install onnx onnxscript onnxruntime",
            f"exporting needs {error.name}, which is not installed: pip install onnx onnxscript onnxruntime",
        ) from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < _LEAST_TORCH:
        raise ClipEduError(
            f"导出要用 torch 2.6 或更新的版本，现在是 {torch.__version__}；请运行 pip install -U torch torchvision",
            f"exporting needs torch 2.6 or newer, and this is {torch.__version__}: pip install -U torch torchvision",
        )


def _export(side: _TextSide | _ImageSide, batches: Sequence[tuple[Tensor, ...]], path: Path) -> float:
    """Write the graph; returns the largest difference between ONNX Runtime and PyTorch in any number of `batches`."""
    import onnxruntime

    sizes = {0: torch.export.Dim("batch", min=1)}
    if isinstance(side, _TextSide):
        sizes[1] = torch.export.Dim("length", min=2, max=MAX_TEXT_LENGTH)
    with inference(side), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about names of dimensions, and deprecations inside PyTorch
        program = torch.onnx.export(
            side,
            # The last batch has several rows: PyTorch would take a size of 1 for a constant.
            batches[-1],
            dynamo=True,
            verbose=False,
            input_names=side.inputs,
            output_names=["embeddings"],  # PyTorch calls an inner value `embedding`
            dynamic_shapes=tuple(sizes for _ in side.inputs),
        )
    assert program is not None
    path.write_bytes(_without_notes(program.model_proto))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    difference = 0.0
    for batch in batches:
        with inference(side):
            expected = side(*batch).numpy()
        fed = {name: tensor.numpy() for name, tensor in zip(side.inputs, batch, strict=True)}
        difference = max(difference, float(np.abs(session.run(None, fed)[0] - expected).max()))
    if not difference <= TOLERANCE:  # NaN is not
        raise ClipEduError(
            f"{path.name} 算出的嵌入与 PyTorch 相差 {difference:.1e}，超过 {TOLERANCE:.0e}，所以没有导出；请换一个版本"
            f"的 onnxruntime（现在是 {onnxruntime.__version__}）或 torch（{torch.__version__}）",
            f"{path.name} computes embeddings that differ from PyTorch's by {difference:.1e}, more than "
            f"{TOLERANCE:.0e}, so nothing was exported; try another version of onnxruntime (here "
            f"{onnxruntime.__version__}) or torch ({torch.__version__})",
        )
    return difference


def _without_notes(model: Any) -> bytes:
    """The ONNX model's bytes without PyTorch's notes for debugging: lines of code, and this computer's paths."""
    graph = model.graph
    del graph.value_info[:]
    for item in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del item.metadata_props[:]
        item.ClearField("doc_string")
    return model.SerializeToString(deterministic=True)


def _tokens(tokenizer: SimpleTokenizer) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of sentences made of the tokenizer's words, among them the empty one and one that is cut off."""
    words = [*tokenizer.id_to_token[len(SPECIAL_TOKENS) :], "unk"]
    lengths = 0, 1, 4, 11, 2 * MAX_TEXT_LENGTH
    texts = [" ".join(words[(7 * start + step) % len(words)] for step in range(n)) for start, n in enumerate(lengths)]
    for count in _BATCHES:
        for first in range(0, len(texts), count):
            tokens = tokenizer(texts[first : first + count], padding="longest")
            yield tokens["input_ids"], tokens["attention_mask"]


def _pictures(size: int) -> Iterator[tuple[Tensor]]:
    """Batches of pictures: black, white, a gradient, and noise."""
    random = torch.Generator().manual_seed(0)
    gradient = torch.linspace(0, 255, size).byte().expand(3, size, size)
    noise = torch.randint(0, 256, (2, 3, size, size), generator=random, dtype=torch.uint8)
    pictures = torch.stack([torch.zeros_like(gradient), torch.full_like(gradient, 255), gradient, *noise])
    for count in _BATCHES:
        yield from ((part,) for part in pictures.split(count))


def _languages(tokenizer: SimpleTokenizer) -> list[str]:
    """The languages in which at least a tenth of the vocabulary is written."""
    words = tokenizer.id_to_token[len(SPECIAL_TOKENS) :]
    english = sum(word.isascii() and word.isalpha() for word in words)
    chinese = sum(not word.isascii() and len(word) == 1 for word in words)
    return [name for name, count in (("en", english), ("zh", chinese)) if count > len(words) / 10]


def _describe(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
