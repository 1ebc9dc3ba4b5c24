"""Caption files as people have them: tables, JSON, `*.token.txt` and texts beside the pictures, in several encodings.

Every form becomes rows of cells under named columns; the names say which cells are the picture and its captions.
"""

from __future__ import annotations

import ast
import codecs
import csv
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from clipedu.data.pictures import PICTURE_SUFFIXES
from clipedu.data.records import MAX_CAPTION, split_name
from clipedu.ground.errors import DatasetError
from clipedu.tokenizer import SimpleTokenizer

# Names of columns, most telling first; spaces and capitals do not matter.
_PICTURE = (
    *("image_path", "img_path", "file_path", "path", "image", "file_name", "filename", "image_name", "image_file"),
    *("image_filename", "img_name", "img", "picture", "photo", "图片路径", "图片", "图像", "图片名", "图片名称"),
    *("文件名", "文件", "路径", "filepath", "image_id", "img_id", "photo_id"),  # filepath may be just the folder
)
_CAPTION = (
    *("caption", "captions", "text", "texts", "sentence", "sentences", "comment", "title", "description", "raw"),
    *("说明", "说明文字", "描述", "标题", "文本", ""),  # "": a column named english or 中文
)
_SPLIT = ("split", "set", "subset", "划分")
_LABEL = ("class_name", "label_name", "label", "class", "category", "类别", "标签")
_LANGUAGE = re.compile(r"(?:^|_)(?:(?P<en>en|english)|(?P<zh>zh|cn|chinese))(?=_|$)|(?P<en_>英文)|(?P<zh_>中文)")
_DELIMITERS = "\t|;,"

_TOKEN_LINE = re.compile(r"(?P<name>[^\t]+?)#(?:zh[a-z]*#)?\d+(?:[\t ]+(?P<caption>.*))?")
# Flickr8k.token.txt      1000268201_693b08cb0e.jpg#0<TAB>A child in a pink dress ...
# Flickr8k-CN             1000268201_693b08cb0e.jpg#zhc#0 一个穿粉色连衣裙的孩子 ...   (zhc, zhb, zhm ...)

_MISSING = {"nan", "NaN", "null", "NULL", "None", "<NA>", "N/A"}  # what pandas and databases write for nothing
_END = "\x1e"  # a row after the last one

NO_WORDS = "说明里没有词 | captions without words"
_TOO_SHORT = "行太短 | rows too short"
_TOO_LONG = "单元格比表头多 | rows with more cells than the heading"
_NO_NAME = "没有图片名 | rows without a picture's name"
_NO_LABEL = "类别不是文字 | labels that are not text"


@dataclass(frozen=True)
class Row:
    """What a caption file says about one picture."""

    picture: str
    captions: list[str]
    split: str = ""
    labels: list[str] = field(default_factory=list)


@dataclass
class CaptionFile:
    """The rows of a caption file, in its order.

    Attributes:
        path: the file, or the folder of texts.
        rows: those that have captions with words, and only these.
        unused: the names of columns that were not used.
        encoding: empty for UTF-8.
        left_out: by reason, the pictures or lines concerned.
    """

    path: Path
    rows: list[Row] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    encoding: str = ""
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class _Columns:
    """The columns of a table, and the positions of those that are used."""

    names: Sequence[str]
    picture: int
    captions: list[int]
    split: list[int]
    labels: list[int]

    def unused(self) -> list[str]:
        used = {self.picture, *self.captions, *self.split, *self.labels}
        return [name.strip() or f"#{i + 1}" for i, name in enumerate(self.names) if i not in used]


def read_captions(path: Path, language: str = "en") -> CaptionFile:
    """The captions in a file, or in the text files of a folder; the form is recognised from the content.

    Args:
        path: the file or folder.
        language: `"en"` or `"zh"`; decides between columns such as caption_en and caption_zh.

    Raises:
        DatasetError: the file cannot be read or its form is not understood.
    """
    file = CaptionFile(path)
    if path.is_dir():
        _read_texts(file)
        return file
    text, file.encoding = read_any_text(path)
    try:
        if text.lstrip().startswith(("{", "[")):
            _read_json(text, language, file)
        else:
            _read_lines(text, language, file)
    except DatasetError as error:
        raise DatasetError(f"{path}：{error.zh}", f"{path}: {error.en}") from error
    except (ValueError, RecursionError, csv.Error) as error:
        raise DatasetError(f"无法读取 {path}：{error}", f"cannot read {path}: {error}") from error
    return file


