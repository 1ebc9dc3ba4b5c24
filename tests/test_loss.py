"""The loss: by hand, against float64 loops, against open_clip, with every option, and in two processes."""

import math
import os
import socket
from collections.abc import Sequence
from functools import partial
from multiprocessing import get_context
from multiprocessing.queues import Queue
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from clipedu import contrastive_loss
from clipedu.loss import sigmoid_loss

SCALE = torch.tensor(math.log(1 / 0.07))


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def loop_loss(
    images: Tensor, texts: Tensor, log_scale: Tensor, ids: Sequence[int], extra: Tensor | None = None
) -> float:
    """The definition, as plain loops over Python floats (64 bits)."""
    scale = math.exp(log_scale.item())

    def dot(a: list[float], b: list[float]) -> float:
        return scale * sum(x * y for x, y in zip(a, b, strict=True))

    rows = [row.tolist() for row in images.double()], [row.tolist() for row in texts.double()]
    total = 0.0
    for queries, keys, negatives in (
        (rows[0], rows[1], [] if extra is None else extra.double().tolist()),
        (rows[1], rows[0], []),
    ):
        for i, query in enumerate(queries):
            logits = [dot(query, key) for key in keys]
            log_sum = math.log(sum(math.exp(value) for value in logits + [dot(query, key) for key in negatives]))
            right = sum(math.exp(logits[j]) for j in range(len(keys)) if ids[j] == ids[i])
            total += (log_sum - math.log(right)) / len(queries) / 2
    return total


def test_three_pairs_by_hand() -> None:
    """Cosines 1 on the diagonal and 0 elsewhere, scale 1: -log(e / (e + 2)) in both directions."""
    eye = torch.eye(3)
    loss = contrastive_loss(eye, eye, torch.tensor(0.0))
    assert loss.item() == pytest.approx(math.log((math.e + 2) / math.e), abs=1e-6)
    assert loss.dtype == torch.float32


def test_equals_the_loop() -> None:
    images, texts = unit(7, 5), unit(7, 5, seed=1)
    assert contrastive_loss(images, texts, SCALE).item() == pytest.approx(
        loop_loss(images, texts, SCALE, range(7)), abs=1e-5
    )


def test_equals_open_clip() -> None:
    open_clip = pytest.importorskip("open_clip")
    images, texts = unit(16, 8), unit(16, 8, seed=1)
    theirs = open_clip.ClipLoss()(images, texts, SCALE.exp())
    torch.testing.assert_close(contrastive_loss(images, texts, SCALE), theirs, atol=1e-6, rtol=1e-6)


def test_sigmoid_loss_equals_open_clip_and_the_loop() -> None:
    open_clip = pytest.importorskip("open_clip")
    images, texts, bias = unit(16, 8), unit(16, 8, seed=1), torch.tensor(-10.0)
    loss = sigmoid_loss(images, texts, SCALE, bias)
    torch.testing.assert_close(loss, open_clip.loss.SigLipLoss()(images, texts, SCALE.exp(), bias))
    total = 0.0
    for i, image in enumerate(images.double()):
        for j, text in enumerate(texts.double()):
            logit = math.exp(SCALE.item()) * float(image @ text) - 10
            total += math.log1p(math.exp(-logit if i == j else logit))
    assert loss.item() == pytest.approx(total / 16, rel=1e-6)
    assert sigmoid_loss(images, images, SCALE, bias) < loss


def test_a_batch_of_one_has_no_gradient() -> None:
    inputs = [unit(1, 4).requires_grad_(), unit(1, 4, seed=1).requires_grad_(), SCALE.clone().requires_grad_()]
    loss = contrastive_loss(*inputs)
    assert loss.item() == 0
    assert all(not gradient.any() for gradient in torch.autograd.grad(loss, inputs))


def test_collapsed_embeddings_give_ln_n() -> None:
    same = unit(1, 8).expand(64, 8)
    assert contrastive_loss(same, same, SCALE).item() == pytest.approx(math.log(64), abs=1e-4)


