"""A model as the verifier of its own drawings, for the best of several and for searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from asg_jax.answers import checked_questions
from asg_jax.backbone import Params
from asg_jax.engine.engine import Engine, Moment
from asg_jax.engine.looking import Look, look
from asg_jax.engine.method import Examples
from asg_jax.engine.model import UnifiedModel
from asg_jax.engine.placement import OneDevice
from asg_jax.engine.programs import Lengths, Viewing
from asg_jax.errors import UserError
from asg_jax.models.registry import Model
from asg_jax.prompts.language import Language
from asg_jax.rollout.text import Texts
from asg_jax.signals.table import DRAWINGS, Numbers, needed, read

# How a verifier is called -> its signal.
VERIFIERS: Mapping[str, str] = {
    "p_yes": "p_yes",  # dMLLM-TTS, arXiv 2512.19433
    "likelihood": "likelihood",  # SUDER and GvU, which rank alike
    "cotv": "share_of_yes",  # UniGen, arXiv 2505.14682
    "fidelity": "question_margin",  # SILMM, arXiv 2412.05818
}

THOUGHT = 256  # most tokens of what a model writes about a drawing


class Verifier:
    """Scores drawings of prompts."""

    def __init__(
        self,
        model: Model,
        judge: Params,
        language: Language,
        name: str,
        grid: tuple[int, int],
        longest: int,
    ):
        """Makes a verifier.

        Args:
          model: backbone and processor.
          judge: parameters of the role that looks.
          language: what prompts and answers are in.
          name: one of `VERIFIERS`.
          grid: (height, width) of the drawings in image tokens.
          longest: tokens of the longest prompt that is drawn.
        """
        self._judge = judge
        self._weights = {VERIFIERS[name]: 1.0}
        # Elsewhere the questions come from a text of their own, and first tokens answer them.
        self._thinks = name == "cotv" and bool(language.think)
        unified = UnifiedModel(model.backbone, model.base, model.processor, model.family.roles)
        lengths = Lengths(caption=max(64, longest))
        self._engine = Engine(unified, language, lengths, OneDevice())
        self._grid = self._readable(grid, model.backbone.spec.token_pixels)
        self._side = model.backbone.spec.token_pixels

    def _readable(self, grid: tuple[int, int], side: int) -> tuple[int, int]:
        """The largest grid up to the drawings' own that the vision tower reads as it is.

        Raises:
          UserError: there is none.
        """
        for less in range(min(grid)):
            smaller = grid[0] - less, grid[1] - less
            with suppress(UserError):
                self._engine.scribe.frame(smaller[0] * side, smaller[1] * side, 1)
                return smaller
        raise UserError("drawings are too small for the vision tower; draw larger ones.")

    def _moment(self, count: int) -> Moment:
        rows, bare = tuple(range(count)), self._engine.scribe.pictures([None] * count)
        return self._engine.blank(Examples(0, 1, rows, rows, bare))

    def __call__(
        self, prompts: Sequence[str], pixels: Float[Array, "B N H W 3"]
    ) -> Float[np.ndarray, "B N"]:
        """Scores of N drawings of each prompt, the higher the better."""
        engine, facts = self._engine, needed(DRAWINGS, self._weights)
        size = self._grid[0] * self._side, self._grid[1] * self._side
        if pixels.shape[2:4] != size:
            shape = (*pixels.shape[:2], *size, 3)
            pixels = jnp.clip(jax.image.resize(pixels, shape, "cubic"), 0, 1)
        viewing = engine.viewing(pixels, self._grid, len(prompts))
        if self._thinks:
            return self._thought(prompts, viewing)
        wanted, moment = Look(facts, questions=6, purpose=0), self._moment(len(prompts))
        found = look(engine, self._judge, moment, prompts, viewing, wanted)
        (scores,) = read(DRAWINGS, self._weights, found.record, Numbers()).values()
        return np.asarray(scores)

    def _thought(self, prompts: Sequence[str], viewing: Viewing) -> Float[np.ndarray, "B N"]:
        """Share of yes among the questions that the model writes about each drawing and answers."""
        engine, think = self._engine, self._engine.language.think
        told = engine.scribe.tell([[think.format(caption=prompt)] for prompt in prompts])
        said = engine.placement.get(engine.remark(self._judge, THOUGHT, viewing, told))
        heard = engine.scribe.hear(Texts(said.ids[:, :, 0], said.mask[:, :, 0]))
        share = lambda text: np.mean([yes == "yes" for _, yes in checked_questions(text)])
        return np.array([[share(text) for text in row] for row in heard], np.float32)
