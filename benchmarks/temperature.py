"""Does the temperature have to be learned? Fixed at three values against learned from two starts (notebook 04).

python -m benchmarks.temperature

The image encoder is frozen and a sentence is the average of its words, so that a step is cheap. `rate` is the learning
rate of the temperature relative to that of the weights: at 1, ln(1 / temperature) moves by about 0.001 a step at most,
however far it has to go; at 0 the temperature is fixed. Everything else is the same in all arms.
"""

from __future__ import annotations

import math
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from benchmarks.harness import read_options, write_result
from clipedu import CLIP, ImageEncoder, ImageTextDataset, SimpleTokenizer, contrastive_loss, evaluate
from clipedu.embedding import model_inputs
from clipedu.encoders import WordAverage

ARMS = [(1.0, 0.0), (0.07, 0.0), (0.01, 0.0), (0.07, 1.0), (1.0, 1.0), (0.07, 10.0), (1.0, 10.0)]  # start, rate
LR, BATCH_SIZE = 1e-3, 64


def run(
    start: float,
    rate: float,
    train_set: ImageTextDataset,
    test_set: ImageTextDataset,
    seed: int,
    steps: int,
    every: int,
) -> dict[str, Any]:
    """Train one arm; return its temperature and recall every so many steps."""
    tokenizer = SimpleTokenizer.from_texts(train_set.all_captions()[0])
    torch.manual_seed(seed)
    encoder = ImageEncoder("efficientnet_lite0").freeze()
    model = CLIP(encoder, WordAverage(len(tokenizer)), image_size=64, feature_dropout=0.2)
    features, test_features = (model_inputs(model, data, quiet=True) for data in (train_set, test_set))
    captions = train_set.tokenized(tokenizer, torch.device("cpu"))
    model.logit_scale.data.fill_(math.log(1 / start))
    weights = [p for n, p in model.named_parameters() if p.requires_grad and n != "logit_scale"]
    groups = [{"params": weights, "weight_decay": 0.05}, {"params": [model.logit_scale], "weight_decay": 0.0}]
    optimizer = AdamW(groups, lr=LR)
    schedule = OneCycleLR(optimizer, [LR, max(rate, 1e-9) * LR], total_steps=steps, cycle_momentum=False)
    model.logit_scale.requires_grad_(rate > 0)
    epochs = (train_set.batches(features, captions, BATCH_SIZE, epoch=n, seed=seed) for n in count(1))
    readings = []
    for step, batch in enumerate(islice(chain.from_iterable(epochs), steps), 1):
        model.train()
        image_embedding, text_embedding = model(batch.images, batch.input_ids, batch.attention_mask)
        loss = contrastive_loss(image_embedding, text_embedding, model.logit_scale, caption_ids=batch.caption_ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        model.clamp_logit_scale()
        if step % every == 0 or step == steps:
            scores = evaluate(model, tokenizer, test_set, test_features)["en"]
            temperature = math.exp(-model.logit_scale.item())
            reading = {"step": step, "temperature": temperature, "i2t": scores["i2t_R@1"], "t2i": scores["t2i_R@1"]}
            readings.append({name: round(value, 4) for name, value in reading.items()})
    return {"start": start, "rate": rate, "seed": seed, "readings": readings}


def main() -> None:
    """Run every arm and record the results after each."""
    options = read_options(
        __doc__, data_dir=Path("sample_data"), name="temperature", steps=1200, read_every=100, seeds=[0, 1]
    )
    train_set, test_set = (ImageTextDataset(options.data_dir, split, "en") for split in ("train", "test"))
    results = []
    for seed in options.seeds:
        for start, rate in ARMS:
            results.append(run(start, rate, train_set, test_set, seed, options.steps, options.read_every))
            print(seed, start, rate, results[-1]["readings"][-1], flush=True)
            write_result(options.name, results)


if __name__ == "__main__":
    main()