def test_equal_captions_are_right_answers() -> None:
    images, texts = unit(6, 5), unit(6, 5, seed=1)
    texts[3] = texts[0]
    ids = [0, 1, 2, 0, 4, 5]
    loss = contrastive_loss(images, texts, SCALE, caption_ids=torch.tensor(ids))
    assert loss.item() == pytest.approx(loop_loss(images, texts, SCALE, ids), abs=1e-5)
    different = contrastive_loss(images, texts, SCALE, caption_ids=torch.arange(6))
    torch.testing.assert_close(different, contrastive_loss(images, texts, SCALE))


def test_evenly_spread_targets_would_change_nothing_for_equal_captions() -> None:
    """Why the probabilities of the right answers are summed: spread targets give the plain loss and gradient."""
    ids = torch.tensor([0, 1, 2, 0, 4, 0])
    equal = (ids[:, None] == ids).float()

    def value_and_gradient(spread: bool) -> list[Tensor]:
        images, words = unit(6, 5).requires_grad_(), unit(6, 5, seed=1).requires_grad_()
        logits = SCALE.exp() * images @ words[ids].T  # rows with the same id have the same text
        targets = equal / equal.sum(dim=1, keepdim=True) if spread else torch.eye(6)
        loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
        return [loss.detach(), *torch.autograd.grad(loss, (images, words))]

    torch.testing.assert_close(value_and_gradient(True), value_and_gradient(False))


def test_loss_can_reach_0_with_equal_captions() -> None:
    corners = torch.eye(3)[[0, 1, 0, 2]]
    ids = torch.tensor([0, 1, 0, 2])
    sharp = torch.tensor(math.log(100))
    assert contrastive_loss(corners, corners, sharp, caption_ids=ids).item() == pytest.approx(0, abs=1e-6)
    assert contrastive_loss(corners, corners, sharp).item() == pytest.approx(math.log(2) / 2, abs=1e-6)


def test_hard_negatives_join_the_wrong_texts_only() -> None:
    images, texts, extra = unit(6, 5), unit(6, 5, seed=1), unit(4, 5, seed=2)
    loss = contrastive_loss(images, texts, SCALE, hard_negatives=extra)
    assert loss.item() == pytest.approx(loop_loss(images, texts, SCALE, range(6), extra), abs=1e-5)
    ids = [0, 1, 0, 3, 4, 5]
    both = contrastive_loss(images, texts, SCALE, hard_negatives=extra, caption_ids=torch.tensor(ids))
    assert both.item() == pytest.approx(loop_loss(images, texts, SCALE, ids, extra), abs=1e-5)


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 100])
@pytest.mark.parametrize("ids", [None, torch.tensor([0, 1, 0, 3, 4, 5, 1])])
def test_chunked_equals_plain_in_value_and_gradient(chunk_size: int, ids: Tensor | None) -> None:
    extra = unit(4, 5, seed=2)
    results = []
    for size in (None, chunk_size):
        inputs = [unit(7, 5).requires_grad_(), unit(7, 5, seed=1).requires_grad_(), SCALE.clone().requires_grad_()]
        loss = contrastive_loss(*inputs, caption_ids=ids, hard_negatives=extra, chunk_size=size)
        results.append([loss.detach(), *torch.autograd.grad(loss, inputs)])
    for plain, chunked in zip(*results, strict=True):
        torch.testing.assert_close(plain, chunked, atol=1e-6, rtol=1e-5)


IDS, EXTRA = torch.tensor([0, 1, 0, 3]), unit(2, 3, seed=2).double()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"caption_ids": IDS},
        {"hard_negatives": EXTRA},
        {"caption_ids": IDS, "hard_negatives": EXTRA, "chunk_size": 3},
    ],
)
def test_gradient_agrees_with_finite_differences(options: dict[str, Any]) -> None:
    """In float64, which the loss keeps; PyTorch moves every number of every input."""
    inputs = [tensor.double().requires_grad_() for tensor in (unit(4, 3), unit(4, 3, seed=1), SCALE)]
    assert contrastive_loss(*inputs, **options).dtype == torch.float64
    assert torch.autograd.gradcheck(partial(contrastive_loss, **options), inputs)


