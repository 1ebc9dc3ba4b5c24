"""The project's structure: imports go one way and are light, and its lists of packages agree."""

import re
import subprocess
import sys
from graphlib import CycleError
from pathlib import Path

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from docs.architecture import PICTURE, direct, draw, floors, import_graph, imported_names, module_files, room_graph
from tests.conftest import ROOT
from tests.lessons import NOTEBOOKS, Lesson, chinese_strings, half_width

GRAPH = import_graph(ROOT)
ROOMS = room_graph(GRAPH)
MODELS = {"encoders", "model", "loss", "optimization", "training", "embedding", "evaluation", "search", "runs"}


def test_imports_are_found(tmp_path: Path) -> None:
    (tmp_path / "clipedu/data").mkdir(parents=True)
    for path, source in {
        "__init__.py": "from clipedu.model import CLIP\nimport torch",
        "model.py": "def late():\n    from clipedu import data\n    import clipedu.data.emoji",
        "data/__init__.py": "",
        "data/emoji.py": "from ..model import CLIP",
    }.items():
        (tmp_path / "clipedu" / path).write_text(source)
    late = {"clipedu.data", "clipedu.data.emoji"}
    emoji = {"clipedu.data": set(), "clipedu.data.emoji": {"clipedu.model"}}
    assert import_graph(tmp_path) == {"clipedu": {"clipedu.model"}, "clipedu.model": late, **emoji}
    assert room_graph(import_graph(tmp_path)) == {"model": {"data"}, "data": {"model"}}


def test_floors() -> None:
    chain: dict[str, set[str]] = {"top": {"middle", "bottom"}, "middle": {"bottom"}, "bottom": set(), "aside": set()}
    assert floors(chain) == {"bottom": 0, "aside": 0, "middle": 1, "top": 2}
    assert direct(chain) == {"top": {"middle"}, "middle": {"bottom"}, "bottom": set(), "aside": set()}
    with pytest.raises(CycleError):
        floors({"a": {"b"}, "b": {"a"}})


def test_imports_go_one_way() -> None:
    floors(GRAPH)
    floors(ROOMS)
    assert {room for room, targets in ROOMS.items() if "classroom" in targets} == set()
    assert ROOMS["data"] & MODELS == set(), "data/ must not import models"
    assert ROOMS["ground"] == set()


def test_the_picture_is_up_to_date() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(), "run python -m docs.architecture"


def test_private_names_stay_in_their_module() -> None:
    files = [path for folder in ("clipedu", "benchmarks", "studies") for path in (ROOT / folder).rglob("*.py")]
    programs = {str(path): path.read_text(encoding="utf-8") for path in files}
    programs |= {f"{path}, {where}": cell.source for path in NOTEBOOKS for where, cell in Lesson.read(path).code}
    private = [
        f"{place}: {module}.{name}"
        for place, source in programs.items()
        for module, name in imported_names(source, "clipedu")
        if module.startswith("clipedu") and re.search(r"\b_(?!_)", f"{module} {name}")
    ]
    assert private == []


def test_chinese_messages_have_chinese_punctuation() -> None:
    for name, path in module_files(ROOT).items():
        for text in chinese_strings(path.read_text(encoding="utf-8")):
            assert half_width(text) == [], f"{name}: {text}"


def test_import_is_light() -> None:
    heavy = ["matplotlib", "IPython", "jupyterlab", "ipywidgets", "timm", "emoji"]
    program = f"import sys, clipedu; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_conda_and_pip_lists_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    from_pip = next(item["pip"] for item in conda if isinstance(item, dict))
    packages = {item.replace("pytorch>", "torch>") for item in conda if isinstance(item, str)} | set(from_pip)
    assert packages == {*project["dependencies"], f"python{project['requires-python']}"}
