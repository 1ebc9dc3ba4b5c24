"""Caption files as people have them: tables, JSON, `*.token.txt` and texts beside the pictures, in several encodings.

Every form becomes rows of cells under named columns; the names say which cells are the picture and its captions.
"""

from __future__ import annotations

import ast
import codecs
import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from clipedu.data.pictures import PICTURE_SUFFIXES
from clipedu.data.records import MAX_CAPTION, split_name, unique_names
from clipedu.ground.errors import DatasetError
from clipedu.tokenizer import SimpleTokenizer

# Names of columns, most telling first, without what does not matter: capitals, spaces, "-" and "_".
_PICTURE = (
    *("imagepath", "imgpath", "path", "image", "filename", "imagename", "imagefile", "imagefilename", "imgname", "img"),
    *("picture", "photo", "图片路径", "图片", "图像", "图片名", "图片名称", "文件名", "文件", "路径"),
    *("filepath", "imageid", "imgid", "photoid"),  # beside a file name, filepath is just the folder
)
_CAPTION = (
    *("caption", "captions", "text", "texts", "sentence", "sentences", "comment", "title", "description", "raw"),
    *("说明", "说明文字", "描述", "标题", "文本"),
)
_SPLIT = ("split", "set", "subset", "划分")
_LABEL = ("classname", "labelname", "label", "class", "category", "类别", "标签")
_LANGUAGE_WORDS = {"en": ("en", "english", "英文"), "zh": ("zh", "cn", "chinese", "中文")}  # as in caption_zh
_HEADING = ("image", "caption")
_DELIMITERS = "\t|;,"

_TOKEN_LINE = re.compile(r"(?P<name>[^\t]+?)#(?:zh[a-z]*#)?\d+(?:[\t ]+(?P<caption>.*))?")
# Flickr8k.token.txt      1000268201_693b08cb0e.jpg#0<TAB>A child in a pink dress ...
# Flickr8k-CN             1000268201_693b08cb0e.jpg#zhc#0 一个穿粉色连衣裙的孩子 ...   (zhc, zhb, zhm ...)
_NUMBERED = re.compile(r"\s*(\d+)\s{2,}(\S.*)", re.DOTALL)  # Flickr30k has "1.jpg| 4   A dog runs": a bar is missing
_LIST = re.compile(r"\s*[\[(]\s*['\"].*[\])]\s*", re.DOTALL)  # ['A dog', 'A cat'], as pandas writes it into a cell

_MISSING = {"", "nan", "NaN", "null", "NULL", "None", "<NA>", "N/A"}  # what pandas and databases write for nothing

NO_WORDS = "空的说明 | captions without words"
_TOO_LONG = "单元格比表头多 | rows with more cells than the heading"
_NO_NAME = "没有图片名 | rows without a picture's name"
_NO_LABEL = "类别不是文字 | labels that are not text"


class Row(NamedTuple):
    """What a caption file says about one picture."""

    picture: str
    captions: list[str]
    split: str = ""
    label: str = ""


class _Table(NamedTuple):
    """The names of columns, and rows of cells, each with its place in the file."""

    names: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Any]]]


class _Columns(NamedTuple):
    """The positions of the columns that are used."""

    picture: int
    captions: list[int]
    split: int | None = None
    label: int | None = None


@dataclass
class CaptionFile:
    """The rows of a caption file, in its order.

    Attributes:
        path: the file, or the folder of texts.
        language: `"en"` or `"zh"`; decides between columns such as caption_en and caption_zh.
        rows: those that have captions with words, and only these.
        unused: the names of columns that were not used.
        encoding: empty for UTF-8.
        left_out: by reason, the pictures or lines concerned.
    """

    path: Path
    language: str = "en"
    rows: list[Row] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    encoding: str = ""
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def take(self, table: _Table) -> None:
        """Take over the rows of a table."""
        columns = _find_columns(table.names, self.language) or _refuse_columns(table.names, self.language)
        used = (columns.picture, *columns.captions, columns.split, columns.label)
        self.unused = [name.strip() or f"#{i + 1}" for i, name in enumerate(table.names) if i not in used]
        width = len(table.names)
        for where, cells in table.rows:
            if len(cells) > width:
                self.left_out[_TOO_LONG].append(f"{self.path.name}:{where}")
            else:
                self._take_row(f"{self.path.name}:{where}", [*cells, *[None] * (width - len(cells))], columns)

    def _take_row(self, where: str, cells: Sequence[Any], columns: _Columns) -> None:
        picture = _name(cells[columns.picture])
        if not picture:
            self.left_out[_NO_NAME].append(where)
            return
        texts = [text for i in columns.captions for text in _texts(cells[i], where)]
        captions = [text for text in texts if _has_words(text)]
        self.left_out[NO_WORDS] += [picture] * (len(texts) - len(captions))
        split, label = (None if i is None else cells[i] for i in (columns.split, columns.label))
        if label and not _has_words(_name(label)):
            self.left_out[_NO_LABEL].append(where)
            label = None
        if captions:
            self.rows.append(Row(picture, captions, split_name(_name(split)), _name(label)))


