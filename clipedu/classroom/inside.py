"""What the lesson on encoders looks at: photos, parameters, attention, and captions with their objects swapped."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from PIL import Image, ImageOps
from skimage import data
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from clipedu.classroom.lessons import eight_pairs, sample_data
from clipedu.classroom.plots import table
from clipedu.classroom.view import View
from clipedu.data.dataset import ImageTextDataset
from clipedu.data.pictures import load_pixels
from clipedu.data.records import Record
from clipedu.data.scenes import COLOURS, RELATIONS, SHAPES
from clipedu.encoders import ImageEncoder, TextEncoder
from clipedu.tokenizer import SimpleTokenizer

# All names of colours and shapes in the drawn scenes, as tokens: a word in English, a character in Chinese.
COLOUR_AND_SHAPE = {*COLOURS, *SHAPES, *"".join([*SHAPES.values(), *(chinese for chinese, _ in COLOURS.values())])}


def photos() -> dict[str, Image.Image]:
    """Four photos and a drawn scene, 224 px square, by a name in both languages."""
    named = {
        "猫 · cat": data.chelsea(),
        "咖啡 · coffee": data.coffee(),
        "火箭 · rocket": data.rocket(),
        "宇航员 · astronaut": data.astronaut(),
    }
    images = {name: Image.fromarray(photo) for name, photo in named.items()} | {"场景 · scene": eight_pairs()[6].image}
    return {name: _square(image, 224) for name, image in images.items()}


def _square(image: Image.Image, side: int) -> Image.Image:
    return ImageOps.fit(image, (side, side), method=Image.Resampling.BICUBIC)


def pixels(*images: Image.Image, side: int = 224) -> Tensor:
    """Pictures as numbers from 0 to 255, cropped to a square: `[B, 3, side, side]`."""
    return torch.stack([pil_to_tensor(_square(image, side)) for image in images])


def scenes(count: int) -> tuple[Tensor, list[Record]]:
    """This many test scenes (300 at most) at 64 px, `[B, 3, 64, 64]`, and their records."""
    records = ImageTextDataset(sample_data(), "test", "en").records[:count]
    return torch.stack([load_pixels(record.image_path, 64) for record in records]), records


def single_objects() -> tuple[Tensor, list[str], list[str]]:
    """The test scenes with one object at 224 px, `[B, 3, 224, 224]`, with its colour and its shape."""
    records = ImageTextDataset(sample_data(), "test", "en").records
    words = [(record, record.captions["en"][0].split()) for record in records]  # such as: a big red ring
    single = [(record.image_path, colour, shape) for record, (_, _, colour, shape, *more) in words if not more]
    batch = torch.stack([load_pixels(path, 224) for path, _, _ in single])
    return batch, [colour for _, colour, _ in single], [shape for _, _, shape in single]


def two_objects(language: str) -> tuple[Tensor, list[str], list[str]]:
    """The test scenes with two objects, `[B, 3, 64, 64]`, their captions, and these with the objects swapped."""
    pictures, records = scenes(300)
    captions = [record.captions[language][0] for record in records]
    two = [number for number, caption in enumerate(captions) if _swapped(caption) != caption]
    own = [captions[number] for number in two]
    return pictures[two], own, list(map(_swapped, own))


def _swapped(caption: str) -> str:
    for relation in RELATIONS:
        first, found, second = caption.partition(f" {relation} ")
        if found:
            return f"{second}{found}{first}"
    first, found, rest = caption.partition("在")  # such as: 一个红色的圆在一个蓝色的圆的左边
    second, of, place = rest.rpartition("的")
    return f"{second}{found}{first}{of}{place}" if found else caption


def influence(encoder: ImageEncoder, batch: Tensor, stage: int) -> Tensor:
    """How much each pixel moves the cell in the middle of a stage's feature maps: gradients, `[H, W]`, 0 is no part."""
    scaled = ((batch / 255 - encoder.mean) / encoder.std).requires_grad_()
    maps = _until(encoder, stage)(scaled)
    middle = maps.shape[-1] // 2
    cell = maps[0, :, middle, middle].sum()  # of all channels
    return torch.autograd.grad(cell, scaled)[0][0].abs().sum(dim=0)


def layers_until(encoder: ImageEncoder, stage: int) -> list[tuple[int, int]]:
    """Kernel and stride of each convolution from the picture to a stage, first layer first."""
    convolutions = [part for part in _until(encoder, stage).modules() if isinstance(part, nn.Conv2d)]
    return [(part.kernel_size[0], part.stride[0]) for part in convolutions]


def _until(encoder: ImageEncoder, stage: int) -> nn.Sequential:
    """The network's own layers from the picture to a stage."""
    entrance = [encoder.model.get_submodule(name) for name in ("conv_stem", "bn1")]
    return nn.Sequential(*entrance, *[encoder.model.get_submodule(f"blocks.{number}") for number in range(stage)])


def width_of(gradient: Tensor) -> int:
    """How many columns of `[H, W]` wide the part is that is not 0."""
    columns = (gradient > 0).any(dim=0).nonzero()
    return int(columns.max() - columns.min()) + 1


def parameter_table(blocks: Iterable[nn.Module], name: str) -> View:
    """How many parameters each layer of these blocks has, and all of them."""
    rows, total = [], 0
    for number, block in enumerate(blocks, 1):
        for layer, module in block.named_children():
            if count := sum(p.numel() for p in module.parameters()):
                shape = list(next(module.parameters()).shape)
                rows.append([f"{name}.{number}", layer, str(shape), f"{count:,}"])
                total += count
    rows.append([name, "Σ", "", f"{total:,}"])
    return table(["块 | block", "层 | layer", "weight.shape", "参数 | parameters"], rows)


@torch.no_grad()
def attention_weights(text: TextEncoder, tokenizer: SimpleTokenizer, sentence: str) -> tuple[list[str], Tensor]:
    """The T tokens of a sentence, and who looks at whom in the first block: `[heads, T, T]`, rows sum to 1."""
    ids = tokenizer([sentence], padding="longest", max_length=24)["input_ids"]
    positions = torch.arange(ids.shape[1])
    layer = text.transformer.layers[0]
    hidden = layer.norm1(text.token_embedding(ids) + text.position_embedding(positions))  # (1, T, D)
    weights = layer.self_attn(hidden, hidden, hidden, average_attn_weights=False)[1]  # (1, heads, T, T)
    return [tokenizer.id_to_token[number] for number in ids[0].tolist()], weights[0]


def attention_received(text: TextEncoder, tokenizer: SimpleTokenizer, sentences: list[str]) -> Tensor:
    """What words of colour and shape, and what other words, receive from each head: `[2, heads]`, 1 is an even share.

    A token receives the mean of the weights that all T tokens give it, times T. [CLS] and [SEP] are left out.
    """
    totals, counts = torch.zeros(2, text.num_heads), torch.zeros(2, 1)
    for sentence in sentences:
        names, weights = attention_weights(text, tokenizer, sentence)
        shares = len(names) * weights.mean(dim=1)  # (heads, T)
        for name, share in zip(names, shares.T, strict=True):
            if not name.startswith("["):
                kind = 0 if name in COLOUR_AND_SHAPE else 1
                totals[kind] += share
                counts[kind] += 1
    return totals / counts
