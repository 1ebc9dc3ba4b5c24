"""Captions joined with the pictures they describe, written as dataset.json."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import NamedTuple, NoReturn

from clipedu.data.captions import NO_WORDS, CaptionFile, Row, read_any_text, read_captions
from clipedu.data.pictures import PICTURE_SUFFIXES, find_pictures
from clipedu.data.records import TEXT_FIELDS, split_name, write_records
from clipedu.ground.errors import ClipEduError, DatasetError
from clipedu.ground.files import inside
from clipedu.tokenizer import SimpleTokenizer

_SPLIT_IN_NAME = re.compile(r"(?<![a-z])(train|training|val|valid|validation|dev|test)(?![a-z])", re.IGNORECASE)
_LABEL_FIELDS = {"en": "label", "zh": "label_zh"}

_NO_PICTURE = "没有这张图片 | names without a picture"
_AMBIGUOUS = "不能确定是哪张图片 | names of which it is not certain which picture they mean"
_NO_CAPTION = "图片没有说明 | pictures without a caption"
_SECOND_LABEL = "同一图片的另一个类别 | a second label for a picture"
_NOT_LISTED = "不在任何划分文件里 | pictures in no split file"
_LISTED_ONLY = "划分文件里的名字没有图片 | names in split files without a picture"
_NO_CLASS = "不在类别文件夹里 | pictures that are not in a class folder"


@dataclass(frozen=True)
class ImportReport:
    """What `import_captions` wrote.

    Attributes:
        pictures: how many pictures, by split.
        captions: how many captions.
        notes: by file, what a reader should know about it, in both languages.
        left_out: what was not used, by reason.
    """

    pictures: Counter[str]
    captions: int
    notes: list[str]
    left_out: Mapping[str, list[str]]


@dataclass
class _Entry:
    """A record in the making."""

    texts: dict[str, list[str]] = field(default_factory=dict)  # by language
    labels: dict[str, str] = field(default_factory=dict)  # by field
    split: str = ""


def import_captions(
    out: Path,
    english: Sequence[Path] = (),
    chinese: Sequence[Path] = (),
    splits: Sequence[tuple[str, Path]] = (),
    class_folders: bool = False,
) -> ImportReport:
    """Write `out/dataset.json` for the pictures anywhere under `out`.

    Args:
        out: the data folder.
        english, chinese: caption files.
        splits: (split name, file with one picture name per line). Without any, the captions' own splits count, else
            the files' names (`captions_train.json`, `captions_val.json`), else every tenth picture becomes `val`.
        class_folders: take labels and captions from the names of the folders that the pictures are in.

    Raises:
        ClipEduError: there is a dataset.json already.
        DatasetError: a file is not understood, captions and pictures do not fit, or a picture is in two splits.
    """
    if (out / "dataset.json").exists():
        raise ClipEduError(
            f"{out / 'dataset.json'} 已存在；请先移走它", f"{out / 'dataset.json'} already exists; move it away first"
        )
    left_out: dict[str, list[str]] = defaultdict(list)
    sources = {
        code: [read_captions(path, code) for path in paths] for code, paths in (("en", english), ("zh", chinese))
    }
    pictures = _Pictures(out, left_out)
    if class_folders:
        for code, rows in _class_rows(pictures, left_out).items():
            sources[code].append(CaptionFile(out, rows))
    readings: dict[Path, list[CaptionFile]] = defaultdict(list)  # two of a file with both languages
    for file in (file for files in sources.values() for file in files):
        readings[file.path].append(file)
        for reason, names in file.left_out.items():
            left_out[reason] += names
    entries = _join(out, pictures, sources, left_out)
    left_out[_NO_CAPTION] += [path.as_posix() for path in pictures.paths if path not in entries]
    notes = []
    for path, (first, *others) in readings.items():
        unused = [name for name in first.unused if all(name in other.unused for other in others)]
        notes += _notes(path, first.encoding, unused)
    if splits:
        listed = _read_split_files(pictures, splits, left_out, notes)
        entries = _only_listed(entries, listed, left_out)
    elif any(entry.split for entry in entries.values()):
        for entry in entries.values():
            entry.split = entry.split or "train"
    else:
        for index, entry in enumerate(entries.values()):
            entry.split = "val" if index % 10 == 9 else "train"
    write_records(out, [_record(path, entry) for path, entry in entries.items()])
    return ImportReport(
        Counter(entry.split for entry in entries.values()),
        sum(len(texts) for entry in entries.values() for texts in entry.texts.values()),
        notes,
        {  # names once for both languages; but of captions without words, each counts
            reason: names if reason == NO_WORDS else list(dict.fromkeys(names))
            for reason, names in left_out.items()
            if names
        },
    )


def _notes(path: Path, encoding: str, unused: Sequence[str] = ()) -> list[str]:
    notes = [f"{path}: 编码 | encoding: {encoding}"] if encoding else []
    return notes + ([f"{path}: 没有用的列 | columns not used: {', '.join(unused)}"] if unused else [])


def _record(path: PurePath, entry: _Entry) -> dict[str, object]:
    texts = {TEXT_FIELDS[code]: texts for code, texts in entry.texts.items()}
    return {"image_path": path.as_posix(), **texts, "split": entry.split, **entry.labels}


# ------------------------------------------------------------------------------------------ captions and pictures


def _join(
    out: Path,
    pictures: _Pictures,
    sources: Mapping[str, Sequence[CaptionFile]],
    left_out: dict[str, list[str]],
) -> dict[PurePath, _Entry]:
    """The pictures that have captions, in the order of the caption files."""
    rows = [row for files in sources.values() for file in files for row in file.rows]
    if not rows:
        counts = [(*reason.split(" | "), len(names)) for reason, names in left_out.items() if names]
        zh, en = (", ".join(f"{count[i]} {count[2]:,}" for count in counts) for i in (0, 1))
        raise DatasetError(f"没有一条可用的说明（{zh}）", f"there are no usable captions ({en})")
    paths = [file.path for files in sources.values() for file in files]
    from_names = {} if any(row.split for row in rows) else _splits_in_names(paths)
    entries: dict[PurePath, _Entry] = {}
    for code, files in sources.items():
        found = _find_all(out, pictures, [row.picture for file in files for row in file.rows], left_out)
        for file in files:
            for row in file.rows:
                if picture := found.get(row.picture):
                    split = row.split or from_names.get(file.path, "")
                    _add_row(entries.setdefault(picture, _Entry()), picture, code, row, split, left_out)
    if not entries:
        _refuse_names(out, pictures, rows[0].picture, left_out)
    return entries


def _add_row(entry: _Entry, picture: PurePath, code: str, row: Row, split: str, left_out: dict[str, list[str]]) -> None:
    if split and entry.split and split != entry.split:
        _refuse_two_splits(picture, entry.split, split)
    entry.split = entry.split or split
    entry.texts.setdefault(code, []).extend(row.captions)
    for label in row.labels:
        if entry.labels.setdefault(_LABEL_FIELDS[_language_of(label)], label) != label:
            left_out[_SECOND_LABEL].append(row.picture)


def _language_of(name: str) -> str:
    return "zh" if re.search("[\u4e00-\u9fff]", name) else "en"


class _Fit(NamedTuple):
    """A name in the captions that fits exactly one picture; its last `agreement` parts are the picture's."""

    name: str
    parts: tuple[str, ...]
    agreement: int