def read_captions(path: Path, language: str = "en") -> CaptionFile:
    """The captions in a file, or in the text files of a folder; the form is recognised from the content.

    Args:
        path: the file or folder.
        language: that of the captions, `"en"` or `"zh"`.

    Raises:
        DatasetError: the file cannot be read or its form is not understood.
    """
    file = CaptionFile(path, language)
    if path.is_dir():
        table, file.encoding = _read_texts(path)
        file.take(table)
        return file
    text, file.encoding = read_any_text(path)
    try:
        is_json = text.lstrip().startswith(("{", "["))
        file.take(_read_json(text, language) if is_json else _read_lines(text.split("\n"), language))
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
    except UnicodeDecodeError:
        runs = re.findall(rb"[\x80-\xff]+", data)
        if sum(run.decode("utf-8", "ignore").encode() == run for run in runs) > 0.5 * len(runs):
            raise  # UTF-8 with a damaged place
        if _is_common_chinese(data):
            return data.decode("gb18030"), "GB18030"
        if sum(len(run) == 1 for run in runs) < 0.8 * len(runs):
            raise
        return data.decode("cp1252"), "Windows-1252"  # accented letters are rarely neighbours
    if "\0" in text:  # UTF-16 or UTF-32 without a mark
        raise UnicodeDecodeError("utf-8", data, data.index(0), data.index(0) + 1, "a zero byte")
    return text, ""


def _is_common_chinese(data: bytes) -> bool:
    """Whether it is GB18030. Other encodings often decode as such too, but into rare characters."""
    try:
        han = re.findall("[\u4e00-\u9fff]", data.decode("gb18030"))
    except UnicodeDecodeError:
        return False
    # GB2312 has the 3,755 most common characters under these first bytes.
    common = [char for char in han if b"\xb0" <= char.encode("gb2312", "ignore")[:1] <= b"\xd7"]
    return bool(han) and len(common) >= 0.8 * len(han)


# ------------------------------------------------------------------------------------------- columns and cells


def _find_columns(names: Sequence[str], language: str) -> _Columns | None:
    """The columns that are used, or None if there is none for the picture or for its captions."""
    plain = [re.sub(r"[\s_-]+", "", name.lower()) for name in names]
    numberless = [name.rstrip("0123456789") for name in plain]  # caption_0, caption_1 ...
    words = _LANGUAGE_WORDS[language]

    def in_language(known: Sequence[str]) -> Iterator[str]:
        for name in known:
            for word in words:
                yield from (name + word, word + name)

    picture = _under_first(_PICTURE, plain)
    own_words_first = sorted(_CAPTION, key=lambda name: name.isascii() == (language == "zh"))
    captions = _under_first([*in_language(_CAPTION), *words, *own_words_first], numberless)
    split = _under_first(_SPLIT, plain)
    label = _under_first([*in_language(_LABEL), *_LABEL], plain)
    if not picture or not captions:
        return None
    return _Columns(picture[0], captions, *(found[0] if found else None for found in (split, label)))


def _under_first(known: Sequence[str], names: Sequence[str]) -> list[int]:
    """The positions of the first known name that occurs among the names."""
    first = next(filter(set(names).__contains__, known), None)
    return [i for i, name in enumerate(names) if name == first]


def _refuse_columns(names: Sequence[str], language: str) -> NoReturn:
    there = ", ".join(f"{name.strip()!r:.40}" for name in names[:20])
    raise DatasetError(
        f"格式无法识别：列名是 {there}；需要一列图片（如 image）和一列说明（如 caption 或 caption_{language}）",
        f"the format is not recognised: the columns are {there}; needed are one for the pictures (such as image) and "
        f"one for their captions (such as caption or caption_{language})",
    )


def _name(value: Any) -> str:
    """A name of a picture, split or class; empty if it is missing. In JSON, pictures may be called by their numbers."""
    text = str(value).strip() if isinstance(value, str | int) else ""
    return "" if text in _MISSING else text


