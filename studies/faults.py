"""The fault corpus: hundreds of damaged or unusual inputs, in addition to those in tests/test_faults.py.

    python -m studies.faults                    # takes a few minutes
    python -m studies.faults --only pictures paths

Damaged input must be refused with one line and leave nothing behind; unusual input must work, with exactly the same
recall. Each case must also finish within half a minute and use less than 2 GiB of extra memory (measured on Linux).
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import pickle
import re
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from clipedu import SimpleTokenizer
from clipedu.commands.arguments import build_parser
from clipedu.commands.main import main as clipedu
from clipedu.data.pictures import load_image
from clipedu.data.records import MAX_CAPTION, read_records
from studies.report import RESULTS, write_result
from tests import test_faults
from tests.test_faults import (
    BEST,
    BIAS,
    CAPTIONS,
    CREATE,
    EPOCH,
    EVALUATE,
    EVALUATE_RUN,
    GOOD,
    IMPORT,
    PHOTO,
    PICTURES,
    QUARTERS,
    RESUME,
    SEARCH,
    SPLIT,
    TOKENS,
    TRAIN,
    Act,
    Action,
    Case,
    Content,
    Evil,
    Reference,
    Workspace,
    bmp,
    caption_file,
    checkpoint,
    command_line,
    dataset,
    encoded,
    examine,
    files,
    load_vocabulary,
    make_reference,
    nothing,
    picture,
    records,
    refused,
    saved,
    text_encoder,
)

MOST_SECONDS, MOST_BYTES = 30, 2 * 2**30
STATUS = Path("/proc/self/status")
CASES = [*test_faults.CASES]
Pixels = np.ndarray[Any, Any]


def refuse(group: str, act: Act, word: str, inputs: Mapping[str, Action]) -> None:
    """Add cases that must each be refused with one line that contains `word`."""
    CASES.extend(refused(group, name, make, act, word) for name, make in inputs.items())


def accept(
    group: str,
    check: Action,
    inputs: Mapping[str, Action],
    act: Act = EVALUATE,
    *words: str,
    creates: tuple[str, ...] = ("scores.json",),
) -> None:
    """Add cases that must each work, as judged by `check`."""
    CASES.extend(Case(group, name, make, act, words, False, check, creates, 0) for name, make in inputs.items())


def same_recall(workspace: Workspace) -> None:
    """The recall is exactly that of the intact dataset."""
    scores = json.loads((workspace.folder / "scores.json").read_text())
    assert scores == json.loads((workspace.reference.folder / "scores.json").read_text())


def some_recall(workspace: Workspace) -> None:
    """Words or pixels differ from the intact dataset, but the recall is still between 0 and 1."""
    scores = json.loads((workspace.folder / "scores.json").read_text())
    assert set(scores) == {"en", "zh"}
    assert all(0 <= value <= 1 for values in scores.values() for value in values.values())


def same_dataset(workspace: Workspace) -> None:
    """Every caption, split and pixel equals that of the intact dataset, and so does the recall."""
    same_recall(workspace)
    actual, expected = (read_records(folder / "data") for folder in (workspace.folder, workspace.reference.folder))
    for record, intact in zip(actual, expected, strict=True):
        assert (record.captions, record.split) == (intact.captions, intact.split)
        assert load_image(record.image_path).tobytes() == load_image(intact.image_path).tobytes()


def same_words(workspace: Workspace) -> None:
    """The captions have the same words as those of the intact dataset, and so the recall is the same."""
    same_recall(workspace)
    actual, expected = (read_records(folder / "data") for folder in (workspace.folder, workspace.reference.folder))
    for record, intact in zip(actual, expected, strict=True):
        texts, intact_texts = record.captions["en"], intact.captions["en"]
        assert list(map(SimpleTokenizer.tokenize_text, texts)) == list(map(SimpleTokenizer.tokenize_text, intact_texts))


# ---------------------------------------------------------------------------------------------- dataset.json

refuse(
    "dataset.json",
    TRAIN,
    "dataset.json",
    {
        name: dataset(content)
        for name, content in {
            "empty file": b"",
            "zero bytes": bytes(1000),
            "UTF-32": GOOD.encode("utf-32"),
            "GB18030, as Chinese Windows writes it": GOOD.encode("gb18030"),
            "a byte that is not UTF-8": GOOD.encode().replace(b"red", b"r\xe9d"),
            "trailing comma in a record": GOOD.replace("}", ",}").encode(),
            "cut in the middle": GOOD.encode()[: len(GOOD) // 2],
            "Python quotes": repr(records()).encode(),
            "comment": f"// pictures\n{GOOD}".encode(),
            "a record per line without a list": "\n".join(json.dumps(record) for record in records()).encode(),
            "written twice": (GOOD * 2).encode(),
            "line break within a caption": GOOD.replace("a red", "a\nred").encode(),
            "Infinity": GOOD.replace('"test"', "-Infinity", 1).encode(),
            "number of 5,000 digits": GOOD.replace('"test"', "9" * 5000, 1).encode(),
            "50 MB of brackets": lambda: b"[" * 50_000_000,
            "empty list": [],
            "a number": 3,
            "a string": "[]",
            "null": b"null",
            "items that are not records": [*records(), "x", None],
            "a caption of 50 MB": lambda: records(text="long " * 10_000_000),
            # Around Python's recursion limit.
            **{f"nesting of {n}": GOOD.replace('"test"', "[" * n + "]" * n, 1).encode() for n in range(900, 1001, 20)},
        }.items()
    },
)
refuse(
    "records",
    TRAIN,
    "record 0",
    {
        f"{key}={value!r:.30}": dataset(records(**{key: value}))
        for key, value in [
            ("image_path", ["images/0.png"]),
            ("text", {"en": "red"}),
            ("text_zh", True),
            ("text", ""),
            ("text", " \t\u3000\n"),
            ("text", "...!?。，「」——"),
            ("text", "🐱🐶👨‍👩‍👧🇨🇳"),
            ("text", "\0\x01\x1b\x7f\x85"),
            ("text", "\u200b\u200d\ufeff\u202e"),
            ("text", "\u0301\u0300"),
            ("text", "\ud83d"),
            ("text", "\U0010ffff\ufffe\ue000"),
            ("text", ["fine", "..."]),
        ]
    },
)
accept(
    "dataset.json",
    same_dataset,
    {
        "byte-order mark": dataset(GOOD.encode("utf-8-sig")),
        "Windows line endings": dataset(json.dumps(records(), indent=4).replace("\n", "\r\n").encode()),
        "unknown fields": dataset([record | {"id": 7, "size": {"w": 1e300}, "Text": None} for record in records()]),
    },
)
accept("dataset.json", same_recall, {"50 MB in an unknown field": dataset(lambda: records(note="x" * 50_000_000))})

CAPTION = CAPTIONS[0][0]
accept(
    "captions",
    same_words,
    {
        name: dataset(records(text=[text]))
        for name, text in {
            "100,000 characters": CAPTION + " ." * ((MAX_CAPTION - len(CAPTION)) // 2),
            "control characters": CAPTION.replace(" ", "\0\x1b\x07"),
            "halves of emoji": CAPTION.replace(" ", " \udc31\ud83d "),
            "right-to-left override": f"\u202e{CAPTION}\u202c",
            "between emoji": CAPTION.replace(" ", "🐱👨‍👩‍👧"),
            "full width, as Chinese keyboards type": "".join(
                chr(ord(letter) + 0xFEE0) if letter.isalpha() else letter for letter in CAPTION
            ),
            "capitals and punctuation": f"«{CAPTION.upper()}»!",
            "on several lines": CAPTION.replace(" ", "\r\n\u2028"),
        }.items()
    },
)
accept(
    "captions",
    some_recall,
    {
        name: dataset(records(text=[text]))
        for name, text in {
            "100,000 characters of words": "ab " * (MAX_CAPTION // 3),
            "100,000 characters in one word": "x" * MAX_CAPTION,
            "100,000 characters of Chinese": "图" * MAX_CAPTION,
            "right-to-left": "ארבעה ריבועים أربعة مربعات",
            "mixed scripts": "four 四 τέσσερα четыре चार ๔ 넷 よっつ",
            "unknown words": "qwertz uiop",
        }.items()
    },
)
accept(
    "captions",
    nothing,
    {"half an emoji, printed": dataset(records(text=f"{CAPTION} \ud83d"))},
    ("train", "--test-only", "--run-dir", "{run}", "--data-dir", "data"),
    f"{CAPTION} \\ud83d",
    creates=(),
)


# ------------------------------------------------------------------------------------------------- pictures


def chunk(name: bytes, content: bytes) -> bytes:
    """A part of a PNG, with its checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, depth: int, kind: int, pixels: bytes, extra: bytes = b"") -> bytes:
    """A PNG from its parts; `pixels`, compressed, need not be as many as the header says."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def zeros(count: int) -> bytes:
    """`count` zero bytes, compressed a megabyte at a time."""
    packer = zlib.compressobj(1)
    parts = [packer.compress(bytes(min(10**6, count - start))) for start in range(0, count, 10**6)]
    return b"".join([*parts, packer.flush()])


def rows(pixels: Pixels) -> bytes:
    """The pixels as a PNG packs them: each row preceded by a zero byte."""
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))


def cut(form: str, **options: Any) -> Action:
    """Nine more records, with a picture cut off after each tenth of its length."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), form, **options)
    contents = {f"images/cut{tenth}.{form}": whole[: len(whole) * tenth // 10] for tenth in range(1, 10)}
    more = [records(image_path=path)[0] for path in contents]
    return dataset([*records(), *more], {f"data/{path}": content for path, content in contents.items()})


FORMS: dict[str, dict[str, Any]] = {
    "png": {},
    "jpeg": {"quality": 95},
    "jpeg, progressive": {"progressive": True, "quality": 95},
    "gif": {},
    "webp": {"lossless": True},
    "bmp": {},
    "tiff": {},
}
for form, options in FORMS.items():
    refuse("pictures", EVALUATE, "9 faults", {f"cut at every tenth: {form}": cut(form.split(",")[0], **options)})

DDS = b"DDS " + struct.pack("<7I44x8I20x", 124, 0, 8, 8, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0)
BROKEN: dict[str, Content] = {
    "empty file": b"",
    "zero bytes": bytes(500),
    "random bytes": np.random.default_rng(1).bytes(5000),
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>',
    "PNG signature only": PICTURES[1][:8],
    "JPEG signature only": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "PNG without width": png(0, 32, 8, 2, zeros(32)),
    "PNG with a wrong checksum": PICTURES[1].replace(b"IDAT", b"IDAT\x00", 1),
    "PNG without pixels": png(32, 32, 8, 2, zeros(0)),
    "DDS of an unknown kind": DDS,
    "30,000 x 30,000, PNG": png(30_000, 30_000, 8, 2, zeros(1000)),
    "12,000 x 12,000, PNG": png(12_000, 12_000, 8, 2, zeros(1000)),
}
refuse(
    "pictures",
    EVALUATE,
    "1 fault",
    {name: picture(content, "first.jpg") for name, content in BROKEN.items()},
)


def shows(expected: Pixels, name: str = "first.png", tolerance: int = 0) -> Action:
    """Check the first picture's pixels in the middle of each quarter (a JPEG blurs the edges)."""

    def check(workspace: Workspace) -> None:
        loaded = load_image(workspace.folder / "data/images" / name)
        height, width, _ = expected.shape
        assert (loaded.width, loaded.height) == (width, height)
        for y in (height // 4, 3 * height // 4):
            for x in (width // 4, 3 * width // 4):
                difference = np.array(loaded.getpixel((x, y))) - expected[y, x]
                assert abs(difference).max() <= tolerance, (x, y, difference)

    return check


def tagged(orientation: int) -> Image.Exif:
    """An EXIF orientation tag."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


CLEAR = PHOTO.copy()  # its first quarter is transparent
CLEAR.putalpha(Image.fromarray(np.where(np.indices((32, 32)).max(axis=0) < 16, 0, 255).astype(np.uint8)))
ON_WHITE = QUARTERS.copy()
ON_WHITE[:16, :16] = 255
MOVING: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", (32, 32), "black")], "duration": 100}
PALETTE = PHOTO.quantize(8)
SEEN_THROUGH: dict[str, Any] = {"transparency": PALETTE.getpixel((0, 0))}
GREY = np.asarray(PHOTO.convert("L"))
BLACK_AND_WHITE = PHOTO.convert("L").point(lambda grey: 255 * (grey > 90), "1")
TRANSPARENT_COLOUR = chunk(b"tRNS", struct.pack(">HHH", *QUARTERS[0, 0].tolist()))
# For each orientation, the EXIF standard says which sides of the displayed picture row 0 and column 0 are on.
STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda displayed: displayed,
    2: lambda displayed: displayed[:, ::-1],
    3: lambda displayed: displayed[::-1, ::-1],
    4: lambda displayed: displayed[::-1],
    5: lambda displayed: displayed.swapaxes(0, 1),
    6: lambda displayed: displayed.swapaxes(0, 1)[::-1],
    7: lambda displayed: displayed.swapaxes(0, 1)[::-1, ::-1],
    8: lambda displayed: displayed.swapaxes(0, 1)[:, ::-1],
}
TURNED = {number: Image.fromarray(np.ascontiguousarray(turned(QUARTERS))) for number, turned in STORED.items()}
accept(
    "pictures",
    same_dataset,
    {
        name: picture(content, "first.jpg")
        for name, content in {
            "PNG named jpg": encoded(PHOTO),
            "GIF named jpg": encoded(PALETTE, "GIF"),
            "BMP named jpg": encoded(PHOTO, "BMP"),
            "animated PNG": encoded(PHOTO, "PNG", **MOVING),
            "animated WebP": encoded(PHOTO, "WEBP", lossless=True, **MOVING),
            "animated GIF": encoded(PALETTE, "GIF", **MOVING),
            "multi-page TIFF": encoded(PHOTO, "TIFF", **MOVING),
            "palette": encoded(PALETTE),
            "16-bit colour": png(32, 32, 16, 2, rows(QUARTERS.astype(">u2") * 257)),
            "EXIF orientation 9, which does not exist": encoded(PHOTO, exif=tagged(9)),
            "broken EXIF": encoded(PHOTO, exif=b"Exif\0\0MM\0*garbage"),
            "broken ICC profile": encoded(PHOTO, icc_profile=b"not a profile"),
            "ICC profile that does not unpack": png(32, 32, 8, 2, rows(QUARTERS), chunk(b"iCCP", b"x\0\0garbage")),
            "text that unpacks to 3 MB": png(32, 32, 8, 2, rows(QUARTERS), chunk(b"zTXt", b"x\0\0" + zeros(3_000_000))),
            "extra bytes after the end": encoded(PHOTO) + bytes(10_000),
            **{f"EXIF orientation {number}": encoded(TURNED[number], exif=tagged(number)) for number in STORED},
        }.items()
    },
)
DECODED: dict[str, tuple[bytes, Pixels, int]] = {  # file, pixels, tolerance
    "JPEG named png": (encoded(PHOTO, "JPEG", quality=100), QUARTERS, 6),
    "1 x 1": (encoded(Image.new("RGB", (1, 1), (1, 2, 3))), np.array([[[1, 2, 3]]]), 0),
    "1 x 5,000": (encoded(Image.new("RGB", (1, 5000), (1, 2, 3))), np.full((5000, 1, 3), (1, 2, 3)), 0),
    "CMYK JPEG": (encoded(PHOTO.convert("CMYK"), "JPEG", quality=100), QUARTERS, 6),
    "CMYK TIFF": (encoded(PHOTO.convert("CMYK"), "TIFF"), QUARTERS, 2),
    "16-bit grey": (png(32, 32, 16, 0, rows(GREY.astype(">u2") * 257)), np.stack([GREY] * 3, -1), 0),
    "1-bit": (encoded(BLACK_AND_WHITE), np.stack([255 * (GREY > 90)] * 3, -1), 0),
    "transparency": (encoded(CLEAR), ON_WHITE, 0),
    "transparent WebP": (encoded(CLEAR, "WEBP", lossless=True), ON_WHITE, 0),
    "grey with transparency": (
        encoded(CLEAR.convert("LA")),
        np.where(ON_WHITE == 255, 255, np.stack([GREY] * 3, -1)),
        0,
    ),
    "16-bit with transparency": (png(32, 32, 16, 6, rows(np.asarray(CLEAR).astype(">u2") * 257)), ON_WHITE, 0),
    "palette with transparency, PNG": (encoded(PALETTE, **SEEN_THROUGH), ON_WHITE, 0),
    "palette with transparency, GIF": (encoded(PALETTE, "GIF", **SEEN_THROUGH), ON_WHITE, 0),
    "one colour transparent": (png(32, 32, 8, 2, rows(QUARTERS), TRANSPARENT_COLOUR), ON_WHITE, 0),
    "broken ICC profile, JPEG": (encoded(PHOTO, "JPEG", quality=100, icc_profile=b"none"), QUARTERS, 6),
    **{
        f"EXIF orientation {number}, JPEG": (encoded(stored, "JPEG", exif=tagged(number), quality=100), QUARTERS, 6)
        for number, stored in TURNED.items()
    },
}
for name, (content, pixels, tolerance) in DECODED.items():
    accept("pictures", shows(pixels, tolerance=tolerance), {name: picture(content)})
accept(
    "pictures",
    some_recall,
    {"98 megapixels, and transparent": picture(lambda: png(9900, 9900, 8, 6, zeros(9900 * (4 * 9900 + 1))))},
)


def rubbish_among_photos(workspace: Workspace) -> None:
    """A folder that contains other things besides photos."""
    rubbish: dict[str, Content] = {"html.jpg": b"<html>", "empty.png": b"", "huge.png": bmp(30_000, 30_000)}
    rubbish |= {"notes.txt": "not a picture", "folder.jpg": None}
    dataset(records, {f"data/images/deep/{name}": content for name, content in rubbish.items()})(workspace)
    (workspace.folder / "data/images/circle.jpg").symlink_to("circle.jpg")


accept("pictures", nothing, {"rubbish among photos": rubbish_among_photos}, SEARCH, "left out: 4", "2.png", creates=())


# ---------------------------------------------------------------------------------------------------- paths


def moved(path: str, link: str | None = None) -> Action:
    """The first record points to `path`, where there is a copy of the picture, or a link to a copy at `link`."""

    def make(workspace: Workspace) -> None:
        dataset(records(image_path=path), {f"data/{link or path}": PICTURES[0]})(workspace)
        if link:
            place = workspace.folder / "data" / path
            place.symlink_to(os.path.relpath(workspace.folder / "data" / link, place.parent))

    return make


def leads_out(path: str) -> Action:
    """The first record points to a picture outside the data folder, through `..` or through a link."""

    def make(workspace: Workspace) -> None:
        dataset(records(image_path=path), {"0.png": PICTURES[0]})(workspace)
        (workspace.folder / "data/images/out.png").symlink_to(workspace.folder / "0.png")
        (workspace.folder / "data/away").symlink_to("..")

    return make


def in_its_place(create: Callable[[Path], object]) -> Action:
    """`create` puts something else where the first picture should be."""

    def make(workspace: Workspace) -> None:
        dataset()(workspace)
        (workspace.folder / "data/images/0.png").unlink()
        create(workspace.folder / "data/images/0.png")

    return make


OUT = ("../data/../0.png", "images/../../0.png", "images/out.png", "away/0.png")
refuse("paths", TRAIN, "the data folder", {path: leads_out(path) for path in OUT})
refuse(
    "paths",
    TRAIN,
    ", image_path: ",
    {
        **{
            f"{path!r:.40}": dataset(records(image_path=path))
            for path in (
                *("", " ", "images", "C:\\photos\\cat.png", "https://example.org/0.png", "~/0.png", "images/%30.png"),
                *("images/" + "x" * 5000 + ".png", "images/\n\a.png"),
            )
        },
        "a folder": in_its_place(Path.mkdir),
        "a link to nowhere": in_its_place(lambda path: path.symlink_to("nowhere.png")),
        "a link to itself": in_its_place(lambda path: path.symlink_to(path.name)),
    },
)
INSIDE = [
    *("./images/0.png", "images//0.png", "images/../images/0.png", "images\\0.png"),
    *("/home/someone/0.png", "D:\\photos\\0.png", "\\\\server\\photos\\0.png"),
]
NAMES = ("图片/四个方块.png", "images/🐱‍👤🇨🇳.png", "images/ a  b .png", "images/a\nb.png", "images/\u202eתמונה.png")
accept(
    "paths",
    same_dataset,
    {
        **{repr(path): dataset(records(image_path=path)) for path in INSIDE},
        **{repr(path): moved(path) for path in NAMES},
        "link within the folder": moved("images/link.png", "other.png"),
        "data folder that is a link": lambda workspace: (workspace.folder / "data").symlink_to(
            workspace.reference.folder / "data"
        ),
    },
)
OTHER_CASE = {"other case": dataset(records(image_path="Images/0.PNG"))}
if Path(__file__).with_name("FAULTS.PY").exists():  # a file system that ignores case
    accept("paths", same_dataset, OTHER_CASE)
else:
    refuse("paths", TRAIN, "does not exist", OTHER_CASE)


# ----------------------------------------------------------------------------------------------- checkpoints


def cut_after(tenths: int) -> Action:
    """The beginning of the intact checkpoint."""

    def make(workspace: Workspace) -> None:
        whole = (workspace.reference.folder / BEST).read_bytes()
        workspace.write(BEST, whole[: len(whole) * tenths // 10])

    return make


def shrunken_optimizer(workspace: Workspace) -> None:
    """The optimizer's averages for each weight, reduced to a single number."""
    optimizer = copy.deepcopy(workspace.reference.checkpoints[EPOCH]["training"]["optimizer"])
    for averages in optimizer["state"].values():
        averages["exp_avg"] = torch.zeros(1)
    checkpoint(EPOCH, training={"optimizer": optimizer})(workspace)


SIZES = (-8, 2.5, float("nan"), "32", None, [32])
PARTS = ("architecture", "weights", "vocabulary", "training")
refuse(
    "checkpoints",
    EVALUATE_RUN,
    f"{BEST} is damaged",
    {
        **{f"cut after {tenths} tenths": cut_after(tenths) for tenths in range(10)},
        "random bytes after a zip's signature": files({BEST: b"PK\x03\x04" + np.random.default_rng(3).bytes(100_000)}),
        "text": files({BEST: "这不是检查点"}),
        "pickle that runs code, bare": files({BEST: pickle.dumps(Evil(), protocol=2)}),
        "pickle that runs code, deep inside": checkpoint(training={"x": [Evil()]}),
        "a module": files({BEST: saved(torch.nn.Linear(2, 2))}),
        **{f"{name} in a list": checkpoint(BEST, **{name: [1]}) for name in PARTS},
        **{f"without its {name}": checkpoint(BEST, **{name: None}) for name in PARTS if name != "vocabulary"},
        **{
            f"{key}={value!r:.20}": text_encoder(**{key: value})
            for key in ("vocab_size", "hidden_size", "num_layers", "num_heads")
            for value in SIZES
        },
        **{
            f"shared_embedding_dim={value!r}": checkpoint(architecture={"shared_embedding_dim": value})
            for value in SIZES
        },
        "dropout=2.0": text_encoder(dropout=2.0),
        "unknown pooling": text_encoder(pooling="max"),
        "unknown part": text_encoder(evil=1),
        "image encoder in a list": checkpoint(architecture={"image_encoder": ["resnet18"]}),
        "vocabulary larger than the embedding": checkpoint(vocabulary={"words": [f"w{n}" for n in range(5001)]}),
        "vocabulary without words": checkpoint(vocabulary={"words": None}),
        "vocabulary of negative size": checkpoint(vocabulary={"vocab_size": -5}),
    },
)
refuse(
    "checkpoints",
    EVALUATE_RUN,
    "not a clipedu checkpoint",
    {
        "weights only": files({BEST: saved({"weight": torch.zeros(2, 2)})}),
        "a tensor": files({BEST: saved(torch.zeros(3))}),
        "a number as its version": files({BEST: saved({"format": 1})}),
    },
)
refuse(
    "checkpoints",
    EVALUATE_RUN,
    "belong to another model",
    {
        "additional weights": checkpoint(weights={"more": torch.zeros(2)}),
        "a list as a weight": checkpoint(weights={BIAS: [0.0] * 32}),
        "another image encoder": checkpoint(architecture={"image_encoder": "resnet34"}),
    },
)
INFINITE = {"infinite weights": checkpoint(weights={BIAS: torch.full((32,), torch.inf)})}
refuse("checkpoints", EVALUATE_RUN, "contain NaN or infinity", INFINITE)
refuse("checkpoints", EVALUATE_RUN, "train first", {"a folder in its place": files({BEST: None})})
refuse(
    "resuming",
    RESUME,
    "is damaged",
    {
        "with another model's optimizer": checkpoint(EPOCH, training={"optimizer": {"state": {}, "param_groups": []}}),
        "with an optimizer of other sizes": shrunken_optimizer,
    },
)
accept(
    "checkpoints",
    same_dataset,
    {"a checkpoint in place of a run's folder": dataset()},
    (*EVALUATE[:2], f"{{run}}/{BEST.removeprefix('run/')}", *EVALUATE[3:]),
    "best_model.pt",
)

# ---------------------------------------------------------------------------- vocabularies and caption files

VOCABULARIES: dict[str, Content] = {
    "cut in the middle": b'{"vocab_size": 50, "words": ["a", "b',
    "UTF-16": '{"vocab_size": 50, "words": ["红"]}'.encode("utf-16"),
    "GB18030": '{"vocab_size": 50, "words": ["红"]}'.encode("gb18030"),
    "random bytes": np.random.default_rng(5).bytes(1000),
    "a number": b"3",
    "null": b"null",
    "text": b'"words"',
    "without words": b'{"vocab_size": 50}',
    "without a size": b'{"words": ["a"]}',
    "words in one string": b'{"vocab_size": 50, "words": "abc"}',
    "words in an object": b'{"vocab_size": 50, "words": {"a": 1, "b": 2}}',
    "a word that is a list": b'{"vocab_size": 50, "words": ["a", ["b"]]}',
    "special token as a word": b'{"vocab_size": 50, "words": ["a", "[CLS]"]}',
    "negative size": b'{"vocab_size": -5, "words": []}',
    "size NaN": b'{"vocab_size": NaN, "words": ["a"]}',
    "infinite size": b'{"vocab_size": 1e999, "words": ["a"]}',
    "size in a string": b'{"vocab_size": "50", "words": ["a"]}',
    "folder": None,
}
refuse(
    "vocabularies",
    load_vocabulary,
    "vocab",
    {name: files({"vocab.json": content}) for name, content in VOCABULARIES.items()},
)


def coco(images: Any, annotations: Any) -> str:
    """A caption file in COCO's format."""
    return json.dumps({"images": images, "annotations": annotations})


ONE_IMAGE = [{"id": 1, "file_name": "1.jpg"}]
CAPTION_FILES: dict[str, Content] = {
    "empty file": "",
    "random bytes": np.random.default_rng(6).bytes(1000),
    "JSON cut off": coco([], [])[:20],
    "COCO: list": "[]",
    "COCO: images are null": coco(None, []),
    "COCO: images are numbers": coco([1], []),
    "COCO: image without a name": coco([{"id": 1}], []),
    "COCO: annotation without an image": coco([], [{"image_id": 1, "caption": "x"}]),
    "COCO: annotation without a caption": coco(ONE_IMAGE, [{"image_id": 1}]),
    "COCO: caption of null": coco(ONE_IMAGE, [{"image_id": 1, "caption": None}]),
    "COCO: id that is a list": coco([{"id": [1], "file_name": "1.jpg"}], [{"image_id": [1], "caption": "x"}]),
    "caption of 50 MB": lambda: f"1.jpg#0\t{'long ' * 10_000_000}\n",
    "name of 5,000 characters": "x" * 5000 + ".jpg#0\ta cat\n",
    "names that point outside the folder": "../captions.jpg#0\ta cat\n../../etc.jpg#0\tx\n",
    "heading only": "image,caption\n",
}
refuse("caption files", IMPORT, " | ", {name: caption_file(content) for name, content in CAPTION_FILES.items()})
SPLITS: dict[str, Content] = {
    "empty split": "",
    "split of blank lines": "\n\n",
}
refuse("caption files", SPLIT, " | ", {name: caption_file(TOKENS, {"split": text}) for name, text in SPLITS.items()})


def imports(captions: dict[str, list[str]]) -> Action:
    """Check that the dataset.json that was written can be read and contains these captions."""

    def check(workspace: Workspace) -> None:
        imported = {record.image_path.name: record.captions["en"] for record in read_records(workspace.folder / "data")}
        assert imported == captions

    return check


BOTH = {"1.jpg": ["a red circle", "a circle"], "2.jpg": ["a blue square"]}
MARKED = {"1.jpg": ["a red\x85circle", "a\u2028circle"], "2.jpg": ["a blue\x0csquare"]}
MARKED_LINES = "".join(f"{name}#{n}\t{text}\n" for name, texts in MARKED.items() for n, text in enumerate(texts))
IMPORTED: dict[str, tuple[bytes | str, dict[str, list[str]]]] = {
    "byte-order mark": (b"\xef\xbb\xbf" + TOKENS.encode(), BOTH),
    "Windows line endings": (TOKENS.replace("\n", "\r\n"), BOTH),
    "blank lines and captions without a word": (f"\n{TOKENS}\n2.jpg#1\t...\n3.jpg#0\t。\n", BOTH),
    "characters that Unicode treats as line endings": (MARKED_LINES, MARKED),
    "commas and quotes": ('image,caption\n1.jpg,"a ""red"", round circle"\n', {"1.jpg": ['a "red", round circle']}),
    "GB18030": ("1.jpg#zhc#0\t红色的圆\n".encode("gb18030"), {"1.jpg": ["红色的圆"]}),
    "a line of one column": ("image| number| caption\n1.jpg| 0| a circle\nonly\n", {"1.jpg": ["a circle"]}),
    "half an emoji": (coco(ONE_IMAGE, [{"image_id": 1, "caption": "a \ud83d cat"}]), {"1.jpg": ["a \ud83d cat"]}),
}
for name, (text, captions) in IMPORTED.items():
    accept("caption files", imports(captions), {name: caption_file(text)}, IMPORT, creates=("data/dataset.json",))

# --------------------------------------------------------------------------------------------- command lines

HUGE = str(10**400)  # too large for a float and for a 64-bit integer
COUNTS = ("0", "-1", HUGE, str(2**64))
NOT_FINITE = ("nan", "inf", "-inf", "1e999")
DEVICES = ("cuda:9", "cuda:-1", "meta", "", "0", "cpu:x")
WRONG: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = {  # command -> flag -> wrong values
    TRAIN: {
        "--data-dir": ("nowhere", "", "empty", "file"),
        "--run-dir": ("file/below",),
        **dict.fromkeys(("--embedding-dim", "--text-layers", "--epochs", "--batch-size", "--image-size"), COUNTS),
        **dict.fromkeys(("--lr", "--image-lr-scale", "--weight-decay", "--clip-norm"), (*NOT_FINITE, "-1")),
        **dict.fromkeys(("--dropout", "--warmup"), (*NOT_FINITE, "-0.1", "1")),
        "--vocab-size": ("0", "4", "-5000"),
        "--seed": ("-1", str(2**32), str(2**64), HUGE),
        "--device": DEVICES,
    },
    EVALUATE: {
        "--run-dir": ("nowhere", "empty", "file"),
        "--data-dir": ("nowhere", "file"),
        "--split": ("val", "", "../test"),
        "--json": ("empty", ".", "", "/", "file/below"),
        "--device": DEVICES,
    },
    SEARCH: {
        "--run-dir": ("nowhere", "empty", "file"),
        "--images": ("nowhere", "file", "empty"),
        "--top": ("0", "-1", "-" + HUGE),
        "--out": ("empty", ".", "", "/", "file/below"),
        "--device": DEVICES,
    },
    CREATE: {"--out": ("data", "file", "", "/", "file/below"), "--seed": ("1.5", "nan")},
    ("import-captions", "--out", "new", "--english", "captions"): {
        "--out": ("nowhere", "file", "empty"),
        **dict.fromkeys(("--english", "--chinese", "--train", "--val", "--test"), ("nowhere", "empty", "")),
    },
}
EXISTING = {case.name for case in CASES if case.group == "command lines"}
for command, flags in WRONG.items():
    for flag, values in flags.items():
        for value in values:
            case = command_line(command, f"{flag}={value}")
            CASES += [case] if case.name not in EXISTING else []
CASES += [command_line(SEARCH, sentence) for sentence in (" ", "🐱", "\x1b")]


def parser_cases() -> Iterator[Case]:
    """Values that argparse itself refuses, for every flag, including flags added later."""
    groups = [action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    for command, parser in groups[0].choices.items():
        for action in parser._actions:
            if isinstance(action, argparse._HelpAction) or not action.option_strings:
                continue
            flag = action.option_strings[-1]
            wrong = ["=many", "="] if action.type in (int, float) else []
            wrong += ["=nonsense"] if action.choices else ["=yes"] if action.nargs == 0 else []
            wrong += [""] if action.nargs != 0 else []
            yield from (command_line((command,), f"{flag}{value}", flag) for value in wrong)


CASES += parser_cases()
CASES += [
    refused("command lines", "unknown command", nothing, ("dance",), "dance"),
    refused("command lines", "abbreviated flag", nothing, ("train", "--epo", "3"), "--epo"),
    refused("command lines", "an extra word", nothing, ("check", "this"), "this"),
    refused("command lines", "emoji into data", dataset(), ("create-dataset", "--kind", "emoji", "--out", "data")),
]  # fmt: skip


def is_a_picture(workspace: Workspace) -> None:
    """The picture of the hits was drawn."""
    with Image.open(workspace.folder / "hits.png") as drawn:
        assert drawn.size[0] > 300


accept(
    "command lines",
    is_a_picture,
    {"search: sentences with formulas and half characters": dataset()},
    (*SEARCH[:-1], "--top", HUGE, "--out", "hits.png", "$\\frac{a}$ red_{", "一个 🐱 \x07 $x$", "half \udcff pair"),
    "half \\udcff pair",
    creates=("hits.png",),
)


# ------------------------------------------------------------------------------------------------ the study


def memory(name: str) -> int:
    """Bytes of memory that Linux reports for this process: VmRSS is the current value, VmHWM the peak."""
    match = re.search(rf"{name}:\s*(\d+) kB", STATUS.read_text())
    assert match is not None
    return int(match[1]) * 1024


def attempt(case: Case, reference: Reference, folder: Path) -> tuple[str, float, int]:
    """Run a case; return what is wrong ("" if nothing), the seconds, and the bytes of memory used in addition."""
    if STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before, start, problem = memory("VmRSS") if STATUS.exists() else 0, time.perf_counter(), ""
    try:
        examine(case, reference, folder)
    except Exception as error:  # any exception is a problem to report
        problem = f"{type(error).__name__}: {error}"
    seconds, grown = time.perf_counter() - start, memory("VmHWM") - before if STATUS.exists() else 0
    if seconds > MOST_SECONDS or grown > MOST_BYTES:
        problem += f" ({seconds:.0f} s, {grown / 2**20:.0f} MiB)"
    return problem, seconds, grown


def main() -> int:
    """Try every case and write the table."""
    groups = list(dict.fromkeys(case.group for case in CASES))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=groups, metavar="GROUP", default=groups)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    duplicates = [name for name, count in Counter(map(str, CASES)).items() if count > 1]
    assert not duplicates, f"duplicate cases: {duplicates}"
    lines = [
        "| 种类 · group | 被拒绝 · refused | 可用 · accepted | 问题 · problems | 最长用时 · longest | 内存 · memory |",
        "|---" * 6 + "|",
    ]
    problems = []
    with tempfile.TemporaryDirectory(prefix="clipedu_faults_") as name:
        reference = make_reference(Path(name) / "reference")
        words = reference.command((*EVALUATE[:4], "{data}", *EVALUATE[5:-1], f"{name}/reference/scores.json"))
        assert clipedu(words) == 0
        for group in options.only:
            cases = [case for case in CASES if case.group == group]
            attempts = [attempt(case, reference, Path(tempfile.mkdtemp(dir=name)) / "case") for case in cases]
            wrong = [f"{case}: {problem}" for case, (problem, _, _) in zip(cases, attempts, strict=True) if problem]
            count = sum(case.refused for case in cases)
            _, seconds, grown = (max(column) for column in zip(*attempts, strict=True))
            cells = group, count, len(cases) - count, len(wrong), f"{seconds:.1f} s", f"{grown / 2**20:.0f} MiB"
            lines.append(f"| {' | '.join(map(str, cells))} |")
            print(lines[-1], *wrong, sep="\n", flush=True)
            problems += wrong
    arguments = f"--only {' '.join(options.only)}" if options.only != groups else ""
    text = "\n".join([*lines, "", *(f"- `{problem[:300]}`" for problem in problems)])
    write_result("faults", arguments, text.strip(), options.results)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