def _find_all(
    out: Path, pictures: _Pictures, names: Iterable[str], left_out: dict[str, list[str]]
) -> dict[str, PurePath]:
    """The picture of each name. Names of which it is not certain are left out."""
    fits: dict[PurePath, list[_Fit]] = defaultdict(list)
    missing = []
    for name in dict.fromkeys(names):
        found, agreement = pictures.find(name)
        if len(found) == 1:
            fits[found[0]].append(_Fit(name, _parts(name), agreement))
        elif found:
            left_out[_AMBIGUOUS].append(name)
        else:
            missing.append(name)
    _refuse_links(out, fits, missing)
    left_out[_NO_PICTURE] += missing
    certain = {}
    for picture, of_picture in fits.items():
        spellings = _spellings(of_picture)
        certain.update(dict.fromkeys(spellings, picture))
        left_out[_AMBIGUOUS] += [fit.name for fit in of_picture if fit.name not in spellings]
    return certain


def _spellings(fits: Sequence[_Fit]) -> set[str]:
    """The names that are the same picture's: `0.jpg` and `cats/0.jpg` may be, `cats/0.jpg` and `dogs/0.jpg` are not."""
    most = max(fit.agreement for fit in fits)
    longest = max((fit.parts for fit in fits if fit.agreement == most), key=len)
    same = {fit for fit in fits if longest[-len(fit.parts) :] == fit.parts or fit.parts[-len(longest) :] == longest}
    return {fit.name for fit in same} if all(fit in same for fit in fits if fit.agreement == most) else set()


