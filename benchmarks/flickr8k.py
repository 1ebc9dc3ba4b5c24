"""Train on real photos and their captions, on two cores, with no pretraining on the text side.

python -m benchmarks.flickr8k --data-dir flickr8k --run-dir runs/flickr8k --language en

`--seeds` trains one member per seed; `--changes` trains one member for each step of the recipe, to show what it brings.

The image side is a frozen EfficientNet-Lite0 with its ImageNet weights, read at several depths and positions. The
features of each photo and its mirror image are computed once. On top of them, a linear projection and a text encoder
are trained from random weights. Several such members, which differ only in their seed, are trained one after the other;
their embeddings are concatenated into one longer embedding, whose cosines are the means of the members' cosines.

The recipe was chosen by recall on `val`, so the result is slightly optimistic.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval
from torch.optim import AdamW
from tqdm.auto import tqdm

from benchmarks.harness import read_options, write_result
from clipedu import ImageEncoder, ImageTextDataset, SimpleTokenizer, TextEncoder, TrainConfig, recall_at_k
from clipedu.data.loading import epoch_batches, in_order
from clipedu.data.records import languages
from clipedu.embedding import frozen_features
from clipedu.ground.files import whole_file
from clipedu.loss import contrastive_loss
from clipedu.model import MAX_LOGIT_SCALE, inference
from clipedu.optimization import make_scheduler
from clipedu.tokenizer import SEP

AT_ONCE = 4  # photos per forward pass: activations then fit in the processor's cache, which is twice as fast here
BRIGHTEST = 8  # strongest of the 8 x 8 positions in the last layer


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a member except its seed."""

    features: str = "all"  # or "average": the last layer's average alone
    mirror: bool = True
    text: str = "words"  # or "transformer": the library's TextEncoder
    epochs: int = 25
    batch_size: int = 256
    lr: float = 1e-3
    weight_decay: float = 0.2
    shared_dim: int = 512
    dropout: float = 0.4  # on the image features


CHANGES: dict[str, Recipe] = {  # from a plain model to the whole recipe, one step at a time
    "average of the last layer, one Transformer layer": Recipe("average", mirror=False, text="transformer"),
    "words instead of the Transformer": Recipe("average", mirror=False),
    "and the mirror image": Recipe("average"),
    "and more of each photo": Recipe(),
}