def test_gradient_of_the_sigmoid_loss_agrees_with_finite_differences() -> None:
    bias = torch.tensor(-10.0)
    inputs = [tensor.double().requires_grad_() for tensor in (unit(4, 3), unit(4, 3, seed=1), SCALE, bias)]
    assert torch.autograd.gradcheck(sigmoid_loss, inputs)


@given(st.integers(1, 20), st.integers(1, 16), st.floats(0, math.log(100)), st.integers(0, 10_000))
def test_for_any_batch(pairs: int, width: int, log_scale: float, seed: int) -> None:
    images, texts, scale = unit(pairs, width, seed=seed), unit(pairs, width, seed=seed + 1), torch.tensor(log_scale)
    loss = contrastive_loss(images, texts, scale)
    assert loss.isfinite()
    assert loss >= -1e-6
    torch.testing.assert_close(loss, contrastive_loss(texts, images, scale))  # symmetric
    order = torch.randperm(pairs)
    torch.testing.assert_close(loss, contrastive_loss(images[order], texts[order], scale), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_is_computed_in_float32(dtype: torch.dtype) -> None:
    images, texts = unit(512, 64), unit(512, 64, seed=1)
    exact = contrastive_loss(images.to(dtype).float(), texts.to(dtype).float(), SCALE)
    with torch.autocast("cpu", torch.bfloat16):
        half = contrastive_loss(images.to(dtype), texts.to(dtype), SCALE)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, atol=1e-5, rtol=1e-5)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\[3, 4\]"):
        contrastive_loss(unit(3, 4), unit(2, 4), SCALE)
    for wrong in ({"caption_ids": torch.arange(4)}, {"hard_negatives": unit(2, 5)}, {"chunk_size": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            contrastive_loss(unit(3, 4), unit(3, 4, seed=1), SCALE, **wrong)


# ------------------------------------------------------------------------------------------ several processes


class _Twin(nn.Module):
    """Two linear encoders and a scale: no dropout, no batch norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(6, 4), nn.Linear(5, 4)
        self.logit_scale = nn.Parameter(SCALE.clone())

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        return F.normalize(self.image(images), dim=-1), F.normalize(self.text(texts), dim=-1)


def _batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.tensor([0, 1, 2, 3, 0, 5, 1, 7])  # captions repeat across the two processes
    return torch.randn(8, 6, generator=generator), torch.randn(8, 5, generator=generator), ids


def _gradients(model: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def _process(rank: int, port: int, with_ids: bool, queue: "Queue[list[list[float]]]") -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    twin = _Twin()
    model = nn.parallel.DistributedDataParallel(twin)
    images, texts, ids = (tensor[4 * rank : 4 * rank + 4] for tensor in _batch())
    image_embedding, text_embedding = model(images, texts)
    chosen = ids if with_ids else None
    loss = contrastive_loss(image_embedding, text_embedding, twin.logit_scale, caption_ids=chosen, gather=True)
    loss.backward()
    torch.distributed.all_reduce(loss := loss.detach())
    if rank == 1:  # plain lists, since the process is about to end and cannot share tensors
        queue.put([[loss.item() / 2], *(gradient.flatten().tolist() for gradient in _gradients(twin))])
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("with_ids", [False, True])
def test_two_processes_equal_one(with_ids: bool) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_process, args=(rank, port, with_ids, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    from_two = queue.get(timeout=120)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    model = _Twin()
    images, texts, ids = _batch()
    image_embedding, text_embedding = model(images, texts)
    chosen = ids if with_ids else None
    loss = contrastive_loss(image_embedding, text_embedding, model.logit_scale, caption_ids=chosen)
    loss.backward()
    from_one = [[loss.item()], *(gradient.flatten().tolist() for gradient in _gradients(model))]
    assert len(from_one) == len(from_two) == 6
    for expected, actual in zip(from_one, from_two, strict=True):
        torch.testing.assert_close(torch.tensor(actual), torch.tensor(expected), atol=1e-5, rtol=0)
