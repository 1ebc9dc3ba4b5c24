"""Build the reading site: `python -m clipedu.classroom.site --out site`.

The steps, in order: pages from the saved notebooks, frames for their sliders, the playground with its models, and the
notebooks in one language. The folder appears whole, or not at all, and replaces an older site only then.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

from clipedu.classroom.edition import LANGUAGES, write_edition
from clipedu.classroom.site.frames import build_frames
from clipedu.classroom.site.pages import build_pages
from clipedu.classroom.site.playground import build_playground
from clipedu.ground.errors import ClipEduError
from clipedu.ground.files import whole_folder


def build_editions(out: Path) -> None:
    """Write the notebooks in each language into `editions/zh` and `editions/en` of `out`; their pages show outputs."""
    for language in LANGUAGES:
        write_edition(language, out / "editions" / language, outputs=False)


STEPS = {
    "网页 · pages": build_pages,
    "滑块 · frames": build_frames,
    "玩一玩 · playground": build_playground,
    "单语版 · editions": build_editions,
}


def build(out: Path) -> None:
    """Build the whole site into `out`, in place of what an earlier build left there.

    Raises:
        ClipEduError: a step failed, or `out` has something else in it.
    """
    is_older_site = (out / "index.html").is_file() and (out / "assets").is_dir()
    new = out.with_name(f"{out.name}.new") if is_older_site else out
    with whole_folder(new) as folder:
        for name, step in STEPS.items():
            begin = time.perf_counter()
            step(folder)
            print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)
    if is_older_site:
        shutil.rmtree(out)
        new.replace(out)
    sizes = {path: path.stat().st_size / 1e6 for path in out.rglob("*") if path.is_file()}
    playing = sum(size for path, size in sizes.items() if path.relative_to(out).parts[0] in ("play", "play.html"))
    print(f"{out}: {sum(sizes.values()) - playing:.1f} MB + {playing:.1f} MB 玩一玩 · playground")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 2 after an error, which is printed in one line."""
    parser = argparse.ArgumentParser(prog="python -m clipedu.classroom.site", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="文件夹 · the site's folder")
    try:
        build(parser.parse_args(arguments).out)
    except ClipEduError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
