"""Tokenizers: Hugging Face's where the checkpoint folder holds one, else plain bytes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from asg_jax.errors import UserError

# A folder with one of these names a tokenizer of its own.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back; nothing is added, special tokens in the text are recognised."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


def check_unicode(text: str) -> None:
    """Makes sure that a text has no bytes that stood for no character where it came from.

    Raises:
      UserError: it has.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        shown = text.encode(errors="backslashreplace").decode()
        raise UserError(
            f"the text '{shown}' is not valid Unicode; write it in a terminal that uses UTF-8."
        ) from error


class ByteTokenizer:
    """UTF-8 bytes as ids 0..255, then the special tokens."""

    def __init__(self, specials: Mapping[str, int]):
        self.specials = specials
        self._ids = dict(specials)
        self._texts = {n: text.encode() for text, n in specials.items()}
        self._texts.update({n: bytes([n]) for n in range(256)})
        self._split = re.compile("(" + "|".join(map(re.escape, specials)) + ")")

    def encode(self, text: str) -> list[int]:
        check_unicode(text)
        ids: list[int] = []
        for part in self._split.split(text):
            ids += [self._ids[part]] if part in self._ids else part.encode()
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Invalid UTF-8 and ids that stand for nothing become the replacement character."""
        return b"".join(self._texts.get(n, b"\xff") for n in ids).decode(errors="replace")


class PieceTokenizer(ByteTokenizer):
    """As many ids as a trained tokenizer gives plain English: one for each word or mark.

    It stands in where texts are counted and never read.
    """

    def encode(self, text: str) -> list[int]:
        pieces = [[p] if p in self._ids else _PIECES.findall(p) for p in self._split.split(text)]
        return [self._ids.get(piece, 0) for few in pieces for piece in few]


_PIECES = re.compile(r"\w+|[^\w\s]|\n+")


def write_word_tokenizer(folder: Path, words: Sequence[str], specials: Mapping[str, int]) -> None:
    """Writes a tokenizer with one id for each word, mark and line end, in Hugging Face's files.

    Marks follow their word without a space, and a line starts without one; a word that is not
    known becomes the first one.

    Args:
      folder: where `tokenizer.json` and `tokenizer_config.json` go.
      words: lower-case words and the marks "?", ":", "." and the line end, as far as they occur.
      specials: marker texts and ids, which follow those of the words.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    ids = {word: n for n, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids | dict(specials), unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[a-z]+|[?:.\n]"), "removed", invert=True)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),  # a space before every unit
            decoders.Fuse(),
            *(decoders.Replace(f" {mark}", mark) for mark in "?:.\n"),
            decoders.Replace("\n ", "\n"),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in specials])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n")


class HuggingFaceTokenizer:
    """`AutoTokenizer` of a local folder, checked to know the special tokens."""

    def __init__(self, folder: Path, specials: Mapping[str, int]):
        # transformers takes seconds to import, and remarks that PyTorch is missing and that it does
        # not know the models.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # the Rust library raises plain Exception
            raise UserError(
                f"{folder} holds tokenizer files that do not load ({error}); restore them."
            ) from error
        for text, n in specials.items():
            found = self._tokenizer.convert_tokens_to_ids(text)
            if found != n:
                raise UserError(
                    f"the tokenizer in {folder} gives {text} the id {found}, the model expects {n};"
                    " it belongs to another model."
                )

    def encode(self, text: str) -> list[int]:
        check_unicode(text)
        return self._tokenizer.encode(text, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids))


def load_tokenizer(folder: Path, specials: Mapping[str, int]) -> Tokenizer:
    """The tokenizer of a checkpoint folder.

    Raises:
      UserError: the files do not load, belong to another model, or are missing although the
        ids of the special tokens speak of a larger vocabulary.
    """
    if any((folder / name).exists() for name in TOKENIZER_FILES):
        return HuggingFaceTokenizer(folder, specials)
    if max(specials.values()) >= 1024:
        raise UserError(
            f"{folder} holds no tokenizer ({', '.join(TOKENIZER_FILES[:3])}); copy the tokenizer"
            " files of the checkpoint into it."
        )
    return ByteTokenizer(specials)