class _Pictures:
    """The pictures under a folder, found by what the captions of other people and computers call them."""

    def __init__(self, folder: Path, left_out: dict[str, list[str]] | None = None) -> None:
        self.paths = [PurePath(path.relative_to(folder)) for path in find_pictures(folder, left_out)]
        self._folders = {part for path in self.paths for part in _parts(path.as_posix())[:-1]}
        self._by_end: dict[tuple[str, ...], list[PurePath]] = defaultdict(list)
        for path in self.paths:
            parts = _parts(path.as_posix())
            for start in range(len(parts)):
                self._by_end[parts[start:]].append(path)

    def find(self, name: str) -> tuple[list[PurePath], int]:
        """The pictures whose paths agree with `name` in the most parts, counted from the end, and how many agree."""
        parts, ending = _parts(name), _ending(name)
        for agreement in range(len(parts), 0, -1):
            found = [
                path for path in self._by_end.get(parts[-agreement:], ()) if not ending or ending == _ending(path.name)
            ]
            if agreement < len(parts) and (folder := parts[-agreement - 1]) in self._folders:
                # The name means a picture in a folder that exists, so it is not one in another folder.
                found = [path for path in found if folder in _parts(path.as_posix())[:-1]]
            if found:
                return self._closest(found, name), agreement
        return [], 0

    @staticmethod
    def _closest(found: list[PurePath], name: str) -> list[PurePath]:
        """Only the one under this very name, if there is one."""
        name = name.replace("\\", "/").removeprefix("./")
        for same in (
            lambda path: path.as_posix() == name,
            lambda path: path.as_posix() == f"images/{name}",
            lambda path: path.name == name.rpartition("/")[2],
        ):
            if len(closest := [path for path in found if same(path)]) == 1:
                return closest
        return found


def _parts(name: str) -> tuple[str, ...]:
    """`C:\\Photos\\.\\Cat.JPG` -> `("photos", "cat")`: comparable between computers, without the picture's ending."""
    name = unicodedata.normalize("NFC", re.sub("^[A-Za-z]:", "", name).replace("\\", "/")).casefold()
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    if parts and _ending(parts[-1]):
        parts[-1] = parts[-1].rpartition(".")[0]
    return tuple(parts)


def _ending(name: str) -> str:
    suffix = PurePath(name).suffix.lower()
    return {".jpeg": ".jpg"}.get(suffix, suffix) if suffix in PICTURE_SUFFIXES else ""


def _refuse_links(out: Path, found: Iterable[PurePath], missing: Sequence[str]) -> None:
    """Refuse pictures behind a link that leads out of the folder: training would not read them."""
    for path in found:
        if (out / path).is_symlink():
            try:
                inside(out, path.as_posix())
            except DatasetError as error:
                raise _outside(out / path, out) from error
    if not missing:
        return
    for where, folders, _ in os.walk(out):
        for link in (Path(where, name) for name in folders):
            if link.is_symlink() and not link.resolve().is_relative_to(out.resolve()):
                behind = _Pictures(link)
                if any(behind.find(name)[0] for name in missing):
                    raise _outside(link, out)


def _outside(link: Path, out: Path) -> DatasetError:
    return DatasetError(
        f"{link} 是指向 {os.path.realpath(link)} 的链接，在数据文件夹 {out} 之外；请把图片真正所在的文件夹作为 --out，"
        "图片可以放在其中任何位置",
        f"{link} is a link to {os.path.realpath(link)}, outside the data folder {out}; pass the folder that really "
        "contains the pictures as --out: they may be anywhere in it",
    )


