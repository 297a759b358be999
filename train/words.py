"""Words of a text that a model never learned."""

from __future__ import annotations

import sys
import unicodedata

from asg_jax.backbone import Processor


def unlearned(processor: Processor, text: str) -> list[str]:
    """The words of a text that do not come back from the model's tokens, in order, each once.

    A tokenizer of whole words drops or replaces what it does not know; one of bytes or pieces of
    words knows everything.
    """
    words = dict.fromkeys(unicodedata.normalize("NFC", text).split())
    return [word for word in words if processor.text(processor.ids(word)).strip() != word]


def warn_of_unlearned(processor: Processor, text: str) -> None:
    """Names the words that a model never learned in one sentence on stderr, if there are any."""
    if words := unlearned(processor, text):
        print(
            f"asg-jax: the model never learned {', '.join(map(repr, words))}; it reads something"
            " else there, so use other words (`asg-jax models` tells what it knows).",
            file=sys.stderr,
        )
