"""The tokenizer: both languages, the transformers convention, bad input. For arbitrary input: test_fuzz.py."""

from pathlib import Path

import pytest
import torch

from clipedu import SimpleTokenizer
from clipedu.ground.errors import TokenizerError

TEXTS = ["A red circle, a RED square.", "a blue circle", "一个红色的圆", "红色的小正方形"]


@pytest.fixture
def tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer.from_texts(TEXTS)


def test_words_and_characters() -> None:
    split = SimpleTokenizer.tokenize_text
    assert split("Don't STOP: the T-shirt's 2 dogs!") == ["dont", "stop", "the", "t", "shirts", "2", "dogs"]
    assert split("一个红色的圆,right?") == ["一", "个", "红", "色", "的", "圆", "right"]
    assert split("3个ＡＢ圆") == ["3", "个", "ab", "圆"]  # full-width letters, as typed on Chinese keyboards
    assert split(" ...!。") == []


def test_vocabulary_is_by_frequency_then_alphabet(tokenizer: SimpleTokenizer) -> None:
    assert tokenizer.id_to_token[:4] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    assert tokenizer.id_to_token[4] == "a"  # three times
    twice = tokenizer.id_to_token[5:10]
    assert twice == sorted(["circle", "red", "红", "色", "的"])
    assert SimpleTokenizer.from_texts(reversed(TEXTS)).id_to_token == tokenizer.id_to_token


def test_vocab_size_counts_the_special_tokens() -> None:
    tokenizer = SimpleTokenizer.from_texts(["a a a b b c"], vocab_size=6)
    assert tokenizer.id_to_token == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b"]
    assert len(tokenizer) == 6
    assert tokenizer.encode("a c") == [2, 4, 1, 3]


def test_call_follows_transformers(tokenizer: SimpleTokenizer) -> None:
    single = tokenizer("a red circle")
    assert single["input_ids"].shape == single["attention_mask"].shape == (1, 77)
    assert single["input_ids"].dtype == torch.int64
    assert single["input_ids"][0, :5].tolist() == tokenizer.encode("a red circle")
    assert single["attention_mask"].sum() == 5
    batch = tokenizer(["a", "a red circle"], padding="longest")
    assert batch["input_ids"].shape == (2, 5)
    assert batch["input_ids"][0].tolist() == [2, 4, 3, 0, 0]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert tokenizer(["a", "a a"], padding=False, return_tensors=None) == {
        "input_ids": [[2, 4, 3], [2, 4, 4, 3]],
        "attention_mask": [[1, 1, 1], [1, 1, 1, 1]],
    }


def test_truncation_keeps_sep(tokenizer: SimpleTokenizer) -> None:
    ids = tokenizer("a " * 200)["input_ids"]
    assert ids.shape == (1, 77)
    assert ids[0, 0] == 2
    assert ids[0, -1] == 3
    assert len(tokenizer("a " * 200, truncation=False, padding=False)["input_ids"][0]) == 202


def test_chinese_survives(tokenizer: SimpleTokenizer) -> None:
    ids = tokenizer.encode("一个红色的圆")
    assert 1 not in ids
    assert len(ids) == 8
    assert tokenizer.decode(ids) == "一个红色的圆"
    assert tokenizer.decode(torch.tensor(tokenizer.encode("A red 圆 circle"))) == "a red圆circle"


def test_use_before_build_vocab_is_an_error() -> None:
    with pytest.raises(TokenizerError, match="build_vocab"):
        SimpleTokenizer()("a red circle")


@pytest.mark.parametrize(
    "kwargs", [{"padding": "longset"}, {"return_tensors": "np"}, {"max_length": 1}, {"padding": False}]
)
def test_bad_arguments(tokenizer: SimpleTokenizer, kwargs: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="padding"):
        tokenizer(["a", "a red circle"], **kwargs)  # type: ignore[arg-type]  # wrong on purpose


def test_bad_texts_and_sizes(tokenizer: SimpleTokenizer) -> None:
    with pytest.raises(TypeError, match="NoneType"):
        tokenizer([None])  # type: ignore[list-item]  # wrong on purpose
    with pytest.raises(ValueError, match="vocab_size=4"):
        SimpleTokenizer(vocab_size=4)
    with pytest.raises(ValueError, match="999"):
        tokenizer.decode([999])


def test_save_and_load(tokenizer: SimpleTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "vocab.json")
    loaded = SimpleTokenizer.load(tmp_path / "vocab.json")
    assert loaded.id_to_token == tokenizer.id_to_token
    assert loaded.vocab_size == tokenizer.vocab_size
