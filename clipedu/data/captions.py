"""Published caption files, turned into dataset.json: Flickr8k, Flickr30k, COCO, and Flickr8k-CN's Chinese."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from clipedu.data.records import MAX_CAPTION, write_records
from clipedu.ground.errors import ClipEduError, DatasetError
from clipedu.ground.files import read_text
from clipedu.tokenizer import SimpleTokenizer

Pairs = Iterator[tuple[str, str]]  # picture's file name, caption

_TOKEN_LINE = re.compile(r"(?P<name>[^\t#]+?)(\.jpg)?#(zh[a-z]*#)?\d+[\t ]+(?P<caption>.+)")
# Flickr8k.token.txt      1000268201_693b08cb0e.jpg#0<TAB>A child in a pink dress ...
# Flickr8k-CN             1000268201_693b08cb0e.jpg#zhc#0 一个穿粉色连衣裙的孩子 ...   (zhc, zhb, zhm ...)


def read_captions(path: Path) -> dict[str, list[str]]:
    """Captions by picture file name, in the file's order; the format is recognised from the content."""
    try:
        text = read_text(path)
        pairs = list(_read_pairs(path, text))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"无法读取 {path}：{error}", f"cannot read {path}: {error}") from error
    captions: dict[str, list[str]] = defaultdict(list)
    for name, caption in pairs:
        if len(caption) > MAX_CAPTION:
            raise DatasetError(
                f"{path}：{name} 的说明文字有 {len(caption)} 个字符，太长",
                f"{path}: a caption of {name} has {len(caption):,} characters, which is too long",
            )
        if SimpleTokenizer.tokenize_text(caption):  # read_records would refuse an empty caption
            captions[name].append(caption.strip())
    return dict(captions)


def _read_pairs(path: Path, text: str) -> Pairs:
    first = text.lstrip().partition("\n")[0]
    if first.startswith(("{", "[")):
        return _read_coco(json.loads(text))
    if _TOKEN_LINE.fullmatch(first.strip()):
        return _read_token_lines(text)
    if first.count("|") >= 2:
        return _read_table(text, "|")
    if "," in first:
        return _read_table(text, ",")
    raise DatasetError(
        f"{path} 的格式无法识别（支持 captions.txt、*.token.txt、results.csv、COCO 的 JSON）",
        f"the format of {path} is not recognised (supported: captions.txt, *.token.txt, results.csv, COCO's JSON)",
    )


def _read_token_lines(text: str) -> Pairs:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        match = _TOKEN_LINE.fullmatch(line.strip())
        if match is None:
            raise ValueError(f"line {number} is not 'picture.jpg#0 caption': {line[:40]!r}")
        yield f"{match['name']}.jpg", match["caption"]


def _read_table(text: str, delimiter: str) -> Pairs:
    """captions.txt (`image,caption`) and Flickr30k's results.csv (`image_name| comment_number| comment`)."""
    for number, line in enumerate(text.split("\n"), 1):
        if number == 1 or not line.strip():
            continue  # the header
        # Captions contain commas and are not always quoted: only the first columns are split off.
        cells = [cell.strip() for cell in line.split(delimiter, 2 if delimiter == "|" else 1)]
        if len(cells) == 3 or (delimiter == "," and len(cells) == 2):
            yield cells[0], cells[-1].strip('"').replace('""', '"')
        elif delimiter == "|" and len(cells) == 2:  # one line of the published file is missing a bar
            yield cells[0], cells[1].lstrip("0123456789 ")
        else:
            raise ValueError(f"line {number} has too few columns: {line[:40]!r}")


def _read_coco(content: Any) -> Pairs:
    """COCO's captions_*.json: pictures and annotations joined by their id."""
    try:
        names = {image["id"]: image["file_name"] for image in content["images"]}
        pairs = [(names[annotation["image_id"]], annotation["caption"]) for annotation in content["annotations"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"not in the format of COCO's captions_*.json ({error!r:.80})") from error
    for pair in pairs:
        if not all(isinstance(value, str) for value in pair):
            raise ValueError(f"file_name and caption must be strings, not {pair!r:.80}")
        yield pair


def import_captions(
    out: Path, english: Path | None, chinese: Path | None, splits: Iterable[tuple[str, Path]] = ()
) -> tuple[int, int]:
    """Write `out/dataset.json` for the pictures that are in `out/images`.

    Args:
        out: the data folder; its images/ contains the pictures.
        english, chinese: caption files, at least one.
        splits: (split name, file with one picture name per line); if there are none, every tenth picture becomes `val`.

    Returns:
        How many pictures got captions, and how many pictures named in the caption files are missing.
    """
    if (out / "dataset.json").exists():
        raise ClipEduError(
            f"{out / 'dataset.json'} 已存在；请先移走它", f"{out / 'dataset.json'} already exists; move it away first"
        )
    by_language = {
        field: read_captions(path) for field, path in (("text", english), ("text_zh", chinese)) if path is not None
    }
    splits = list(splits)
    split_of = {Path(line.strip()).stem: split for split, path in splits for line in _lines(path) if line.strip()}
    names = list(dict.fromkeys(name for captions in by_language.values() for name in captions))
    present = [name for name in names if (out / "images" / Path(name).name).is_file()]
    if not present:
        raise DatasetError(
            f"{out / 'images'} 里没有说明文件提到的图片（如 {names[:1]}）",
            f"{out / 'images'} contains none of the pictures named in the captions (such as {names[:1]})",
        )
    records: list[dict[str, object]] = []
    for index, name in enumerate(present):
        split = split_of.get(Path(name).stem) if splits else ("val" if index % 10 == 9 else "train")
        if split is not None:
            texts = {field: captions[name] for field, captions in by_language.items() if name in captions}
            records.append({"image_path": f"images/{Path(name).name}", **texts, "split": split})
    if not records:
        raise DatasetError(
            "划分文件没有提到任何一张有说明文字的图片",
            "the split files list none of the pictures that have captions",
        )
    write_records(out, records)
    return len(records), len(names) - len(present)


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path).split("\n")
    except (OSError, ValueError) as error:
        raise DatasetError(f"无法读取 {path}：{error}", f"cannot read {path}: {error}") from error
