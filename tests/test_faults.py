"""Bad input, one case for each way of refusing it: exit code 2, one bilingual line, and nothing half-written.

Hundreds of further cases, and unusual input that must work: `python -m studies.faults`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

from clipedu import SimpleTokenizer, load_checkpoint, save_checkpoint
from clipedu.commands.main import USER_ERROR, main
from clipedu.commands.reports import MAX_DRAWN
from clipedu.data.records import MAX_CAPTION
from clipedu.ground.errors import ClipEduError
from tests.conftest import ROOT, small_model, tokenizer_of

SMALL = (
    *("--image-encoder", "tiny", "--pretrained", "none", "--image-size", "32"),
    *("--epochs", "1", "--batch-size", "2", "--embedding-dim", "16"),
)
TRAIN = ("train", "--data-dir", "data", "--run-dir", "new", *SMALL)
EVALUATE = ("evaluate", "--run-dir", "{run}", "--data-dir", "data", "--language", "both", "--json", "scores.json")
EVALUATE_RUN = ("evaluate", "--run-dir", "run", "--data-dir", "{data}", "--language", "both")
SEARCH = ("search", "--run-dir", "{run}", "--images", "data/images", "a red picture")
CREATE = ("create-dataset", "--out", "new")
IMPORT = ("import-captions", "--out", "data", "--english", "captions")
SPLIT = (*IMPORT, "--val", "split")
RESUME = ("train", "--data-dir", "{data}", "--run-dir", "run", *SMALL)
BEST, EPOCH = "run/checkpoints/best_model.pt", "run/checkpoints/epoch_1.pt"

Content = bytes | str | None | Callable[[], bytes | str]  # of a file; None for a folder; a callable for large content


@dataclass(frozen=True)
class Reference:
    """The intact input, made once: a dataset, and checkpoints by their path in a case."""

    folder: Path
    checkpoints: dict[str, dict[str, Any]] = field(default_factory=dict)

    def command(self, words: Iterable[str]) -> list[str]:
        """A command line with the paths of the intact run and data filled in."""
        return [word.replace("{run}", f"{self.folder}/run").replace("{data}", f"{self.folder}/data") for word in words]


@dataclass(frozen=True)
class Workspace:
    """A folder for one case, in which its command runs."""

    folder: Path
    reference: Reference

    def write(self, name: str, content: Content) -> None:
        path = self.folder / name
        made = content() if callable(content) else content
        (path if made is None else path.parent).mkdir(parents=True, exist_ok=True)
        if made is not None:
            path.write_bytes(made if isinstance(made, bytes) else made.encode("utf-8", "surrogatepass"))


Action = Callable[[Workspace], object]
Act = tuple[str, ...] | Action  # a command line, or a call of the library


@dataclass(frozen=True)
class Case:
    """An input, what is done with it, and the required outcome."""

    group: str
    name: str
    make: Action
    act: Act
    words: tuple[str, ...]  # in the error message, or in the output if it is not refused
    refused: bool = True
    check: Action = lambda workspace: None
    creates: tuple[str, ...] = ()
    code: int = USER_ERROR

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"


def refused(group: str, name: str, make: Action, act: Act, *words: str) -> Case:
    return Case(group, name, make, act, words)


# ---------------------------------------------------------------------------------------------------- inputs


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


QUARTERS = np.array([[(220, 30, 30), (30, 200, 30)], [(30, 30, 220), (230, 230, 30)]], np.uint8)
QUARTERS = QUARTERS.repeat(16, 0).repeat(16, 1)  # rotating or mirroring it gives a different picture
PHOTO = Image.fromarray(QUARTERS)
PICTURES = [encoded(PHOTO), encoded(Image.new("RGB", (32, 32), "red")), encoded(Image.new("RGB", (32, 32), "green"))]
CAPTIONS = [("four quarters of different colours", "四个颜色不同的方块"), ("a red picture", "红图"), ("green", "绿图")]
TOKENS = "1.jpg#0\ta red circle\n1.jpg#1\ta circle\n2.jpg#0\ta blue square\n"
TEXT_ENCODER = {"vocab_size": 30, "hidden_size": 32, "num_layers": 1, "num_heads": 4, "dropout": 0.1, "pooling": "cls"}


def records(**changes: Any) -> list[dict[str, Any]]:
    """The records of the intact dataset: three pictures, in both `test` and `train`; `changes` apply to the first."""
    intact = [
        {"image_path": f"images/{number}.png", "text": [english], "text_zh": [chinese], "split": split}
        for split in ("test", "train")
        for number, (english, chinese) in enumerate(CAPTIONS)
    ]
    return [intact[0] | changes, *intact[1:]]


def files(contents: Mapping[str, Content]) -> Action:
    def make(workspace: Workspace) -> None:
        for name, content in contents.items():
            workspace.write(name, content)

    return make


def dataset(content: Any = records, more_files: Mapping[str, Content] | None = None) -> Action:
    """The intact pictures, `content` (or what it returns) as dataset.json, and more files."""

    def text() -> bytes | str:
        made = content() if callable(content) else content
        return made if isinstance(made, bytes) else json.dumps(made)

    pictures = {f"data/images/{number}.png": picture for number, picture in enumerate(PICTURES)}
    return files({**pictures, "data/dataset.json": text, **(more_files or {})})


def picture(content: Content, name: str = "first.png") -> Action:
    """The intact dataset with `content` as the file of its first picture."""
    return dataset(records(image_path=f"images/{name}"), {f"data/images/{name}": content})


def bmp(width: int, height: int) -> bytes:
    """The header of a BMP without pixels."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def caption_file(content: Content, more_files: Mapping[str, Content] | None = None) -> Action:
    """Pictures 1.jpg to 4.jpg, a caption file, and more files."""
    pictures = {f"data/images/{number}.jpg": PICTURES[0] for number in range(1, 5)}
    return files({**pictures, "captions": content, **(more_files or {})})


