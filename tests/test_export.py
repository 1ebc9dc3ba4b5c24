"""Exported models, the folder that searches pictures by itself, and the packages that pages use."""

import base64
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn
from urllib.error import URLError

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import ExifTags, Image

from clipedu import CLIP, ImageEncoder, SimpleTokenizer
from clipedu.commands.main import INTERRUPTED, USER_ERROR, main
from clipedu.encoders import WordAverage
from clipedu.export import models, pages, vendor
from clipedu.ground.errors import ClipEduError
from clipedu.model import Ensemble
from clipedu.runs.checkpoint import save_checkpoint
from clipedu.runs.history import EpochRecord
from clipedu.search import ImageIndex
from tests.conftest import small_model

WORDS = SimpleTokenizer.from_texts(["a red circle above the blue star", "红色的圆在蓝色的五角星上面"])
SCORES = {"en": {"i2t_R@1": 0.5}}
HISTORY: list[EpochRecord] = [
    {"epoch": 1, "step": 9, "loss": 1.5, "lr": 0.1, "logit_scale": 14.0, "train_seconds": 1.0, "val": SCORES}
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CLIP]:
    model, out = small_model(WORDS), tmp_path_factory.mktemp("exported") / "model"
    models.export_model(model, WORDS, out, history=HISTORY)
    return out, model


@pytest.fixture
def quick(exported: tuple[Path, CLIP], monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's seconds of exporting are left out: the graphs are those of `exported`, whichever the model."""

    def graph(*_: Any, input_names: tuple[str, ...], **__: Any) -> SimpleNamespace:
        name = "image.onnx" if "images" in input_names else "text.onnx"
        return SimpleNamespace(model_proto=onnx.load(exported[0] / name))

    monkeypatch.setattr(torch.onnx, "export", graph)


def run(path: Path, **inputs: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})[0])


def test_both_sides_equal_pytorch(exported: tuple[Path, CLIP]) -> None:
    out, model = exported
    for texts in (["a red star"], ["blue", "红色的圆 and a green one", ""], ["the " * 200]):
        tokens = WORDS(texts, padding="longest")
        assert torch.allclose(run(out / "text.onnx", **tokens), model.get_text_features(**tokens), atol=1e-6)
    for count in (1, 4):
        pictures = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
        embedding = run(out / "image.onnx", images=pictures)
        assert torch.allclose(embedding, model.get_image_features(pictures), atol=1e-6)
    assert model.training, "exporting leaves the model in its mode"


def test_the_card(exported: tuple[Path, CLIP]) -> None:
    card = json.loads((exported[0] / "card.json").read_text(encoding="utf-8"))
    assert (card["image_size"], card["embedding_dim"], card["max_length"]) == (32, 16, 77)
    assert (card["vocabulary_size"], card["languages"], card["image_encoder"]) == (len(WORDS), ["en", "zh"], "tiny")
    assert card["tau"] == pytest.approx(0.07) and card["logit_scale"] == pytest.approx(1 / 0.07)
    assert card["run"] == {"epoch": 1, "loss": 1.5, "val": SCORES}
    assert set(card["files"]) == {"image.onnx", "text.onnx", "vocabulary.json"}
    for name, described in card["files"].items():
        content = (exported[0] / name).read_bytes()
        assert described == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        assert b".py" not in content, "no lines of this computer's code"
    assert max(card["difference_from_pytorch"].values()) < 1e-5
    vocabulary = json.loads((exported[0] / "vocabulary.json").read_text(encoding="utf-8"))
    assert SimpleTokenizer.from_dict(vocabulary).id_to_token == WORDS.id_to_token


def frozen_ensemble(image_encoder: str) -> Ensemble:
    encoder = ImageEncoder(image_encoder, pretrained=False, deep=True).freeze()
    return Ensemble([CLIP(encoder, WordAverage(len(WORDS), 16), 8, 32, feature_dropout=0.4) for _ in range(2)])


@pytest.mark.again
@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "resnet34", "efficientnet_lite0"])
def test_a_frozen_deep_ensemble_of_averages(tmp_path: Path, name: str) -> None:
    card = models.export_model(frozen_ensemble(name), WORDS, tmp_path / "out")
    assert (card["members"], card["embedding_dim"], card["run"]) == (2, 16, None)


@pytest.mark.usefixtures("quick")
def test_a_graph_that_computes_something_else_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ClipEduError, match=r"text\.onnx computes embeddings that differ from PyTorch's by"):
        models.export_model(small_model(WORDS, seed=1), WORDS, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ClipEduError, match=r"needs onnxscript.*: pip install onnx onnxscript onnxruntime"):
        models.export_model(small_model(WORDS), WORDS, tmp_path / "out")
    with pytest.raises(ClipEduError, match="needs onnxscript"):
        pages.export_search(small_model(WORDS), WORDS, tmp_path, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_old_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.4.1+cpu")
    with pytest.raises(ClipEduError, match=r"needs torch 2\.6 or newer, and this is 2\.4\.1"):
        models.export_model(small_model(WORDS), WORDS, tmp_path / "out")


# ----------------------------------------------------------------------------------------------- the command


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "model.pt", small_model(WORDS), WORDS, {"history": HISTORY})
    return tmp_path / "model.pt"


