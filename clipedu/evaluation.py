"""How good is a model? Retrieval in both directions, and zero-shot classification."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from clipedu.data.dataset import ImageTextDataset, caption_ids
from clipedu.data.loading import Pictures
from clipedu.data.records import languages
from clipedu.embedding import embed_images, embed_texts, model_inputs
from clipedu.model import CLIP, compute_similarity
from clipedu.tokenizer import SimpleTokenizer

Scores = dict[str, dict[str, float]]
TEMPLATES = {"en": ("{}", "a {}"), "zh": ("{}", "一个{}")}


def recall_at_k(
    similarity: Tensor, text_to_image: Tensor, ks: Sequence[int] = (1, 5, 10), caption_ids: Tensor | None = None
) -> dict[str, float]:
    """Share of queries whose correct answer ranks among the first k.

    An image may have several captions: image -> text is correct if any of them ranks within k, and text -> image
    uses each of them as a query. Ties count against the model (a collapsed model, with all similarities equal, scores
    0, not 1), and so does NaN.

    Args:
        similarity: `[I, T]`.
        text_to_image: `[T]` int64, the index of each text's image; every image has at least one text.
        ks: ranks to report.
        caption_ids: `[T]` int64; texts with equal ids are one caption of several images, all of them correct answers.

    Returns:
        `i2t_R@k` and `t2i_R@k` as fractions.

    Raises:
        ValueError: an argument is not as described above.
    """
    similarity, text_to_image = similarity.cpu(), text_to_image.cpu()
    images, texts = similarity.shape if similarity.ndim == 2 else (0, 0)
    fits = images > 0 and similarity.is_floating_point() and text_to_image.dtype == torch.int64
    if not fits or text_to_image.shape != (texts,) or not torch.equal(text_to_image.unique(), torch.arange(images)):
        raise ValueError(
            "similarity must be floats [I, T]; text_to_image must be int64 [T] with the index of each text's image, "
            "and every image must have a text"
        )
    caption = torch.arange(texts)  # the number of each text's caption
    if caption_ids is not None:
        if caption_ids.shape != (texts,):
            raise ValueError(f"caption_ids must be int64 [T], not {list(caption_ids.shape)}")
        caption = caption_ids.cpu().unique(return_inverse=True)[1]
        first = torch.full((int(caption.max()) + 1,), texts).scatter_reduce(0, caption, torch.arange(texts), "amin")
        similarity = similarity[:, first]
    belongs = torch.zeros(similarity.shape, dtype=torch.bool)
    belongs[text_to_image, caption] = True
    own = similarity.masked_fill(~belongs, -torch.inf)
    # How many wrong answers are at least as near as the nearest right one?
    image_rank = (~(similarity < own.amax(dim=1, keepdim=True)) & ~belongs).sum(dim=1)
    text_rank = (~(similarity < own.amax(dim=0, keepdim=True)) & ~belongs).sum(dim=0)
    recall = {f"i2t_R@{k}": (image_rank < k).float().mean().item() for k in ks}
    return recall | {f"t2i_R@{k}": (text_rank < k).float().mean().item() for k in ks}


def zero_shot_classify(
    model: CLIP,
    tokenizer: SimpleTokenizer,
    images: Tensor | Pictures,
    class_names: Sequence[str],
    templates: Sequence[str] = TEMPLATES["en"],
) -> Tensor:
    """Probability of every class for every picture, `[N, C]`, from the class names alone.

    Each name is put into every template; the embeddings of the sentences are averaged and scaled back to length 1
    (Radford et al. 2021, section 3.1.4).
    """
    classes = class_embeddings(model, tokenizer, class_names, templates)
    similarity = compute_similarity(embed_images(model, images), classes)
    return (model.logit_scale.detach().exp().cpu() * similarity).softmax(dim=1)


def class_embeddings(
    model: CLIP, tokenizer: SimpleTokenizer, class_names: Sequence[str], templates: Sequence[str]
) -> Tensor:
    """One unit vector for each class, `[C, E]`: the mean over its sentences."""
    sentences = [template.format(name) for name in class_names for template in templates]
    embedding = embed_texts(model, tokenizer, sentences).view(len(class_names), len(templates), -1)
    return F.normalize(embedding.mean(dim=1), dim=-1)


def evaluate(
    model: CLIP, tokenizer: SimpleTokenizer, dataset: ImageTextDataset, images: Tensor | Pictures | None = None
) -> Scores:
    """Recall in each of the dataset's languages: `{"en": {"i2t_R@1": 0.58, ...}, "zh": {...}}`.

    Pictures with a label are also classified among all labels in dataset.json: `zero_shot_accuracy`, next to
    `zero_shot_chance`. All values are fractions. Captions that read the same to the tokenizer are one caption, and
    each of their pictures is a right answer, as in the loss; a picture without a caption in a language doesn't count
    in its recall. `images` is the result of `model_inputs`, if already computed.
    """
    images = model_inputs(model, dataset) if images is None else images
    image_embedding = embed_images(model, images)
    scores: Scores = {}
    for language in languages(dataset.language):
        texts, text_to_image = dataset.all_captions(language)
        if not texts:
            continue  # a part of the dataset may have captions in one language only
        described, text_to_image = text_to_image.unique(return_inverse=True)
        similarity = compute_similarity(image_embedding[described], embed_texts(model, tokenizer, texts))
        scores[language] = recall_at_k(similarity, text_to_image, caption_ids=caption_ids(texts))
        scores[language] |= _zero_shot_scores(model, tokenizer, dataset, image_embedding, language)
    return scores


def _zero_shot_scores(
    model: CLIP, tokenizer: SimpleTokenizer, dataset: ImageTextDataset, image_embedding: Tensor, language: str
) -> dict[str, float]:
    names, labels = dataset.classes[language], dataset.labels(language)
    if len(names) < 2 or not labels:
        return {}
    classes = class_embeddings(model, tokenizer, names, TEMPLATES[language])
    guesses = compute_similarity(image_embedding[list(labels)], classes).argmax(dim=1)
    truth = torch.tensor([names.index(label) for label in labels.values()])
    return {"zero_shot_accuracy": (guesses == truth).float().mean().item(), "zero_shot_chance": 1 / len(names)}
