"""A folder that works by itself: a page that searches a reader's own pictures in the browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from PIL import Image

from clipedu.data.pictures import load_image
from clipedu.export.models import export_model
from clipedu.export.vendor import write_runtime
from clipedu.ground.files import whole_folder
from clipedu.model import CLIP
from clipedu.runs.history import EpochRecord
from clipedu.search import ImageIndex
from clipedu.tokenizer import SimpleTokenizer

THUMBNAIL = 320  # px, the longer side of the pictures on the page
_APP = ("search.js", "search.css", "play.css", "page.js", "language.js", "clip.js", "pictures.js")
_README = """\
这个文件夹里是一个网页，用一句话搜索里面的图。
This folder is a web page that searches its pictures with a sentence.

打开它：在这个文件夹里运行下面的命令，再用浏览器打开 http://localhost:8000。
To open it, run this command in the folder, then open http://localhost:8000 in a browser:

    python -m http.server

给别人用：把整个文件夹放到任何一个能放静态网页的地方，不需要数据库，也不需要 Python。
拿到网址的人能看到里面的小图和文件名。
To share it, put the whole folder wherever static web pages can go; it needs no database and no Python there.
Whoever has the address can see the small pictures and their file names.

模型在浏览器里运行：写的句子、选的图都不会上传。
The model runs in the browser: sentences and chosen pictures are never uploaded.

pictures/ 里是缩小的副本，不带拍摄地点、时间等信息；原图只留下了文件名（在 pictures.json 里），没有文件夹名。
pictures/ has small copies, without the place, the time or anything else that cameras note down. Of the originals only
the file names are here (in pictures.json), without their folders.
"""


def export_search(
    model: CLIP, tokenizer: SimpleTokenizer, images: Path, out: Path, history: Sequence[EpochRecord] = ()
) -> ImageIndex:
    """Write a page that searches the pictures in `images` into the new folder `out`; returns the index behind it.

    `index.html` needs nothing but a static server: the model is in `model/`, ONNX Runtime in `ort/`, and small copies
    of the pictures, without their EXIF data, in `pictures/`, with their embeddings in `pictures.bin` (float32
    `[N, E]`) and their file names, without folders, in `pictures.json`.

    Raises:
        ClipEduError: as `export_model`, `write_runtime` and `ImageIndex`.
    """
    with whole_folder(out) as folder:
        write_runtime(folder / "ort")  # before hours may be spent on the pictures
        index = ImageIndex(model, tokenizer, images)
        export_model(model, tokenizer, folder / "model", history=history)
        _write_thumbnails(index.paths, folder / "pictures")
        (folder / "pictures.bin").write_bytes(index.embedding.numpy().astype("<f4").tobytes())
        loaded = ["ort/*.wasm.gz", "model/card.json", "model/vocabulary.json", "model/text.onnx", "pictures.bin"]
        size = sum(path.stat().st_size for pattern in loaded for path in folder.glob(pattern))
        described = {"bytes": size, "names": [_shown(path) for path in index.paths]}
        (folder / "pictures.json").write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")
        with as_file(files("clipedu.export") / "web") as web:
            shutil.copyfile(web / "search.html", folder / "index.html")
            (folder / "app").mkdir()
            for name in _APP:
                shutil.copyfile(web / name, folder / "app" / name)
        (folder / "README.txt").write_text(_README, encoding="utf-8")
    return index


def _write_thumbnails(paths: Sequence[Path], folder: Path) -> None:
    folder.mkdir()

    def write(number: int, path: Path) -> None:
        picture = load_image(path, THUMBNAIL)
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        # From the pixels alone: Pillow would write along what it has read about the camera and the place.
        Image.fromarray(np.asarray(picture)).save(folder / f"{number}.webp", quality=80)

    with ThreadPoolExecutor() as pool:  # coding pictures releases the GIL
        list(pool.map(write, range(len(paths)), paths))


def _shown(path: Path) -> str:
    """The file's name as a page can show it."""
    return path.name.encode(errors="backslashreplace").decode()
