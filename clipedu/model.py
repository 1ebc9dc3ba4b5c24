"""CLIP itself: two encoders, two projections into one space, unit length, and a learned temperature."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipedu.encoders import ImageEncoder, TextEncoder, WordAverage

MAX_LOGIT_SCALE = math.log(100)


class CLIP(nn.Module):
    """Maps pictures and sentences to unit vectors in one space (Radford et al. 2021, figure 3).

    Args:
        image_encoder: `[B, 3, H, W]` to `[B, image_encoder.output_dim]`.
        text_encoder: `input_ids, attention_mask [B, T]` to `[B, text_encoder.output_dim]`.
        shared_embedding_dim: E, the dimension of the shared space.
        image_size: side in px of the square pictures that the model is meant for; `train` sets it.
        feature_dropout: fraction of the image features dropped in training. A frozen encoder gives the same features
            every epoch; without dropout, the rest of the model could learn them by heart.
        projection_norm: put a LayerNorm after each projection; without, both are linear as in the paper (section 2.3).

    Raises:
        ValueError: `shared_embedding_dim` is below 1.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder | WordAverage,
        shared_embedding_dim: int = 256,
        image_size: int = 224,
        feature_dropout: float = 0.0,
        projection_norm: bool = False,
    ) -> None:
        super().__init__()
        if shared_embedding_dim < 1:
            raise ValueError(f"shared_embedding_dim must be at least 1, not {shared_embedding_dim}")
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.shared_embedding_dim = shared_embedding_dim
        self.image_size, self.feature_dropout, self.projection_norm = image_size, feature_dropout, projection_norm
        # Deep features differ in size by orders of magnitude: scale each to mean 0 and variance 1.
        self.feature_norm = (
            nn.BatchNorm1d(image_encoder.output_dim, affine=False) if image_encoder.deep else nn.Identity()
        )
        self.image_projection = nn.Linear(image_encoder.output_dim, shared_embedding_dim, bias=False)
        self.text_projection = nn.Linear(text_encoder.output_dim, shared_embedding_dim, bias=False)
        for projection in (self.image_projection, self.text_projection):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)
        norm = nn.LayerNorm if projection_norm else nn.Identity
        self.image_norm, self.text_norm = norm(shared_embedding_dim), norm(shared_embedding_dim)
        # The logarithm is learned, so that the factor exp(logit_scale) = 1 / temperature stays positive.
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: Tensor, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of the pictures and of the texts, each `[B, E]` float32 with rows of length 1.

        `images` is `[B, 3, H, W]`, or `[B, output_dim]`: the frozen encoder's features, computed in advance.
        """
        return self.encode_images(images), self.encode_texts(input_ids, attention_mask)

    def encode_images(self, images: Tensor) -> Tensor:
        """Embeddings `[B, E]` of the pictures (or features), with gradient."""
        features = images if images.ndim == 2 else self.image_encoder(images)
        features = F.dropout(self.feature_norm(features), self.feature_dropout, self.training)
        return F.normalize(self.image_norm(self.image_projection(features)).float(), dim=-1)

    def encode_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embeddings `[B, E]` of the texts, with gradient."""
        features = self.text_encoder(input_ids, attention_mask)
        return F.normalize(self.text_norm(self.text_projection(features)).float(), dim=-1)

    def get_image_features(self, images: Tensor) -> Tensor:
        """Embeddings `[B, E]` for inference: no gradient, no dropout, batch norm with its running statistics."""
        with inference(self):
            return self.encode_images(images)

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embeddings `[B, E]` for inference: no gradient, no dropout."""
        with inference(self):
            return self.encode_texts(input_ids, attention_mask)

    @property
    def members(self) -> Sequence[CLIP]:
        """The models that each have a loss of their own: only this one."""
        return [self]

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the scale within [1, 100]; call this after each optimizer step.

        The upper limit is the paper's (section 2.5); a scale below 1 would only flatten the softmax.
        """
        self.logit_scale.clamp_(0, MAX_LOGIT_SCALE)


class Ensemble(CLIP):
    """CLIPs that share an image encoder but start from different random numbers; together they make fewer mistakes.

    Their embeddings are joined end to end and scaled to length 1, so a cosine is the mean of the members' cosines.
    """

    def __init__(self, members: Sequence[CLIP]) -> None:
        nn.Module.__init__(self)
        first = members[0]
        self.models = nn.ModuleList(members)
        self.shared_embedding_dim = len(members) * first.shared_embedding_dim
        self.image_size = first.image_size
        # Shared by all members, or read from the first one; registered only once.
        for name in ("image_encoder", "text_encoder", "logit_scale"):
            object.__setattr__(self, name, getattr(first, name))

    @property
    def members(self) -> Sequence[CLIP]:
        """The models that each have a loss of their own."""
        return [model for model in self.models if isinstance(model, CLIP)]

    def encode_images(self, images: Tensor) -> Tensor:
        features = images if images.ndim == 2 else self.image_encoder(images)
        return self._together([member.encode_images(features) for member in self.members])

    def encode_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self._together([member.encode_texts(input_ids, attention_mask) for member in self.members])

    def _together(self, embeddings: list[Tensor]) -> Tensor:
        return torch.cat(embeddings, dim=1) / math.sqrt(len(embeddings))

    def clamp_logit_scale(self) -> None:
        for member in self.members:
            member.clamp_logit_scale()


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients inside the block; afterwards every module returns to its previous mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def compute_similarity(image_features: Tensor, text_features: Tensor) -> Tensor:
    """Cosine similarity of every image with every text: `[I, E]` and `[T, E]` of any length to `[I, T]` in [-1, 1]."""
    return F.normalize(image_features.float(), dim=-1) @ F.normalize(text_features.float(), dim=-1).T
