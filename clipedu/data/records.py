"""Reading dataset.json: every record is checked, and all faults are reported at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from clipedu.data.pictures import MAX_PIXELS, broken_pictures
from clipedu.ground.errors import DatasetError, fault_report
from clipedu.ground.files import inside, read_text, whole_file
from clipedu.tokenizer import SimpleTokenizer

LANGUAGES = ("en", "zh")
TEXT_FIELDS = {"en": "text", "zh": "text_zh"}
MAX_CAPTION = 100_000  # characters; anything longer is a whole file in the wrong place
_SPLITS = {
    **dict.fromkeys(("train", "training", "restval"), "train"),  # restval: Karpathy's COCO, used for training
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_LABEL_FIELDS = {"en": "label", "zh": "label_zh"}


@dataclass(frozen=True)
class Record:
    """One picture with its captions by language; `labels` names its class for zero-shot classification."""

    image_path: Path
    captions: dict[str, list[str]]
    split: str
    labels: dict[str, str] = field(default_factory=dict)

    def texts(self, language: str) -> list[str]:
        """The captions in `"en"`, in `"zh"`, or in `"both"`."""
        return [text for code in languages(language) for text in self.captions[code]]


def languages(language: str) -> tuple[str, ...]:
    """`"en"` or `"zh"` as a tuple of one, `"both"` as a tuple of two; ValueError for anything else."""
    if language not in (*LANGUAGES, "both"):
        raise ValueError(f"language must be 'en', 'zh' or 'both', not {language!r}")
    return LANGUAGES if language == "both" else (language,)


def split_name(text: str) -> str:
    """`train`, `val` or `test` for the usual names of these (`Train`, `validation`, `dev` ...); others stay as is."""
    return _SPLITS.get(text.strip().lower(), text.strip())


def read_records(data_dir: Path) -> list[Record]:
    """All records of `data_dir/dataset.json`.

    Raises:
        DatasetError: all faults in the file and its pictures, each with its record number and field.
    """
    path = data_dir / "dataset.json"
    content = _parse_json(path)
    if not isinstance(content, list) or not content:
        raise DatasetError(
            f"{path} 必须是非空的记录列表 [{{...}}, ...]", f"{path} must be a non-empty list of records [{{...}}, ...]"
        )
    faults: list[str] = []
    records = [_read_record(data_dir, number, item, faults) for number, item in enumerate(content)]
    readable = [record for record in records if record is not None]
    if faults:  # decode the pictures as well, so that one report lists everything
        faults += [str(fault) for fault in broken_pictures([record.image_path for record in readable]).values()]
        raise fault_report(path, faults)
    return readable


def write_records(data_dir: Path, records: list[dict[str, object]]) -> None:
    """Write dataset.json with one record per line: readable, with small diffs when one changes."""
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    with whole_file(data_dir / "dataset.json") as path:
        # A lone surrogate has no UTF-8 encoding; its backslash escape is valid JSON.
        path.write_text(f"[\n{lines}\n]\n", encoding="utf-8", errors="backslashreplace")


def _parse_json(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not valid JSON")

    try:
        return json.loads(read_text(path), parse_constant=refuse)
    except FileNotFoundError as error:
        raise DatasetError(
            f"找不到 {path}。可以先生成示例：python -m clipedu create-dataset --out {path.parent}",
            f"{path} does not exist; draw the sample set with: python -m clipedu create-dataset --out {path.parent}",
        ) from error
    except OSError as error:
        raise DatasetError(f"无法读取 {path}：{error}", f"cannot read {path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{path} 不是 UTF-8 编码的 JSON：{error}", f"{path} is not UTF-8 encoded JSON: {error}"
        ) from error


def _read_record(data_dir: Path, number: int, item: Any, faults: list[str]) -> Record | None:
    """The record, or None if it has faults, which are added to `faults`."""
    before = len(faults)

    def fault(where: str, zh: str, en: str) -> None:
        faults.append(f"record {number}, {where}: {zh} | {en}")

    if not isinstance(item, dict):
        fault("-", f"应为对象 {{...}}，得到 {type(item).__name__}", f"must be an object, not {type(item).__name__}")
        return None
    captions = {code: _read_captions(item, name, fault) for code, name in TEXT_FIELDS.items()}
    if not captions["en"] and not captions["zh"] and len(faults) == before:
        fault("text", "缺少说明文字", "a caption is missing")
    strings = {name: item.get(name) for name in ("split", *_LABEL_FIELDS.values())}
    for name, value in strings.items():
        if value is not None and not isinstance(value, str):
            fault(name, "应为字符串", f"must be a string, not {value!r:.40}")
    path = _find_picture(data_dir, item.get("image_path"), fault)
    if path is None or len(faults) > before:
        return None
    labels = {code: str(strings[name]) for code, name in _LABEL_FIELDS.items() if strings[name]}
    return Record(path, captions, strings["split"] or "train", labels)


def _read_captions(item: dict[str, Any], name: str, fault: Callable[[str, str, str], None]) -> list[str]:
    value = item.get(name, [])
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        fault(name, "应为字符串或字符串列表", f"must be a string or a list of strings, not {value!r:.40}")
        return []
    for text in texts:
        if len(text) > MAX_CAPTION:
            fault(name, f"说明文字有 {len(text):,} 个字符，太长", f"a caption of {len(text):,} characters is too long")
        elif not SimpleTokenizer.tokenize_text(text):
            fault(name, f"说明文字 {text!r:.40} 里没有词", f"caption {text!r:.40} has no words")
    return texts


def _find_picture(data_dir: Path, value: Any, fault: Callable[[str, str, str], None]) -> Path | None:
    """The picture's path: inside the folder, or by file name in images/ if the path is from another machine."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        fault("image_path", "应为图片路径（字符串）", f"must be a path (a string), not {value!r:.40}")
        return None
    value = value.replace("\\", "/")
    absolute = value.startswith("/") or re.match(r"[A-Za-z]:/", value)
    try:
        path = inside(data_dir, f"images/{Path(value).name}" if absolute else value)
        if not path.is_file():
            fault("image_path", f"找不到图片 {value!r}", f"picture {value!r} does not exist")
            return None
        with Image.open(path) as image:  # reads the header only
            width, height = image.size
    except DatasetError as error:
        fault("image_path", error.zh, error.en)
        return None
    except Image.DecompressionBombError:
        fault(
            "image_path",
            f"{value!r} 太大：超过 {MAX_PIXELS:,} 像素",
            f"{value!r} has more than {MAX_PIXELS:,} pixels: too large",
        )
        return None
    except Exception as error:  # each format's decoder fails on damaged bytes in its own way
        fault(
            "image_path", f"{value!r} 不是能读的图片", f"{value!r} is not a readable picture ({type(error).__name__})"
        )
        return None
    if width * height > MAX_PIXELS:
        fault(
            "image_path",
            f"{value!r} 太大：{width} x {height} 像素",
            f"{value!r} is too large: {width} x {height} pixels",
        )
        return None
    return path