def _refuse_names(out: Path, pictures: _Pictures, name: str, left_out: Mapping[str, Sequence[str]]) -> NoReturn:
    if left_out.get(_AMBIGUOUS):
        name = left_out[_AMBIGUOUS][0]
        found, _ = pictures.find(name)
        if len(found) > 1:
            zh = f"说明文件里的 {name!r} 可能是 {out} 里的 {found[0]} 或 {found[1]}"
            en = f"{name!r} in the captions may be {found[0]} or {found[1]} in {out}"
        else:
            zh = f"说明文件里的 {name!r} 和别的名字都像是 {out} 里的 {found[0]}"
            en = f"{name!r} and other names in the captions fit the same picture in {out}, {found[0]}"
        raise DatasetError(
            f"{zh}；请用文件夹区分，说明里和磁盘上要一致",
            f"{en}; tell them apart by folders, the same in the captions and on disk",
        )
    there = pictures.paths[0].as_posix() if pictures.paths else None
    raise DatasetError(
        f"{out} 里没有说明文件提到的图片：说明里的名字如 {name!r}，"
        + (f"而那里的图片如 {there!r}" if there else "而那里没有图片"),
        f"{out} contains none of the pictures named in the captions: they name {name!r}, "
        + (f"and a picture there is {there!r}" if there else "and there are no pictures there"),
    )


# ------------------------------------------------------------------------------------------------ splits and classes


def _splits_in_names(paths: Sequence[Path]) -> dict[Path, str]:
    """`captions_train2017.json` -> train; nothing unless every file's name tells, and they differ."""
    found = {path: set(map(split_name, _SPLIT_IN_NAME.findall(path.name))) for path in paths}
    splits = {path: names.pop() for path, names in found.items() if len(names) == 1}
    return splits if len(splits) == len(found) and len(set(splits.values())) > 1 else {}


def _read_split_files(
    pictures: _Pictures, splits: Sequence[tuple[str, Path]], left_out: dict[str, list[str]], notes: list[str]
) -> dict[PurePath, str]:
    """The split of each picture that is listed."""
    listed: dict[PurePath, str] = {}
    for split, path in splits:
        text, encoding = read_any_text(path)
        notes += _notes(path, encoding)
        for name in filter(None, map(str.strip, text.split("\n"))):
            found, _ = pictures.find(name)
            if len(found) != 1:
                left_out[_LISTED_ONLY].append(name)
            elif listed.setdefault(found[0], split) != split:
                _refuse_two_splits(found[0], listed[found[0]], split)
    return listed


def _only_listed(
    entries: Mapping[PurePath, _Entry], listed: Mapping[PurePath, str], left_out: dict[str, list[str]]
) -> dict[PurePath, _Entry]:
    kept = {path: entry for path, entry in entries.items() if path in listed}
    if not kept:
        raise DatasetError(
            "划分文件没有提到任何一张有说明文字的图片",
            "the split files list none of the pictures that have captions",
        )
    for path, entry in kept.items():
        entry.split = listed[path]
    left_out[_NOT_LISTED] += [path.as_posix() for path in entries if path not in listed]
    return kept


def _refuse_two_splits(picture: PurePath, one: str, other: str) -> NoReturn:
    raise DatasetError(
        f"图片 {picture} 既在 {one} 又在 {other}；请只留一处",
        f"picture {picture} is in both {one} and {other}; keep it in one of them",
    )


def _class_rows(pictures: _Pictures, left_out: dict[str, list[str]]) -> dict[str, list[Row]]:
    """Rows for pictures in a folder per class (`cats/0.jpg`, `images/cats/0.jpg`, `train/cats/0.jpg`), by language."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for path in pictures.paths:
        folders, split = list(path.parts[:-1]), ""
        if folders and folders[0].lower() == "images":
            folders.pop(0)
        if len(folders) > 1 and split_name(folders[0]) in ("train", "val", "test"):
            split = split_name(folders.pop(0))
        name = re.sub("[_-]+", " ", folders[0]).strip() if folders else ""
        if not SimpleTokenizer.tokenize_text(name):
            left_out[NO_WORDS if name else _NO_CLASS].append(path.as_posix())
            continue
        code = _language_of(name)
        photo = f"一张{name}的照片" if code == "zh" else f"a photo of a {name}"
        rows[code].append(Row(path.as_posix(), [name, photo], split, [name]))
    return rows
