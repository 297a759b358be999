"""Texts and pictures to arrays of fixed shapes on the host, and back.

Fixed shapes keep the compiled programs few: a text that does not fit its room is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from einops import EinopsError
from jaxtyping import Array
from PIL import Image as Pillow
from PIL.Image import Image as Picture

from asg_jax.backbone import Processor, Prompt, Purpose, Request, host
from asg_jax.engine.programs import Lengths, Sentence
from asg_jax.engine.scoring import Poll
from asg_jax.errors import UserError
from asg_jax.prompts.language import REASON, SPELLINGS, Contrast, Language
from asg_jax.rollout.text import Texts


class Scribe:
    """Reads and writes for the roles.

    Attributes:
      framed: most tokens of a framed question.
      decomposed: most tokens of an instruction to write questions on a caption.
      about: most tokens of any other text that quotes a caption.
      frame: (height, width, count) -> prompts of a picture of that size each, without features.
    """

    def __init__(self, processor: Processor, language: Language, lengths: Lengths):
        self.processor, self.language, self.lengths = processor, language, lengths
        self._ids = lru_cache(2**14)(lambda text: tuple(processor.question(text)))
        longest = lambda texts: max(len(self._ids(text)) for text in texts)
        self.framed = lengths.question + longest(language.frame(""))
        self.decomposed = lengths.caption + longest([language.check("", r) for r in ("", REASON)])
        about = (language.match, language.compare, language.rewrite, language.region)
        farthest = "middle center"
        about = [text.format(caption="", place=farthest) for text in about]
        self.about = lengths.caption + longest(about)
        self.frame = lru_cache(4)(self._frame)

    def tell(self, rows: Sequence[Sequence[str]], room: int | None = None) -> Texts:
        """The same number of texts for every example, as turns that a role is to answer.

        Args:
          rows: texts of each example; those that do not fit count as empty ones (see `fits`).
          room: tokens of the longest; as many as there are, if None.
        """
        told = [[self._ids(text) for text in row] for row in rows]
        room = max(len(ids) for row in told for ids in row) if room is None else room
        told = [[ids if len(ids) <= room else () for ids in row] for row in told]
        counts = np.array([[len(ids) for ids in row] for row in told])
        ids = np.zeros((*counts.shape, room), np.int32)
        mask = np.arange(room) < counts[..., None]
        ids[mask] = [n for row in told for one in row for n in one]
        return Texts(host(ids), host(mask))

    def fits(self, text: str, room: int) -> bool:
        """Whether a text as a turn has at most `room` tokens."""
        return len(self._ids(text)) <= room

    def hear(self, texts: Texts) -> list[list[str]]:
        """The texts of every example as strings."""
        ids, mask = np.asarray(texts.ids), np.asarray(texts.mask)
        say = lambda row, real: self.processor.text(row[real].tolist()).strip()
        return [
            [say(*one) for one in zip(*example, strict=True)]
            for example in zip(ids, mask, strict=True)
        ]

    def questions(self, texts: Texts) -> list[list[str | None]]:
        """The Proposer's questions; None where a text has none, or none that fits."""
        return [[self._question(text) for text in row] for row in self.hear(texts)]

    def _question(self, text: str) -> str | None:
        question = self.language.question(text)
        return question if question and self.is_askable(question) else None

    def is_askable(self, question: str) -> bool:
        """Whether a question fits in all framings."""
        return all(self.fits(framed, self.framed) for framed in self.language.frame(question))

    def captions(self, texts: Texts) -> list[str | None]:
        """The Solver's captions, the first sample of each row; None where there is none."""
        return [self._caption(row[0]) for row in self.hear(texts)]

    def _caption(self, text: str) -> str | None:
        caption = self.language.caption(text)
        if not caption or len(self.processor.ids(caption)) > self.lengths.caption:
            return None
        return caption if self.fits(self.language.check(caption), self.decomposed) else None

    def say(self, rows: Sequence[Sequence[str]], room: int) -> Texts:
        """The same number of texts for every example, as a role would say them.

        Neither markers nor a stop token is among the tokens; what is too long is cut off.
        """
        shape = len(rows), len(rows[0]), room
        ids, mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
        for n, row in enumerate(rows):
            for m, text in enumerate(row):
                tokens = self.processor.ids(text)[:room]
                ids[n, m, : len(tokens)], mask[n, m, : len(tokens)] = tokens, True
        return Texts(host(ids), host(mask))

    def poll(self, rows: Sequence[Sequence[Contrast]], room: int) -> Poll:
        """Questions whose answers are read off their first token.

        Args:
          rows: as many questions for every example, each with the spellings of the right answer and
            those of the wrong one; without any of these, whatever is not right is wrong.
          room: tokens of the longest question; one that does not fit counts as an empty one.
        """
        told = self.tell([[question for question, _, _ in row] for row in rows], room)
        ids = [[self._starts(right, wrong) for _, right, wrong in row] for row in rows]
        sides = ([[one[n] for one in row] for row in ids] for n in (0, 1))
        return Poll(told, *map(_padded, sides))

    def _starts(self, *sides: Sequence[str]) -> list[list[int]]:
        """First tokens of the spellings on two sides, those left out that both have."""
        first = lambda texts: [ids[0] for text in texts if (ids := self.processor.ids(text))]
        one, other = (dict.fromkeys(first(texts)) for texts in sides)
        return [[n for n in one if n not in other], [n for n in other if n not in one]]

    def drawable(self, texts: Sequence[Sequence[str]]) -> list[list[str]]:
        """The texts as captions to draw; what has too many tokens is an empty one."""
        fits = lambda text: len(self.processor.ids(text)) <= self.lengths.caption
        return [[text if fits(text) else "" for text in row] for row in texts]

    def pictures(self, pictures: Sequence[Picture | None]) -> Request:
        """Pictures that texts will follow, or none."""
        return self.processor.prompt([[p] if p is not None else [] for p in pictures], "ask")

    def order(self, captions: Sequence[str]) -> Request:
        """Captions to be drawn."""
        return self._request(captions, "draw")

    def sentences(self, texts: Sequence[str]) -> Sentence:
        """Texts to be embedded."""
        prompt = self._request(texts, "embed").prompts.main
        markers = np.asarray(self.processor.prompt([[""]], "embed").prompts.main.ids)
        words = np.asarray(prompt.mask) & ~np.isin(prompt.ids, markers)
        return Sentence(prompt, host(words))

    def _request(self, texts: Sequence[str], purpose: Purpose) -> Request:
        """Requests of texts alone, which have as many rows for every batch."""
        bare = self.processor.prompt([[""]], purpose).prompts.main
        rows = int(np.asarray(bare.mask).sum()) + self.lengths.caption
        request = self.processor.prompt([[text] for text in texts], purpose)
        is_prompt = lambda node: isinstance(node, Prompt)
        fit = lambda prompt: fit_rows(prompt, rows)
        return replace(request, prompts=jax.tree.map(fit, request.prompts, is_leaf=is_prompt))

    def _frame(self, height: int, width: int, count: int) -> Prompt:
        """Prompts of a picture of some size each, without features.

        Raises:
          UserError: the vision tower would resize such a picture.
        """
        request = self.processor.prompt([[Pillow.new("RGB", (width, height))]], "ask")
        try:
            seen = self.processor.view(jnp.zeros((1, height, width, 3))).grid
        except EinopsError:  # no whole number of patches
            seen = ()
        if not np.array_equal(request.images[0].grid, seen):
            raise UserError(
                f"the vision tower does not read drawings of {width} x {height} pixels as they "
                "are; choose another sampler.grid."
            )
        return jax.tree.map(lambda x: host(np.repeat(x, count, axis=0)), request.prompts.main)


