"""Captions joined with the pictures they describe, written as dataset.json."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NoReturn

from clipedu.data.captions import NO_WORDS, CaptionFile, Row, read_any_text, read_captions
from clipedu.data.pictures import find_pictures
from clipedu.data.records import FIELDS, TEXT_FIELDS, split_name, write_records
from clipedu.ground.errors import ClipEduError, DatasetError
from clipedu.ground.files import inside
from clipedu.tokenizer import SimpleTokenizer

_SPLIT_IN_NAME = re.compile(r"(?<![a-z])(train|training|val|valid|validation|dev|test)(?![a-z])", re.IGNORECASE)

_NO_PICTURE = "没有这张图片 | no such picture"
_AMBIGUOUS = "分不清是哪张图片 | names that may mean more than one picture"
_NO_CAPTION = "图片没有说明 | pictures without a caption"
_SECOND_LABEL = "同一图片的另一个类别 | a second label for a picture"
_NOT_LISTED = "不在任何划分文件里 | pictures in no split file"
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
    if not out.is_dir():
        raise DatasetError(
            f"{out} 不是文件夹；--out 应是放图片的文件夹",
            f"{out} is not a folder; --out is the folder with the pictures",
        )
    files = [read_captions(path, code) for code, paths in (("en", english), ("zh", chinese)) for path in paths]
    importer = _Importer(out)
    importer.join(importer.name_classes() if class_folders else files)
    importer.set_splits(splits)
    records = importer.records.values()
    write_records(out, [{name: record[name] for name in FIELDS if name in record} for record in records])
    return ImportReport(
        Counter(record["split"] for record in records),
        sum(len(record.get(name, ())) for record in records for name in TEXT_FIELDS.values()),
        list(dict.fromkeys(importer.notes)),
        {  # names once for both languages; but of captions without words, each counts
            reason: names if reason == NO_WORDS else list(dict.fromkeys(names))
            for reason, names in importer.left_out.items()
            if names
        },
    )


class _Importer:
    """The records of a dataset in the making, by picture."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.left_out: dict[str, list[str]] = defaultdict(list)
        self.pictures = _Pictures(out, self.left_out)
        self.records: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []
        self._names_with: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)  # of captions, by their ends
        self._folders_count = False

    def name_classes(self) -> list[CaptionFile]:
        """Captions of pictures in a folder per class: `cats/0.jpg`, `images/cats/0.jpg` or `train/cats/0.jpg`."""
        files = {code: CaptionFile(self.out, code) for code in TEXT_FIELDS}
        folders_of = {
            path: re.sub("^images/", "", path, flags=re.IGNORECASE).split("/")[:-1] for path in self.pictures.paths
        }
        while len({*(tuple(own[:1]) for own in folders_of.values())}) == 1 and all(
            own[1:] for own in folders_of.values()
        ):
            folders_of = {path: own[1:] for path, own in folders_of.items()}  # a folder around all classes
        have_splits = all(split_name(own[0]) in ("train", "val", "test") for own in folders_of.values() if own)
        for path, folders in folders_of.items():
            split = split_name(folders.pop(0)) if folders and have_splits else ""
            name = re.sub("[_-]+", " ", folders[0]).strip() if folders else ""
            if not SimpleTokenizer.tokenize_text(name):
                self.left_out[NO_WORDS if name else _NO_CLASS].append(path)
                continue
            code = _language_of(name)
            photo = f"一张{name}的照片" if code == "zh" else f"a photo of a {name}"
            files[code].rows.append(Row(path, [name, photo], split, name))
        return list(files.values())

    def join(self, files: Sequence[CaptionFile]) -> None:
        """Make a record of each picture that has captions, in the order of the caption files."""
        self._take_notes(files)
        rows = [(file, row) for file in files for row in file.rows]
        if not rows:
            counts = [(*reason.split(" | "), len(names)) for reason, names in self.left_out.items() if names]
            zh, en = (", ".join(f"{count[i]} {count[2]:,}" for count in counts) or "0" for i in (0, 1))
            raise DatasetError(f"没有一条可用的说明（{zh}）", f"there are no usable captions ({en})")
        found = self._find_all(row.picture for _, row in rows)
        splits = {} if any(row.split for _, row in rows) else _splits_in_names(files)
        for file, row in rows:
            if picture := found.get(row.picture):
                self._add(picture, file.language, row, row.split or splits.get(file.path, ""))
        if not self.records:
            self._refuse_names(rows[0][1].picture)
        self.left_out[_NO_CAPTION] += [path for path in self.pictures.paths if path not in self.records]

    def _take_notes(self, files: Sequence[CaptionFile]) -> None:
        unused: dict[Path, list[str]] = {}  # of a file that is read for both languages, by neither
        for file in files:
            unused[file.path] = [name for name in file.unused if name in unused.get(file.path, file.unused)]
            self.notes += _encoding_note(file.path, file.encoding)
            for reason, names in file.left_out.items():
                self.left_out[reason] += names
        self.notes += [
            f"{path}: 没有用到的列 | columns not used: {', '.join(names)}" for path, names in unused.items() if names
        ]

    def _find_all(self, names: Iterable[str]) -> dict[str, str]:
        """The picture of each name. Names of which it is not certain are left out."""
        names = list(dict.fromkeys(names))
        for name in names:
            parts = _without_ending(_parts(name))
            for end in _ends(parts):
                self._names_with[end].add(parts)
        matches = {name: self.pictures.find(name) for name in names}
        # If some names give their folders as they are here, a folder that is not here means another picture.
        self._folders_count |= any(found and end == _parts(name) != end[-1:] for name, (found, end) in matches.items())
        certain, missing = {}, []
        for name, (found, end) in matches.items():
            is_whole = end == _parts(name)
            if not found or (self._folders_count and len(end) < min(2, len(_parts(name)))):
                missing.append(name)
            elif len(found) == 1 and (is_whole or not self._others_end_so(name, end)):
                certain[name] = found[0]
            else:
                self.left_out[_AMBIGUOUS].append(name)
        _refuse_links(self.out, set(certain.values()), missing)
        self.left_out[_NO_PICTURE] += missing
        return certain

    def _others_end_so(self, name: str, end: tuple[str, ...]) -> bool:
        """Whether the end fits names of other pictures: cats/0.jpg and dogs/0.jpg cannot both be images/0.jpg."""
        parts = _without_ending(_parts(name))
        others = self._names_with[_without_ending(end)]
        return any(other[-len(parts) :] != parts and parts[-len(other) :] != other for other in others)

    def _add(self, picture: str, language: str, row: Row, split: str) -> None:
        record = self.records.setdefault(picture, {"image_path": picture, "split": split})
        if split and record["split"] and split != record["split"]:
            _refuse_two_splits(picture, record["split"], split)
        record["split"] = record["split"] or split
        record.setdefault(TEXT_FIELDS[language], []).extend(row.captions)
        label_field = "label_zh" if _language_of(row.label) == "zh" else "label"
        if row.label and record.setdefault(label_field, row.label) != row.label:
            self.left_out[_SECOND_LABEL].append(row.picture)

    def _refuse_names(self, name: str) -> NoReturn:
        name = next(iter(self.left_out[_AMBIGUOUS]), name)
        there = ", ".join((self.pictures.find(name)[0] or list(self.pictures.paths))[:2])
        raise DatasetError(
            f"{self.out} 里的图片和说明对不上：说明里写的是 {name!r}，实际有的是 {there or '（没有图片）'}；"
            "请改说明里的名字，或移动图片，让两边的路径一致",
            f"no picture in {self.out} can be matched for certain: the captions say {name!r}, and on disk there is "
            f"{there or 'no picture'}; change the captions or move the pictures, so that the paths agree",
        )

    def set_splits(self, splits: Sequence[tuple[str, Path]]) -> None:
        """Keep the pictures that are listed in split files; without such files, complete the captions' own splits."""
        if splits:
            self._keep_listed(splits)
        have_own = any(record["split"] for record in self.records.values())
        for index, record in enumerate(self.records.values()):
            record["split"] = record["split"] or ("val" if index % 10 == 9 and not have_own else "train")

    def _keep_listed(self, splits: Sequence[tuple[str, Path]]) -> None:
        listed: dict[str, str] = {}
        for split, path in splits:
            text, encoding = read_any_text(path)
            self.notes += _encoding_note(path, encoding)
            for picture in self._find_all(filter(None, map(str.strip, text.split("\n")))).values():
                if listed.setdefault(picture, split) != split:
                    _refuse_two_splits(picture, listed[picture], split)
        self.left_out[_NOT_LISTED] += [picture for picture in self.records if picture not in listed]
        self.records = {
            picture: {**self.records[picture], "split": listed[picture]}
            for picture in self.records
            if picture in listed
        }
        if not self.records:
            raise DatasetError(
                "划分文件没有提到任何一张有说明文字的图片",
                "the split files list none of the pictures that have captions",
            )


