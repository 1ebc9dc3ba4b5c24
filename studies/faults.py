"""The fault corpus: damaged inputs, each made by code, the command that meets it, and what must come of it.

`python -m tests.faults.corpus` lists the cases.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import pickle
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from clipedu import CLIP, SimpleTokenizer, load_checkpoint, load_model, save_checkpoint
from clipedu.commands.arguments import build_parser
from clipedu.commands.main import main
from clipedu.data.pictures import load_image
from clipedu.data.records import MAX_CAPTION, read_records
from clipedu.search import MAX_DRAWN
from tests.conftest import small_model, tokenizer_of

SMALL = (
    *("--pretrained", "none", "--image-size", "32", "--epochs", "1", "--batch-size", "2"),
    *("--embedding-dim", "16", "--text-layers", "1"),
)
TRAIN = ("train", "--data-dir", "data", "--run-dir", "new", *SMALL)  # reads the data before all else
EVALUATE = ("evaluate", "--run-dir", "{run}", "--data-dir", "data", "--language", "both", "--json", "scores.json")
SEARCH = ("search", "--run-dir", "{run}", "--images", "data/images", "a red picture")
IMPORT = ("import-captions", "--out", "data", "--english", "captions")
HUGE = str(10**400)  # no float, and no number of 64 bits


@dataclass(frozen=True)
class Sound:
    """What is undamaged, made once: a dataset, a checkpoint, a finished run, and the recall to expect."""

    folder: Path
    model: tuple[CLIP, SimpleTokenizer] | None
    checkpoint: dict[str, Any]
    finished: dict[str, Any]
    scores: dict[str, dict[str, float]]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def command(self, words: tuple[str, ...]) -> list[str]:
        """The words of a command line, with the places of what is sound filled in."""
        return [word.replace("{run}", str(self.folder / "run")).replace("{data}", str(self.data)) for word in words]


@dataclass(frozen=True)
class Stage:
    """A case's own folder, in which its command runs, beside what is sound."""

    folder: Path
    sound: Sound

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def write(self, name: str, content: bytes | str) -> Path:
        """A file of the case, with the folders above it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
        return path


Make = Callable[[Stage], object]
Pixels = np.ndarray[Any, Any]
Check = Callable[[Stage], None]


@dataclass(frozen=True)
class Case:
    """A damaged input, what is done with it, and what must come of that."""

    group: str
    name: str
    make: Make
    act: tuple[str, ...] | Make  # a command line, or a call of the library
    refused: bool
    words: tuple[str, ...]  # that the complaint, or else the output, must hold
    check: Check = lambda stage: None
    creates: frozenset[str] = frozenset()  # what a handled case may leave behind
    code: int = 2
    flag: tuple[str, str] | None = None  # the command and its flag that has a wrong value

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"


CASES: list[Case] = []

# What the loops below run over; mypy would hold each name to the first type that it meets.
content: Any
options: Any
changes: Any
words: Any
make: Any
value: Any


def refuse(group: str, name: str, make: Make, act: tuple[str, ...] | Make, *words: str) -> None:
    """A case that must end with one line holding `words`."""
    CASES.append(Case(group, name, make, act, True, words))


def handle(
    group: str,
    name: str,
    make: Make,
    check: Check,
    act: tuple[str, ...] | Make = EVALUATE,
    *words: str,
    creates: tuple[str, ...] = ("scores.json",),
) -> None:
    """A case that must work, with `check` to say what that means."""
    CASES.append(Case(group, name, make, act, False, words, check, frozenset(creates), code=0))


# --------------------------------------------------------------------------------------------- what is sound

_COLOURS = {"red": ("红", (214, 40, 40)), "green": ("绿", (46, 150, 66)), "blue": ("蓝", (38, 84, 200))}
QUARTERS = np.zeros((32, 32, 3), dtype=np.uint8)  # four colours: turned or mirrored it is another picture
QUARTERS[:16, :16], QUARTERS[:16, 16:] = (220, 30, 30), (30, 200, 30)
QUARTERS[16:, :16], QUARTERS[16:, 16:] = (30, 30, 220), (230, 230, 30)


def records(**changes: Any) -> list[dict[str, Any]]:
    """The records of the sound dataset: four pictures in `test`, the same in `train`; `changes` go into the first."""
    captions = [("four quarters of different colours", "四个颜色不同的方块")]
    captions += [(f"a {english} picture", f"一张{chinese}色的图") for english, (chinese, _) in _COLOURS.items()]
    plain = [
        {"image_path": f"images/{number}.png", "text": [english], "text_zh": [chinese], "split": split}
        for split in ("test", "train")
        for number, (english, chinese) in enumerate(captions)
    ]
    return [plain[0] | changes, *plain[1:]]


def draw(data: Path) -> None:
    """The four pictures of the dataset."""
    (data / "images").mkdir(parents=True)
    Image.fromarray(QUARTERS).save(data / "images/0.png")
    for number, (_, colour) in enumerate(_COLOURS.values(), 1):
        Image.new("RGB", (32, 32), colour).save(data / f"images/{number}.png")


def pipe(name: str) -> Make:
    """A named pipe in place of a file: whoever opens it to read waits until another opens it to write."""

    def make(stage: Stage) -> None:
        path = stage.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)

    return make


def dataset(content: Any = records) -> Make:
    """The sound pictures, and `content` in place of the sound dataset.json; what is large is made by a call."""

    def make(stage: Stage) -> None:
        draw(stage.data)
        made = content() if callable(content) else content
        stage.write("data/dataset.json", made if isinstance(made, bytes) else json.dumps(made, ensure_ascii=False))

    return make


def make_sound(folder: Path) -> Sound:
    """Draw the dataset, make the checkpoint, train the run, and measure."""
    nothing = Sound(folder, None, {}, {}, {})
    dataset()(Stage(folder, nothing))
    tokenizer = tokenizer_of(nothing.data)
    save_checkpoint(folder / "run/checkpoints/best_model.pt", small_model(tokenizer), tokenizer)
    scores, finished = folder / "scores.json", folder / "finished"
    assert main(nothing.command((*EVALUATE[:4], "{data}", *EVALUATE[5:-1], str(scores)))) == 0
    assert main(nothing.command((*TRAIN[:2], "{data}", "--run-dir", str(finished), *SMALL))) == 0
    return Sound(
        folder,
        load_model(folder / "run"),
        load_checkpoint(folder / "run/checkpoints/best_model.pt"),
        load_checkpoint(finished / "checkpoints/epoch_1.pt"),
        json.loads(scores.read_text()),
    )


def read(data: Path) -> list[tuple[Any, ...]]:
    """All that a dataset says: captions, splits, and the pixels of the pictures."""
    return [(one.captions, one.split, np.array(load_image(one.image_path)).tolist()) for one in read_records(data)]


def recalls_as_the_sound_one(stage: Stage) -> None:
    """Not a digit of the recall is another."""
    assert json.loads((stage.folder / "scores.json").read_text()) == stage.sound.scores


def recalls_something(stage: Stage) -> None:
    """Words or pixels are not those of the sound dataset, and the recall is a share all the same."""
    scores = json.loads((stage.folder / "scores.json").read_text())
    assert set(scores) == {"en", "zh"}
    assert all(0 <= value <= 1 for values in scores.values() for value in values.values())
    assert scores["zh"].keys() == stage.sound.scores["zh"].keys()


def reads_as_the_sound_one(stage: Stage) -> None:
    """Every caption, every split and every pixel is that of the sound dataset, and so is the recall."""
    recalls_as_the_sound_one(stage)
    assert read(stage.data) == read(stage.sound.data)


# ---------------------------------------------------------------------------------------------- dataset.json

GOOD = json.dumps(records(), ensure_ascii=False)
for name, content in {
    "empty file": b"",
    "zero bytes": bytes(1000),
    "UTF-16": GOOD.encode("utf-16"),
    "UTF-32": GOOD.encode("utf-32"),
    "GB18030, as Chinese Windows writes it": GOOD.encode("gb18030"),
    "a byte that is no UTF-8": GOOD.encode().replace(b"red", b"r\xe9d"),
    "trailing comma in the list": f"{GOOD[:-1]},]".encode(),
    "trailing comma in a record": GOOD.replace("}", ",}").encode(),
    "cut in the middle": GOOD.encode()[: len(GOOD) // 2],
    "quotes of Python": repr(records()).encode(),
    "comment": f"// pictures\n{GOOD}".encode(),
    "a record per line without a list": "\n".join(json.dumps(record) for record in records()).encode(),
    "written twice": (GOOD * 2).encode(),
    "line break within a caption": GOOD.replace("a red", "a\nred").encode(),
    "NaN": GOOD.replace('"test"', "NaN", 1).encode(),
    "Infinity": GOOD.replace('"test"', "-Infinity", 1).encode(),
    "duplicate keys": GOOD.replace('"split"', '"text": ["another"], "split"', 1).encode(),
    "number of 5,000 digits": GOOD.replace('"test"', "9" * 5000, 1).encode(),
    "deep nesting": b"[" * 100_000 + b"]" * 100_000,
    "50 MB line of brackets": lambda: b"[" * 50_000_000,
}.items():
    refuse("dataset.json", name, dataset(content), TRAIN, "dataset.json", "JSON")
for name, content in {"object": {}, "empty list": [], "number": 3, "string": "[]", "null": b"null"}.items():
    refuse("dataset.json", f"wrong type at the top: {name}", dataset(content), TRAIN, "list of records")
for name, changes, words in [
    ("wrong type: path", {"image_path": 7}, ["image_path", "must be a path"]),
    ("wrong type: path in a list", {"image_path": ["images/0.png"]}, ["image_path", "must be a path"]),
    ("wrong type: text", {"text": 3.5}, ["text", "string"]),
    ("wrong type: text in an object", {"text": {"en": "red"}}, ["text", "string"]),
    ("wrong type: one text of several", {"text": ["red", None]}, ["text", "string"]),
    ("wrong type: text_zh", {"text_zh": True}, ["text_zh", "string"]),
    ("wrong type: split", {"split": 1}, ["split", "string"]),
    ("wrong type: label", {"label": ["red"]}, ["label", "string"]),
]:
    refuse("dataset.json", name, dataset(records(**changes)), TRAIN, "1 faults", "record 0", *words)
refuse(
    "dataset.json",
    "50 MB line in a caption",
    dataset(lambda: records(text="long " * 10_000_000)),
    TRAIN,
    "1 faults",
    "record 0, text",
    "50,000,000 characters",
)
for depth in range(900, 1001, 20):  # here and there Python's recursion ends
    nested = GOOD.replace('"test"', "[" * depth + "]" * depth, 1).encode()
    refuse("dataset.json", f"deep nesting, {depth} within a record", dataset(nested), TRAIN, "dataset.json")
refuse("dataset.json", "wrong type: record", dataset([*records(), "x", None]), TRAIN, "record 8", "record 9", "object")
refuse("dataset.json", "a thousand faults", dataset([1] * 1000), TRAIN, "1000 faults", "record 19", "+980")
refuse("dataset.json", "not there", lambda stage: draw(stage.data), TRAIN, "create-dataset --out data")
refuse("dataset.json", "folder", lambda stage: (stage.data / "dataset.json").mkdir(parents=True), TRAIN, "dataset.json")
refuse("dataset.json", "pipe that nobody writes to", pipe("data/dataset.json"), TRAIN, "ordinary file")

for name, content in {
    "BOM": GOOD.encode("utf-8-sig"),
    "line ends of Windows": json.dumps(records(), indent=4).replace("\n", "\r\n").encode(),
    "fields of others": [record | {"id": 7, "size": {"w": 1e300}, "Text": None} for record in records()],
}.items():
    handle("dataset.json", name, dataset(content), reads_as_the_sound_one)
handle(
    "dataset.json",
    "50 MB line in a field of others",
    dataset(lambda: records(note="x" * 50_000_000)),
    recalls_as_the_sound_one,
)


# ------------------------------------------------------------------------------------------------- pictures


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """The picture's file in this form."""
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def png(width: int, height: int, depth: int, kind: int, pixels: bytes, extra: bytes = b"") -> bytes:
    """A PNG from its parts; `pixels`, packed, need not be as many as the header says."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def chunk(name: bytes, content: bytes) -> bytes:
    """A part of a PNG, with its checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def zeros(count: int) -> bytes:
    """So many zero bytes, packed a megabyte at a time."""
    packer = zlib.compressobj(1)
    parts = [packer.compress(bytes(min(10**6, count - start))) for start in range(0, count, 10**6)]
    return b"".join([*parts, packer.flush()])


