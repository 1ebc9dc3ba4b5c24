"""What notebook 08 takes from `clipedu.classroom.word_order`."""

from __future__ import annotations

import pytest
import torch

from clipedu import ImageTextDataset, SimpleTokenizer, TextEncoder
from clipedu.classroom import sample_data, small_clip, word_order
from clipedu.data.loading import open_pictures
from clipedu.data.scenes import random_scenes


def test_swapping_gives_the_caption_of_the_scene_with_its_objects_exchanged() -> None:
    for _, scene in list(random_scenes())[:400]:
        for captions in scene.captions():
            for caption in captions:
                swapped = word_order.swap_objects(caption)
                assert (swapped is None) == (scene.relation is None)
                if swapped:
                    assert swapped != caption
                    assert sorted(word_order.objects_in(swapped)) == sorted(word_order.objects_in(caption))
                    assert word_order.swap_objects(swapped) == caption


def test_a_changed_colour_is_another_colour_of_the_same_language() -> None:
    assert word_order.recolour("a big red ring above a big blue star") == "a big green ring above a big blue star"
    assert word_order.recolour("在红色的大圆的上面有一个红色的小圆") == "在绿色的大圆的上面有一个红色的小圆"
    assert word_order.recolour("a big red ring") is None
    left = word_order.only(word_order.swap_objects, "left of")
    assert left("a big red ring left of a big blue star") and left("a big red ring above a big blue star") is None


def test_the_same_said_with_the_other_object_first() -> None:
    """In the wording of the first caption, so that both captions of a picture are of the same kind."""
    expected = "一个蓝色的小圆在一个红色的大十字的左边"
    for caption in ("红色的大十字的左边是一个蓝色的小圆", "在红色的大十字的左边有一个蓝色的小圆"):
        assert word_order.named_last(caption) == expected
    for unchanged in (expected, "一个红色的大十字"):
        assert word_order.named_last(unchanged) == unchanged


def test_the_captions_of_a_scene_have_one_meaning_and_its_mirror_image_another() -> None:
    for _, scene in list(random_scenes())[:200]:
        if scene.relation:
            plain = [caption for caption in scene.captions()[0] if "there is" not in caption]
            (said,) = {word_order.meaning(caption) for caption in plain}
            assert word_order.meaning(word_order.swap_objects(plain[0]) or "") == word_order.swap_objects(said)


@pytest.fixture(scope="module")
def few() -> ImageTextDataset:
    return word_order.with_two(ImageTextDataset(sample_data(), "test", "both").subset(20))


def test_corners_keep_the_place_and_an_average_does_not(few: ImageTextDataset) -> None:
    tokenizer = SimpleTokenizer.from_texts(few.all_captions()[0])
    base = small_clip(tokenizer, pretrained=False)
    for cells in (1, 2):
        model = word_order.corner_model(base, tokenizer, cells)
        features = word_order.features_of(model, few)
        assert features.shape == (len(few), 112 * cells**2)
        assert not base.image_encoder.frozen, "a copy was frozen"


def test_teaching_lowers_the_loss_and_leaves_the_picture_side_alone(few: ImageTextDataset) -> None:
    tokenizer = SimpleTokenizer.from_texts(few.all_captions()[0])
    model = word_order.corner_model(small_clip(tokenizer, pretrained=False), tokenizer, width=32)
    features = word_order.features_of(model, few)
    losses: list[float] = []
    many = few.subset(len(few))
    many.records = few.records * 8  # enough for a batch
    word_order.teach(
        model,
        tokenizer,
        many,
        features.repeat(8, 1),
        12,
        word_order.swap_objects,
        on_step=lambda step, loss: losses.append(loss),
    )
    assert losses[-1] < losses[0]
    torch.testing.assert_close(word_order.features_of(model, few), features)


def test_a_tie_is_wrong(few: ImageTextDataset) -> None:
    tokenizer = SimpleTokenizer.from_texts(few.all_captions()[0])
    model = small_clip(tokenizer, pretrained=False)
    assert isinstance(model.text_encoder, TextEncoder)
    torch.nn.init.zeros_(model.text_encoder.position_embedding.weight)
    images = open_pictures(few.image_paths(), 64)
    assert word_order.probe(model, tokenizer, few, images, "zh") == 0
    assert word_order.both_ways(torch.ones(3, 2, 2)) == (0, 0)
    for language in ("en", "zh"):
        assert word_order.both_ways(word_order.two_by_two(model, tokenizer, few, language)) == (0, 0)


def test_equal_objects_get_a_card(few: ImageTextDataset) -> None:
    tokenizer = SimpleTokenizer.from_texts(few.all_captions()[0])
    thing, place = next(iter(word_order.THINGS)), next(iter(word_order.PLACES))
    view = word_order.ask(small_clip(tokenizer, pretrained=False), tokenizer, thing, place, thing)
    assert getattr(view, "passed", False) is None