def fit_rows(prompt: Prompt, rows: int) -> Prompt:
    """A prompt of text with another number of rows: padding is cut off or added."""
    if np.asarray(prompt.mask)[:, rows:].any() or prompt.latents:
        raise ValueError(f"a prompt of text alone must fit {rows} rows")

    def fit(x: Array, value: int) -> Array:
        room = [(0, 0), (0, max(0, rows - x.shape[1])), *[(0, 0)] * (x.ndim - 2)]
        return host(np.pad(np.asarray(x)[:, :rows], room, constant_values=value))

    return replace(
        prompt,
        ids=fit(prompt.ids, 0),
        slot=fit(prompt.slot, -1),
        positions=fit(prompt.positions, 0),
        order=fit(prompt.order, np.iinfo(np.int32).max),  # it sees what is real, so stays finite
        mask=fit(prompt.mask, False),
    )


def _padded(rows: Sequence[Sequence[Sequence[int]]]) -> Array:
    """Ids of every question, -1 where there is none; so many as a yes has spellings at most."""
    ids = np.full((len(rows), len(rows[0]), SPELLINGS), -1, np.int32)
    for n, row in enumerate(rows):
        for m, some in enumerate(row):
            ids[n, m, : len(some)] = some[:SPELLINGS]
    return host(ids)


def framings(count: int, language: Language, framed: bool, question: str) -> list[str]:
    """A question as many times as it is asked: each time framed anew, or always the same."""
    known = language.frame(question)
    return [known[n % len(known)] if framed else known[0] for n in range(count)]


def pad(rows: Sequence[Sequence[str]], count: int) -> list[list[str]]:
    """Texts of every example, empty ones added up to a number."""
    return [[*row, *[""] * (count - len(row))] for row in rows]
