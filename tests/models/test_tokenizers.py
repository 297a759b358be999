"""Tokenizers: plain bytes, Hugging Face folders, and folders that cannot be used."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from asg_jax.errors import UserError
from asg_jax.models.tokenizers import (
    ByteTokenizer,
    HuggingFaceTokenizer,
    load_tokenizer,
    write_word_tokenizer,
)

SPECIALS = {
    "<|im_start|>": 256,
    "<|im_end|>": 257,
    "<|vision_start|>": 258,
    "<|vision_end|>": 259,
}
TEXT = "Grüße , a . b 's\n<|im_end|>  x 🎈<|vision_start|>"


def write_files(folder, specials=SPECIALS):
    """A byte-level BPE without merges, which would start every text with a special token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(specials))
    start, n = list(specials.items())[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", special_tokens=[(start, n)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.fixture(params=["bytes", "hugging_face"])
def tokenizer(request, tmp_path):
    if request.param == "hugging_face":
        write_files(tmp_path)
    loaded = load_tokenizer(tmp_path, SPECIALS)
    kind = ByteTokenizer if request.param == "bytes" else HuggingFaceTokenizer
    assert isinstance(loaded, kind)
    return loaded


def test_text_comes_back_as_it_was(tokenizer):
    """Spaces before punctuation, too."""
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_special_tokens_in_a_text_become_their_ids(tokenizer):
    ids = tokenizer.encode("a<|im_end|><|vision_start|>b<|im_en")
    assert [n for n in ids if n >= 256] == [257, 258]
    assert tokenizer.encode("<|im_start|>") == [256]


def test_nothing_is_added(tokenizer):
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""
    assert len(tokenizer.encode("abc")) == 3


def test_half_a_character_becomes_the_replacement_character(tokenizer):
    """What sampling may well produce."""
    assert tokenizer.decode(tokenizer.encode("é")[:1] + tokenizer.encode("a")) == "\ufffda"


def test_ids_beyond_the_vocabulary_decode(tokenizer):
    """The table of the model may have more rows than the tokenizer knows."""
    assert tokenizer.decode([*tokenizer.encode("a"), 5000]) in ("a", "a\ufffd")


@settings(max_examples=200)
@given(st.lists(st.text() | st.sampled_from(sorted(SPECIALS))).map("".join))
def test_any_text_comes_back(text):
    tokenizer = ByteTokenizer(SPECIALS)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(max_examples=200)
@given(st.text().filter(lambda text: not any(special in text for special in SPECIALS)))
def test_text_without_special_tokens_is_its_bytes(text):
    assert ByteTokenizer(SPECIALS).encode(text) == list(text.encode())


@settings(max_examples=200)
@given(st.lists(st.integers(-5, 300)))
def test_any_ids_decode(ids):
    known = [n for n in ids if 256 <= n < 260]
    text = ByteTokenizer(SPECIALS).decode(ids)
    assert [SPECIALS[name] for name in re.findall(r"<\|\w+\|>", text)] == known


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"[]"),
        ("tokenizer_config.json", b"[]"),
        ("tokenizer.json", b'{"added_tokens": [], "model": {"type": "BPE"}}'),
        ("tokenizer.json", b"\xff\xfe\x00"),
        ("tokenizer_config.json", b"{"),
        ("config.json", b"{"),
    ],
)
def test_damaged_files_are_one_line_that_names_the_folder(tmp_path, file, content):
    write_files(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match="do not load .*restore") as error:
        load_tokenizer(tmp_path, SPECIALS)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("specials", "line"),
    [
        ({**SPECIALS, "<|im_end|>": 300}, "gives <|im_end|> the id 257, the model expects 300"),
        ({**SPECIALS, "<|box|>": 260}, "gives <|box|> the id None, the model expects 260"),
    ],
)
def test_a_tokenizer_of_another_model_is_refused(tmp_path, specials, line):
    write_files(tmp_path)
    with pytest.raises(UserError) as error:
        load_tokenizer(tmp_path, specials)
    assert line in str(error.value) and str(tmp_path) in str(error.value)


def test_a_large_vocabulary_needs_its_files(tmp_path):
    """Else bytes would be fed to a model that never saw them as such."""
    with pytest.raises(UserError, match="tokenizer.json") as error:
        load_tokenizer(tmp_path, {"<|im_start|>": 151644})
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("text", ["what \udcff is it?", "\ud83d", "a\ude00"])
def test_text_that_is_no_unicode_is_refused(tmp_path, text):
    write_files(tmp_path)
    for tokenizer in (ByteTokenizer(SPECIALS), load_tokenizer(tmp_path, SPECIALS)):
        with pytest.raises(UserError, match="is not valid Unicode"):
            tokenizer.encode(text)


def test_words_and_marks_have_an_id_each_and_come_back(tmp_path):
    words = ["\n", ".", ":", "?", "a", "circle", "q", "red"]
    write_word_tokenizer(tmp_path, words, {"<|im_start|>": 8, "<|im_end|>": 9})
    tokenizer = load_tokenizer(tmp_path, {"<|im_start|>": 8, "<|im_end|>": 9})
    text = "q: a red circle?\na: red."
    assert tokenizer.encode(text) == [6, 2, 4, 7, 5, 3, 0, 4, 2, 7, 1]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("a<|im_end|>") == [4, 9]
