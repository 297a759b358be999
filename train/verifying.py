"""A model as the verifier of its own drawings, for the best of several and for searches."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property

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
    """Scores drawings of one prompt.

    Attributes:
      looked: drawings so far.
    """

    def __init__(
        self,
        model: Model,
        judge: Params,
        language: Language,
        prompt: str,
        name: str,
        grid: tuple[int, int],
    ):
        """Makes a verifier.

        Args:
          model: backbone and processor.
          judge: parameters of the role that looks.
          language: what prompts and answers are in.
          prompt: what is drawn.
          name: one of `VERIFIERS`.
          grid: (height, width) of the drawings in image tokens.
        """
        self._judge, self._prompt = judge, prompt
        self._weights = {VERIFIERS[name]: 1.0}
        # Elsewhere the questions come from a text of their own, and first tokens answer them.
        self._thinks = name == "cotv" and bool(language.think)
        unified = UnifiedModel(model.backbone, model.base, model.processor, model.family.roles)
        room = max(64, len(model.processor.ids(prompt)))
        self._engine = Engine(unified, language, Lengths(caption=room), OneDevice())
        self._grid = self._readable(grid, model.backbone.spec.token_pixels)
        self._side = model.backbone.spec.token_pixels
        self.looked = 0

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

    @cached_property
    def _moment(self) -> Moment:
        bare = self._engine.scribe.pictures([None])
        return self._engine.blank(Examples(0, 1, (0,), (0,), bare))

    def __call__(self, pixels: Float[Array, "1 N H W 3"]) -> Float[np.ndarray, "1 N"]:
        """Scores of drawings, the higher the better."""
        engine, facts = self._engine, needed(DRAWINGS, self._weights)
        size = self._grid[0] * self._side, self._grid[1] * self._side
        if pixels.shape[2:4] != size:
            shape = (1, pixels.shape[1], *size, 3)
            pixels = jnp.clip(jax.image.resize(pixels, shape, "cubic"), 0, 1)
        viewing = engine.viewing(pixels, self._grid, 1)
        self.looked += pixels.shape[1]
        if self._thinks:
            return self._thought(viewing)
        wanted = Look(facts, questions=6, purpose=0)
        found = look(engine, self._judge, self._moment, [self._prompt], viewing, wanted)
        (scores,) = read(DRAWINGS, self._weights, found.record, Numbers()).values()
        return np.asarray(scores)

    def _thought(self, viewing: Viewing) -> Float[np.ndarray, "1 N"]:
        """Share of yes among the questions that the model writes about each drawing and answers."""
        engine = self._engine
        told = engine.scribe.tell([[engine.language.think.format(caption=self._prompt)]])
        said = engine.placement.get(engine.remark(self._judge, THOUGHT, viewing, told))
        heard = engine.scribe.hear(Texts(said.ids[0], said.mask[0]))
        checked = [[yes for _, yes in checked_questions(row[0])] for row in heard]
        yes = [sum(one == "yes" for one in row) / len(row) for row in checked]
        return np.array([yes], np.float32)