def _language_of(name: str) -> str:
    return "zh" if re.search("[\u4e00-\u9fff]", name) else "en"


def _encoding_note(path: Path, encoding: str) -> list[str]:
    return [f"{path}: 编码 | encoding: {encoding}"] if encoding else []


def _splits_in_names(files: Sequence[CaptionFile]) -> dict[Path, str]:
    """`captions_train2017.json` -> train, for files whose names tell; nothing unless they tell of several splits."""
    found = {file.path: set(map(split_name, _SPLIT_IN_NAME.findall(file.path.name))) for file in files}
    splits = {path: names.pop() for path, names in found.items() if len(names) == 1}
    return splits if len(set(splits.values())) > 1 else {}


def _refuse_two_splits(picture: str, one: str, other: str) -> NoReturn:
    raise DatasetError(
        f"图片 {picture} 既在 {one} 又在 {other}；请只留一处",
        f"picture {picture} is in both {one} and {other}; keep it in one of them",
    )


class _Pictures:
    """The pictures under a folder, found by what the captions of other people and computers call them."""

    def __init__(self, folder: Path, left_out: dict[str, list[str]] | None = None) -> None:
        self.paths = dict.fromkeys(path.relative_to(folder).as_posix() for path in find_pictures(folder, left_out))
        self._folders = {folder for path in self.paths for folder in _parts(path)[:-1]}
        self._by_end: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for path in self.paths:
            parts = _parts(path)
            for end in (*_ends(parts), *_ends(_without_ending(parts))):
                self._by_end[end].append(path)

    def find(self, name: str) -> tuple[list[str], tuple[str, ...]]:
        """The pictures that agree with most of `name`, counted from its end, and the parts that agree."""
        parts = _parts(name)
        path = name.replace("\\", "/").removeprefix("./")
        for exact in (path, f"images/{path}"):
            if exact in self.paths:
                return [exact], parts
        for start, end in enumerate(_ends(parts)):
            found = self._by_end.get(end, [])
            if start and parts[start - 1] in self._folders:  # then it is none of another folder's pictures
                found = [path for path in found if parts[start - 1] in _parts(path)[:-1]]
            if found:
                return found, end
        return [], ()


def _parts(name: str) -> tuple[str, ...]:
    """`C:\\Photos\\.\\Cat.JPEG` -> `("photos", "cat.jpg")`: comparable between computers."""
    name = unicodedata.normalize("NFC", re.sub("^[A-Za-z]:", "", name).replace("\\", "/")).casefold()
    return tuple(part for part in re.sub(r"\.jpeg$", ".jpg", name).split("/") if part not in ("", ".", ".."))


def _ends(parts: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [parts[start:] for start in range(len(parts))]


def _without_ending(parts: tuple[str, ...]) -> tuple[str, ...]:
    return (*parts[:-1], *(PurePath(name).stem for name in parts[-1:]))


def _refuse_links(out: Path, found: set[str], missing: Sequence[str]) -> None:
    """Refuse pictures behind a link that leads out of the folder: training would not read them."""
    for link in out.rglob("*"):
        if link.is_symlink():
            path, behind = link.relative_to(out).as_posix(), _Pictures(link)
            if path in found or any(behind.find(name)[0] for name in missing):
                inside(out, path)
