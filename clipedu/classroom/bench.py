"""A test bench for losses (notebook 04): a small model that trains in seconds, so that each loss can be tried twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice

import torch
from torch import Tensor
from torch.nn import functional as F

from clipedu.classroom.lessons import Moment, sample_data
from clipedu.classroom.plots.tables import table
from clipedu.classroom.recorded import Recording
from clipedu.classroom.view import View
from clipedu.data.dataset import ImageTextDataset
from clipedu.data.loading import epoch_batches
from clipedu.embedding import embed_images, embed_texts
from clipedu.encoders import ImageEncoder, WordAverage
from clipedu.evaluation import recall_at_k
from clipedu.model import CLIP, compute_similarity, inference
from clipedu.runs.features import frozen_features
from clipedu.tokenizer import SimpleTokenizer

# From vectors `[N, D]` of any length, the logarithm of the scale, and a number for each caption, `[N]`.
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


TAUS: list[float] = torch.logspace(-2, 0, 41).tolist()


class Landscapes:
    """The loss at every temperature in TAUS, at several moments of a training, from I to T and from T to I.

    Attributes:
        curves: by direction ("I → T", "T → I") and step, the losses.
        tables: by direction and step, cosines `[N, N]` whose rows are the queries.
    """

    def __init__(self, moments: Sequence[Moment]) -> None:
        self.tables = {
            "I → T": {moment.step: moment.cosines for moment in moments},
            "T → I": {moment.step: moment.cosines.T for moment in moments},
        }
        self.curves = {
            direction: {step: [self._loss(cosines, tau) for tau in TAUS] for step, cosines in tables.items()}
            for direction, tables in self.tables.items()
        }

    @staticmethod
    def _loss(cosines: Tensor, tau: float) -> float:
        return F.cross_entropy(cosines / tau, torch.arange(len(cosines))).item()


@dataclass
class Run:
    """A trained model and the loss of every step."""

    model: CLIP
    losses: list[float]


class TestBench:
    """The drawn scenes with English captions, seen through a frozen Lite0; a sentence is the average of its words.

    Args:
        shapes_only: keep the pictures with one object, and name nothing but its shape: "a circle".
    """

    __test__ = False  # no test of pytest's

    def __init__(self, shapes_only: bool = False) -> None:
        self.encoder = ImageEncoder("efficientnet_lite0").freeze()
        self.features, self.captions = self._pairs("train", shapes_only)
        self.test_features, self.test_captions = self._pairs("test", shapes_only)
        self.tokenizer = SimpleTokenizer.from_texts(self.captions)

    def _pairs(self, split: str, shapes_only: bool) -> tuple[Tensor, list[str]]:
        dataset = ImageTextDataset(sample_data(), split, "en")
        features = frozen_features(self.encoder, dataset.image_paths(), 64, quiet=True)
        if not shapes_only:
            return features, [record.captions["en"][0] for record in dataset.records]
        labels = dataset.labels("en")
        return features[list(labels)], ["a " + label.split()[-1] for label in labels.values()]

    def new_model(self, seed: int) -> CLIP:
        torch.manual_seed(seed)
        return CLIP(self.encoder, WordAverage(len(self.tokenizer), dropout=0.0))

    def batches(self, seed: int, batch_size: int, steps: int) -> Sequence[list[int]]:
        """The numbers of the pairs in each step's batch, in new order in every epoch."""
        epochs = (epoch_batches(len(self.captions), batch_size, seed, epoch) for epoch in count(1))
        return list(islice(chain.from_iterable(epochs), steps))

    def fit(self, loss_of: Loss, seed: int, steps: int = 120, batch_size: int = 64, model: CLIP | None = None) -> Run:
        """Train a new model (or this one) with a loss of your own."""
        model = model or self.new_model(seed)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
        known = {caption: number for number, caption in enumerate(dict.fromkeys(self.captions))}
        losses = []
        for batch in self.batches(seed, batch_size, steps):
            captions = [self.captions[index] for index in batch]
            image = model.image_projection(self.features[batch])  # (N, D), any length
            text = model.text_projection(model.text_encoder(**self.tokenizer(captions, padding="longest")))
            ids = torch.tensor([known[caption] for caption in captions])
            loss = loss_of(image, text, model.logit_scale, ids)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            model.clamp_logit_scale()
            losses.append(loss.item())
        return Run(model, losses)

    def test_vectors(self, model: CLIP) -> tuple[Tensor, Tensor]:
        """Of every test picture and every test caption, `[N, E]` each: projected, not yet normalized."""
        with inference(model):
            features = model.text_encoder(**self.tokenizer(self.test_captions, padding="longest"))
            return model.image_projection(self.test_features), model.text_projection(features)

    def test_cosines(self, model: CLIP) -> Tensor:
        """Of every test picture with every test caption, `[N, N]`."""
        return compute_similarity(
            embed_images(model, self.test_features), embed_texts(model, self.tokenizer, self.test_captions)
        )

    def scores(self, model: CLIP) -> dict[str, float]:
        """On the test pairs: loss and recall@1, `i2t` and `t2i`."""
        cosines = self.test_cosines(model)
        logits, right = model.logit_scale.detach().exp() * cosines, torch.arange(len(cosines))
        recall = recall_at_k(cosines, right, ks=(1,))
        return {
            "i2t loss": F.cross_entropy(logits, right).item(),
            "t2i loss": F.cross_entropy(logits.T, right).item(),
            "i2t R@1": recall["i2t_R@1"],
            "t2i R@1": recall["t2i_R@1"],
        }

    def margin(self, run: Run) -> float:
        """How far the cosine of the right class is above the nearest wrong one, averaged over the test pictures."""
        classes = sorted(set(self.test_captions))
        embedding = embed_texts(run.model, self.tokenizer, classes)
        cosines = compute_similarity(embed_images(run.model, self.test_features), embedding)
        right = torch.tensor([classes.index(caption) for caption in self.test_captions])[:, None]
        nearest = cosines.scatter(1, right, -1.0).amax(dim=1)
        return (cosines.gather(1, right)[:, 0] - nearest).mean().item()

    def compare(self, runs: Mapping[str, Sequence[Run]]) -> View:
        """One row for each run, by label and in the order of the seeds: losses in training, then the test scores."""
        columns = ["", "首步损失 | first loss", "末步损失 | last loss"]
        columns += ["测试损失 I → T | test loss I → T", "测试损失 T → I | test loss T → I", "R@1 I → T", "R@1 T → I"]
        rows = []
        for name, members in runs.items():
            for run in members:
                numbers = [run.losses[0], run.losses[-1], *self.scores(run.model).values()]
                rows.append([name, *(f"{number:.2f}" for number in numbers)])
        return table(columns, rows)

    def compare_margins(self, runs: Mapping[str, Sequence[Run]]) -> View:
        """One row for each run, by label and in the order of the seeds: the last loss in training, and the margin."""
        rows = [
            [name, f"{run.losses[-1]:.2f}", f"{self.margin(run):.3f}"]
            for name, members in runs.items()
            for run in members
        ]
        return table(["I → T, T → I", "末步损失 | last loss", "间隔 | margin"], rows)


def temperature_table(recording: Recording) -> View:
    """Where the temperature started, how it was learned, where it ended, and recall: one row for each run."""
    rows = []
    for run in sorted(recording.results, key=lambda run: run["rate"]):
        how = f"×{run['rate']:.0f}" if run["rate"] else "固定 | fixed"
        end = run["readings"][-1]
        numbers = [f"{end['temperature']:.3f}", f"{end['i2t']:.2f}", f"{end['t2i']:.2f}"]
        rows.append([str(run["start"]), how, str(run["seed"]), *numbers])
    columns = ["起始 τ | first τ", "学 | learned", "种子 | seed", "末了 τ | last τ", "R@1 I → T", "R@1 T → I"]
    return table(columns, rows)
