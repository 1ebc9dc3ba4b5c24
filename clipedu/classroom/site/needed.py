"""Which of a notebook's cells its interactive figures need, and what those cells show when they run."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

EXPLORER, DASHBOARD = "explore(", "dashboard("


def live_cells(sources: Sequence[str]) -> list[int]:
    """The positions of the code cells that show something interactive, an explorer or a dashboard."""
    return [place for place, source in enumerate(sources) if EXPLORER in source or DASHBOARD in source]


def needed_cells(sources: Sequence[str], last: Sequence[str] = (EXPLORER,)) -> list[int]:
    """The positions of the code cells that bind a name which interactive figures read, recursively, and of theirs.

    Args:
        sources: all code cells of a notebook, in order.
        last: the calls by which a figure's own cell is recognized.
    """
    trees = [ast.parse(source) for source in sources]
    imported = {node.asname or node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.alias)}
    functions = {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}
    needed: set[str] = set()
    cells = []
    for place in reversed(range(len(sources))):
        tree = trees[place]
        nodes = list(ast.walk(tree))
        bound = bound_at_top(tree)
        # A line like tokenizer.build_vocab(...) binds no name but changes the tokenizer.
        calls = [node.value for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
        methods = [ast.unparse(call.func) for call in calls if isinstance(call.func, ast.Attribute)]
        changed = {method.split(".")[0] for method in methods} - imported
        if any(call in sources[place] for call in last) or (bound | changed) & needed:
            loops = {name for node in nodes if isinstance(node, ast.For) for name in _stored(node.target)}
            needed = (needed - bound) | names_read(tree, functions) - (_stored(tree) - bound | loops)
            cells.append(place)
    return cells[::-1]


def _stored(tree: ast.AST) -> set[str]:
    """The names bound anywhere inside, including parameters."""
    nodes = list(ast.walk(tree))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names | {node.arg for node in nodes if isinstance(node, ast.arg)}


def bound_at_top(tree: ast.Module) -> set[str]:
    """The names that a cell binds at its top level, not inside functions or comprehensions."""
    closed = ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp
    inside = {node for inner in ast.walk(tree) if isinstance(inner, closed) for node in ast.walk(inner)}
    nodes = [node for node in ast.walk(tree) if node not in inside]
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {(node.asname or node.name).split(".")[0] for node in nodes if isinstance(node, ast.alias)}
    return names | {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def names_read(tree: ast.AST, functions: dict[str, ast.FunctionDef]) -> set[str]:
    """All names in it and, recursively, in the notebook's functions that it uses, except their local names."""
    read: set[str] = set()
    pending = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    while pending:
        name = pending.pop()
        read.add(name)
        if function := functions.get(name):
            names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
            pending |= names - _stored(function) - read
    return read


def executed(*sources: str, **names: Any) -> dict[str, Any]:
    """The names that cells define when they run in sequence as one program, starting with `names`."""
    with TemporaryDirectory() as folder:
        program = Path(folder) / "cells.py"
        program.write_text("\n\n".join(sources), encoding="utf-8")
        return runpy.run_path(str(program), names, "__main__")


def with_its_last_value(source: str, name: str) -> str:
    """A cell's source that also binds `name` to what the cell shows, the value of its last expression."""
    lines = source.splitlines()
    first = ast.parse(source).body[-1].lineno - 1
    return "\n".join([*lines[:first], f"{name} = {lines[first]}", *lines[first + 1 :]])