# ------------------------------------------------------------------------------------------------- encodings


def read_any_text(path: Path) -> tuple[str, str]:
    """A file's text with `\\n` at the ends of its lines, and its encoding (empty for UTF-8).

    Raises:
        DatasetError: the file cannot be read, or its encoding is not recognised.
    """
    try:
        data = path.read_bytes()
        text, encoding = _decode(data)
    except OSError as error:
        raise DatasetError(f"无法读取 {path}：{error}", f"cannot read {path}: {error}") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DatasetError(
            f"无法读取 {path}：第 {line} 行的编码认不出来；请把它另存为 UTF-8",
            f"cannot read {path}: the encoding of line {line} is not recognised; save it as UTF-8",
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n"), encoding


def _decode(data: bytes) -> tuple[str, str]:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16"), "UTF-16"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeError:
        runs = re.findall(rb"[\x80-\xff]+", data)
        if sum(run.decode("utf-8", "ignore").encode() == run for run in runs) > 0.5 * len(runs):
            raise  # UTF-8 with a damaged place
        if (chinese := _common_chinese(data)) is not None:
            return chinese, "GB18030"
        if sum(len(run) == 1 for run in runs) < 0.8 * len(runs):
            raise
        return data.decode("cp1252"), "Windows-1252"  # accented letters seldom stand side by side
    if "\0" in text:
        raise UnicodeDecodeError("utf-8", data, data.index(0), data.index(0) + 1, "UTF-16 without a byte-order mark")
    return text, ""


def _common_chinese(data: bytes) -> str | None:
    """The text if it is GB18030. Other encodings often decode as such too, but into rare characters."""
    try:
        text = data.decode("gb18030")
    except UnicodeError:
        return None
    han = {char: count for char, count in Counter(text).items() if "\u4e00" <= char <= "\u9fff"}
    # GB2312 has the 3,755 most common characters under these first bytes.
    common = sum(count for char, count in han.items() if b"\xb0" <= char.encode("gb2312", "ignore")[:1] <= b"\xd7")
    return text if han and common >= 0.8 * sum(han.values()) else None


# ---------------------------------------------------------------------------------------------- texts and tables


def _read_texts(file: CaptionFile) -> None:
    """Texts beside the pictures: photo.txt describes photo.jpg, one caption per line."""
    for path in sorted(file.path.rglob("*.txt")):
        text, encoding = read_any_text(path)
        file.encoding = file.encoding or encoding
        name = path.relative_to(file.path).with_suffix("").as_posix()
        _add_row(file, path.name, name, [line for line in text.split("\n") if line.strip()] or [""])
    if not file.rows:
        raise DatasetError(
            f"{file.path} 里没有与图片同名的 .txt 说明", f"{file.path} contains no .txt files with captions of pictures"
        )


def _read_lines(text: str, language: str, file: CaptionFile) -> None:
    lines = text.split("\n")
    number = next((number for number, line in enumerate(lines) if line.strip()), None)
    if number is None:
        raise DatasetError("文件是空的", "the file is empty")
    first = lines[number]
    headings = {delimiter: next(csv.reader([first], delimiter=delimiter)) for delimiter in _DELIMITERS}
    for delimiter, names in headings.items():
        if columns := _find_columns(names, language):
            _read_table(lines, number + 1, delimiter, columns, file)
            return
    for delimiter, cells in headings.items():
        if len(cells) > 1 and _is_picture_name(cells[0]):
            _read_table(lines, number, delimiter, _two_columns(lines, delimiter), file)
            return
    if _TOKEN_LINE.fullmatch(first.strip()):
        _read_token_lines(lines, file)
        return
    widest = max(headings.values(), key=len)
    if len(widest) == 1:
        raise DatasetError(
            "格式无法识别；最简单的是表头为 image,caption 的 CSV 表格",
            "the format is not recognised; the simplest is a CSV table under the heading image,caption",
        )
    _refuse_columns(widest, language)


def _find_columns(names: Sequence[str], language: str) -> _Columns | None:
    """The columns that are used, or None if there is none for the picture or for its captions."""
    parsed = [_parse_name(name) for name in names]

    def first_of(known: Sequence[str], candidates: Iterable[int]) -> list[int]:
        """The candidates under the first known name that occurs, sorted by their numbers."""
        ranks = {i: known.index(parsed[i][0]) for i in candidates if parsed[i][0] in known}
        best = [i for i, rank in ranks.items() if rank == min(ranks.values())]
        return sorted(best, key=lambda i: int(parsed[i][2] or -1))

    everywhere = range(len(names))
    in_language = first_of(_CAPTION, (i for i in everywhere if parsed[i][1] == language))
    captions = in_language or first_of(_CAPTION[:-1], (i for i in everywhere if not parsed[i][1]))
    plain = [i for i in everywhere if not parsed[i][1] and not parsed[i][2]]
    pictures = first_of(_PICTURE, plain)
    if not captions or not pictures:
        return None
    return _Columns(names, pictures[0], captions, first_of(_SPLIT, plain)[:1], first_of(_LABEL, everywhere))


def _parse_name(name: str) -> tuple[str, str, str]:
    """`Caption_zh_2` -> `("caption", "zh", "2")`."""
    name = re.sub(r"[\s-]+", "_", name.strip().lower())
    found = _LANGUAGE.search(name)
    base, number = re.findall(r"^(.*?)_?(\d*)$", _LANGUAGE.sub("", name, count=1).strip("_"))[0]
    return base, (found.lastgroup or "").strip("_") if found else "", number


def _is_picture_name(text: str) -> bool:
    return Path(text.strip()).suffix.lower() in PICTURE_SUFFIXES


def _two_columns(lines: Sequence[str], delimiter: str) -> _Columns:
    """The columns of a table without a heading; captions may contain the delimiter, so the shortest row decides."""
    rows = [row for _, row in _table_rows(lines, 0, delimiter, 0)]
    if min(map(len, rows)) > 2 or rows[0][1].strip().isdigit():
        raise DatasetError(
            "缺少表头；请写在第一行，例如 image,caption,id（每列一个名字）",
            "the heading is missing; write it into the first line, such as image,caption,id (a name for each column)",
        )
    return _Columns(["image", "caption"], 0, [1], [], [])


def _refuse_columns(names: Sequence[str], language: str) -> NoReturn:
    there = ", ".join(f"{name.strip()!r:.40}" for name in names[:20])
    raise DatasetError(
        f"列名是 {there}；需要一列图片（如 image）和一列说明（如 caption 或 caption_{language}）",
        f"the columns are {there}; needed are one for the pictures (such as image) and one for their captions "
        f"(such as caption or caption_{language})",
    )


def _read_table(lines: Sequence[str], start: int, delimiter: str, columns: _Columns, file: CaptionFile) -> None:
    file.unused = columns.unused()
    width = len(columns.names)
    for number, row in _table_rows(lines, start, delimiter, columns.picture):
        where, cells = f"{file.path.name}:{number}", _fit(row, columns, delimiter)
        if len(cells) > width:
            file.left_out[_TOO_LONG].append(where)
        elif len(cells) <= max(columns.picture, columns.captions[0]):
            file.left_out[_TOO_SHORT].append(where)
        else:
            _add_cells(file, where, [*cells, *[None] * (width - len(cells))], columns)


def _table_rows(lines: Sequence[str], start: int, delimiter: str, picture: int) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with its line number.

    Raises:
        DatasetError: a quote is not closed where its cell ends.
    """
    reader = csv.reader([*(f"{line}\n" for line in lines[start:]), _END], delimiter=delimiter)
    number = start  # lines before this row
    for row in reader:
        own = lines[number : start + reader.line_num]
        if start + reader.line_num > len(lines) and row != [_END]:
            _refuse_quote(number + 1)
        if len(own) > 1:
            _check_quotes(own, number + 1, delimiter, picture)
        if row != [_END] and any(cell.strip() for cell in row):
            yield number + 1, row
        number = start + reader.line_num


def _check_quotes(lines: Sequence[str], number: int, delimiter: str, picture: int) -> None:
    """Refuse a row of several lines if a quote swallowed other rows rather than a line break of its caption."""
    try:
        list(csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, strict=True))
    except csv.Error:
        _refuse_quote(number)
    for line in lines[1:]:
        cells = line.split(delimiter)
        if len(cells) > max(picture, 1) and _is_picture_name(cells[picture].strip(' "')):
            _refuse_quote(number)


def _refuse_quote(number: int) -> NoReturn:
    raise DatasetError(
        f'第 {number} 行的引号 " 没有在本格结束；请补上，或把格里的引号写两遍（""）',
        f'line {number}: a quote " is not closed where its cell ends; close it, or double quotes within a cell ("")',
    )


def _fit(row: list[str], columns: _Columns, delimiter: str) -> list[str]:
    """The row with as many cells as the heading, where a caption was split or joined with its number."""
    names, at = columns.names, columns.captions[0]
    while len(row) > len(names) and not row[-1].strip():
        row = row[:-1]
    if len(columns.captions) > 1 or len(row) < at:
        return row
    if at and "number" in names[at - 1].lower():  # Flickr30k has a row like "1.jpg| 4   A dog runs": a bar is missing
        joined = re.fullmatch(r"\s*(\d+)\s{2,}(\S.*)", row[at - 1], re.DOTALL)
        row = [*row[: at - 1], *(joined.groups() if joined else row[at - 1 : at]), *row[at:]]
    end = at + 1 + len(row) - len(names)
    if end > at + 1:  # a caption with commas that was not quoted
        caption = delimiter.join(row[at:end]).strip()
        row = [*row[:at], re.sub(r'^"(.*)"$', r"\1", caption, flags=re.DOTALL), *row[end:]]
    return row


def _read_token_lines(lines: Sequence[str], file: CaptionFile) -> None:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = _TOKEN_LINE.fullmatch(line.strip())
        if match is None:
            raise DatasetError(
                f"第 {number} 行不是“图片名#0 说明”的形式：{line[:40]!r}",
                f"line {number} is not 'picture.jpg#0 caption': {line[:40]!r}",
            )
        _add_row(file, f"{file.path.name}:{number}", match["name"], [match["caption"] or ""])


# -------------------------------------------------------------------------------------------------------- JSON


def _read_json(text: str, language: str, file: CaptionFile) -> None:
    records = _json_records(text, language)
    names = list(dict.fromkeys(key for record in records for key in record))
    if {"text_id", "image_ids"} <= set(names):
        raise DatasetError(
            "这是 Chinese-CLIP 的格式，图片在另一个 TSV 文件里（base64）；请先把图片存成文件，再写一个 CSV："
            "image,caption",
            "this is Chinese-CLIP's format, whose pictures are in a TSV file (base64); save them as files and write "
            "a CSV table: image,caption",
        )
    columns = _find_columns(names, language)
    if columns is None:
        _refuse_columns(names, language)
    file.unused = columns.unused()
    for number, record in enumerate(records):
        _add_cells(file, f"record {number}", [record.get(name) for name in names], columns)


def _json_records(text: str, language: str) -> list[dict[str, Any]]:
    """The records of any JSON form; those of COCO, Karpathy and mappings are renamed to image, caption, split."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data" or not text.lstrip().startswith("{"):
            raise
        content = [_json_line(line, number) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if isinstance(content, dict):
        if content.get("images") and isinstance(content["images"], list):
            return _coco_records(content) if "annotations" in content else _karpathy_records(content["images"])
        if _find_columns(list(content), language):
            return [content]
        is_mapping = all(isinstance(value, str | list) for value in content.values())
        if content and is_mapping and "annotations" not in content:
            return [{"image": name, "caption": value} for name, value in content.items()]
        _refuse_json(f"{list(content)!r:.80}")
    if not content or not all(isinstance(record, dict) for record in content):
        _refuse_json(f"{content!r:.80}")
    return list(content)


def _json_line(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise DatasetError(f"第 {number} 行不是 JSON：{error}", f"line {number} is not JSON: {error}") from error


def _refuse_json(found: str) -> NoReturn:
    raise DatasetError(
        f"JSON 的结构无法识别（{found}）；支持记录列表、以图片名为键的对象、COCO 和 Karpathy 的格式",
        f"this JSON is not recognised ({found}); supported: a list of records, {{picture: caption}}, and the formats "
        "of COCO and Karpathy",
    )


def _coco_records(content: dict[str, Any]) -> list[dict[str, Any]]:
    """COCO's captions_*.json: pictures and annotations joined by their id."""
    try:
        if not any("caption" in item for item in content["annotations"]):
            raise DatasetError(
                "这个 COCO 文件里没有说明（caption）；请用 captions_*.json",
                "this COCO file has no captions; use captions_*.json",
            )
        names = {image["id"]: image["file_name"] for image in content["images"]}
        return [{"image": names[item["image_id"]], "caption": item["caption"]} for item in content["annotations"]]
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"不是 COCO 的 captions_*.json 格式（{error!r:.80}）",
            f"not in the format of COCO's captions_*.json ({error!r:.80})",
        ) from error


def _karpathy_records(images: list[Any]) -> list[dict[str, Any]]:
    """dataset_flickr8k.json and its like, with the split that papers use."""
    try:
        return [
            {
                "image": "/".join(filter(None, (image.get("filepath"), image["filename"]))),
                "caption": [sentence["raw"] for sentence in image["sentences"]],
                "split": image.get("split"),
            }
            for image in images
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"不是 Karpathy 的 dataset_*.json 格式（{error!r:.80}）",
            f"not in the format of Karpathy's dataset_*.json ({error!r:.80})",
        ) from error


# -------------------------------------------------------------------------------------------------------- rows


def _add_cells(file: CaptionFile, where: str, cells: Sequence[Any], columns: _Columns) -> None:
    values = [str(cell) if type(cell) is int else cell for cell in cells]  # names such as 1000268201
    captions = [text for i in columns.captions for text in _texts(cells[i], where)]
    split = "".join(_text(values[i], where) for i in columns.split)
    labels = [values[i] for i in columns.labels if isinstance(values[i], str)]
    if len(labels) < sum(cells[i] is not None for i in columns.labels):
        file.left_out[_NO_LABEL].append(where)
    _add_row(file, where, _text(values[columns.picture], where), captions, split_name(split), labels)


def _add_row(
    file: CaptionFile,
    where: str,
    picture: str,
    captions: Sequence[str],
    split: str = "",
    labels: Sequence[str] = (),
) -> None:
    if not picture:
        file.left_out[_NO_NAME].append(where)
        return
    kept = []
    for caption in captions:
        if len(caption) > MAX_CAPTION:
            raise DatasetError(
                f"{picture} 的说明文字有 {len(caption):,} 个字符，太长",
                f"a caption of {picture} has {len(caption):,} characters, which is too long",
            )
        text = re.sub(r"\s*\n\s*", " ", caption.strip())
        if not _is_something(text):
            file.left_out[NO_WORDS].append(picture)
        else:
            kept.append(text)
    if kept:
        file.rows.append(Row(picture, kept, split, [label.strip() for label in labels if _is_something(label)]))


def _is_something(text: str) -> bool:
    """Whether there are words in it, and not one of the many ways of writing nothing."""
    return text.strip() not in _MISSING and bool(SimpleTokenizer.tokenize_text(text))


def _text(value: Any, where: str) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str):
        raise DatasetError(
            f"{where}：名字和说明应为字符串，不是 {value!r:.40}",
            f"{where}: names and captions must be strings, not {value!r:.40}",
        )
    return "" if value.strip() in _MISSING else value.strip()


def _texts(value: Any, where: str) -> list[str]:
    """The captions in a cell: one, a list, or a list written as text, as pandas does."""
    if isinstance(value, str) and re.match(r"\[\s*['\"].*\]\s*$", value, re.DOTALL):
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):  # only a caption in brackets
            value = ast.literal_eval(value.strip())
    return [_text(item, where) for item in value] or [""] if isinstance(value, list) else [_text(value, where)]