def _texts(value: Any, where: str) -> list[str]:
    """The captions in a cell: one or a list; "" where there is none."""
    if isinstance(value, str) and _LIST.fullmatch(value):
        value_text = re.sub(r"\bnan\b(?=\s*[,\])])", "None", value.strip())
        value_text = re.sub(r"(['\"])\s+(?=['\"])", r"\1, ", value_text)  # NumPy writes no commas
        with suppress(ValueError, SyntaxError):  # only a caption in brackets
            value = ast.literal_eval(value_text)
    texts = [text or "" for text in value or [""]] if isinstance(value, list | tuple) else [value or ""]
    for text in texts:
        if not isinstance(text, str):
            raise DatasetError(
                f"{where}：说明应为字符串，不是 {text!r:.40}", f"{where}: captions must be strings, not {text!r:.40}"
            )
        if len(text) > MAX_CAPTION:
            raise DatasetError(
                f"{where}：说明文字有 {len(text):,} 个字符，太长",
                f"{where}: a caption of {len(text):,} characters is too long",
            )
    return [re.sub(r"\s*\n\s*", " ", text.strip()) for text in texts]


def _has_words(text: str) -> bool:
    return text not in _MISSING and bool(SimpleTokenizer.tokenize_text(text))


# ------------------------------------------------------------------------------------------------------- forms


def _read_texts(folder: Path) -> tuple[_Table, str]:
    """Texts beside the pictures: photo.txt describes photo.jpg, one caption per line. Also their encoding."""
    rows, encodings = [], [""]
    for path in sorted(folder.rglob("*.txt")):
        text, encoding = read_any_text(path)
        encodings.append(encoding)
        name = path.relative_to(folder).with_suffix("").as_posix()
        rows.append((path.name, [name, [line for line in text.split("\n") if line.strip()]]))
    if not rows:
        raise DatasetError(
            f"{folder} 里没有与图片同名的 .txt 说明", f"{folder} contains no .txt files with captions of pictures"
        )
    return _Table(_HEADING, rows), max(encodings)


def _read_lines(lines: Sequence[str], language: str) -> _Table:
    lines = ["" if re.fullmatch("sep=.", line.strip()) else line for line in lines]  # a line for Excel
    first = next(filter(str.strip, lines), "")
    if not first:
        raise DatasetError("文件是空的", "the file is empty")
    headings = {delimiter: next(csv.reader([first], delimiter=delimiter)) for delimiter in _DELIMITERS}
    for delimiter, names in headings.items():
        if columns := _find_columns(names, language):
            rows = _table_rows(lines, delimiter)[1:]
            return _Table(names, [(where, _mend(row, names, columns, delimiter)) for where, row in rows])
    for delimiter, cells in headings.items():
        if len(cells) > 1 and _is_picture_name(cells[0]):
            return _read_without_heading(_table_rows(lines, delimiter), delimiter)
    if _TOKEN_LINE.fullmatch(first.strip()):
        return _read_token_lines(lines)
    _refuse_columns(max(headings.values(), key=len), language)


def _is_picture_name(text: str) -> bool:
    return Path(text.strip(' "')).suffix.lower() in PICTURE_SUFFIXES


def _table_rows(lines: Sequence[str], delimiter: str) -> list[tuple[str, list[str]]]:
    """The rows that are not blank, each with the number of its line.

    Raises:
        DatasetError: a quote that is not closed has swallowed further rows.
    """
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter)
    rows: list[tuple[str, list[str]]] = []
    number = 1
    for row in reader:
        first, *more = lines[number - 1 : reader.line_num]
        is_open = "\n".join([first, *more]).count('"') % 2 == 1
        width = len(rows[0][1]) if rows else 0
        looks_like_row = (
            any(map(_is_picture_name, cells)) or (len(cells) == width and not any(map(_is_picture_name, row)))
            for cells in (line.split(delimiter) for line in more)
        )
        if more and (is_open or any(looks_like_row)):
            raise DatasetError(
                f'第 {number} 行的引号 " 没有在本格结束；请补上，或把格里的引号写两遍（""）',
                f'line {number}: a quote " is not closed where its cell ends; close it, or double quotes within a '
                'cell ("")',
            )
        if any(cell.strip() for cell in row):
            rows.append((str(number), row))
        number = reader.line_num + 1
    return rows