class DeepFeatures(ImageEncoder):
    """EfficientNet-Lite0 read at several depths, from pictures to features `[B, 9664]`: the averages of four blocks;
    and the average, the maximum, the four quarter averages and the top-position average of the last layer."""

    def __init__(self, mirrored: bool) -> None:
        super().__init__("efficientnet_lite0", pretrained=True)
        self.mirrored = mirrored
        self.model_name = f"efficientnet_lite0, deep, mirrored={mirrored}"  # part of the cache key
        self.output_dim = 80 + 112 + 192 + 320 + 7 * 1280
        self.freeze()
        fold_batch_norms(self.model)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 `[B, 3, S, S]` to float32 `[B, 9664]`; the last layer's average comes first."""
        return torch.cat([self._read(few) for few in images.split(AT_ONCE)])

    def _read(self, images: Tensor) -> Tensor:
        network: Any = self.model
        hidden = (images.flip(-1) if self.mirrored else images) / 255
        hidden = ((hidden - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        hidden = network.bn1(network.conv_stem(hidden))
        depths = []
        for block in network.blocks:
            hidden = block(hidden)
            depths.append(hidden.mean(dim=(2, 3)))
        last = network.bn2(network.conv_head(hidden))  # (B, 1280, S / 32, S / 32)
        places = last.flatten(2)
        strongest = places.topk(min(BRIGHTEST, places.shape[2]), dim=2).values.mean(dim=2)
        quarters = F.adaptive_avg_pool2d(last, 2).flatten(1)
        return torch.cat([places.mean(dim=2), places.amax(dim=2), strongest, quarters, *depths[3:]], dim=1)  # (B, 9664)


def fold_batch_norms(network: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, which is possible because the network is frozen.

    The output is the same up to rounding, a third faster.
    """
    for (name, convolution), (norm_name, norm) in pairwise(list(network.named_modules())):
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            network.set_submodule(name, fuse_conv_bn_eval(convolution, norm))
            network.set_submodule(norm_name, cast(nn.Module, norm.act))  # timm's batch norms include the activation
    network.to(memory_format=torch.channels_last)


class WordAverage(nn.Module):
    """A sentence as the average of its words, weighted by a learned weight per word: `[B, T]` to `[B, width]`."""

    def __init__(self, vocab_size: int, width: int = 512, dropout: float = 0.2) -> None:
        super().__init__()
        self.output_dim = width
        self.word = nn.Embedding(vocab_size, width)
        self.weight = nn.Embedding(vocab_size, 1)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        last = nn.Linear(2 * width, width)
        self.residual = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), last)
        nn.init.normal_(self.word.weight, std=0.02)
        nn.init.zeros_(self.weight.weight)  # all words start with the same weight
        nn.init.zeros_(last.weight)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ignores special tokens, unless the text has no known word: then it is their average."""
        scores = self.weight(input_ids).squeeze(-1).masked_fill(input_ids <= SEP, -1e4)
        share = scores.masked_fill(attention_mask == 0, -1e9).softmax(dim=1)  # (B, T)
        hidden = self.dropout(self.norm((share.unsqueeze(-1) * self.word(input_ids)).sum(dim=1)))  # (B, width)
        return hidden + self.residual(hidden)


class Member(nn.Module):
    """Two projections into a shared space: one for precomputed image features, one for its own text encoder."""

    def __init__(self, feature_dim: int, vocab_size: int, recipe: Recipe) -> None:
        super().__init__()
        self.text_encoder: WordAverage | TextEncoder = (
            WordAverage(vocab_size)
            if recipe.text == "words"
            else TextEncoder(vocab_size, num_layers=1, dropout=0.2, pooling="mean")
        )
        self.dropout = nn.Dropout(recipe.dropout)
        self.image_projection = nn.Linear(feature_dim, recipe.shared_dim, bias=False)
        self.text_projection = nn.Linear(self.text_encoder.output_dim, recipe.shared_dim, bias=False)
        for projection in (self.image_projection, self.text_projection):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def embed_images(self, features: Tensor) -> Tensor:
        """`[B, F]` to `[B, E]`, rows of length 1."""
        return F.normalize(self.image_projection(self.dropout(features)), dim=-1)

    def embed_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """`[B, T]` to `[B, E]`, rows of length 1."""
        return F.normalize(self.text_projection(self.text_encoder(input_ids, attention_mask)), dim=-1)


@dataclass(frozen=True)
class Photos:
    """Standardised features `[N, views, F]`, and the dataset they belong to."""

    features: Tensor
    dataset: ImageTextDataset

    def used_features(self, recipe: Recipe) -> Tensor:
        """The part of the features that the recipe uses."""
        features = self.features if recipe.features == "all" else self.features[..., :1280]
        return features if recipe.mirror else features[:, :1]


def read_photos(dataset: ImageTextDataset, image_size: int) -> Photos:
    """Features of each photo and its mirror image, from the cache or computed now."""
    encoders = DeepFeatures(mirrored=False), DeepFeatures(mirrored=True)
    raw = torch.stack([frozen_features(encoder, dataset.image_paths(), image_size) for encoder in encoders], 1)
    return Photos(raw.sign() * raw.abs().sqrt(), dataset)  # the root limits rare, strong activations


def standardise(train: Photos, val: Photos) -> None:
    """Scale both in place to mean 0 and standard deviation 1 over the training photos."""
    mean, deviation = train.features.mean(dim=(0, 1)), train.features.std(dim=(0, 1)) + 1e-4
    for photos in (train, val):
        photos.features.sub_(mean).div_(deviation)


def train_member(photos: Photos, tokenizer: SimpleTokenizer, recipe: Recipe, seed: int) -> Member:
    """Train one member; each step uses one view of each photo and, in each language, one of its captions."""
    torch.manual_seed(seed)
    features = photos.used_features(recipe)
    member = Member(features.shape[-1], len(tokenizer), recipe).train()
    not_decayed = [parameter for parameter in member.parameters() if parameter.ndim <= 1]
    decayed = [parameter for parameter in member.parameters() if parameter.ndim > 1]
    groups: list[dict[str, Any]] = [{"params": not_decayed, "weight_decay": 0.0}, {"params": decayed}]
    optimizer = AdamW(groups, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    batch_size = min(recipe.batch_size, len(features))
    steps = recipe.epochs * (len(features) // batch_size)
    scheduler = make_scheduler(optimizer, TrainConfig(warmup=0.05), steps)
    for epoch in tqdm(range(1, recipe.epochs + 1), desc=f"seed {seed}", leave=False, disable=None):
        for indices in epoch_batches(len(features), batch_size, seed, epoch):
            view = torch.randint(features.shape[1], (len(indices),))
            image_embedding = member.embed_images(features[indices, view])
            losses = []
            for captions in draw_captions(photos.dataset, indices):
                tokens = tokenizer(captions, padding="longest")
                text_embedding = member.embed_texts(**tokens)
                caption_ids = tokens["input_ids"].unique(dim=0, return_inverse=True)[1]  # equal for equal captions
                losses.append(
                    contrastive_loss(image_embedding, text_embedding, member.logit_scale, caption_ids=caption_ids)
                )
            optimizer.zero_grad()
            torch.stack(losses).mean().backward()
            nn.utils.clip_grad_norm_(member.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            with torch.no_grad():
                member.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
    return member


def draw_captions(dataset: ImageTextDataset, indices: list[int]) -> Iterator[list[str]]:
    """For each language, a random caption for every photo."""
    for language in languages(dataset.language):
        choices = [dataset.records[index].texts(language) for index in indices]
        yield [texts[int(torch.randint(len(texts), ()))] for texts in choices]


def similarities(member: Member, photos: Photos, tokenizer: SimpleTokenizer, recipe: Recipe) -> dict[str, Tensor]:
    """Cosines `[photos, captions]` in each language; a photo is represented by the mean of its views."""
    features = photos.used_features(recipe)
    cosines = {}
    with inference(member):
        views = [member.embed_images(view) for view in features.unbind(dim=1)]
        image_embedding = F.normalize(torch.stack(views).mean(dim=0), dim=-1)
        for language in languages(photos.dataset.language):
            texts = photos.dataset.all_captions(language)[0]
            parts = [[texts[index] for index in batch] for batch in in_order(len(texts), 500)]
            embedded = [member.embed_texts(**tokenizer(part, padding="longest")) for part in parts]
            cosines[language] = image_embedding @ torch.cat(embedded).T
    return cosines


def recalls(similarity: Tensor, dataset: ImageTextDataset, language: str) -> dict[str, float]:
    """`recall_at_k`, and the same with equal captions of other photos counted as hits (`..., equal`)."""
    texts, text_to_image = dataset.all_captions(language)
    scores = recall_at_k(similarity, text_to_image)
    numbers: dict[str, int] = {}
    meaning = torch.tensor([numbers.setdefault(text, len(numbers)) for text in texts])
    scores |= {f"{name}, equal": value for name, value in recall_of_equal(similarity, text_to_image, meaning).items()}
    return {name: round(value, 4) for name, value in scores.items()}


def recall_of_equal(similarity: Tensor, text_to_image: Tensor, meaning: Tensor) -> dict[str, float]:
    """Recall where a photo's captions include identical ones (equal `meaning`, `[T]`) of other photos.

    Otherwise the same as `recall_at_k`: ties count against the model.
    """
    owns = torch.zeros(len(similarity), int(meaning.max()) + 1, dtype=torch.bool)
    owns[text_to_image, meaning] = True
    own = owns[:, meaning]  # (I, T)
    scores: dict[str, float] = {}
    for direction, hits, table in (("i2t", own, similarity), ("t2i", own.T, similarity.T)):
        best = table.masked_fill(~hits, -torch.inf).amax(dim=1, keepdim=True)
        rank = (~(table < best) & ~hits).sum(dim=1)  # number of wrong answers at least as similar
        scores |= {f"{direction}_R@{k}": (rank < k).float().mean().item() for k in (1, 5, 10)}
    return scores


def run(train: Photos, val: Photos, tokenizer: SimpleTokenizer, recipe: Recipe, seeds: list[int]) -> dict[str, Any]:
    """Train the members; return them, and the recall of the first member and of all together."""
    start = time.perf_counter()
    total: dict[str, Tensor] = {}
    alone: dict[str, dict[str, float]] = {}
    members = []
    for seed in seeds:
        members.append(train_member(train, tokenizer, recipe, seed))
        for language, cosines in similarities(members[-1], val, tokenizer, recipe).items():
            alone.setdefault(language, recalls(cosines, val.dataset, language))
            total[language] = total.get(language, torch.zeros(())) + cosines / len(seeds)
    scores = {language: recalls(cosines, val.dataset, language) for language, cosines in total.items()}
    seconds = round(time.perf_counter() - start, 1)
    return {"members": members, "seconds": seconds, "first member": alone, "scores": scores}


def main() -> None:
    """Compute features, train members, measure recall on `val`; save the members, record the recall."""
    options = read_options(
        __doc__, data_dir=Path("flickr8k"), run_dir=Path("runs/flickr8k"), language="en", seeds=[0, 1, 2],
        epochs=Recipe.epochs, image_size=256, changes=False, name="",
    )  # fmt: skip
    start = time.perf_counter()
    sets = [ImageTextDataset(options.data_dir, split, options.language) for split in ("train", "val")]
    vocab_size = 8000 if options.language == "both" else 5000
    tokenizer = SimpleTokenizer.from_texts(sets[0].all_captions()[0], vocab_size)
    train, val = (read_photos(dataset, options.image_size) for dataset in sets)
    standardise(train, val)
    feature_seconds = round(time.perf_counter() - start, 1)
    print(f"features: {tuple(train.features.shape)}, {feature_seconds} s (only a few if cached)", flush=True)
    plan = CHANGES if options.changes else {"the whole recipe": Recipe(epochs=options.epochs)}
    seeds = options.seeds[:1] if options.changes else options.seeds
    name = options.name or f"flickr8k_{options.language}{'_changes' if options.changes else ''}"
    results = []
    for label, recipe in plan.items():
        result = run(train, val, tokenizer, recipe, seeds)
        weights = [member.state_dict() for member in result.pop("members")]
        if not options.changes:
            with whole_file(options.run_dir / "members.pt") as temporary:
                content = {"weights": weights, "vocabulary": tokenizer.to_dict(), "recipe": asdict(recipe)}
                torch.save(content, temporary)
        results.append({"label": label, "seeds": seeds, "recipe": asdict(recipe)} | result)
        print(label, result["seconds"], result["scores"], flush=True)
        write_result(name, {"feature_seconds": feature_seconds, "runs": results})


if __name__ == "__main__":
    main()
