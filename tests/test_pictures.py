"""Pictures as cameras and programs write them, and batches from worker processes that may be killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, PngImagePlugin

from clipedu.commands.main import USER_ERROR, main
from clipedu.commands.reports import draw_hits
from clipedu.data.loading import Pictures, image_batches, in_order
from clipedu.data.pictures import (
    PICTURE_SUFFIXES,
    broken_pictures,
    find_pictures,
    load_image,
    load_pixels,
    picture_size,
)
from clipedu.ground import environment
from clipedu.ground.errors import ClipEduError, DatasetError
from clipedu.search import Hit
from tests.conftest import ROOT

RED = Image.new("RGB", (64, 32), (255, 0, 0))


def with_tags(path: Path, entries: bytes) -> None:
    """A JPEG with these EXIF entries of 12 bytes."""
    tags = (len(entries) // 12).to_bytes(2, "little") + entries + bytes(4)
    RED.save(path, quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0" + tags)


def with_texts(path: Path, *sizes: int) -> None:
    info = PngImagePlugin.PngInfo()
    for number, size in enumerate(sizes):
        info.add_text(f"text {number}", "x" * size, zip=True)
    RED.save(path, pnginfo=info)


def with_damaged_text(path: Path) -> None:
    with_texts(path, 8)
    path.write_bytes(path.read_bytes().replace(b"text 0", b"test 0"))  # so that its checksum is wrong


TURN = bytes.fromhex("120103000100000006000000")  # orientation 6, which turns the picture by 90 degrees
ODD = {
    "date_as_rational.jpg": lambda path: with_tags(path, TURN + bytes.fromhex("320105000100000000000000")),
    "resolution_as_text.jpg": lambda path: with_tags(path, TURN + bytes.fromhex("1a01020004000000") + b"72/1"),
    "long_text.png": lambda path: with_texts(path, 2_000_000),
    "many_texts.png": lambda path: with_texts(path, *[1_000_000] * 70),
    "damaged_text.png": with_damaged_text,
    "line.png": lambda path: RED.resize((4000, 1)).save(path),
    "pixel.png": lambda path: RED.resize((1, 1)).save(path),
    **{
        f"as{suffix}": lambda path: RED.save(path, format=Image.registered_extensions()[path.suffix])
        for suffix in (".jfif", ".jpe", ".mpo", ".tif", ".jp2", ".ppm", ".tga", ".ico", ".avif", ".heic")
        if suffix in PICTURE_SUFFIXES
    },
}


@pytest.mark.parametrize("name", ODD)
def test_pictures_that_viewers_show(tmp_path: Path, name: str) -> None:
    ODD[name](tmp_path / name)
    assert find_pictures(tmp_path) == [tmp_path / name]
    red, green, blue = load_pixels(tmp_path / name, 32).float().mean((1, 2))
    assert (red > 240, green < 12, blue < 12) == (True, True, True)
    assert sorted(load_image(tmp_path / name).size) == sorted(picture_size(tmp_path / name))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as file:
        expected = ImageOps.exif_transpose(file)
    assert load_image(tmp_path / "turned.png").tobytes() == expected.tobytes()


def test_refused_pictures_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RED.save(tmp_path / "drawing.eps")
    (tmp_path / "drawing.eps").rename(tmp_path / "drawing.jpg")
    (tmp_path / "raw.nef").write_bytes(bytes(100))
    RED.save(tmp_path / "red.png")
    monkeypatch.setattr("clipedu.data.pictures.MAX_PIXELS", 100)
    for name, words in {
        "drawing.jpg": "unknown format",
        "raw.nef": "converted",
        "red.png": "64 x 32",
        "no": "No such",
    }.items():
        with pytest.raises(DatasetError, match=words):
            picture_size(tmp_path / name)


def test_photos_of_iphones_without_pillow_heif(tmp_path: Path) -> None:
    """Also those that are called .jpg; without the package neither they nor a folder of them are called damaged."""
    pytest.importorskip("pillow_heif")
    for name in ("a.HEIC", "b.jpg"):
        RED.save(tmp_path / name, format="HEIF")
    (tmp_path / "c.svg").touch()
    left_out: dict[str, list[str]] = {}
    assert not broken_pictures(find_pictures(tmp_path, left_out))
    assert list(left_out.values()) == [[str(tmp_path / "c.svg")]]
    program = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from pathlib import Path\n"
        "from clipedu.data.pictures import broken_pictures, find_pictures\n"
        f"left_out = {{}}; paths = find_pictures(Path({str(tmp_path)!r}), left_out)\n"
        "print(left_out, *broken_pictures(paths).values())"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.count("need pip install pillow-heif") == 2
    assert "damaged" not in result.stdout


def test_large_pictures_are_reduced_in_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (700, 930, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    Image.fromarray(pixels.view("uint16")[..., 0].copy()).save(tmp_path / "deep.png")
    whole = {name: load_image(tmp_path / name, 32) for name in ("clear.png", "deep.png")}
    monkeypatch.setattr("clipedu.data.pictures._LARGE", 10_000)
    monkeypatch.setattr("clipedu.data.pictures._STRIP", 30_000)
    for name, image in whole.items():
        assert load_image(tmp_path / name, 32).tobytes() == image.reduce(700 // 64).tobytes(), name
        assert load_image(tmp_path / name).tobytes() == image.tobytes(), name


def test_a_hundred_megapixels_without_a_warning(tmp_path: Path) -> None:
    Image.new("1", (10_000, 10_000), 1).save(tmp_path / "large.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_pixels(tmp_path / "large.png", 32).min() == 255


def test_a_narrow_hit_is_drawn(tmp_path: Path) -> None:
    RED.resize((1, 600)).save(tmp_path / "narrow.png")
    draw_hits({"red": [Hit(tmp_path / "narrow.png", 0.5)]}, tmp_path / "hits.png")
    assert load_image(tmp_path / "hits.png").width > 100


def test_a_font_that_matplotlib_has_not_listed_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.font_manager import fontManager

    if (name := environment.find_cjk_font()) is None:
        pytest.skip("no font with Chinese characters")
    chinese = {font.fname for font in fontManager.ttflist if font.name in environment.CJK_FONTS}
    listed = [font for font in fontManager.ttflist if font.fname not in chinese]
    monkeypatch.setattr(fontManager, "ttflist", listed)
    environment._list_new_fonts.cache_clear()
    assert environment.find_cjk_font() == name


# ------------------------------------------------------------------------------------------------- workers


def twelve(folder: Path) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(12)]
    for number, path in enumerate(paths):
        RED.point(lambda value, number=number: value * number // 12).save(path)
    return paths


def test_workers_stay_for_the_next_epoch_and_end_with_their_pictures(tmp_path: Path) -> None:
    paths = twelve(tmp_path)
    order = in_order(12, 3)
    expected = list(image_batches(Pictures(paths, 32, workers=0), order))
    before = set(multiprocessing.active_children())
    pictures = Pictures(paths, 32, workers=2)

    def workers() -> set[multiprocessing.process.BaseProcess]:
        return set(multiprocessing.active_children()) - before

    assert torch.equal(torch.cat(list(image_batches(pictures, order))), torch.cat(expected))
    first = workers()
    assert len(first) == 2
    for _ in zip(range(2), image_batches(pictures, order), strict=False):
        pass  # an epoch that ends after two batches
    assert torch.equal(torch.cat(list(image_batches(pictures, order[::-1]))), torch.cat(expected[::-1]))
    assert workers() == first
    del pictures
    for process in first:
        process.join(10)
        assert process.exitcode == 0


def test_a_killed_worker_gives_one_clear_line(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())
    batches = image_batches(Pictures(twelve(tmp_path), 1024, workers=2), in_order(12, 2))  # larger than a pipe holds
    next(batches)
    with pytest.raises((ClipEduError, RuntimeError)) as caught:  # PyTorch raises it in the main thread, wherever it is
        for process in set(multiprocessing.active_children()) - before:
            assert process.pid
            os.kill(process.pid, signal.SIGKILL)
        list(batches)
    assert "DataLoader worker" in str(caught.value)


def test_a_worker_killed_while_a_command_does_something_else(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def kill_a_worker(*_: object, **__: object) -> None:
        pid = multiprocessing.active_children()[0].pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        time.sleep(10)

    monkeypatch.setattr("clipedu.data.loading.MEMORY_LIMIT", 1000)
    monkeypatch.setattr("clipedu.training.train_step", kill_a_worker)
    words = ["--pretrained", "none", "--image-encoder", "tiny", "--image-size", "32", "--batch-size", "8"]
    assert main(["train", "--data-dir", str(data_dir), "--run-dir", str(tmp_path / "run"), *words]) == USER_ERROR
    assert "--workers" in capsys.readouterr().err


def test_a_worker_that_cannot_start_gives_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.utils.data.DataLoader.__iter__", fail)
    with pytest.raises(ClipEduError, match=r"No space left.*--workers"):
        next(image_batches(Pictures(twelve(tmp_path), 32), in_order(12, 2)))
