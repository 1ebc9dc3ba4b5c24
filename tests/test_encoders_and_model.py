"""Encoders and CLIP: shapes, norms, padding, freezing, modes, gradients, parity with transformers."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.note_loop import NoteCLIP
from clipedu import (
    CLIP,
    ImageEncoder,
    PretrainedWeightsUnavailable,
    SimpleTokenizer,
    TextEncoder,
    compute_similarity,
    contrastive_loss,
    load_checkpoint,
    load_model,
    save_checkpoint,
)
from clipedu.encoders import WordAverage
from clipedu.model import Ensemble
from clipedu.runs.checkpoint import architecture


def text_batch(lengths: list[int], width: int, vocab_size: int = 50) -> tuple[Tensor, Tensor]:
    ids = torch.randint(4, vocab_size, (len(lengths), width))
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    return ids * mask, mask


@pytest.fixture
def model() -> CLIP:
    return CLIP(ImageEncoder("resnet18", pretrained=False), TextEncoder(50, 32, 1), shared_embedding_dim=16)


@pytest.mark.parametrize(("name", "width"), [("resnet18", 512), ("resnet34", 512), ("efficientnet_lite0", 1280)])
def test_image_encoder_shapes(name: str, width: int) -> None:
    encoder = ImageEncoder(name, pretrained=False).eval()
    assert encoder.output_dim == width
    assert encoder(torch.randn(2, 3, 64, 64)).shape == (2, width)


def test_uint8_pictures_are_normalised_with_the_encoders_own_numbers() -> None:
    encoder = ImageEncoder("efficientnet_lite0", pretrained=False).eval()
    pictures = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    by_hand = (pictures.float() / 255 - 0.5) / 0.5
    torch.testing.assert_close(encoder(pictures), encoder(by_hand))


def test_lite0_recognises_photos() -> None:
    """The pinned weights come from ImageNet: unlike random ones, they recognise two views of the same picture."""
    torch.manual_seed(0)
    stripes = torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    stripes[..., ::8] = 255
    noise = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    encoder = ImageEncoder("efficientnet_lite0").eval()
    with torch.no_grad():
        similarity = compute_similarity(
            encoder(torch.cat([stripes, noise])), encoder(torch.cat([stripes.roll(4, 3), noise]))
        )
    assert similarity[0, 0] > similarity[0, 1] + 0.3
    assert similarity[1, 1] > 0.99


def test_no_silent_fallback_for_unavailable_pretrained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
    with pytest.raises(PretrainedWeightsUnavailable, match="--pretrained none"):
        ImageEncoder("resnet18")


def test_changed_lite0_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipedu.encoders._LITE0_SHA256", "0" * 64)
    with pytest.raises(PretrainedWeightsUnavailable, match="SHA-256"):
        ImageEncoder("efficientnet_lite0")


def test_frozen_encoder_does_not_change() -> None:
    encoder = ImageEncoder("resnet18", pretrained=False).freeze()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.train()
    encoder(torch.randn(4, 3, 32, 32))
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name  # batch-norm statistics included


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_padding_never_changes_a_text(pooling: str) -> None:
    encoder = TextEncoder(50, 32, 2, pooling=pooling).eval()
    ids, mask = text_batch([3, 7, 5], width=7)
    wide_ids, wide_mask = nn.functional.pad(ids, (0, 20)), nn.functional.pad(mask, (0, 20))
    torch.testing.assert_close(encoder(ids, mask), encoder(wide_ids, wide_mask), atol=1e-6, rtol=1e-5)
    garbage = torch.where(wide_mask == 1, wide_ids, torch.randint_like(wide_ids, 4, 50))
    torch.testing.assert_close(encoder(ids, mask), encoder(garbage, wide_mask), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(encoder(garbage, torch.ones_like(wide_mask)), encoder(ids, mask), atol=1e-3)


def test_word_order_matters_to_the_text_encoder() -> None:
    encoder = TextEncoder(50, 32, 2).eval()
    mask = torch.ones(1, 4, dtype=torch.long)
    original, swapped = encoder(torch.tensor([[2, 5, 6, 3]]), mask), encoder(torch.tensor([[2, 6, 5, 3]]), mask)
    assert not torch.allclose(original, swapped, atol=1e-5)


def test_arguments_out_of_range() -> None:
    ids, mask = text_batch([78], width=78)
    with pytest.raises(ValueError, match="78"):
        TextEncoder(50, 32, 1)(ids, mask)
    with pytest.raises(ValueError, match="resnet18"):
        ImageEncoder("resnet1800", pretrained=False)
    with pytest.raises(ValueError, match="multiple"):
        TextEncoder(50, hidden_size=30)
    with pytest.raises(ValueError, match="max"):
        TextEncoder(50, pooling="max")


def test_text_encoder_starts_small() -> None:
    encoder = TextEncoder(5000)
    assert encoder.token_embedding.weight[1:].std().item() == pytest.approx(0.02, rel=0.02)
    assert encoder.position_embedding.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert encoder.token_embedding.weight[0].abs().max() == 0


def test_embeddings_have_length_one_and_float32(model: CLIP) -> None:
    images, texts = model(torch.randn(4, 3, 32, 32), *text_batch([3, 4, 5, 5], 5))
    assert images.shape == texts.shape == (4, 16)
    for embedding in (images, texts):
        torch.testing.assert_close(embedding.norm(dim=-1), torch.ones(4))
        assert embedding.dtype == torch.float32


def test_features_computed_beforehand_give_the_same_embedding(model: CLIP) -> None:
    model.image_encoder.freeze()
    pictures = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    features = model.image_encoder(pictures)
    torch.testing.assert_close(model.get_image_features(features), model.get_image_features(pictures))


def test_feature_methods_leave_the_model_as_it_was(model: CLIP) -> None:
    model.train()
    model.text_encoder.eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = model.get_image_features(torch.randn(4, 3, 32, 32))
    texts = model.get_text_features(*text_batch([3, 4], 5))
    assert not images.requires_grad
    assert not texts.requires_grad
    assert [module.training for module in model.modules()] == modes
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_gradient_reaches_every_tensor(model: CLIP) -> None:
    ids, mask = text_batch([5, 5, 4, 3], 5)
    images, texts = model(torch.randn(4, 3, 32, 32), ids, mask)
    contrastive_loss(images, texts, model.logit_scale).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_logit_scale_starts_and_stays_in_its_range(model: CLIP) -> None:
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    for value, expected in ((9.0, 100.0), (-3.0, 1.0), (2.0, 7.389056)):
        model.logit_scale.data.fill_(value)
        model.clamp_logit_scale()
        assert model.logit_scale.exp().item() == pytest.approx(expected)


def test_similarity_needs_no_normalised_input() -> None:
    images, texts = torch.tensor([[3.0, 4.0], [2.0, 0.0]]), torch.tensor([[10.0, 0.0], [0.0, 0.5]])
    torch.testing.assert_close(compute_similarity(images, texts), torch.tensor([[0.6, 0.8], [1.0, 0.0]]))


def test_logits_equal_transformers_clip() -> None:
    """The same features through the projections of the reference CLIP and ours, with the same weights."""
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPConfig(
        text_config={"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
                     "vocab_size": 60, "bos_token_id": 58, "eos_token_id": 59},
        vision_config={"hidden_size": 512, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
                       "image_size": 32, "patch_size": 16},
        projection_dim=16,
    )  # fmt: skip
    reference = transformers.CLIPModel(config).eval()
    ours = CLIP(ImageEncoder("resnet18", pretrained=False), TextEncoder(60, 32, 1), 16).eval()
    ours.image_projection.load_state_dict(reference.visual_projection.state_dict())
    ours.text_projection.load_state_dict(reference.text_projection.state_dict())
    ours.logit_scale.data.copy_(reference.logit_scale.data)
    ids = torch.cat([torch.randint(4, 58, (3, 5)), torch.full((3, 1), 59)], dim=1)
    with torch.no_grad():
        pixels, mask = torch.randn(2, 3, 32, 32), torch.ones_like(ids)
        out = reference(input_ids=ids, pixel_values=pixels, attention_mask=mask)
        images = ours.get_image_features(reference.vision_model(pixels).pooler_output)
        features = reference.text_model(input_ids=ids, attention_mask=mask).pooler_output
        texts = nn.functional.normalize(ours.text_projection(features), dim=-1)
        logits = ours.logit_scale.exp() * images @ texts.T
    torch.testing.assert_close(logits, out.logits_per_image, atol=1e-5, rtol=1e-5)


@pytest.fixture
def note() -> NoteCLIP:
    """The note's model, made of torchvision's and PyTorch's parts, with norms that do something."""
    note = NoteCLIP()
    for module in note.modules():
        if isinstance(module, (nn.LayerNorm, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    note.image_encoder(torch.randn(8, 3, 64, 64))  # for the running statistics
    return note.eval()


def test_the_notes_model_is_a_configuration_of_ours(note: NoteCLIP, tmp_path: Path) -> None:
    """The same parameters and, with the same weights, the same embeddings, which a checkpoint keeps."""
    made = CLIP(ImageEncoder("resnet18", pretrained=False), TextEncoder(norm_first=False), projection_norm=True)
    for ours, theirs in (
        (made.image_encoder.model, note.image_encoder),
        (made.text_encoder, note.text_encoder),
        (nn.Sequential(made.image_projection, made.image_norm), note.image_projection),
        (nn.Sequential(made.text_projection, made.text_norm), note.text_projection),
    ):
        ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    save_checkpoint(tmp_path / "note.pt", made, SimpleTokenizer())
    loaded, _ = load_model(tmp_path / "note.pt")
    assert architecture(loaded) == architecture(made)
    images = torch.randn(3, 3, 64, 64)
    for model in (made, loaded):
        assert sum(map(torch.numel, model.parameters())) == sum(map(torch.numel, note.parameters()))
        torch.testing.assert_close(model.get_image_features(images), note.get_image_features(images).detach())
        for width in (7, 30, 77):
            tokens = text_batch([2, 5, 7, width], width, vocab_size=5000)
            wanted = note.get_text_features(*tokens).detach()
            torch.testing.assert_close(model.get_text_features(*tokens), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("is_frozen", [False, True])
def test_a_checkpoint_from_before_these_choices_means_our_own_model(
    model: CLIP, tmp_path: Path, is_frozen: bool
) -> None:
    if is_frozen:
        model.image_encoder.freeze()
        model.feature_dropout = 0.2  # what every frozen encoder had
    save_checkpoint(tmp_path / "new.pt", model, SimpleTokenizer())
    content = load_checkpoint(tmp_path / "new.pt")
    for name in ("projection_norm", "feature_dropout", "deep", "members"):
        del content["architecture"][name]
    del content["architecture"]["text_encoder"]["norm_first"]
    torch.save(content, tmp_path / "old.pt")
    loaded, _ = load_model(tmp_path / "old.pt")
    assert loaded.state_dict().keys() == model.state_dict().keys()
    # `resume` compares these two:
    assert load_checkpoint(tmp_path / "old.pt")["architecture"] == architecture(model)


# ------------------------------------------------------------------------------------------- a frozen encoder's friends


@pytest.mark.parametrize(("name", "width"), [("resnet18", 128 + 256 + 2 * 512), ("efficientnet_lite0", 704 + 2 * 1280)])
def test_deep_features(name: str, width: int) -> None:
    """They contain the network's own features, averaged over both views, and a mirrored picture has the same ones."""
    deep, plain = (
        ImageEncoder(name, pretrained=False, deep=True).freeze(),
        ImageEncoder(name, pretrained=False).freeze(),
    )
    plain.load_state_dict(deep.state_dict())
    pictures = torch.randint(0, 256, (3, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        features = deep(pictures)
        own = (plain(pictures) + plain(pictures.flip(-1))) / 2
        torch.testing.assert_close(deep(pictures.flip(-1)), features)
    assert features.shape == (3, width) == (3, deep.output_dim)
    own_width = plain.output_dim
    torch.testing.assert_close(features[:, width - 2 * own_width : width - own_width], own, rtol=1e-4, atol=1e-5)
    assert (features[:, -own_width:] >= own - 1e-5).all(), "a maximum is never below the average"


def test_deep_features_are_standardised_as_in_training() -> None:
    clip = CLIP(ImageEncoder("tiny", pretrained=False, deep=True), WordAverage(9, 8), 4)
    features = torch.randn(500, clip.image_encoder.output_dim) * 30 + 7
    clip.train()
    for part in features.split(50) * 3:
        clip.encode_images(part)
    clip.eval()
    standardised = clip.feature_norm(features)
    torch.testing.assert_close(standardised.mean(dim=0), torch.zeros(144), atol=0.1, rtol=0)
    torch.testing.assert_close(standardised.std(dim=0), torch.ones(144), atol=0.1, rtol=0)
    assert not list(clip.feature_norm.parameters()), "nothing about it is learned"


def test_a_word_average_by_hand() -> None:
    encoder = WordAverage(10, 4, dropout=0.0)
    nn.init.normal_(encoder.token_weight.weight)
    ids, mask = (
        torch.tensor([[5, 7, 5, 0], [7, 5, 5, 0], [3, 0, 0, 0]]),
        torch.tensor([[1, 1, 1, 0]] * 2 + [[1, 0, 0, 0]]),
    )
    weight = encoder.token_weight.weight[:, 0].exp()
    words = encoder.token_embedding.weight
    average = (2 * weight[5] * words[5] + weight[7] * words[7]) / (2 * weight[5] + weight[7])
    found = encoder(ids, mask)
    torch.testing.assert_close(found[0], encoder.norm(average))
    torch.testing.assert_close(found[1], found[0])  # the order does not matter
    torch.testing.assert_close(found[2], encoder.norm(words[3]))
    torch.testing.assert_close(encoder(ids[:, :3], mask[:, :3]), found)  # nor does padding


def test_an_ensembles_cosines_are_the_mean_of_its_members(tmp_path: Path) -> None:
    encoder = ImageEncoder("tiny", pretrained=False, deep=True).freeze()
    members = [CLIP(encoder, WordAverage(50, 8), 16, image_size=32, feature_dropout=0.3) for _ in range(3)]
    together = Ensemble(members).eval()
    pictures = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    tokens = text_batch([4, 9, 6], width=9)
    images, texts = together.get_image_features(pictures), together.get_text_features(*tokens)
    assert (images.shape, texts.shape) == ((5, 48), (3, 48))
    torch.testing.assert_close(images.norm(dim=1), torch.ones(5))
    alone = [compute_similarity(m.get_image_features(pictures), m.get_text_features(*tokens)) for m in members]
    torch.testing.assert_close(images @ texts.T, torch.stack(alone).mean(dim=0))
    save_checkpoint(tmp_path / "model.pt", together, SimpleTokenizer())
    loaded, _ = load_model(tmp_path / "model.pt")
    assert architecture(loaded) == architecture(together)
    assert len({id(member.image_encoder) for member in loaded.members}) == 1
    torch.testing.assert_close(loaded.get_image_features(pictures), images)
    torch.testing.assert_close(loaded.get_text_features(*tokens), texts)
    loaded.members[2].logit_scale.data.fill_(9.0)
    loaded.clamp_logit_scale()
    assert loaded.members[2].logit_scale.item() == pytest.approx(math.log(100))
