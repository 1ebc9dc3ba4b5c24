"""What holds the project together: its files agree, its imports are light and run one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tests.conftest import ROOT
from tests.lessons import chinese_strings, half_width

MODULES = sorted((ROOT / "clipedu").glob("*.py"))
ALL_MODULES = sorted((ROOT / "clipedu").rglob("*.py"))


def test_conda_and_pip_ask_for_the_same() -> None:
    yaml = pytest.importorskip("yaml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    from_pip = next(item["pip"] for item in conda if isinstance(item, dict))
    named = {"pytorch": "torch"}
    packages = [item for item in conda if isinstance(item, str)] + from_pip
    found = set()
    for package in packages:
        name, _, version = package.partition(">=")
        found.add(f"{named.get(name, name)}>={version}")
    assert found == {*project["dependencies"], f"python{project['requires-python']}"}


def test_the_versions_tested_are_on_record() -> None:
    """docs/versions.txt, written by `make versions`, names every package asked for, and none older than asked."""
    lines = (ROOT / "docs/versions.txt").read_text(encoding="utf-8").splitlines()
    tested = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for asked in map(Requirement, project["dependencies"] + project["optional-dependencies"]["test"]):
        if asked.marker is None or asked.marker.evaluate({"python_version": "3.11"}):
            assert tested[canonicalize_name(asked.name)] in asked.specifier, asked


def imports(path: Path) -> set[str]:
    """The project's modules that `path` imports when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
    return {str(node.module).removeprefix("clipedu.") for node in inside if str(node.module).startswith("clipedu")}


def test_imports_run_one_way() -> None:
    graph = {path.stem: imports(path) for path in MODULES if path.stem not in ("__init__", "__main__")}
    placed: set[str] = set()
    while graph:
        ready = {name for name, needed in graph.items() if needed <= placed}
        assert ready, f"a circle among {sorted(graph)}"
        placed |= ready
        graph = {name: needed for name, needed in graph.items() if name not in ready}
    assert not any("classroom" in imports(path) for path in MODULES)


def test_no_module_is_too_long_to_read() -> None:
    for path in ALL_MODULES:
        most = 310 if path in MODULES else 400  # the classroom's plots stand in a row, each by itself
        assert len(path.read_text(encoding="utf-8").splitlines()) <= most, path.name


def test_chinese_messages_have_chinese_punctuation() -> None:
    for path in ALL_MODULES:
        for text in chinese_strings(path.read_text(encoding="utf-8")):
            assert half_width(text) == [], f"{path.name}: {text}"


def seconds(code: str) -> float:
    program = f"import time; start = time.perf_counter(); {code}; print(time.perf_counter() - start)"
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def test_import_is_light() -> None:
    """At most 1.3 times `import torch, torchvision`, measured in turn; and neither Jupyter, matplotlib nor timm."""
    seconds("import clipedu")  # warms the disk
    pairs = [(seconds("import clipedu"), seconds("import torch, torchvision")) for _ in range(2)]
    assert min(ours for ours, _ in pairs) <= 1.3 * min(theirs for _, theirs in pairs), pairs
    heavy = "matplotlib", "IPython", "jupyterlab", "ipywidgets", "timm", "emoji"
    program = f"import sys, clipedu; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
