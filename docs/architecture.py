"""Draw docs/architecture.svg from the imports of clipedu, and print counts of modules, imports and lines.

In this picture a "room" is a top-level module or a package of clipedu, and the "floors" are layers: a room imports only
from the floors below it. `python -m docs.architecture` draws and prints; with `--root` it only prints the counts of
another checkout.
"""

from __future__ import annotations

import argparse
import ast
from graphlib import TopologicalSorter
from html import escape
from importlib.util import resolve_name
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs/architecture.svg"
Graph = dict[str, set[str]]


class Room(NamedTuple):
    """What the picture says about a module or package."""

    chinese: str
    english: str
    notebook: str = ""


# Rooms on the same floor are drawn in this order, unless their imports decide it.
ROOMS = {
    "tokenizer": Room("句子 → 词元编号", "sentences → token ids", "01"),
    "encoders": Room("图像与文本编码器", "image and text encoders", "02"),
    "loss": Room("对比损失", "contrastive loss", "04"),
    "data": Room("数据集：读取、检查、分批", "datasets: read, checked, batched"),
    "model": Room("CLIP：投射到同一空间", "CLIP: one shared space", "03"),
    "embedding": Room("嵌入与特征缓存", "embeddings, cached features", "07"),
    "optimization": Room("设置、学习率、精度", "settings, schedule, precision", "05"),
    "search": Room("用句子找图", "find pictures from a sentence", "07"),
    "evaluation": Room("召回率、零样本", "recall, zero-shot", "06"),
    "runs": Room("检查点、续训、训练记录", "checkpoints, resuming, history"),
    "training": Room("训练循环", "the training loop", "05"),
    "export": Room("网页里的模型：ONNX、搜索页", "a model for the browser: ONNX, a search page"),
    "commands": Room("命令行", "the command line"),
    "classroom": Room("笔记本的教具：滑块、检查、图", "what the notebooks use: sliders, checks, plots"),
    "ground": Room("错误、文件、本机环境：各层共用", "errors, files, environment: shared by every layer"),
}
TAUGHT = "tokenizer", "encoders", "model", "loss", "optimization", "training", "embedding", "evaluation", "search"


# --------------------------------------------------------------------------------------------------- the import graph