@pytest.mark.usefixtures("quick")
def test_the_command(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", "--run-dir", str(checkpoint), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    card = json.loads((tmp_path / "out/card.json").read_text(encoding="utf-8"))
    assert card["run"]["val"] == SCORES
    assert "differs from PyTorch by at most" in capsys.readouterr().out
    assert main(arguments) == USER_ERROR
    assert "exists and is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(("run_dir", "message"), [("photos", "no checkpoint in"), ("model.onnx", "is damaged")])
def test_a_wrong_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], run_dir: str, message: str) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "model.onnx").write_bytes(b"another model")
    assert main(["export", "--run-dir", str(tmp_path / run_dir), "--out", str(tmp_path / "out")]) == USER_ERROR
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------- the search folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A large photo on its side with a place in its EXIF data, a name with markup in a sub-folder, a broken file."""
    folder = tmp_path / "photos"
    (folder / "private").mkdir(parents=True)
    photo = Image.new("RGB", (800, 400), "red")
    exif = photo.getexif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "SECRET"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (1.0, 2.0, 3.0)
    photo.save(folder / "1.jpg", exif=exif, xmp=b"<x>SECRET</x>")
    Image.new("RGB", (40, 20), "blue").save(folder / "private" / "<b>2&.png")
    (folder / "3.png").write_bytes(b"broken")
    return folder


@pytest.fixture
def no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "write_runtime", Path.mkdir)


@pytest.mark.usefixtures("quick", "no_runtime")
def test_a_folder_that_searches_by_itself(
    tmp_path: Path, photos: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["export", "--run-dir", str(checkpoint), "--images", str(photos), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert "2 pictures" in captured.out and "3.png" in captured.err
    assert json.loads((out / "pictures.json").read_text(encoding="utf-8"))["names"] == ["1.jpg", "<b>2&.png"]
    index = ImageIndex(small_model(WORDS), WORDS, photos)
    embedding = np.frombuffer((out / "pictures.bin").read_bytes(), "<f4").reshape(-1, 16)
    assert np.array_equal(embedding, index.embedding.numpy())
    with Image.open(out / "pictures/0.webp") as large, Image.open(out / "pictures/1.webp") as small:
        assert (large.size, small.size) == ((160, 320), (40, 20))
        assert not large.getexif() and set(large.info) <= {"loop", "background", "timestamp", "duration"}
    written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert b"SECRET" not in written and b"private" not in written and str(tmp_path).encode() not in written
    page = (out / "index.html").read_text(encoding="utf-8")
    assert all((out / name).is_file() for name in ("app/search.js", "app/clip.js", "model/text.onnx", "README.txt"))
    assert "http://" not in page.replace("http://localhost:8000", "").replace("http://www.w3.org/2000/svg", "")


@pytest.mark.usefixtures("no_runtime")
def test_an_interrupted_export_leaves_nothing(
    tmp_path: Path, photos: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    before = {*tmp_path.iterdir()}
    monkeypatch.setattr(pages, "export_model", lambda *_, **__: None)
    monkeypatch.setattr(pages, "_write_thumbnails", interrupt)
    arguments = ["export", "--run-dir", str(checkpoint), "--images", str(photos), "--out", str(tmp_path / "out")]
    assert main(arguments) == INTERRUPTED
    assert {*tmp_path.iterdir()} - before <= {tmp_path / "cache"}


# ------------------------------------------------------------------------------------------------ npm packages


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """An npm package named `katex`, and a registry that has it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in ("LICENSE", "dist/katex.js", "dist/fonts/A.woff2", "dist/fonts/A.ttf", "src/katex.js"):
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
    content = buffer.getvalue()
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    monkeypatch.setattr(vendor, "PACKAGES", {"katex": ("1.2.3", digest)})
    file = tmp_path / "registry/katex/-/katex-1.2.3.tgz"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    monkeypatch.setattr(vendor, "REGISTRY", (tmp_path / "registry").as_uri())
    return content


@pytest.mark.usefixtures("package")
def test_only_what_is_needed_and_its_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for out in (tmp_path / "first", tmp_path / "second"):
        vendor.vendored("katex", ["katex.js", "fonts/*.woff2"], out)
        files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
        assert files == {"LICENSE", "katex.js", "fonts/A.woff2"}
        monkeypatch.setattr(vendor, "REGISTRY", "file:///nowhere")  # the second time, it is in the cache


def test_another_package_is_refused(tmp_path: Path, package: bytes) -> None:
    (tmp_path / "registry/katex/-/katex-1.2.3.tgz").write_bytes(package + b" ")
    with pytest.raises(ClipEduError, match="is not the expected file"):
        vendor.vendored("katex", ["katex.js"], tmp_path / "out")
    assert not (tmp_path / "cache/npm").exists()


@pytest.mark.usefixtures("package")
def test_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> NoReturn:
        raise URLError("no route")

    monkeypatch.setattr("urllib.request.urlopen", fail)
    with pytest.raises(ClipEduError, match=r"cannot fetch katex 1\.2\.3.*save .*katex-1\.2\.3\.tgz as"):
        vendor.vendored("katex", ["katex.js"], tmp_path / "out")
