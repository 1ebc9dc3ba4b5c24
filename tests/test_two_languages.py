"""What notebook 09 shows of two languages: names, refusals, ranks, and the recorded runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from clipedu import ImageTextDataset, SimpleTokenizer
from clipedu.classroom import languages
from clipedu.classroom.recorded import Recording


def test_names_and_pictures(data_dir: Path) -> None:
    dataset = ImageTextDataset(data_dir, "train", "both")
    zh, en = languages.names(dataset)
    assert all(map(languages.is_chinese, zh)) and not any(map(languages.is_chinese, en))
    assert languages.find(en, [en[2], en[0]]) == [2, 0]
    assert languages.find(en, ["not there", en[2]]) == [0, 1]
    guesses = torch.arange(len(dataset)).roll(1)
    guesses[0] = 0
    text = languages.show_guesses(dataset, [0, 1], guesses).text
    assert f"{zh[0]} → {en[0]} ✓" in text and f"{zh[1]} → {en[0]} = {zh[0]} ✗ ({en[1]})" in text
    view = languages.show_names(dataset, "zh", torch.tensor([1]), torch.tensor([0.5]), ["zebra"])
    assert f"{zh[1]} 0.50" in view.text and "zebra" in view.text.splitlines()[0]


def test_a_text_without_known_words_is_refused() -> None:
    tokenizer = SimpleTokenizer.from_texts(["a red cat", "红色的猫"])
    for text, named in (("?!", "words"), ("zebra 斑", "zebra, 斑")):
        refusal = languages.unreadable(tokenizer, text)
        assert refusal and refusal.passed is None and named in refusal.text
    assert languages.unreadable(tokenizer, "a zebra") is None


def test_a_name_without_its_tones() -> None:
    names = "handshake light skin tone medium-dark skin tone", "ear medium skin tone", "full moon"
    assert [languages.without_tone(name) for name in names] == ["handshake", "ear", "full moon"]


def test_matching_by_hand() -> None:
    zh, en = torch.eye(4), torch.eye(4)[[0, 2, 1, 3]]
    assert languages.ranks(zh @ en.T).tolist() == [1, 4, 4, 1]  # ties count against it
    assert languages.matching(zh, en) == (2.5, 0.5)
    assert languages.translate(3 * zh, 2 * en, 1)[:, 0].tolist() == [0, 2, 1, 3]


def test_rivals_ahead_by_hand() -> None:
    table = torch.tensor([[0.5, 0.9, 0.1], [0.7, 0.5, 0.6], [0.2, 0.3, 0.5]])
    everyone = torch.ones(3, 3, dtype=torch.bool)
    assert languages.share_ahead(table, everyone) == 0.5  # a half, all, none
    assert languages.share_ahead(table, everyone & torch.tensor([True, True, False])) == torch.tensor(2 / 3)
    everyone[1:] = False
    assert languages.share_ahead(table, everyone) == 0.5  # the others have no rivals


def test_names_of_both_languages_searched_together() -> None:
    zh = F.normalize(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.9, 0.1]]), dim=1)
    en = F.normalize(torch.tensor([[1.0, 0.1, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 1.0]]), dim=1)
    assert languages.mixed_search(zh, en) == pytest.approx((1 / 3, 2 / 3, 0.0), abs=1e-6)
    assert languages.mixed_search(en, zh) == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_names_with_nothing_in_common() -> None:
    zh, en = ["红猫", "OK", "红狗"], ["red cat", "OK", "red fox"]
    tokenizer = SimpleTokenizer.from_texts([*zh, *en[:2]])
    assert languages.nothing_in_common(tokenizer, zh, en).tolist() == [True, False, False]


def test_the_language_can_be_read_and_removed() -> None:
    generator = torch.Generator().manual_seed(0)
    zh, en = F.normalize(torch.randn(2, 50, 8, generator=generator) + torch.tensor([[[1.0]], [[-1.0]]]), dim=-1)
    weights = languages.language_reader(zh, en)
    assert (languages.with_constant(zh) @ weights > 0).all() and (languages.with_constant(en) @ weights < 0).all()
    text = languages.mean_cosines([zh, zh], [torch.eye(3), torch.eye(3)]).text
    assert text.splitlines()[-1].endswith("after training / 1.00 / 0.00 / 0.00 / 0.00")
    for each in languages.remove_language(zh, en):
        assert each.norm(dim=1).allclose(torch.ones(50))
        assert each.mean(dim=0).norm() < 0.1


def test_recorded_runs_are_shown_by_seed() -> None:
    groups = {"all": {"R@1": 0.5, "median": 1.0, "count": 9}}
    both = {"arm": "both", "epochs": 2, "matching": {"zh2en": groups}}
    chinese = {"t2i_R@1": 1, "i2t_R@1": 0.125}
    results = [both | {"test": {"en": {"t2i_R@1": each, "i2t_R@1": 0}, "zh": chinese}} for each in (0.25, 0.5)]
    results += [{"arm": "en", "epochs": 1, "test": {"en": {"t2i_R@1": 0.75, "i2t_R@1": 0.625}}}]
    record = Recording(results, {})
    assert "0.500 / 0.500 / 9 / 9" in languages.recorded_matching(record, ["both"], {"all": "R@1"}).text
    assert "0.5, 0.5" in languages.recorded_dots(record, ["both"]).text
    table = languages.recorded_retrieval(record, ["both", "en"]).text
    assert "2 / 0.250 / 0.500 / 0.000 / 0.000 / 1.000 / 1.000 / 0.125 / 0.125" in table
    assert "1 / 0.750 / 0.625 / — / —" in table
