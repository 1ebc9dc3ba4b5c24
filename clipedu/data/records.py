"""Reading dataset.json: every record is checked, and all faults are reported at once."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipedu.data.pictures import broken_pictures, picture_size
from clipedu.ground.errors import DatasetError, fault_report
from clipedu.ground.files import inside, read_text, whole_file
from clipedu.tokenizer import SimpleTokenizer

LANGUAGES = ("en", "zh")
TEXT_FIELDS = {"en": "text", "zh": "text_zh"}
MAX_CAPTION = 100_000  # characters; anything longer is a whole file in the wrong place
_LABEL_FIELDS = {"en": "label", "zh": "label_zh"}
FIELDS = ("image_path", *TEXT_FIELDS.values(), "split", *_LABEL_FIELDS.values())
_SPLITS = {
    # restval: of Karpathy's COCO, used for training
    **dict.fromkeys(("train", "training", "restval", "训练", "训练集"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "验证", "验证集"), "val"),
    **dict.fromkeys(("test", "testing", "测试", "测试集"), "test"),
}
MISSING = "找不到的图片 | pictures that do not exist"
BROKEN = "打不开的图片 | pictures that cannot be opened"


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


def read_records(
    data_dir: Path, left_out: dict[str, list[str]] | None = None, split: str | None = None
) -> list[Record]:
    """All records of `data_dir/dataset.json`; those of the same picture and split become one.

    Args:
        left_out: if given, records whose picture is missing or cannot be opened are named here, by reason; otherwise
            they are faults.
        split: name only pictures of this split in `left_out`.

    Raises:
        DatasetError: all faults in the file and its pictures, each with its record numbers and field.
    """
    path = data_dir / "dataset.json"
    content = _parse_json(path)
    if not isinstance(content, list) or not content:
        raise DatasetError(
            f"{path} 必须是非空的记录列表 [{{...}}, ...]", f"{path} must be a non-empty list of records [{{...}}, ...]"
        )
    reader = _Reader(data_dir, skip_broken=left_out is not None)
    for number, item in enumerate(content):
        reader.read(number, item)
    records = list(reader.records.values())
    if left_out is not None:
        for reason, name, own_split in reader.broken:
            if split in (None, own_split):
                left_out.setdefault(reason, []).append(name)
    if reader.faults:  # decode the pictures as well, so that one report lists everything
        broken = broken_pictures([record.image_path for record in records])
        faults = [*reader.fault_lines(), *map(str, broken.values())]
        raise fault_report(path, faults, skippable=bool(reader.broken or broken))
    return records


def write_records(data_dir: Path, records: list[dict[str, object]]) -> None:
    """Write dataset.json with one record per line: readable, with small diffs when one changes."""
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    with whole_file(data_dir / "dataset.json") as path:
        # A lone surrogate has no UTF-8 encoding; its backslash escape is valid JSON.
        path.write_text(f"[\n{lines}\n]\n", encoding="utf-8", errors="backslashreplace")


def unused_fields(data_dir: Path) -> list[str]:
    """Names of fields in dataset.json that mean nothing here."""
    names = {str(name) for item in _parse_json(data_dir / "dataset.json") for name in item}
    return sorted(name for name in names if _plain(name) not in FIELDS)


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON file; ValueError if a name occurs twice, since only the last value would be kept."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} occurs twice in one object")
    return content


def _parse_json(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not valid JSON")

    try:
        return json.loads(read_text(path), parse_constant=refuse, object_pairs_hook=unique_names)
    except FileNotFoundError as error:
        raise DatasetError(
            f"找不到 {path}。可以先生成示例：python -m clipedu create-dataset --out {path.parent}；"
            "或用 import-captions 导入自己的说明文件",
            f"{path} does not exist; draw the sample set with: python -m clipedu create-dataset --out {path.parent}, "
            "or bring in your own caption file with import-captions",
        ) from error
    except OSError as error:
        raise DatasetError(f"无法读取 {path}：{error}", f"cannot read {path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{path} 不是 UTF-8 编码的 JSON：{error}", f"{path} is not UTF-8 encoded JSON: {error}"
        ) from error


def _plain(name: object) -> str:
    return str(name).strip().lower()


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 (before Python 3.14, Path.is_file fails if the name is too long)


class _Reader:
    """Collects the records of a dataset.json, by picture and split, and its faults, each with the records it is in."""

    def __init__(self, data_dir: Path, skip_broken: bool) -> None:
        self.data_dir, self.skip_broken = data_dir, skip_broken
        self.records: dict[tuple[str, str], Record] = {}
        self.faults: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        self.broken: dict[tuple[str, str, str], None] = {}  # reason, path and split; in their order, each once
        self.number, self.split, self.fault_count = 0, "", 0
        self._labels: dict[str, str] = {}
        self._elsewhere: dict[Path, str] = {}  # paths of another machine, by the picture here that they lead to

    def fault(self, where: str, zh: str, en: str) -> None:
        self.faults[where, zh, en].append(self.number)
        self.fault_count += 1

    def fault_lines(self) -> Iterator[str]:
        for (where, zh, en), numbers in self.faults.items():
            shown = ", ".join(map(str, numbers[:3])) + (f" … ({len(numbers)} in all)" if len(numbers) > 3 else "")
            yield f"record{'s' * (len(numbers) > 1)} {shown}, {where}: {zh} | {en}"

    def read(self, number: int, item: Any) -> None:
        """Add a record, or its faults."""
        self.number, before = number, self.fault_count
        if not isinstance(item, dict):
            self.fault(
                "-", f"应为对象 {{...}}，得到 {type(item).__name__}", f"must be an object, not {type(item).__name__}"
            )
            return
        item = {_plain(name): value for name, value in item.items()} | item  # capitals do not matter
        captions = {code: self._captions(item, name) for code, name in TEXT_FIELDS.items()}
        strings = {name: item.get(name) for name in ("split", *_LABEL_FIELDS.values())}
        for name, value in strings.items():
            if value is not None and not isinstance(value, str):
                self.fault(name, "应为字符串", f"must be a string, not {value!r:.40}")
        self.split = split_name(str(strings["split"] or "train"))
        path = self._picture(item)
        is_whole = self.fault_count == before
        if is_whole and not captions["en"] and not captions["zh"]:
            names = ", ".join(map(str, item))
            self.fault("text", f"缺少说明文字，只有：{names}", f"a caption is missing, there is only: {names}")
        elif is_whole and path is not None:
            labels = {code: self._label(str(strings[name])) for code, name in _LABEL_FIELDS.items() if strings[name]}
            self._add(Record(path, captions, self.split, labels))

    def _label(self, label: str) -> str:
        """The first spelling of this label: `Dog` and `dog` are one class, since the model reads them alike."""
        return self._labels.setdefault(" ".join(SimpleTokenizer.tokenize_text(label)) or label, label)

    def _add(self, record: Record) -> None:
        first = self.records.setdefault((os.path.normcase(record.image_path), record.split), record)
        if first is record:
            return
        for code, texts in record.captions.items():
            first.captions[code].extend(text for text in texts if text not in first.captions[code])
        for code, label in record.labels.items():
            if first.labels.setdefault(code, label) != label:
                self.fault(
                    _LABEL_FIELDS[code],
                    f"{record.image_path.name} 在别的记录里的类别是 {first.labels[code]!r}",
                    f"{record.image_path.name} has the label {first.labels[code]!r} in another record",
                )

    def _captions(self, item: dict[str, Any], name: str) -> list[str]:
        value = item.get(name)
        if value is None:  # absent, or null as pandas writes a missing value
            return []
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            self.fault(name, "应为字符串或字符串列表", f"must be a string or a list of strings, not {value!r:.40}")
            return []
        for text in texts:
            if len(text) > MAX_CAPTION:
                length = f"{len(text):,}"
                self.fault(name, f"说明文字有 {length} 个字符，太长", f"a caption of {length} characters is too long")
            elif not SimpleTokenizer.tokenize_text(text):
                self.fault(name, f"说明文字 {text!r:.40} 里没有词", f"caption {text!r:.40} has no words")
        return list(texts)

    def _picture(self, item: dict[str, Any]) -> Path | None:
        value = item.get("image_path")
        if value is None:
            names = ", ".join(map(str, item)) or "-"
            self.fault(
                "image_path",
                f"缺少 image_path，只有：{names}。请改成 image_path 和 text；或把这个文件改名为 captions.json，"
                "再用 import-captions --english captions.json 导入",
                f"image_path is missing, there is only: {names}. Call them image_path and text, or rename this file to "
                "captions.json and run import-captions --english captions.json",
            )
            return None
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            self.fault("image_path", "应为图片路径（字符串）", f"must be a path (a string), not {value!r:.40}")
            return None
        try:
            path = self._find(value.replace("\\", "/"))
            if path is None:
                self._leave_out(MISSING, value, f"找不到图片 {value!r}", f"picture {value!r} does not exist")
                return None
        except DatasetError as error:  # it leads out of the folder
            self.fault("image_path", error.zh, error.en)
            return None
        try:
            picture_size(path)
        except DatasetError as error:
            self._leave_out(BROKEN, value, error.zh, error.en)
            return None
        return path

    def _leave_out(self, reason: str, value: str, zh: str, en: str) -> None:
        self.broken[reason, value, self.split] = None
        if not self.skip_broken:
            self.fault("image_path", zh, en)

    def _find(self, value: str) -> Path | None:
        """The picture's file. A path of another machine leads to the file that ends like it, here or in images/."""
        absolute = re.match(r"([A-Za-z]:)?/+", value)
        if not absolute:
            path = inside(self.data_dir, value)
            return path if _is_file(path) else None
        parts = value[absolute.end() :].split("/")
        tails = ["/".join(parts[start:]) for start in range(len(parts))]
        for path in (inside(self.data_dir, f"{folder}{tail}") for tail in tails for folder in ("", "images/")):
            if _is_file(path):
                other = self._elsewhere.setdefault(path, value)
                if other.lower() != value.lower():
                    self.fault(
                        "image_path",
                        f"{value!r} 和 {other!r} 在这里都指向 {path.name}；请写相对路径",
                        f"{value!r} and {other!r} both lead to {path.name} here; write relative paths",
                    )
                return path
        return None
