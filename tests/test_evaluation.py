"""Recall and zero-shot: by hand, and where they must not be too optimistic. Against a slow loop: test_fuzz.py."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from clipedu import ImageTextDataset, compute_similarity, evaluate, recall_at_k, zero_shot_classify
from clipedu.embedding import model_inputs
from clipedu.search import nearest
from tests.conftest import small_model, tokenizer_of


def test_by_hand() -> None:
    #                             captions of image 0    of 1   of 2
    similarity = torch.tensor([[0.9, 0.1, 0.5, 0.3],
                               [0.2, 0.8, 0.7, 0.1],
                               [0.6, 0.4, 0.3, 0.2]])  # fmt: skip
    scores = recall_at_k(similarity, torch.tensor([0, 0, 1, 2]), ks=(1, 2, 4))
    assert scores == {
        "i2t_R@1": pytest.approx(1 / 3), "i2t_R@2": pytest.approx(2 / 3), "i2t_R@4": 1.0,
        "t2i_R@1": pytest.approx(2 / 4), "t2i_R@2": pytest.approx(3 / 4), "t2i_R@4": 1.0,
    }  # fmt: skip


def test_equal_captions_are_one_caption_of_several_images() -> None:
    #                             "cat"  "cat"  "dog"  "a dog" "bird"
    similarity = torch.tensor([[0.90, 0.90, 0.20, 0.10, 0.95],
                               [0.80, 0.80, 0.30, 0.20, 0.10],
                               [0.30, 0.30, 0.70, 0.10, 0.20],
                               [0.10, 0.10, 0.40, 0.30, 0.20]])  # fmt: skip
    text_to_image, ids = torch.tensor([0, 1, 2, 3, 3]), torch.tensor([-7, -7, 4, 5, 6])
    scores = recall_at_k(similarity, text_to_image, ks=(1, 2), caption_ids=ids)
    # Images 1 and 2 are found at once; image 0 is nearer to "bird", image 3 to "dog".
    assert (scores["i2t_R@1"], scores["i2t_R@2"]) == (0.5, 1.0)
    # Of the four captions, "cat" finds image 0, "dog" image 2, "a dog" image 3; "bird" finds image 0, and image 2 ties.
    assert (scores["t2i_R@1"], scores["t2i_R@2"]) == (0.75, 0.75)
    assert recall_at_k(similarity, text_to_image, caption_ids=torch.arange(5)) == recall_at_k(similarity, text_to_image)
    with pytest.raises(ValueError, match="caption_ids"):
        recall_at_k(similarity, text_to_image, caption_ids=ids[:3])


def test_a_perfect_model_on_class_names_scores_one() -> None:
    kinds = torch.arange(240) % 12  # 12 captions, each of 20 images
    similarity = (kinds[:, None] == kinds).float()
    assert set(recall_at_k(similarity, torch.arange(240), caption_ids=kinds).values()) == {1.0}
    assert recall_at_k(similarity, torch.arange(240))["i2t_R@10"] == 0, "without knowing that captions are equal"


def test_pictures_without_a_caption_in_a_language_take_no_part_in_its_recall(data_dir: Path) -> None:
    tokenizer = tokenizer_of(data_dir)
    model = small_model(tokenizer)
    both = ImageTextDataset(data_dir, "test", "both")
    expected = evaluate(model, tokenizer, both.subset(5))["zh"]
    for record in both.records[5:]:
        record.captions["zh"].clear()
    scores = evaluate(model, tokenizer, both)
    assert scores["zh"] == expected
    assert scores["en"] == evaluate(model, tokenizer, ImageTextDataset(data_dir, "test"))["en"]
    for record in both.records:
        record.captions["zh"].clear()
    assert list(evaluate(model, tokenizer, both)) == ["en"]


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan")])
def test_collapse_scores_nothing(value: float) -> None:
    scores = recall_at_k(torch.full((20, 40), value), torch.arange(20).repeat(2))
    assert set(scores.values()) == {0.0}


def test_perfect_scores_one() -> None:
    assert set(recall_at_k(torch.eye(20), torch.arange(20)).values()) == {1.0}


@pytest.mark.parametrize("text_to_image", [[0, 1], [0, 0, 1], [0, 1, 5]])
def test_texts_without_their_image(text_to_image: list[int]) -> None:
    with pytest.raises(ValueError, match="text_to_image"):
        recall_at_k(torch.zeros(3, 3), torch.tensor(text_to_image))


def test_evaluate_in_both_languages(data_dir: Path) -> None:
    tokenizer = tokenizer_of(data_dir)
    dataset = ImageTextDataset(data_dir, "test", "both")
    scores = evaluate(small_model(tokenizer), tokenizer, dataset)
    assert list(scores) == ["en", "zh"]
    for values in scores.values():
        assert {"i2t_R@1", "i2t_R@5", "i2t_R@10", "t2i_R@1", "t2i_R@5", "t2i_R@10"} <= set(values)
        assert all(0 <= value <= 1 for value in values.values())


def test_zero_shot_is_the_average_over_templates(data_dir: Path) -> None:
    tokenizer = tokenizer_of(data_dir)
    model = small_model(tokenizer)
    dataset = ImageTextDataset(data_dir, "test")
    names, templates = ["red circle", "blue square", "green ring"], ("a small {}", "a big {}")
    pictures = model_inputs(model, dataset)
    probability = zero_shot_classify(model, tokenizer, pictures, names, templates)
    assert probability.shape == (8, 3)
    torch.testing.assert_close(probability.sum(dim=1), torch.ones(8))
    images = model.get_image_features(torch.as_tensor(pictures)).double()
    logits = []
    for name in names:
        tokens = tokenizer([template.format(name) for template in templates], padding="longest")
        mean = model.get_text_features(tokens["input_ids"], tokens["attention_mask"]).double().mean(0)
        logits.append(model.logit_scale.exp().item() * images @ (mean / mean.norm()))
    torch.testing.assert_close(probability.double(), torch.stack(logits, dim=1).softmax(dim=1), atol=1e-4, rtol=0)


def test_nearest_have_the_highest_cosines() -> None:
    pictures, queries = (F.normalize(torch.randn(count, 8), dim=1) for count in (30, 4))
    cosines, indices = nearest(pictures, queries, 5)
    expected = compute_similarity(queries, pictures)  # (4, 30)
    assert torch.equal(indices, expected.argsort(dim=1, descending=True)[:, :5])
    torch.testing.assert_close(cosines, expected.gather(1, indices))
    assert nearest(pictures, queries, 100)[1].shape == (4, 30), "there are only 30 pictures"