def _mend(row: list[str], names: Sequence[str], columns: _Columns, delimiter: str) -> list[str]:
    """The row with its caption in one cell, whether commas split it or it shares a cell with its number."""
    at, width = columns.captions[0], len(names)
    while len(row) > width == at + 1 and not row[-1].strip():  # commas at the end, not an empty last column
        row = row[:-1]
    if at and "number" in names[at - 1].lower() and (joined := _NUMBERED.fullmatch("".join(row[at - 1 : at]))):
        row = [*row[: at - 1], *joined.groups(), *row[at:]]
    end = at + 1 + len(row) - width
    is_split = end > at + 1 and len(columns.captions) == 1
    # A picture's name there means that the commas are in names; an empty end, that it is not certain where they are.
    if is_split and (width == at + 1 or row[-1].strip()) and not any(map(_is_picture_name, row[at:end])):
        row = [*row[:at], delimiter.join(row[at:end]), *row[end:]]
    return row


def _read_without_heading(rows: list[tuple[str, list[str]]], delimiter: str) -> _Table:
    """Two columns. Captions may contain the delimiter; but if most rows have the same three cells, it is a table."""
    width, count = Counter(len(row) for _, row in rows).most_common(1)[0]
    if width > 2 and count > len(rows) / 2:
        raise DatasetError(
            "缺少表头；请写在第一行，例如 image,caption,id（每列一个名字）",
            "the heading is missing; write it into the first line, such as image,caption,id (a name for each column)",
        )
    return _Table(_HEADING, [(where, [row[0], delimiter.join(row[1:])]) for where, row in rows])


def _read_token_lines(lines: Sequence[str]) -> _Table:
    rows = []
    for number, line in enumerate(lines, 1):
        if match := _TOKEN_LINE.fullmatch(line.strip()):
            rows.append((str(number), [match["name"], match["caption"]]))
        elif line.strip():
            raise DatasetError(
                f"第 {number} 行不是“图片名#0 说明”的形式：{line[:40]!r}",
                f"line {number} is not 'picture.jpg#0 caption': {line[:40]!r}",
            )
    return _Table(_HEADING, rows)


def _read_json(text: str, language: str) -> _Table:
    records = _json_records(text, language)
    names = list(dict.fromkeys(key for record in records for key in record))
    if {"text_id", "image_ids"} <= set(names):
        raise DatasetError(
            "这是 Chinese-CLIP 的格式，图片在另一个 TSV 文件里（base64）；请先把图片存成文件，再写一个 CSV："
            "image,caption",
            "this is Chinese-CLIP's format, whose pictures are in a TSV file (base64); save them as files and write "
            "a CSV table: image,caption",
        )
    rows = [(f"record {i}", [record.get(name) for name in names]) for i, record in enumerate(records)]
    return _Table(names, rows)


def _json_records(text: str, language: str) -> list[dict[str, Any]]:
    """The records of any JSON form; those of COCO, Karpathy and mappings are renamed to image, caption, split."""
    values = _json_values(text)
    content = values[0] if len(values) == 1 else values
    if isinstance(content, dict):
        if "images" in content or "annotations" in content:
            return _published_records(content)
        if _find_columns(list(content), language):
            return [content]
        return [{"image": name, "caption": captions} for name, captions in content.items()]
    if not content or not all(isinstance(record, dict) for record in content):
        raise DatasetError(
            f"JSON 的结构无法识别（{content!r:.80}）；支持记录列表、以图片名为键的对象、COCO 和 Karpathy 的格式",
            f"this JSON is not recognised ({content!r:.80}); supported: a list of records, {{picture: caption}}, and "
            "the formats of COCO and Karpathy",
        )
    return content


def _json_values(text: str) -> list[Any]:
    """The values, one after another: a single one in JSON, one per line in JSON Lines."""
    decoder = json.JSONDecoder(parse_constant=lambda _: None, object_pairs_hook=unique_names)  # NaN is a missing value
    values, text = [], text.strip()
    position = 0
    while position < len(text):
        value, position = decoder.raw_decode(text, position)
        values.append(value)
        while text[position : position + 1].isspace():
            position += 1
    return values


def _published_records(content: dict[str, Any]) -> list[dict[str, Any]]:
    """COCO's captions_*.json, where ids join pictures and annotations; or Karpathy's dataset_*.json with the splits."""
    try:
        if "annotations" in content:
            names = {image["id"]: image["file_name"] for image in content["images"]}
            return [{"image": names[item["image_id"]], "caption": item["caption"]} for item in content["annotations"]]
        return [
            {
                "image": f"{image.get('filepath') or ''}/{image['filename']}",
                "caption": [sentence["raw"] for sentence in image["sentences"]],
                "split": image.get("split"),
            }
            for image in content["images"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"这不是 COCO 的 captions_*.json，也不是 Karpathy 的 dataset_*.json，没有说明（{error!r:.80}）",
            f"this has no captions as in COCO's captions_*.json or Karpathy's dataset_*.json ({error!r:.80})",
        ) from error
