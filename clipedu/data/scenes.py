"""Draws sample_data: scenes of one or two coloured shapes, with captions in English and Chinese.

Every caption is true of its picture by construction, the pictures are small enough to commit, and the
`novel` split has colour-shape pairs that never occur in training, which makes it a zero-shot test.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw
from tqdm.auto import tqdm

from clipedu.data.records import write_records
from clipedu.ground.files import whole_folder

COLOURS = {  # English name -> (Chinese name, RGB)
    "red": ("红色", (214, 40, 40)),
    "orange": ("橙色", (247, 134, 20)),
    "yellow": ("黄色", (250, 214, 30)),
    "green": ("绿色", (46, 150, 66)),
    "blue": ("蓝色", (38, 84, 200)),
    "purple": ("紫色", (128, 48, 160)),
    "black": ("黑色", (26, 26, 28)),
    "white": ("白色", (250, 250, 250)),
}
SHAPES = {  # English name -> Chinese name
    "circle": "圆",
    "square": "正方形",
    "triangle": "三角形",
    "star": "五角星",
    "cross": "十字",
    "ring": "圆环",
}
SIZES = {"small": ("小", 14.0), "big": ("大", 20.0)}  # English name -> (Chinese name, radius in px of 96)


class Relation(NamedTuple):
    """The position of the first of two objects relative to the second."""

    opposite: str
    chinese: str
    direction: tuple[int, int]  # from the second object to the first, x to the right, y down


RELATIONS = {
    "left of": Relation("right of", "左边", (-1, 0)),
    "right of": Relation("left of", "右边", (1, 0)),
    "above": Relation("below", "上面", (0, -1)),
    "below": Relation("above", "下面", (0, 1)),
}
# Twelve of the 48 colour-shape pairs, two for each shape and one or two for each colour, are kept for `novel`.
NOVEL_PAIRS = frozenset(
    (colour, list(SHAPES)[(index + 3 * turn) % 6])
    for turn, colours in enumerate((list(COLOURS)[:6], list(COLOURS)[2:]))
    for index, colour in enumerate(colours)
)
SPLIT_SIZES = {"train": 2400, "val": 300, "test": 300, "novel": 300}
IMAGE_SIZE = 96
# With two objects, colours alone nearly always tell scenes apart; single objects of the same colour teach shape.
SINGLE_SHARE = 0.4
_OVERSAMPLING = 4


@dataclass(frozen=True)
class SceneObject:
    """What is drawn (colour, shape, size) and where: centre in px of the 96 px picture, angle in degrees.

    `shade` is added to the colour's RGB, so that no two reds are exactly the same.
    """

    colour: str
    shape: str
    size: str
    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0
    shade: tuple[int, int, int] = (0, 0, 0)

    @property
    def kind(self) -> tuple[str, str, str]:
        return self.size, self.colour, self.shape

    def rgb(self) -> tuple[int, int, int]:
        red, green, blue = (min(255, max(0, c + d)) for c, d in zip(COLOURS[self.colour][1], self.shade, strict=True))
        return red, green, blue

    def english(self) -> str:
        return f"{self.size} {self.colour} {self.shape}"

    def chinese(self) -> str:
        return f"{COLOURS[self.colour][0]}的{SIZES[self.size][0]}{SHAPES[self.shape]}"


@dataclass(frozen=True)
class Scene:
    """One or two objects; with two, `relation` is the position of the first relative to the second."""

    objects: tuple[SceneObject, ...]
    relation: str | None
    background: tuple[int, int, int]
    phrasing: int

    @property
    def meaning(self) -> frozenset[tuple[object, ...]]:
        """Equal for two scenes if and only if each one's captions are true of the other (reversed relations too)."""
        if self.relation is None:
            return frozenset([(self.objects[0].kind,)])
        first, second = self.objects
        opposite = RELATIONS[self.relation].opposite
        return frozenset([(first.kind, self.relation, second.kind), (second.kind, opposite, first.kind)])

    def captions(self) -> tuple[list[str], list[str]]:
        """Two captions in English and two in Chinese; the second is phrased differently."""
        return self._english(), self._chinese()

    def _english(self) -> list[str]:
        if self.relation is None:
            name = self.objects[0].english()
            return [f"a {name}", (f"there is one {name}", f"a picture of a {name}")[self.phrasing]]
        first, second = (thing.english() for thing in self.objects)
        opposite = RELATIONS[self.relation].opposite
        reverse = (f"a {second} {opposite} a {first}", f"there is a {second} {opposite} one {first}")
        return [f"a {first} {self.relation} a {second}", reverse[self.phrasing]]

    def _chinese(self) -> list[str]:
        if self.relation is None:
            name = self.objects[0].chinese()
            return [f"一个{name}", (f"图中有一个{name}", f"画着一个{name}")[self.phrasing]]
        first, second = (thing.chinese() for thing in self.objects)
        place = RELATIONS[self.relation].chinese
        opposite = RELATIONS[RELATIONS[self.relation].opposite].chinese
        reverse = (f"{first}的{opposite}是一个{second}", f"在{first}的{opposite}有一个{second}")
        return [f"一个{first}在一个{second}的{place}", reverse[self.phrasing]]

    def record(self, image_path: str, split: str) -> dict[str, object]:
        """The scene's entry in dataset.json; a single object also carries a label for zero-shot classification."""
        english, chinese = self.captions()
        record: dict[str, object] = {"image_path": image_path, "text": english, "text_zh": chinese, "split": split}
        if self.relation is None:
            thing = self.objects[0]
            record["label"] = f"{thing.colour} {thing.shape}"
            record["label_zh"] = f"{COLOURS[thing.colour][0]}的{SHAPES[thing.shape]}"
        return record


