"""The contrastive loss of CLIP (Radford et al. 2021, figure 3), with options for large or repetitive batches."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def contrastive_loss(
    image_embedding: Tensor,
    text_embedding: Tensor,
    logit_scale: Tensor,
    *,
    caption_ids: Tensor | None = None,
    hard_negatives: Tensor | None = None,
    chunk_size: int | None = None,
    gather: bool = False,
) -> Tensor:
    """The mean of two cross entropies: which text belongs to each image, and which image to each text.

    Args:
        image_embedding: `[B, E]`, rows of length 1.
        text_embedding: `[B, E]`, rows of length 1; row i belongs to image i.
        logit_scale: scalar, the logarithm of the factor on the cosines (1 / temperature).
        caption_ids: `[B]` int64; rows with equal ids share a caption and are right answers for each other, not false
            negatives: the loss adds up their probabilities (Miech et al. 2020, MIL-NCE). Spreading the targets evenly
            over them instead would give the plain loss, see notebook 04.
        hard_negatives: `[M, E]`, embeddings of additional texts that belong to none of the images: wrong answers for
            every image, those of its own process when `gather` is set.
        chunk_size: compute this many rows at a time, and again in the backward pass: memory B * chunk_size instead
            of B * B, same value and gradient.
        gather: use the negatives of all processes (torch.distributed), whose B must be equal. Each returns its own
            share; the mean of the shares is the loss of the whole batch, and the same holds for their gradients.

    Returns:
        A scalar with gradient, float32, or float64 if `image_embedding` is.

    Raises:
        ValueError: the shapes do not fit together, or `chunk_size` is below 1.
    """
    _check_shapes(image_embedding, text_embedding, logit_scale, caption_ids, hard_negatives)
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, not {chunk_size}")
    dtype = torch.promote_types(image_embedding.dtype, torch.float32)
    offset, all_images, all_texts = 0, image_embedding, text_embedding
    if gather:
        offset = dist.get_rank() * len(image_embedding)
        all_images, all_texts = _gather_with_gradient(image_embedding), _gather_with_gradient(text_embedding)
        caption_ids = None if caption_ids is None else _gather(caption_ids)
    candidates = all_texts if hard_negatives is None else torch.cat([all_texts, hard_negatives])

    def loss_of_rows(start: int, stop: int) -> Tensor:
        rows = slice(start, stop)
        with torch.autocast(image_embedding.device.type, enabled=False):  # a softmax over thousands needs float32
            scale = logit_scale.to(dtype).exp()
            logits_per_image = scale * image_embedding[rows].to(dtype) @ candidates.to(dtype).T  # (b, N + M)
            logits_per_text = scale * text_embedding[rows].to(dtype) @ all_images.to(dtype).T  # (b, N)
            right = torch.arange(offset + start, offset + stop, device=image_embedding.device)
            image_to_text = _cross_entropy(logits_per_image, right, caption_ids)
            text_to_image = _cross_entropy(logits_per_text, right, caption_ids)
            return (image_to_text + text_to_image) / 2

    batch_size = len(image_embedding)
    if chunk_size is None or chunk_size >= batch_size:  # a single chunk would save nothing and be computed twice
        return loss_of_rows(0, batch_size) / batch_size
    chunks = [(start, min(start + chunk_size, batch_size)) for start in range(0, batch_size, chunk_size)]
    # Nothing here is random, and a saved random state between two chunks keeps glibc from reusing their memory.
    losses = [
        checkpoint(loss_of_rows, start, stop, use_reentrant=False, preserve_rng_state=False) for start, stop in chunks
    ]
    return torch.stack(losses).sum() / batch_size


def sigmoid_loss(image_embedding: Tensor, text_embedding: Tensor, logit_scale: Tensor, logit_bias: Tensor) -> Tensor:
    """Judge each image-text pair on its own: do the two belong together? (Zhai et al. 2023, SigLIP, section 3.2)

    There is no softmax, so no pair depends on the rest of the batch. Start the bias near -10, since most pairs do not
    belong together.

    Args:
        image_embedding: `[B, E]`, rows of length 1.
        text_embedding: `[B, E]`, rows of length 1; row i belongs to image i.
        logit_scale: scalar, the logarithm of the factor on the cosines.
        logit_bias: scalar, added to every logit.

    Returns:
        A scalar with gradient: summed over all B * B pairs, divided by B. Float32, or float64 if `image_embedding` is.

    Raises:
        ValueError: the shapes do not fit together.
    """
    _check_shapes(image_embedding, text_embedding, logit_scale)
    dtype = torch.promote_types(image_embedding.dtype, torch.float32)
    with torch.autocast(image_embedding.device.type, enabled=False):
        scale = logit_scale.to(dtype).exp()
        logits = scale * image_embedding.to(dtype) @ text_embedding.to(dtype).T + logit_bias  # (B, B)
        signs = 2 * torch.eye(len(logits), device=logits.device) - 1  # 1 for a pair, -1 for all others
        return -F.logsigmoid(signs * logits).sum() / len(logits)


def _check_shapes(
    image_embedding: Tensor,
    text_embedding: Tensor,
    logit_scale: Tensor,
    caption_ids: Tensor | None = None,
    hard_negatives: Tensor | None = None,
) -> None:
    """Raise ValueError if the shapes do not fit together: PyTorch would broadcast some of them silently."""
    shape = image_embedding.shape
    if text_embedding.shape != shape or len(shape) != 2 or not len(image_embedding):
        shapes = f"{list(shape)} and {list(text_embedding.shape)}"
        raise ValueError(f"both embeddings must have the same shape [B, E] with B > 0, not {shapes}")
    fits = {
        "logit_scale": logit_scale.shape in ((), (1,)),
        "caption_ids [B]": caption_ids is None or caption_ids.shape == shape[:1],
        "hard_negatives [M, E]": hard_negatives is None or hard_negatives.shape[1:] == shape[1:],
    }
    for name, is_right in fits.items():
        if not is_right:
            raise ValueError(f"{name} does not fit embeddings of shape {list(shape)}")


def _cross_entropy(logits: Tensor, right: Tensor, caption_ids: Tensor | None) -> Tensor:
    """Summed over the rows of `logits`; `right` is the column of each row's own pair."""
    if caption_ids is None:
        return F.cross_entropy(logits, right, reduction="sum")
    equal = caption_ids[right, None] == caption_ids  # (b, N), true where the captions are the same
    is_right = F.pad(equal, (0, logits.shape[1] - len(caption_ids)))  # no hard negative is right
    return (logits.logsumexp(dim=1) - logits.masked_fill(~is_right, -torch.inf).logsumexp(dim=1)).sum()


def _gather(rows: Tensor) -> Tensor:
    """The rows of all processes, in the order of their ranks."""
    gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, rows.contiguous())
    return torch.cat(gathered)


class _GatherWithGradient(torch.autograd.Function):
    """`_gather` whose backward pass gives each process the summed gradients of all processes for its rows."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor) -> Tensor:
        return _gather(rows)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def _gather_with_gradient(rows: Tensor) -> Tensor:
    return _GatherWithGradient.apply(rows)