def module_files(root: Path) -> dict[str, Path]:
    """The modules of clipedu, by dotted name."""
    files = sorted((root / "clipedu").rglob("*.py"))
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imported_names(source: str, package: str = "") -> list[tuple[str, str]]:
    """Every import of a program, inside functions too, as (module, name); the name is empty for `import module`."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
            names += [(module, alias.name) for alias in node.names]
    return names


def import_graph(root: Path) -> Graph:
    """The modules of clipedu that each module of clipedu imports."""
    files = module_files(root)
    graph: Graph = {}
    for module, path in files.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        targets = {
            f"{target}.{name}" if f"{target}.{name}" in files else target
            for target, name in imported_names(path.read_text(encoding="utf-8"), package)
        }
        graph[module] = (targets & files.keys()) - {module}
    return graph


def room_graph(modules: Graph) -> Graph:
    """The import graph between rooms: top-level modules, and packages with all their modules."""
    graph: Graph = {}
    for module, targets in modules.items():
        if room := room_of(module):
            graph.setdefault(room, set()).update(filter(None, map(room_of, targets)))
    return {room: targets - {room} for room, targets in graph.items()}


def room_of(module: str) -> str:
    """`data` for clipedu.data.records; empty for the entry points, clipedu/__init__.py and clipedu/__main__.py."""
    room = module.split(".")[1] if "." in module else ""
    return "" if room == "__main__" else room


def floors(graph: Graph) -> dict[str, int]:
    """The floor of each name: one above the highest that it imports. A cycle raises graphlib.CycleError."""
    height: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        height[name] = 1 + max((height[target] for target in graph.get(name, ())), default=-1)
    return height


def on_the_ground(rooms: Graph) -> Graph:
    """Treat every room as importing `ground`, if it exists, so that `ground` is at the bottom."""
    ground = {"ground"} & rooms.keys()
    return {room: targets | (ground - {room}) for room, targets in rooms.items()}


# -------------------------------------------------------------------------------------------------------- the picture

WIDTH, FLOOR, ROOM_HEIGHT, MARGIN, TOP = 1120, 124, 80, 30, 52
TAUGHT_WIDTH, PACKAGE_WIDTH = 240, 380
SANS = (
    "'Helvetica Neue', Arial, 'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', 'WenQuanYi Micro Hei', sans-serif"
)
STYLE = f"""
text {{ font-family: {SANS}; text-anchor: middle; fill: #1b2733 }}
.name {{ font: bold 17px ui-monospace, Menlo, Consolas, monospace }}
.chinese, .english {{ font-size: 13px }}
.english {{ fill: #4a5a6a }}
.modules {{ font: 11px ui-monospace, Menlo, Consolas, monospace; fill: #4a5a6a }}
.title {{ font-size: 21px; font-weight: bold }}
.taught rect {{ fill: #dcebfb; stroke: #2f74b5 }}
.package rect {{ fill: #f3ead7; stroke: #a9854a }}
rect {{ stroke-width: 1.5 }}
.badge {{ fill: #2f74b5 }}
.number {{ font-size: 12px; font-weight: bold; fill: white }}
.arrow {{ fill: none; stroke: #5b6b7b; stroke-width: 1.6; marker-end: url(#tip) }}
""".strip()


def draw(root: Path = ROOT) -> str:
    """The picture as SVG: a row per floor, an arrow per import, except for imports implied by others."""
    modules = import_graph(root)
    rooms = on_the_ground(room_graph(modules))
    floor = floors(rooms)
    arrows = [(room, target) for room, targets in direct(rooms).items() for target in targets if target != "ground"]
    places, routes = arrange(floor, sorted(arrows))
    height = TOP + FLOOR * (1 + max(floor.values())) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        "<title>clipedu 的结构 · The architecture of clipedu</title>",
        f"<style>\n{STYLE}\n</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#5b6b7b"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        *legend(),
    ]
    tops = {room: height - 10 - FLOOR * (1 + level) + (FLOOR - ROOM_HEIGHT) for room, level in floor.items()}
    levels = {level: tops[room] for room, level in floor.items()}
    for route in routes:
        parts.append(f'<path class="arrow" d="{curve([(places[stop], levels[stop[1]]) for stop in route])}"/>')
    for room in sorted(rooms):
        inside = sorted({name.split(".")[2] for name in modules if room_of(name) == room and name.count(".") > 1})
        parts += box(room, inside, places[room, floor[room]], tops[room])
    return "\n".join([*parts, "</svg>\n"])


def direct(graph: Graph) -> Graph:
    """The graph without implied arrows, such as a -> c if a -> b -> c."""
    reach: Graph = {}
    for name in TopologicalSorter(graph).static_order():
        reach[name] = graph[name].union(*(reach[target] for target in graph[name]))
    return {name: targets.difference(*(reach[target] for target in targets)) for name, targets in graph.items()}


Stop = tuple[str, int]  # a room and its floor, or an arrow and a floor that it passes through


def arrange(floor: dict[str, int], arrows: list[tuple[str, str]]) -> tuple[dict[Stop, float], list[list[Stop]]]:
    """The horizontal position of each room, and the route of each arrow, with a gap on the floors it passes through."""
    routes: list[list[Stop]] = []
    rows: dict[int, list[Stop]] = {level: [] for level in sorted(floor.values())}
    for room in ROOMS:
        if room in floor:
            rows[floor[room]].append((room, floor[room]))
    for room, target in arrows:
        passed = [(f"{room} {target}", level) for level in range(floor[room] - 1, floor[target], -1)]
        routes.append([(room, floor[room]), *passed, (target, floor[target])])
        for stop in passed:
            rows[stop[1]].append(stop)
    below: dict[Stop, list[Stop]] = {}
    for route in routes:
        for upper, lower in pairwise(route):
            below.setdefault(upper, []).append(lower)
    places: dict[Stop, float] = {}
    for row in rows.values():  # from the bottom up, placing each room above its imports
        centres = {stop: [places[lower] for lower in below.get(stop, [])] for stop in row}
        if all(centres.values()):
            row.sort(key=lambda stop: sum(centres[stop]) / len(centres[stop]))
        for end, x in ((0, MARGIN + 10), (-1, WIDTH - MARGIN - 10)):  # arrows at either end go around the outside
            if row[end][0] not in ROOMS:
                places[row.pop(end)] = x
        widths = [width_of(name) for name, _ in row]
        gap = (WIDTH - 2 * MARGIN - sum(widths)) / (len(row) + 1)
        left = MARGIN + gap
        for stop, width in zip(row, widths, strict=True):
            places[stop] = left + width / 2
            left += width + gap
    return places, routes


def width_of(name: str) -> int:
    """The width of a room, or of the gap that an arrow passes through."""
    if name in ("ground", "classroom"):
        return WIDTH - 2 * MARGIN
    return TAUGHT_WIDTH if name in TAUGHT else PACKAGE_WIDTH if name in ROOMS else 40


def curve(stops: list[tuple[float, float]]) -> str:
    """A path from the bottom of the upper room, straight down through the floors between, to the top of the lower."""
    (x, top), *rest = stops
    y = top + ROOM_HEIGHT
    path = f"M{x:.0f} {y:.0f}"
    for index, (next_x, next_top) in enumerate(rest):
        middle = (y + next_top) / 2
        path += f" C{x:.0f} {middle:.0f} {next_x:.0f} {middle:.0f} {next_x:.0f} {next_top:.0f}"
        x, y = next_x, next_top
        if index < len(rest) - 1:
            y += ROOM_HEIGHT
            path += f" V{y:.0f}"
    return path


def box(room: str, inside: list[str], centre: float, top: float) -> list[str]:
    """One room: its name, its purpose, and its notebook number or the modules inside it."""
    about = ROOMS[room]
    width = width_of(room)
    left = centre - width / 2
    lines = [("name", f"{room}/" if inside else room), ("chinese", about.chinese), ("english", about.english)]
    if inside:
        lines.append(("modules", "  ".join(inside)))
    parts = [
        f'<g class="{"package" if inside else "taught"}">',
        f'<rect x="{left:.0f}" y="{top:.0f}" width="{width}" height="{ROOM_HEIGHT}" rx="7"/>',
    ]
    for (kind, text), y in zip(lines, (20, 38, 54, 71) if inside else (26, 47, 64), strict=True):
        parts.append(f'<text class="{kind}" x="{centre:.0f}" y="{top + y:.0f}">{escape(text)}</text>')
    if about.notebook:
        parts += badge(about.notebook, left + width - 20, top + 17)
    return [*parts, "</g>"]


def badge(number: str, x: float, y: float) -> list[str]:
    """A circle with a notebook's number."""
    return [
        f'<circle class="badge" cx="{x:.0f}" cy="{y:.0f}" r="12"/>',
        f'<text class="number" x="{x:.0f}" y="{y + 4:.0f}">{number}</text>',
    ]


def legend() -> list[str]:
    """What the colours, numbers and arrows mean, in both languages."""
    samples = [
        '<g class="taught"><rect x="34" y="56" width="26" height="18" rx="4"/></g>',
        '<g class="package"><rect x="264" y="56" width="26" height="18" rx="4"/></g>',
        *badge("01", 424, 65),
        '<path class="arrow" d="M632 56 V75"/>',
    ]
    texts = [
        (68, "讲解的模块 · taught module"),
        (298, "包 · package"),
        (443, "对应的笔记本 · its notebook"),
        (
            646,
            "导入；能由其他箭头推出的不画 · imports; implied arrows are left out",
        ),
    ]
    title = f'<text class="title" x="{WIDTH // 2}" y="34">clipedu/ · 只从上往下导入 · imports only go down</text>'
    style = 'class="english" style="text-anchor: start"'
    return [title, *samples, *(f'<text {style} x="{x}" y="70">{escape(text)}</text>' for x, text in texts)]


# -------------------------------------------------------------------------------------------------------- the numbers


def numbers(root: Path) -> dict[str, int]:
    """Counts of rooms, floors and arrows in the import graph, and of lines of Python, including blank ones."""
    modules = import_graph(root)
    rooms = room_graph(modules)
    files = module_files(root)
    top_level = [name for name, path in files.items() if path.parent.name == "clipedu" and room_of(name)]
    core = [path for name, path in files.items() if room_of(name) != "classroom"]
    return {
        "top-level modules": len(top_level),
        "modules": len(modules),
        "floors of modules": 1 + max(floors(modules).values()),
        "rooms: top-level modules, packages": len(rooms),
        "floors of rooms": 1 + max(floors(on_the_ground(rooms)).values()),
        "arrows between rooms": sum(map(len, rooms.values())),
        "arrows between modules": sum(map(len, modules.values())),
        "lines: core": lines(core),
        "lines: taught modules, part of the core": lines([files[f"clipedu.{name}"] for name in TAUGHT]),
        "lines: classroom": lines([path for name, path in files.items() if room_of(name) == "classroom"]),
        **{f"lines: {name}": lines([*(root / name).rglob("*.py")]) for name in ("tests", "benchmarks", "studies")},
    }


def lines(paths: list[Path]) -> int:
    """The total number of lines in these files."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def main() -> None:
    """Draw the picture and print the counts, or only count in another checkout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="another checkout: print its counts, draw nothing")
    root = parser.parse_args().root
    if root is None:
        PICTURE.write_text(draw(), encoding="utf-8")
    for label, count in numbers(root or ROOT).items():
        print(f"{label:40}{count:6,}")


if __name__ == "__main__":
    main()