def _outline(shape: str, radius: float) -> list[tuple[float, float]]:
    """Corners of a polygonal shape around the origin, y pointing down."""
    if shape == "square":
        side = 0.85 * radius
        return [(-side, -side), (side, -side), (side, side), (-side, side)]
    if shape == "triangle":
        return [(radius * math.sin(a), -radius * math.cos(a)) for a in (0, 2 * math.pi / 3, 4 * math.pi / 3)]
    if shape == "star":
        radii = (radius * 1.1, radius * 0.45)
        return [
            (radii[k % 2] * math.sin(k * math.pi / 5), -radii[k % 2] * math.cos(k * math.pi / 5)) for k in range(10)
        ]
    arm, reach = 0.32 * radius, radius  # a cross
    quarter = [(arm, -reach), (arm, -arm), (reach, -arm)]
    corners = []
    for _ in range(4):
        corners += quarter
        quarter = [(-y, x) for x, y in quarter]
    return corners


def draw_scene(scene: Scene, size: int = IMAGE_SIZE) -> Image.Image:
    """The scene as an RGB picture of `size` x `size` px, drawn four times larger and scaled down for smooth edges."""
    zoom = size / IMAGE_SIZE * _OVERSAMPLING
    canvas = Image.new("RGB", (size * _OVERSAMPLING,) * 2, scene.background)
    pen = ImageDraw.Draw(canvas)
    for thing in scene.objects:
        radius, (x, y) = SIZES[thing.size][1] * zoom, (thing.x * zoom, thing.y * zoom)
        colour = thing.rgb()
        if thing.shape == "circle":
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        elif thing.shape == "ring":
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=round(radius * 0.36))
        else:
            cos, sin = math.cos(math.radians(thing.angle)), math.sin(math.radians(thing.angle))
            corners = [(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in _outline(thing.shape, radius)]
            pen.polygon(corners, fill=colour)
    return canvas.resize((size, size), Image.Resampling.LANCZOS)


def _random_kind(rng: random.Random, pairs: list[tuple[str, str]]) -> tuple[str, str, str]:
    colour, shape = rng.choice(pairs)
    return colour, shape, rng.choice(list(SIZES))


def random_scene(rng: random.Random, pairs: list[tuple[str, str]], single_share: float = SINGLE_SHARE) -> Scene:
    """A scene with colours and shapes from `pairs`; with probability `single_share` it has only one object."""

    def jitter(reach: float) -> float:
        return rng.uniform(-reach, reach)

    def tint(reach: float) -> tuple[int, int, int]:
        return round(jitter(reach)), round(jitter(reach)), round(jitter(reach))

    grey = 172 + round(jitter(18))
    red, green, blue = tint(12)
    background = (grey + red, grey + green, grey + blue)
    middle = IMAGE_SIZE / 2
    first = second = _random_kind(rng, pairs)
    if rng.random() < single_share:
        thing = SceneObject(*first, middle + jitter(25), middle + jitter(25), jitter(12), tint(10))
        return Scene((thing,), None, background, rng.randrange(2))
    while second == first:
        second = _random_kind(rng, pairs)
    relation = rng.choice(list(RELATIONS))
    dx, dy = RELATIONS[relation].direction
    # Far apart along the relation and nearly aligned across it, so that the relation is unambiguous.
    half_gap, slip = rng.uniform(21, 23), jitter(6)
    x, y = middle + jitter(2 if dx else 17), middle + jitter(2 if dy else 17)
    objects = (
        SceneObject(*first, x + dx * half_gap + dy * slip, y + dy * half_gap + dx * slip, jitter(12), tint(10)),
        SceneObject(*second, x - dx * half_gap - dy * slip, y - dy * half_gap - dx * slip, jitter(12), tint(10)),
    )
    return Scene(objects, relation, background, rng.randrange(2))


def random_scenes(seed: int = 0) -> Iterator[tuple[str, Scene]]:
    """Every (split, scene) of sample_data, the same for the same seed.

    No two scenes of an evaluation split have the same meaning, so that recall is well defined, and no meaning
    with two objects occurs in two splits. (Single objects must repeat: there are only 72 for training.)
    """
    rng = random.Random(seed)
    seen_pairs = [(colour, shape) for colour in COLOURS for shape in SHAPES if (colour, shape) not in NOVEL_PAIRS]
    taken: set[frozenset[tuple[object, ...]]] = set()
    for split in ("val", "test", "novel", "train"):
        pairs = sorted(NOVEL_PAIRS) if split == "novel" else seen_pairs
        in_split: set[frozenset[tuple[object, ...]]] = set()
        drawn = 0
        while drawn < SPLIT_SIZES[split]:
            scene = random_scene(rng, pairs)
            repeated = scene.meaning in (taken if split == "train" else taken | in_split)
            if repeated:
                continue
            in_split.add(scene.meaning)
            drawn += 1
            yield split, scene
        taken |= {meaning for meaning in in_split if len(meaning) == 2}


def create_scenes(out: Path, seed: int = 0) -> None:
    """Draw the whole set into the new folder `out`: images/*.png and dataset.json."""
    with whole_folder(out) as folder:
        (folder / "images").mkdir()
        records = []
        for index, (split, scene) in enumerate(
            tqdm(random_scenes(seed), total=sum(SPLIT_SIZES.values()), unit="scene", disable=None)
        ):
            image_path = f"images/{split}_{index:04d}.png"
            draw_scene(scene).save(folder / image_path, optimize=True)
            records.append(scene.record(image_path, split))
        write_records(folder, records)