def saved(content: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def checkpoint(name: str = BEST, **changes: Any) -> Action:
    """The intact checkpoint with some parts changed."""

    def make(workspace: Workspace) -> None:
        content = dict(workspace.reference.checkpoints[name])
        for key, part in changes.items():
            content[key] = {**content[key], **part} if isinstance(part, dict) else part
        workspace.write(name, saved(content))

    return make


def text_encoder(**changes: Any) -> Action:
    return checkpoint(architecture={"text_encoder": TEXT_ENCODER | changes})


class Evil:
    """A pickle that runs code when it is loaded: it would create a folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("EVIL_RAN",)


def load_vocabulary(workspace: Workspace) -> None:
    SimpleTokenizer.load(Path("vocab.json"))


def nothing(workspace: Workspace) -> None:
    pass


# -------------------------------------------------------------------------------------------------- the cases

GOOD = json.dumps(records(), ensure_ascii=False)
COCO_NUMBER = json.dumps({"images": [{"id": 1, "file_name": 1}], "annotations": [{"image_id": 1, "caption": 2}]})
BIAS = "text_encoder.transformer.norm.bias"
SURROUNDINGS = dataset(records, {"file": "precious", "captions": "0.jpg#0\ta picture\n", "empty": None})
MANY = files({f"data/images/{number}.png": PICTURES[1] for number in range(MAX_DRAWN + 1)})


def command_line(command: tuple[str, ...], words: str, *expected: str) -> Case:
    """A valid command line followed by words that must be refused."""
    name = f"{command[0]} {words[:40]!r}"
    return refused("command lines", name, SURROUNDINGS, (*command, *words.split(" ")), *expected)


CAPTION_FILES: list[tuple[str, bytes | str, str]] = [
    ("unknown encoding", b"1.jpg#0\t\x81\x8d\xfe\xff\x8f", "save it as UTF-8"),
    ("unknown format", "hello\nworld\n", "not recognised"),
    ("line cut off", f"{TOKENS}3.jp", "line 4"),
    ("quote that is not closed", 'image,caption\n1.jpg,"a circle\n2.jpg,a square\n', "line 2"),
    ("nested too deeply", "[" * 100_000, "cannot read captions"),
    ("COCO without images", '{"annotations": []}', "COCO"),
    ("COCO with a number as a caption", COCO_NUMBER, "must be strings"),
    ("a caption of 100,001 characters", f"1.jpg#0\t{'x' * (MAX_CAPTION + 1)}", "too long"),
    ("no words", "1.jpg#0\t...\n2.jpg#0\t🐱\n", "no usable captions"),
    ("pictures that do not exist", "5.jpg#0\ta cat\n", "can be matched"),
]
CASES = [
    refused("dataset.json", "missing", files({"data": None}), TRAIN, "create-dataset --out data"),
    refused("dataset.json", "a folder", files({"data/dataset.json": None}), TRAIN, "cannot read"),
    *(
        refused("dataset.json", name, dataset(content), TRAIN, "data/dataset.json", words)
        for name, content, words in [
            ("UTF-16", GOOD.encode("utf-16"), "not UTF-8 encoded JSON"),
            ("trailing comma", f"{GOOD[:-1]},]".encode(), "not UTF-8 encoded JSON"),
            ("NaN", GOOD.replace('"test"', "NaN", 1).encode(), "NaN is not valid JSON"),
            ("deep nesting", b"[" * 100_000, "not UTF-8 encoded JSON"),
            ("an object", {}, "list of records"),
            ("a thousand faults", [{"image_path": f"{n}.png", "text": "x"} for n in range(1000)], "… +980"),
        ]
    ),
    *(
        refused("records", f"{key}={value!r:.20}", dataset(records(**{key: value})), TRAIN, f"record 0, {key}", words)
        for key, value, words in [
            ("text", 3.5, "string"),
            ("text", ["red", None], "string"),
            ("split", 1, "string"),
            ("label", ["red"], "string"),
            ("text", "...", "has no words"),
            ("text", "x" * (MAX_CAPTION + 1), "100,001 characters"),
            ("image_path", 7, "must be a path"),
            ("image_path", "images/0.png\0", "must be a path"),
            ("image_path", "../0.png", "leads out of the data folder"),
            ("image_path", "images/\ud83d.png", "is invalid"),
            ("image_path", "/etc/passwd", "does not exist"),
        ]
    ),
    refused("records", "no caption", dataset(records(text=[], text_zh=[])), TRAIN, "record 0, text", "is missing"),
    refused(
        "records",
        "no English",
        dataset([{"image_path": "images/0.png", "text_zh": "红"}]),
        TRAIN,
        "has no text at all",
    ),
    refused("pictures", "HTML saved as JPEG", picture(b"<html>", "a.jpg"), TRAIN, "1 fault", "a.jpg"),
    refused("pictures", "cut off", picture(PICTURES[0][:-40]), EVALUATE, "1 fault", "first.png is damaged"),
    refused("pictures", "16,000 x 16,000", picture(bmp(16_000, 16_000)), TRAIN, "record 0", "too large"),
    refused("pictures", "30,000 x 30,000", picture(bmp(30_000, 30_000)), TRAIN, "record 0", "too large"),
    refused("pictures", "only rubbish", files({"data/images/0.png": "x"}), SEARCH, "no readable", "cannot be opened"),
    *(refused("caption files", name, caption_file(content), IMPORT, words) for name, content, words in CAPTION_FILES),
    refused("caption files", "missing", files({"data/images": None}), IMPORT, "cannot read captions"),
    refused("caption files", "split missing", caption_file(TOKENS), SPLIT, "cannot read split"),
    refused("caption files", "split of other pictures", caption_file(TOKENS, {"split": "9.jpg"}), SPLIT, "none of the"),
    refused("caption files", "dataset.json exists", caption_file(TOKENS, {"data/dataset.json": ""}), IMPORT, "move it"),
    refused("vocabularies", "missing", nothing, load_vocabulary, "vocab.json"),
    *(
        refused("vocabularies", name, files({"vocab.json": content}), load_vocabulary, words)
        for name, content, words in [
            ("empty file", "", "cannot read the vocabulary vocab.json"),
            ("nested too deeply", "[" * 100_000, "cannot read the vocabulary"),
            ("a list", '["a", "b"]', "is damaged"),
            ("words that are not strings", '{"vocab_size": 50, "words": ["a", 3]}', "list of strings"),
            ("a word twice", '{"vocab_size": 50, "words": ["a", "b", "a"]}', "twice"),
            ("size too small for the words", '{"vocab_size": 6, "words": ["a", "b", "c"]}', "is too small for 3 words"),
            ("size too small for any word", '{"vocab_size": 4, "words": []}', "is damaged"),
        ]
    ),
    refused("checkpoints", "missing", files({"run": None}), EVALUATE_RUN, "no checkpoint in run; train first"),
    refused("checkpoints", "missing file", nothing, lambda workspace: load_checkpoint("no.pt"), "train first"),
    *(
        refused("checkpoints", name, make, EVALUATE_RUN, BEST, words)
        for name, make, words in [
            ("random bytes", files({BEST: np.random.default_rng(0).bytes(5000)}), "is damaged"),
            ("cut in the middle", files({BEST: saved({"weights": torch.zeros(999)})[:1000]}), "is damaged"),
            ("pickle that runs code", files({BEST: saved({"format": Evil()})}), "is damaged"),
            ("another program's", files({BEST: saved({"model_state_dict": {}})}), "not a clipedu checkpoint"),
            ("another version", files({BEST: saved({"format": "clipedu checkpoint 2"})}), "not a clipedu checkpoint"),
            ("without its vocabulary", checkpoint(vocabulary=None), "no 'vocabulary'"),
            ("a word twice", checkpoint(vocabulary={"words": ["red", "red"]}), "is damaged"),
            ("unknown image encoder", checkpoint(architecture={"image_encoder": "resnet9000"}), "is damaged"),
            ("text encoder in a list", checkpoint(architecture={"text_encoder": [1]}), "is damaged"),
            ("negative size", text_encoder(vocab_size=-8), "is damaged"),
            ("size in a string", text_encoder(hidden_size="8"), "is damaged"),
            ("no words", text_encoder(vocab_size=0), "is damaged"),
            ("pictures of 16 px", checkpoint(architecture={"image_size": 16}), "image_size=16"),
            ("weights of another size", checkpoint(weights={BIAS: torch.zeros(7)}), "belong to another model"),
            ("NaN weights", checkpoint(weights={BIAS: torch.full((32,), torch.nan)}), "contain NaN or infinity"),
        ]
    ),
    *(
        refused("resuming", name, make, RESUME, EPOCH, words)
        for name, make, words in [
            ("from random bytes", files({EPOCH: np.random.default_rng(0).bytes(5000)}), "is damaged"),
            ("without an optimizer", checkpoint(EPOCH, training={"optimizer": {}}), "is damaged"),
            ("without a history", checkpoint(EPOCH, training={"history": []}), "is damaged"),
            ("with other settings", checkpoint(EPOCH, training={"config": {}}), "config differs: epochs None -> 1"),
            ("with other data", checkpoint(EPOCH, training={"data": "0"}), "belongs to another run, data differs"),
        ]
    ),
    *(command_line(TRAIN, f"--{name}=-1", "between 0 and 1000000") for name in ("lr", "weight-decay", "clip-norm")),
    command_line(TRAIN, "--warmup=1", "warmup=1"),
    command_line(TRAIN, "--lr nan", "lr=nan"),
    command_line(TRAIN, "--image-size 16", "image_size=16"),
    command_line(TRAIN, f"--seed {2**32}", f"seed={2**32}"),
    command_line(TRAIN, "--embedding-dim 0", "--embedding-dim 0"),
    command_line(TRAIN, "--vocab-size 4", "--vocab-size 4"),
    command_line(TRAIN, "--dropout nan", "--dropout nan"),
    *(command_line(command, "--device abacus", "cannot be used on") for command in (TRAIN, EVALUATE, SEARCH)),
    command_line(TRAIN, "--no-such-flag", "no-such-flag"),
    command_line(TRAIN, "--epochs many", "many"),
    command_line(TRAIN, "--language fr", "fr"),
    command_line(TRAIN, "--freeze-image-encoder", "learn nothing"),
    command_line(TRAIN, "--test-only --run-dir nowhere", "train first"),
    command_line(TRAIN, "--run-dir file", "cannot write file"),
    command_line(TRAIN, "--run-dir {run}/../finished --resume never", "--force-train"),
    command_line(EVALUATE, "--split val", "it has {'test': 3, 'train': 3}"),
    command_line(EVALUATE, "--json empty", "not a regular file"),
    command_line(EVALUATE, "--json file/below", "cannot write file/below"),
    command_line(SEARCH, "--images nowhere", "not a folder"),
    command_line(SEARCH, "--top 0", "--top 0"),
    command_line(SEARCH, "。", "has no words"),
    command_line(CREATE, "--out data", "not empty"),
    command_line(CREATE, "--out file/below", "cannot write"),
    refused("command lines", "create-dataset here", nothing, ("create-dataset", "--out", "."), "give it a name"),
    refused("command lines", "no captions", nothing, ("import-captions", "--out", "data"), "--english"),
    refused("command lines", "no sentence", nothing, SEARCH[:-1], "SENTENCE"),
    refused("command lines", "no command", nothing, (), "COMMAND"),
    refused("command lines", "too many to draw", MANY, (*SEARCH, "--top", "999", "--out", "hits.png"), f"{MAX_DRAWN}"),
    Case("command lines", "check", nothing, ("check", "--data-dir", "x"), ("[FAIL] dataset", "create"), False),
]


# --------------------------------------------------------------------------------- running and checking a case


def make_reference(folder: Path) -> Reference:
    """Draw the dataset, save a checkpoint, and train a run."""
    empty = Reference(folder)
    dataset()(Workspace(folder, empty))
    tokenizer = tokenizer_of(folder / "data")
    save_checkpoint(folder / BEST, small_model(tokenizer), tokenizer)
    assert main(empty.command((*RESUME[:4], str(folder / "finished"), *SMALL))) == 0
    finished = folder / "finished/checkpoints/epoch_1.pt"
    checkpoints = {BEST: load_checkpoint(folder / BEST), EPOCH: load_checkpoint(finished)}
    return Reference(folder, checkpoints)


def snapshot(folder: Path) -> dict[str, str]:
    """Everything in the folder: files by their hash, links by their target."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        contents[str(path.relative_to(folder))] = f"link to {path.readlink()}" if path.is_symlink() else content
    return contents


def examine(case: Case, reference: Reference, folder: Path) -> None:
    """Run the case in `folder`, check the outcome, and remove the folder; AssertionError if the outcome is wrong."""
    workspace = Workspace(folder, reference)
    folder.mkdir()
    case.make(workspace)
    before, previous, printed = snapshot(folder), Path.cwd(), [io.BytesIO(), io.BytesIO()]
    out, err = (io.TextIOWrapper(stream, "utf-8", write_through=True) for stream in printed)
    cache = {"CLIPEDU_CACHE": str(reference.folder.with_name("cache"))}
    os.chdir(folder)
    try:
        with redirect_stdout(out), redirect_stderr(err), patch.dict(os.environ, cache):
            code = main(reference.command(case.act)) if isinstance(case.act, tuple) else call(case.act, workspace)
    finally:
        os.chdir(previous)
    outcome(case, code, *(stream.getvalue().decode() for stream in printed))
    after = snapshot(folder)
    created = {name for name in after if name not in before and Path(name).name != ".lock"}  # runs leave their lock
    assert created == set(case.creates)
    assert {name: content for name, content in after.items() if name in before} == before, "nothing changed or removed"
    case.check(workspace)
    shutil.rmtree(folder)


def call(act: Action, workspace: Workspace) -> int:
    """Call the library; print its errors as the command line would."""
    try:
        act(workspace)
    except ClipEduError as error:
        print(f"错误 | error: {error}", file=sys.stderr)
        return USER_ERROR
    return 0


def outcome(case: Case, code: int, out: str, err: str) -> None:
    """Check the exit code and the message: one bilingual line, plus one for each of several faults."""
    assert code == case.code, out + err
    assert "Traceback" not in out + err
    assert all(word in (err if case.refused else out + err) for word in case.words), err or out
    if case.refused:
        assert err.startswith("错误 | error: ")
        first, _, faults = err.removeprefix("错误 | error: ").removesuffix("\n").partition(":\n")
        for line in [first, *faults.splitlines()]:
            both = re.fullmatch(r"[^|]*[\u4e00-\u9fff].* \| .*[a-z]{2}.*", line)
            assert both or re.fullmatch(r"  … \+\d+", line), line


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    """The intact input, which no case may change."""
    reference = make_reference(tmp_path_factory.mktemp("faults") / "reference")
    before = snapshot(reference.folder)
    yield reference
    assert snapshot(reference.folder) == before


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest resets the package's own filter
@pytest.mark.parametrize("case", CASES, ids=str)
def test_fault(case: Case, reference: Reference, tmp_path: Path) -> None:
    examine(case, reference, tmp_path / "case")


def test_in_a_separate_process(reference: Reference, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "pickle that runs code")
    case.make(Workspace(tmp_path, reference))
    command = [sys.executable, "-m", "clipedu", *reference.command(EVALUATE_RUN)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False)
    outcome(case, result.returncode, result.stdout, result.stderr)
    assert set(snapshot(tmp_path)) == {"run", "run/checkpoints", BEST}