def bmp(width: int, height: int) -> bytes:
    """The header of a BMP, and no pixels."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def dds(flags: int) -> bytes:
    """The header of a DDS texture with these flags of its pixels."""
    return b"DDS " + struct.pack("<7I44x8I20x", 124, 0, 8, 8, 0, 0, 0, 32, flags, 0, 0, 0, 0, 0, 0)


def picture(content: bytes | Callable[[], bytes], name: str = "first.png") -> Make:
    """The sound dataset with `content` as the file of its first picture; what is large is made by a call."""

    def make(stage: Stage) -> None:
        dataset(records(image_path=f"images/{name}"))(stage)
        stage.write(f"data/images/{name}", content() if callable(content) else content)

    return make


def cut(form: str, suffix: str, **options: Any) -> Make:
    """Nine records more: a picture cut off after each tenth of its length."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), form, **options)

    def make(stage: Stage) -> None:
        more = [
            records(image_path=f"images/cut{tenth}.{suffix}", text=f"noise {tenth}", text_zh=f"杂色{tenth}")[0]
            for tenth in range(1, 10)
        ]
        dataset([*records(), *more])(stage)
        for tenth, record in enumerate(more, 1):
            stage.write(f"data/{record['image_path']}", whole[: len(whole) * tenth // 10])

    return make


for form, options in {
    "PNG": {},
    "JPEG": {"quality": 95},
    "progressive JPEG": {"progressive": True, "quality": 95},
    "GIF": {},
    "WebP": {"lossless": True},
    "BMP": {},
    "TIFF": {},
}.items():
    suffix = form.split()[-1].lower()
    words = ["9 faults", *(f"cut{tenth}.{suffix}" for tenth in range(1, 10))]
    refuse("pictures", f"truncated at every tenth: {form}", cut(suffix, suffix, **options), EVALUATE, *words)

SOLID = encoded(Image.new("RGB", (32, 32), "red"), "PNG")
for name, content in {
    "zero bytes long": b"",
    "of zero bytes": bytes(500),
    "of random bytes": np.random.default_rng(1).bytes(5000),
    "HTML saved as JPEG": b"<!DOCTYPE html><html><title>404 Not Found</title></html>",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>',
    "signature of PNG only": SOLID[:8],
    "signature of JPEG only": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "PNG without width": png(0, 32, 8, 2, zeros(32)),
    "PNG with a wrong checksum": SOLID.replace(b"IDAT", b"IDAT\x00", 1),
    "PNG without pixels": png(32, 32, 8, 2, zeros(0)),
    "PNG whose text unpacks to 300 MB": lambda: png(
        32, 32, 8, 2, zeros(32 * 97), chunk(b"zTXt", b"x\0\0" + zeros(300_000_000))
    ),
    "DDS of no known kind": dds(0),
}.items():
    refuse("pictures", name, picture(content, "first.jpg"), EVALUATE, "1 faults", "first.jpg")
for name, content in {
    "30,000 x 30,000 declared, PNG": png(30_000, 30_000, 8, 2, zeros(1000)),
    "30,000 x 30,000 declared, BMP": bmp(30_000, 30_000),
    "12,000 x 12,000 declared, PNG": png(12_000, 12_000, 8, 2, zeros(1000)),
}.items():
    refuse("pictures", name, picture(content), EVALUATE, "1 faults", "record 0", "first.png", "too large")


def shows(expected: Pixels, name: str = "first.png", tolerance: int = 0) -> Check:
    """The first picture has these pixels in the middle of each quarter (a JPEG blurs the edges)."""

    def check(stage: Stage) -> None:
        found = load_image(stage.data / "images" / name)
        height, width, _ = expected.shape
        assert (found.width, found.height) == (width, height)
        for y in (height // 4, 3 * height // 4):
            for x in (width // 4, 3 * width // 4):
                difference = np.array(found.getpixel((x, y))) - expected[y, x]
                assert abs(difference).max() <= tolerance, (x, y, difference)

    return check


def both(*checks: Check) -> Check:
    """All of these."""

    def check(stage: Stage) -> None:
        for one in checks:
            one(stage)

    return check


WHOLE = Image.fromarray(QUARTERS)
CLEAR = WHOLE.copy()  # its first quarter can be seen through
CLEAR.putalpha(Image.fromarray(np.where(np.indices((32, 32)).max(axis=0) < 16, 0, 255).astype(np.uint8)))
ON_WHITE = QUARTERS.copy()
ON_WHITE[:16, :16] = 255
MOVING: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", (32, 32), "black")], "duration": 100}
PALETTE = WHOLE.quantize(8)
SEEN_THROUGH = {"transparency": PALETTE.getpixel((0, 0))}
EXACT = both(reads_as_the_sound_one, shows(QUARTERS))
GREY = np.asarray(WHOLE.convert("L"))


def rows(pixels: Pixels) -> bytes:
    """The pixels as a PNG packs them: each row after a zero."""
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))


def exif(orientation: int) -> Image.Exif:
    """A tag that tells how the camera was held."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


for name, content in {
    "wrong extension: PNG as jpg": encoded(WHOLE, "PNG"),
    "wrong extension: GIF as jpg": encoded(PALETTE, "GIF"),
    "wrong extension: BMP as jpg": encoded(WHOLE, "BMP"),
    "animated PNG": encoded(WHOLE, "PNG", **MOVING),
    "animated WebP": encoded(WHOLE, "WEBP", lossless=True, **MOVING),
    "animated GIF": encoded(PALETTE, "GIF", **MOVING),
    "TIFF of several pages": encoded(WHOLE, "TIFF", **MOVING),
    "palette": encoded(PALETTE, "PNG"),
    "16-bit colour": png(32, 32, 16, 2, rows(QUARTERS.astype(">u2") * 257)),
    "EXIF orientation 9, which is none": encoded(WHOLE, "PNG", exif=exif(9)),
    "broken EXIF": encoded(WHOLE, "PNG", exif=b"Exif\0\0MM\0*garbage"),
    "broken ICC profile": encoded(WHOLE, "PNG", icc_profile=b"no profile at all"),
    "ICC profile that does not unpack": png(32, 32, 8, 2, rows(QUARTERS), chunk(b"iCCP", b"x\0\0garbage")),
    "something after its end": encoded(WHOLE, "PNG") + bytes(10_000),
}.items():
    handle("pictures", name, picture(content, "first.jpg"), both(reads_as_the_sound_one, shows(QUARTERS, "first.jpg")))
for name, content, shown, tolerance in [
    ("wrong extension: JPEG as png", encoded(WHOLE, "JPEG", quality=100), QUARTERS, 6),
    ("1 x 1", encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"), np.array([[[1, 2, 3]]]), 0),
    ("1 x 5,000", encoded(Image.new("RGB", (1, 5000), (1, 2, 3)), "PNG"), np.full((5000, 1, 3), (1, 2, 3)), 0),
    ("CMYK JPEG", encoded(WHOLE.convert("CMYK"), "JPEG", quality=100), QUARTERS, 6),
    ("CMYK TIFF", encoded(WHOLE.convert("CMYK"), "TIFF"), QUARTERS, 2),
    ("16-bit grey", png(32, 32, 16, 0, rows(GREY.astype(">u2") * 257)), np.stack([GREY] * 3, -1), 0),
    (
        "1-bit",
        encoded(WHOLE.convert("L").point(lambda grey: 255 * (grey > 90), "1"), "PNG"),
        np.stack([255 * (GREY > 90)] * 3, -1),
        0,
    ),
    ("transparency", encoded(CLEAR, "PNG"), ON_WHITE, 0),
    ("transparent WebP", encoded(CLEAR, "WEBP", lossless=True), ON_WHITE, 0),
    (
        "grey with transparency",
        encoded(CLEAR.convert("LA"), "PNG"),
        np.where(ON_WHITE == 255, 255, np.stack([GREY] * 3, -1)),
        0,
    ),
    ("16-bit colour with transparency", png(32, 32, 16, 6, rows(np.asarray(CLEAR).astype(">u2") * 257)), ON_WHITE, 0),
    ("palette with transparency, PNG", encoded(PALETTE, "PNG", **SEEN_THROUGH), ON_WHITE, 0),
    ("palette with transparency, GIF", encoded(PALETTE, "GIF", **SEEN_THROUGH), ON_WHITE, 0),
    (
        "one colour transparent",
        png(32, 32, 8, 2, rows(QUARTERS), chunk(b"tRNS", struct.pack(">HHH", *QUARTERS[0, 0].tolist()))),
        ON_WHITE,
        0,
    ),
    ("broken ICC profile, JPEG", encoded(WHOLE, "JPEG", quality=100, icc_profile=b"none"), QUARTERS, 6),
]:
    handle("pictures", name, picture(content), shows(shown, tolerance=tolerance))

handle(
    "pictures",
    "98 megapixels, and transparent",
    picture(lambda: png(9900, 9900, 8, 6, zeros(9900 * (4 * 9900 + 1)))),
    recalls_something,
)

# The standard says of each orientation on which sides of the picture shown row 0 and column 0 belong.
STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda shown: shown,
    2: lambda shown: shown[:, ::-1],
    3: lambda shown: shown[::-1, ::-1],
    4: lambda shown: shown[::-1],
    5: lambda shown: shown.swapaxes(0, 1),
    6: lambda shown: shown.swapaxes(0, 1)[::-1],
    7: lambda shown: shown.swapaxes(0, 1)[::-1, ::-1],
    8: lambda shown: shown.swapaxes(0, 1)[:, ::-1],
}
for orientation, turned in STORED.items():
    stored = Image.fromarray(np.ascontiguousarray(turned(QUARTERS)))
    content = encoded(stored, "PNG", exif=exif(orientation))
    handle("pictures", f"EXIF orientation {orientation}, PNG", picture(content), EXACT)
    content = encoded(stored, "JPEG", exif=exif(orientation), quality=100)
    handle("pictures", f"EXIF orientation {orientation}, JPEG", picture(content), shows(QUARTERS, tolerance=6))


def with_rubbish(stage: Stage) -> None:
    """A folder of photos among which not all are photos."""
    dataset()(stage)
    for name, content in {"html.jpg": b"<html>", "empty.png": b"", "huge.png": bmp(30_000, 30_000)}.items():
        stage.write(f"data/images/deep/{name}", content)
    stage.write("data/images/notes.txt", "no picture")
    (stage.data / "images/folder.jpg").mkdir()
    (stage.data / "images/circle.jpg").symlink_to("circle.jpg")


handle(
    "pictures",
    "rubbish in a folder that is searched",
    with_rubbish,
    lambda stage: None,
    SEARCH,
    "3 damaged",
    "0.png",
    "1.png",
    "2.png",
    "3.png",
    creates=(),
)
refuse(
    "pictures",
    "nothing but rubbish in a folder that is searched",
    lambda stage: stage.write("data/images/0.png", b"x"),
    SEARCH,
    "no readable picture",
    "1 damaged",
)


# ---------------------------------------------------------------------------------------------------- paths


def moved(path: str, link: str | None = None) -> Make:
    """The first record points to `path`, where a copy of the picture is, or a link to a copy at `link`."""

    def make(stage: Stage) -> None:
        dataset(records(image_path=path))(stage)
        place = stage.data / path
        place.parent.mkdir(parents=True, exist_ok=True)
        (stage.data / (link or path)).write_bytes((stage.data / "images/0.png").read_bytes())
        if link:
            place.symlink_to(os.path.relpath(stage.data / link, place.parent))

    return make


def points_to(path: str) -> Make:
    """The first record points to `path`, and the picture is where it was."""
    return dataset(records(image_path=path))


def in_the_way(make_there: Callable[[Path], object]) -> Make:
    """Something stands where the first picture should be."""

    def make(stage: Stage) -> None:
        dataset()(stage)
        (stage.data / "images/0.png").unlink()
        make_there(stage.data / "images/0.png")

    return make


for name, path in {
    "..": "../0.png",
    ".. on the way": "images/../../data/../0.png",
    "link out of the folder": "images/out.png",
    "folder that is a link out of the folder": "away/0.png",
}.items():

    def leads_out(stage: Stage, path: str = path) -> None:
        points_to(path)(stage)
        (stage.data / "images/0.png").rename(stage.folder / "0.png")
        (stage.data / "images/out.png").symlink_to(stage.folder / "0.png")
        (stage.data / "away").symlink_to("..")

    refuse("paths", name, leads_out, TRAIN, "record 0, image_path", "leads out of the data folder")
for name, make in {
    "absolute, and nothing of that name in images": points_to("/etc/passwd"),
    "of Windows, and nothing of that name in images": points_to("C:\\photos\\cat.png"),
    "on the web": points_to("https://example.org/0.png"),
    "home": points_to("~/0.png"),
    "escaped as on the web": points_to("images/%30.png"),
    "5,000 characters": points_to("images/" + "x" * 5000 + ".png"),
    "half a surrogate pair": dataset(json.dumps(records(image_path="images/\ud83d.png")).encode()),
    "line break and bell": points_to("images/\n\a.png"),
    "folder itself": points_to("images"),
    "directory in place of a file": in_the_way(Path.mkdir),
    "link to nowhere": in_the_way(lambda path: path.symlink_to("nowhere.png")),
    "link to itself": in_the_way(lambda path: path.symlink_to(path.name)),
    "pipe in place of a file": in_the_way(os.mkfifo),
}.items():
    refuse("paths", name, make, TRAIN, "record 0, image_path")
for path in ("", " ", "images/0.png\0"):
    refuse("paths", f"no path: {path!r}", points_to(path), TRAIN, "record 0, image_path", "must be a path")

for name, path in {
    "with a dot": "./images/0.png",
    "two slashes": "images//0.png",
    ".. that stays inside": "images/../images/0.png",
    "Windows separators": "images\\0.png",
    "absolute of another machine": "/home/someone/0.png",
    "Windows drive": "D:\\photos\\0.png",
    "Windows share": "\\\\server\\photos\\0.png",
}.items():
    handle("paths", name, points_to(path), reads_as_the_sound_one)
for name, path in {
    "Chinese name": "图片/四个方块.png",
    "emoji name": "images/🐱‍👤🇨🇳.png",
    "spaces": "images/ a  b .png",
    "line break": "images/a\nb.png",
    "right-to-left name": "images/\u202eתמונה.png",
}.items():
    handle("paths", name, moved(path), reads_as_the_sound_one)
handle("paths", "link within the folder", moved("images/link.png", "other.png"), reads_as_the_sound_one)
handle(
    "paths", "data folder that is a link", lambda stage: stage.data.symlink_to(stage.sound.data), reads_as_the_sound_one
)
if Path(__file__).with_name("CORPUS.PY").exists():  # a disk for which both are the same
    handle("paths", "case differences", points_to("Images/0.PNG"), reads_as_the_sound_one)
else:
    refuse("paths", "case differences", points_to("Images/0.PNG"), TRAIN, "record 0", "there is no picture")


# -------------------------------------------------------------------------------------------------- captions


def captioned(*texts: str) -> Make:
    """The first record has these captions; JSON's escapes bear what UTF-8 does not."""

    def make(stage: Stage) -> None:
        draw(stage.data)
        stage.write("data/dataset.json", json.dumps(records(text=list(texts))))

    return make


def holds_the_same_words(stage: Stage) -> None:
    """Cut into words, the captions are those of the sound dataset; hence the recall."""
    recalls_as_the_sound_one(stage)
    for found, wanted in zip(read_records(stage.data), read_records(stage.sound.data), strict=True):
        assert [SimpleTokenizer.tokenize_text(text) for text in found.captions["en"]] == [
            SimpleTokenizer.tokenize_text(text) for text in wanted.captions["en"]
        ]


for name, text in {
    "empty": "",
    "only spaces": " \t\u3000\n",
    "only punctuation": "...!?。，「」——",
    "only emoji": "🐱🐶👨‍👩‍👧🇨🇳",
    "only control characters": "\0\x01\x1b\x7f\x85",
    "only characters without width": "\u200b\u200d\ufeff\u202e",
    "only accents": "\u0301\u0300",
    "unpaired surrogates only": "\ud83d",
    "only code points of nobody": "\U0010ffff\ufffe\ue000",
}.items():
    refuse("captions", name, captioned(text), TRAIN, "1 faults", "record 0, text", "holds no word")
    refuse("captions", f"{name}, beside a good one", captioned("fine", text), TRAIN, "record 0, text", "holds no word")
refuse("captions", "none in English", captioned(), EVALUATE, "1 records have no text (such as 0.png)")
refuse("captions", "none at all", dataset(records(text=[], text_zh=[])), TRAIN, "record 0, text", "caption is missing")
refuse("captions", "100,001 characters", captioned("x" * (MAX_CAPTION + 1)), TRAIN, "record 0, text", "too long")

CAPTION = records()[0]["text"][0]
for name, text in {
    "100,000 characters": CAPTION + " ." * ((MAX_CAPTION - len(CAPTION)) // 2),
    "control characters": CAPTION.replace(" ", "\0\x1b\x07"),
    "unpaired surrogates": CAPTION.replace(" ", " \udc31\ud83d "),
    "right-to-left override": f"\u202e{CAPTION}\u202c",
    "between emoji": CAPTION.replace(" ", "🐱👨‍👩‍👧"),
    "full width, as Chinese keyboards type": "".join(
        chr(ord(letter) + 0xFEE0) if letter.isalpha() else letter for letter in CAPTION
    ),
    "capitals and punctuation": f"«{CAPTION.upper()}»!",
    "of several lines": CAPTION.replace(" ", "\r\n\u2028"),
}.items():
    handle("captions", name, captioned(text), holds_the_same_words)
for name, text in {
    "100,000 characters of words": "ab " * (MAX_CAPTION // 3),
    "100,000 characters in one word": "x" * MAX_CAPTION,
    "100,000 characters of Chinese": "图" * MAX_CAPTION,
    "right-to-left": "ארבעה ריבועים أربعة مربعات",
    "mixed scripts": "four 四 τέσσερα четыре चार ๔ 넷 よっつ",
    "words of nobody's vocabulary": "qwertz uiop",
}.items():
    handle("captions", name, captioned(text), recalls_something)
handle(
    "captions",
    "unpaired surrogates, printed",
    captioned(f"{CAPTION} \ud83d"),
    lambda stage: None,
    ("train", "--test-only", "--run-dir", "{run}", "--data-dir", "data"),
    f"{CAPTION} \\ud83d",
    creates=(),
)


# ----------------------------------------------------------------------------------------------- checkpoints

WITH_RUN = ("evaluate", "--run-dir", "run", "--data-dir", "{data}", "--language", "both", "--json", "scores.json")
BEST = "run/checkpoints/best_model.pt"


def kept(content: Any, name: str = BEST, **options: Any) -> bytes:
    """What torch.save makes of it."""
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def changed(change: Callable[[dict[str, Any]], object], lean: bool = True) -> Make:
    """The sound checkpoint with a change; `lean` without the image encoder's 45 MB, where they are not looked at."""

    def make(stage: Stage) -> None:
        content = stage.sound.checkpoint
        weights = {name: one for name, one in content["weights"].items() if not lean or "image_encoder" not in name}
        parts = copy.deepcopy({name: part for name, part in content.items() if name != "weights"})
        altered = {**parts, "weights": weights}
        change(altered)
        stage.write(BEST, kept(altered))

    return make


class Evil:
    """A pickle that would run code when read: the folder would be the trace of it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("EVIL_RAN",)


def file(content: bytes | Callable[[Stage], bytes], name: str = BEST) -> Make:
    """A checkpoint of these bytes."""
    return lambda stage: stage.write(name, content(stage) if callable(content) else content)


def cut_after(tenths: int) -> Make:
    """The sound checkpoint's beginning."""

    def make(stage: Stage) -> None:
        whole = (stage.sound.folder / BEST).read_bytes()
        stage.write(BEST, whole[: len(whole) * tenths // 10])

    return make


def part(key: str, **values: Any) -> Make:
    """The sound checkpoint with these values in one of its parts."""

    def change(content: dict[str, Any]) -> None:
        (content["architecture"]["text_encoder"] if key == "text_encoder" else content[key]).update(values)

    return changed(change)


def without(key: str) -> Make:
    """The sound checkpoint without one of its parts."""
    return changed(lambda content: content.pop(key))


def listed(key: str) -> Make:
    """The sound checkpoint with a list in place of one of its parts."""
    return changed(lambda content: content.update({key: [1]}))


def weights(change: Callable[[dict[str, Any]], object]) -> Make:
    """The sound checkpoint, all of it, with a change in its weights."""
    return changed(lambda content: change(content["weights"]), lean=False)


def expanded(content: dict[str, Any]) -> None:
    """An embedding of 4 TB whose numbers are one number in the file."""
    content["weights"]["text_encoder.token_embedding.weight"] = torch.zeros(1).expand(10**6, 10**6)
    content["architecture"]["text_encoder"] |= {"vocab_size": 10**6, "hidden_size": 10**6}


def packed(stage: Stage) -> None:
    """A checkpoint with a part of 300 MB that is packed into next to nothing."""
    stream = io.BytesIO(kept({**stage.sound.checkpoint, "weights": {"a": torch.zeros(9)}}))
    with (
        zipfile.ZipFile(stream) as parts,
        zipfile.ZipFile(stage.write(BEST, b""), "w", zipfile.ZIP_DEFLATED, True, 1) as bomb,
    ):
        for name in parts.namelist():
            bomb.writestr(name, parts.read(name) if "/data/" not in name else bytes(300_000_000))


def set_nameless(content: dict[Any, Any]) -> None:
    """Weights under a number."""
    content[7] = torch.zeros(2)


def set_first(value: float, name: str = "text_projection.weight") -> Callable[[dict[str, Any]], object]:
    """One of the weights becomes `value`."""

    def change(content: dict[str, Any]) -> None:
        content[name] = content[name].clone()
        content[name].view(-1)[0] = value

    return change


for tenths in range(10):
    refuse("checkpoints", f"truncated after {tenths} tenths", cut_after(tenths), WITH_RUN, "best_model.pt is damaged")
for name, content in {
    "random bytes": np.random.default_rng(2).bytes(100_000),
    "random bytes after a zip's signature": b"PK\x03\x04" + np.random.default_rng(3).bytes(100_000),
    "text": "这不是检查点".encode(),
    "pickle that would run code": kept({"format": Evil()}),
    "pickle that would run code, old form": kept({"format": Evil()}, _use_new_zipfile_serialization=False),
    "pickle that would run code, bare": pickle.dumps(Evil(), protocol=2),
    "other model: a module": kept(torch.nn.Linear(2, 2)),
}.items():
    refuse("checkpoints", name, file(content), WITH_RUN, "best_model.pt is damaged")
refuse("checkpoints", "pickle that would run code, deep inside", part("training", x=[Evil()]), WITH_RUN, "is damaged")
for name, content in {
    "other model: its weights only": {"weight": torch.zeros(2, 2)},
    "other model: of the note": {"model_state_dict": {}, "epoch": 3},
    "other content: a tensor": torch.zeros(3),
    "other version": {"format": "clipedu checkpoint 2"},
    "other version: a number": {"format": 1},
}.items():
    refuse("checkpoints", name, file(kept(content)), WITH_RUN, "none of our checkpoints")
for key in ("architecture", "weights", "vocabulary", "training"):
    refuse("checkpoints", f"without its {key}", without(key), WITH_RUN, "is damaged", key)
    refuse("checkpoints", f"{key} in a list", listed(key), WITH_RUN, "is damaged", key)
for value in (0, -8, 10**12, 10**400, 2.5, float("nan"), "32", None, [32]):
    for key in ("vocab_size", "hidden_size", "num_layers", "num_heads"):
        make = part("text_encoder", **{key: value})
        refuse("checkpoints", f"absurd size: {key}={value!r:.20}", make, WITH_RUN, "is damaged")
    for key in ("shared_embedding_dim", "image_size"):
        refuse(
            "checkpoints",
            f"absurd size: {key}={value!r:.20}",
            part("architecture", **{key: value}),
            WITH_RUN,
            "is damaged",
        )
for name, make in {
    "absurd size that the weights seem to have": changed(expanded),
    "absurd size: image_size=32.0": part("architecture", image_size=32.0),
    "absurd size: image_size=1,000,000": part("architecture", image_size=10**6),
    "absurd dropout": part("text_encoder", dropout=2.0),
    "pooling that there is not": part("text_encoder", pooling="max"),
    "part that there is not": part("text_encoder", evil=1),
    "text encoder in a list": part("architecture", text_encoder=[1]),
    "image encoder that there is not": part("architecture", image_encoder="resnet9000"),
    "image encoder that is none": part("architecture", image_encoder=["resnet18"]),
    "vocabulary larger than the text encoder's embedding": part(
        "vocabulary", words=[f"w{number}" for number in range(500)]
    ),
    "vocabulary with a word twice": part("vocabulary", words=["red", "red"]),
    "vocabulary of no words": part("vocabulary", words=None),
    "vocabulary of negative size": part("vocabulary", vocab_size=-5),
}.items():
    refuse("checkpoints", name, make, WITH_RUN, "best_model.pt is damaged")
refuse("checkpoints", "absurd size once it is unpacked", packed, WITH_RUN, "best_model.pt is damaged (BadZipFile)")
BIAS = "text_encoder.transformer.norm.bias"
for name, make, word in [
    ("weights missing", weights(lambda one: one.pop(BIAS)), "belong to another model"),
    ("weights missing: all of the image encoder", changed(lambda content: None), "belong to another model"),
    ("additional weights", weights(lambda one: one.update(more=torch.zeros(2))), "belong to another model"),
    ("additional weights without a name", weights(set_nameless), "another model"),
    ("weights of another shape", weights(lambda one: one.update({BIAS: torch.zeros(7)})), "belong to another model"),
    ("weights that are no tensor", weights(lambda one: one.update({BIAS: [0.0] * 32})), "belong to another model"),
    (
        "weights of another image encoder",
        changed(lambda one: one["architecture"].update(image_encoder="resnet34"), lean=False),
        "belong to another model",
    ),
    ("NaN weights", weights(set_first(float("nan"))), "hold NaN"),
    ("infinite weights", weights(set_first(float("inf"), "image_projection.weight")), "hold NaN or infinity"),
]:
    refuse("checkpoints", name, make, WITH_RUN, "best_model.pt", word)

# A run that goes on meets the rest of its checkpoint.
GO_ON = ("train", "--data-dir", "{data}", "--run-dir", "run", *SMALL)
EPOCH = "run/checkpoints/epoch_1.pt"


def shrunken_optimizer(stage: Stage) -> None:
    """As many averages as the model has weights, each of one number."""
    optimizer = copy.deepcopy(stage.sound.finished["training"]["optimizer"])
    for averages in optimizer["state"].values():
        averages["exp_avg"] = torch.zeros(1)
    unfinished(optimizer=optimizer)(stage)


def unfinished(**changes: Any) -> Make:
    """The finished run's checkpoint with changes in what it keeps for going on."""

    def make(stage: Stage) -> None:
        stage.write(EPOCH, kept({**stage.sound.finished, "training": stage.sound.finished["training"] | changes}))

    return make


for name, make, word in [
    ("going on from random bytes", file(np.random.default_rng(4).bytes(5000), EPOCH), "is damaged"),
    ("going on without an optimizer", unfinished(optimizer={}), "is damaged"),
    (
        "going on with an optimizer of another model",
        unfinished(optimizer={"state": {}, "param_groups": []}),
        "is damaged",
    ),
    ("going on with an optimizer of other sizes", shrunken_optimizer, "is damaged"),
    ("going on with a history of nothing", unfinished(history=[]), "is damaged"),
    ("going on with other settings", unfinished(optimizer=None, config={}), "belongs to another run"),
    ("going on with other data", unfinished(optimizer=None, data="0"), "data differs"),
]:
    refuse("checkpoints", name, make, GO_ON, "epoch_1.pt", word)
handle(
    "checkpoints",
    "checkpoint in place of a run's folder",
    dataset(),
    reads_as_the_sound_one,
    (*EVALUATE[:2], f"{{run}}/{BEST.removeprefix('run/')}", *EVALUATE[3:]),
    "best_model.pt",
)
refuse(
    "checkpoints",
    "folder in place of a checkpoint",
    lambda stage: (stage.folder / BEST).mkdir(parents=True),
    WITH_RUN,
    "train first",
)
refuse("checkpoints", "pipe that nobody writes to", pipe(BEST), WITH_RUN, "train first")


# ---------------------------------------------------------------------------------------------- vocabularies


def load_vocabulary(stage: Stage) -> None:
    """What a reader of notebook 01 does."""
    SimpleTokenizer.load(stage.folder / "vocab.json")


for name, content in {
    "empty file": b"",
    "cut in the middle": b'{"vocab_size": 50, "words": ["a", "b',
    "UTF-16": '{"vocab_size": 50, "words": ["红"]}'.encode("utf-16"),
    "GB18030": '{"vocab_size": 50, "words": ["红"]}'.encode("gb18030"),
    "random bytes": np.random.default_rng(5).bytes(1000),
    "deep nesting": b"[" * 100_000,
    "list": b'["a", "b"]',
    "number": b"3",
    "null": b"null",
    "text": b'"words"',
    "without words": b'{"vocab_size": 50}',
    "without a size": b'{"words": ["a"]}',
    "words in one string": b'{"vocab_size": 50, "words": "abc"}',
    "words in an object": b'{"vocab_size": 50, "words": {"a": 1, "b": 2}}',
    "word that is a number": b'{"vocab_size": 50, "words": ["a", 3]}',
    "word that is a list": b'{"vocab_size": 50, "words": ["a", ["b"]]}',
    "word twice": b'{"vocab_size": 50, "words": ["a", "b", "a"]}',
    "special token as a word": b'{"vocab_size": 50, "words": ["a", "[CLS]"]}',
    "size too small for the words": b'{"vocab_size": 6, "words": ["a", "b", "c"]}',
    "size of no word": b'{"vocab_size": 4, "words": []}',
    "negative size": b'{"vocab_size": -5, "words": []}',
    "size NaN": b'{"vocab_size": NaN, "words": ["a"]}',
    "infinite size": b'{"vocab_size": 1e999, "words": ["a"]}',
    "size in a string": b'{"vocab_size": "50", "words": ["a"]}',
}.items():
    refuse("vocabularies", name, file(content, "vocab.json"), load_vocabulary, "vocab")
refuse("vocabularies", "not there", lambda stage: None, load_vocabulary, "vocab.json")
refuse("vocabularies", "pipe that nobody writes to", pipe("vocab.json"), load_vocabulary, "ordinary file")
refuse("vocabularies", "folder", lambda stage: (stage.folder / "vocab.json").mkdir(), load_vocabulary, "vocab.json")


# --------------------------------------------------------------------------------------------- caption files


def caption_file(content: bytes | str | Callable[[], str], **others: bytes | str) -> Make:
    """Pictures 1.jpg to 4.jpg, a file of captions (what is large is made by a call), and others."""

    def make(stage: Stage) -> None:
        (stage.data / "images").mkdir(parents=True)
        for number in range(1, 5):
            Image.new("RGB", (8, 8)).save(stage.data / f"images/{number}.jpg")
        for name, one in {"captions": content() if callable(content) else content, **others}.items():
            stage.write(name, one)

    return make


TOKENS = "1.jpg#0\ta red circle\n1.jpg#1\ta circle\n2.jpg#0\ta blue square\n"


def imports(captions: dict[str, list[str]]) -> Check:
    """The dataset.json that was written can be read, and holds these captions."""

    def check(stage: Stage) -> None:
        found = {record.image_path.name: record.captions["en"] for record in read_records(stage.data)}
        assert found == captions

    return check


BOTH = {"1.jpg": ["a red circle", "a circle"], "2.jpg": ["a blue square"]}


def coco(images: Any, annotations: Any) -> str:
    """A file as COCO publishes its captions."""
    return json.dumps({"images": images, "annotations": annotations})


for name, content in {
    "empty file": "",
    "UTF-16": TOKENS.encode("utf-16"),
    "GB18030": "1.jpg#zhc#0\t红色的圆\n".encode("gb18030"),
    "random bytes": np.random.default_rng(6).bytes(1000),
    "form that is not known": "hello\nworld\n",
    "line cut off": f"{TOKENS}3.jp",
    "table with a line of one column": "image,caption\n1.jpg,a circle\nonly\n",
    "table with bars, and a line of one column": "image| number| caption\n1.jpg| 0| a circle\nonly\n",
    "JSON cut off": coco([], [])[:20],
    "deep nesting": "[" * 100_000,
    "COCO: list": "[]",
    "COCO: no images": '{"annotations": []}',
    "COCO: images are null": coco(None, []),
    "COCO: images are numbers": coco([1], []),
    "COCO: image without a name": coco([{"id": 1}], []),
    "COCO: annotation of no image": coco([], [{"image_id": 1, "caption": "x"}]),
    "COCO: annotation without a caption": coco([{"id": 1, "file_name": "1.jpg"}], [{"image_id": 1}]),
    "COCO: caption of null": coco([{"id": 1, "file_name": "1.jpg"}], [{"image_id": 1, "caption": None}]),
    "COCO: name that is a number": coco([{"id": 1, "file_name": 1}], [{"image_id": 1, "caption": "x"}]),
    "COCO: id that is a list": coco([{"id": [1], "file_name": "1.jpg"}], [{"image_id": [1], "caption": "x"}]),
    "caption of 50 MB": lambda: f"1.jpg#0\t{'long ' * 10_000_000}\n",
}.items():
    refuse("caption files", name, caption_file(content), IMPORT, "captions")
for name, content in {
    "no caption holds a word": "1.jpg#0\t...\n2.jpg#0\t🐱\n",
    "pictures that are not there": "5.jpg#0\ta cat\n",
    "names that lead out of the folder": "../captions.jpg#0\ta cat\n../../etc.jpg#0\tx\n",
    "heading only": "image,caption\n",
}.items():
    refuse("caption files", name, caption_file(content), IMPORT, "none of the pictures")
refuse("caption files", "name of 5,000 characters", caption_file("x" * 5000 + ".jpg#0\ta cat\n"), IMPORT)
SPLIT = (*IMPORT, "--val", "split")
for name, content in {"empty": "", "of other pictures": "9.jpg\n", "blank lines": "\n\n"}.items():
    refuse("caption files", f"split file: {name}", caption_file(TOKENS, split=content), SPLIT, "none of the pictures")
refuse(
    "caption files", "split file: UTF-16", caption_file(TOKENS, split="1.jpg".encode("utf-16")), SPLIT, "cannot read"
)


def with_dataset_json(stage: Stage) -> None:
    """Somebody's work is there already."""
    caption_file(TOKENS)(stage)
    stage.write("data/dataset.json", "precious")


refuse("caption files", "dataset.json is there already", with_dataset_json, IMPORT, "move it away")

MARKED = {"1.jpg": ["a red\x85circle", "a\u2028circle"], "2.jpg": ["a blue\x0csquare"]}
for name, content, captions in [
    ("BOM", b"\xef\xbb\xbf" + TOKENS.encode(), BOTH),
    ("line ends of Windows", TOKENS.replace("\n", "\r\n"), BOTH),
    ("blank lines and captions without a word", f"\n{TOKENS}\n2.jpg#1\t...\n3.jpg#0\t。\n", BOTH),
    (
        "marks that Unicode takes for line ends",
        "".join(
            f"{picture}#{number}\t{text}\n" for picture, texts in MARKED.items() for number, text in enumerate(texts)
        ),
        MARKED,
    ),
    ("commas and quotes", 'image,caption\n1.jpg,"a ""red"", round circle"\n', {"1.jpg": ['a "red", round circle']}),
    (
        "half a surrogate pair",
        coco([{"id": 1, "file_name": "1.jpg"}], [{"image_id": 1, "caption": "a \ud83d cat"}]),
        {"1.jpg": ["a \ud83d cat"]},
    ),
]:
    handle("caption files", name, caption_file(content), imports(captions), IMPORT, creates=("data/dataset.json",))


# --------------------------------------------------------------------------------------------- command lines


def commands() -> dict[str, argparse.ArgumentParser]:
    """Every command's parser, from the parser itself."""
    groups = [action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(groups[0].choices)


def flags() -> dict[tuple[str, str], argparse.Action]:
    """Every flag of every command; the sentences, which have no dashes, by the name that --help gives them."""
    return {
        (command, str(action.option_strings[-1] if action.option_strings else action.metavar)): action
        for command, parser in commands().items()
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction)
    }


def surroundings(stage: Stage) -> None:
    """What a command line may find: a sound dataset, a file, captions, a folder, a pipe."""
    dataset()(stage)
    stage.write("file", "precious")
    stage.write("captions", "0.jpg#0\ta picture\n")
    (stage.folder / "empty").mkdir()
    os.mkfifo(stage.folder / "pipe")


SOUND_LINES = {
    "train": TRAIN,
    "evaluate": EVALUATE,
    "search": SEARCH,
    "create-dataset": ("create-dataset", "--out", "new"),
    "import-captions": ("import-captions", "--out", "new", "--english", "captions"),
    "check": ("check",),
}
NOT_FINITE = ("nan", "inf", "-inf", "1e999")
COUNTS = ("0", "-1", HUGE, str(2**64))
WRONG: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {  # flag -> words of the complaint -> wrong values
    ("train", "--data-dir"): {"create-dataset --out": ("nowhere", "", "empty"), "dataset.json": ("file",)},
    ("train", "--run-dir"): {"cannot write file": ("file", "file/below")},
    ("train", "--embedding-dim"): {"shared_embedding_dim=": COUNTS},
    ("train", "--text-layers"): {"num_layers=": COUNTS},
    ("train", "--dropout"): {"dropout=": (*NOT_FINITE, "-0.1", "1")},
    ("train", "--vocab-size"): {"vocab_size=": ("0", "4", "-5000")},
    ("train", "--epochs"): {"epochs=": COUNTS},
    ("train", "--batch-size"): {"batch_size=": (*COUNTS, "1")},
    ("train", "--lr"): {"lr=": (*NOT_FINITE, "-0.001")},
    ("train", "--image-lr-scale"): {"image_lr_scale=": (*NOT_FINITE, "-1")},
    ("train", "--weight-decay"): {"weight_decay=": (*NOT_FINITE, "-1")},
    ("train", "--warmup"): {"warmup=": (*NOT_FINITE, "-0.1", "1")},
    ("train", "--clip-norm"): {"clip_norm=": (*NOT_FINITE, "-1")},
    ("train", "--image-size"): {"image_size=": (*COUNTS, "15", "1000000")},
    ("train", "--seed"): {"seed=": ("-1", str(2**32), str(2**64), HUGE)},
    ("evaluate", "--run-dir"): {"train first": ("nowhere", "empty"), "is damaged": ("file",)},
    ("evaluate", "--data-dir"): {"create-dataset --out": ("nowhere",), "dataset.json": ("file",)},
    ("evaluate", "--split"): {"there are {'test': 4, 'train': 4}": ("val", "", "TEST", "../test")},
    ("evaluate", "--json"): {
        "no ordinary file": ("empty", ".", "", "pipe", "/"),
        "cannot write file/below": ("file/below",),
    },
    ("search", "--run-dir"): {"train first": ("nowhere", "empty"), "is damaged": ("file",)},
    ("search", "--images"): {"is no folder": ("nowhere", "file"), "no readable picture": ("empty",)},
    ("search", "--top"): {"--top": ("0", "-1", "-" + HUGE)},
    ("search", "--out"): {
        "no ordinary file": ("empty", ".", "", "pipe", "/"),
        "cannot write file/below": ("file/below",),
    },
    ("search", "SENTENCE"): {"holds no word": ("", " ", "。", "🐱", "\x1b")},
    ("create-dataset", "--out"): {"not empty": ("data", "file", "", ".", "/"), "cannot write": ("file/below",)},
    ("create-dataset", "--seed"): {"--seed": ("1.5", "nan")},
    ("import-captions", "--out"): {"none of the pictures": ("nowhere", "file", "empty")},
    **{
        ("import-captions", f"--{name}"): {"cannot read": ("nowhere", "empty", "")}
        for name in ("english", "chinese", "train", "val", "test")
    },
}
for command in ("train", "evaluate", "search"):
    devices = ("abacus", "cuda:9", "cuda:-1", "meta", "", "0", "cpu:x")
    WRONG[command, "--device"] = {"cannot be used on this computer": devices}


def wrong(flag: tuple[str, str], words: tuple[str, ...], *expected: str) -> None:
    """A sound command line, then a flag with a wrong value, which must be refused."""
    name = f"{flag[0]} {' '.join(words)[:40]!r}"
    make = surroundings
    CASES.append(Case("command lines", name, make, (*SOUND_LINES[flag[0]], *words), True, expected, flag=flag))


for flag, by_words in WRONG.items():
    for expected, values in by_words.items():
        for value in values:
            if flag[1] == "SENTENCE":
                wrong(flag, (value,), expected)
            elif value.startswith("-"):
                wrong(flag, (f"{flag[1]}={value}",), expected)
            else:
                wrong(flag, (flag[1], value), expected)
wrong(("train", "--freeze-image-encoder"), ("--freeze-image-encoder",), "learn nothing")
wrong(("train", "--test-only"), ("--test-only", "--run-dir", "nowhere"), "train first")
for flag, action in flags().items():  # what argparse itself refuses, for a flag that is added tomorrow as well
    if action.type in (int, float):
        wrong(flag, (flag[1], "many"), flag[1], "many")
        wrong(flag, (flag[1], ""), flag[1])
    if action.choices:
        wrong(flag, (flag[1], "nonsense"), flag[1], "nonsense")
    if action.nargs == 0:
        wrong(flag, (f"{flag[1]}=yes",), flag[1], "yes")
    elif action.option_strings:
        wrong(flag, (flag[1],), flag[1], "expected one argument")
for name, words, expected in [
    ("no command", (), "COMMAND"),
    ("command that there is not", ("dance",), "dance"),
    ("flag that there is not", ("train", "--no-such-flag"), "no-such-flag"),
    ("flag cut short", ("train", "--epo", "3"), "--epo"),
    ("word too many", ("check", "this"), "this"),
    ("search without a sentence", ("search", "--images", "data/images"), "SENTENCE"),
    ("create-dataset without --out", ("create-dataset",), "--out"),
    ("import-captions without captions", ("import-captions", "--out", "data"), "--english"),
    ("emoji into a folder in use", ("create-dataset", "--kind", "emoji", "--out", "data"), ""),
    (
        "--resume never, and a run is there",
        (*GO_ON[:4], "{run}/../finished", *SMALL, "--resume", "never"),
        "--force-train",
    ),
    ("--force-train, and a file stands there", (*TRAIN, "--run-dir", "file", "--force-train"), "cannot write file"),
]:
    refuse("command lines", name, surroundings, words, expected)
refuse(
    "command lines",
    "create-dataset into the folder one is in",
    lambda stage: None,
    ("create-dataset", "--out", "."),
    "give it a name",
)


def many_pictures(stage: Stage) -> None:
    """One more than can be drawn."""
    for number in range(MAX_DRAWN + 1):
        stage.write(f"data/images/{number}.png", SOLID)


refuse(
    "command lines",
    "search --out of more than can be drawn",
    many_pictures,
    (*SEARCH, "--top", HUGE, "--out", "hits.png"),
    "at most 300 hits",
)


def is_a_picture(stage: Stage) -> None:
    """The hits were drawn."""
    with Image.open(stage.folder / "hits.png") as picture:
        assert picture.size[0] > 300


ODD_SENTENCES = ("$\\frac{a}$ red_{", "一个 🐱 \x07 $x$", "half \udcff pair")
handle(
    "command lines",
    "search: sentences with formulas and half characters",
    surroundings,
    is_a_picture,
    (*SEARCH[:-1], "--top", HUGE, "--out", "hits.png", *ODD_SENTENCES),
    "half \\udcff pair",
    creates=("hits.png",),
)
CASES.append(
    Case(
        "command lines",
        "check --data-dir nowhere",
        surroundings,
        ("check", "--data-dir", "nowhere"),
        False,
        ("[FAIL] sample_data", "create-dataset"),
        flag=("check", "--data-dir"),
    )
)


if __name__ == "__main__":
    for case in CASES:
        print(f"{'refused' if case.refused else 'handled'}  {case}")
    print(f"{len(CASES)} cases", file=sys.stderr)
