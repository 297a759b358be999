"""A model as the verifier of its own drawings, for the best of several and for searches."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from jaxtyping import Array, Float

from asg_jax.backbone import Params
from asg_jax.engine.engine import Engine, Moment
from asg_jax.engine.looking import Look, look
from asg_jax.engine.method import Examples
from asg_jax.engine.model import UnifiedModel
from asg_jax.engine.placement import OneDevice
from asg_jax.engine.programs import Lengths
from asg_jax.models.registry import Model
from asg_jax.prompts.language import Language
from asg_jax.signals.table import DRAWINGS, Numbers, needed, read

# How a verifier is called -> its signal.
VERIFIERS: Mapping[str, str] = {
    "p_yes": "p_yes",  # dMLLM-TTS, arXiv 2512.19433
    "likelihood": "likelihood",  # SUDER and GvU, which rank alike
    "cotv": "share_of_yes",  # UniGen, arXiv 2505.14682, its questions and answers one by one
    "fidelity": "question_margin",  # SILMM, arXiv 2412.05818
}


class Verifier:
    """Scores drawings of one prompt.

    Attributes:
      looked: drawings so far.
    """

    def __init__(
        self, model: Model, judge: Params, language: Language, prompt: str, name: str, grid: tuple
    ):
        """Makes a verifier.

        Args:
          model: backbone and processor.
          judge: parameters of the role that looks.
          language: of prompts and answers.
          prompt: that is drawn.
          name: one of `VERIFIERS`.
          grid: (height, width) of the drawings in image tokens.
        """
        self._judge, self._prompt, self._grid = judge, prompt, grid
        self._weights = {VERIFIERS[name]: 1.0}
        unified = UnifiedModel(model.backbone, model.base, model.processor, model.family.roles)
        room = max(64, len(model.processor.ids(prompt)))
        self._engine = Engine(unified, language, Lengths(caption=room), OneDevice())
        self.looked = 0

    @cached_property
    def _moment(self) -> Moment:
        bare = self._engine.scribe.pictures([None])
        return self._engine.blank(Examples(0, 1, (0,), (0,), bare))

    def __call__(self, pixels: Float[Array, "1 N H W 3"]) -> Float[np.ndarray, "1 N"]:
        """Scores of drawings, the higher the better."""
        engine, facts = self._engine, needed(DRAWINGS, self._weights)
        viewing = engine.viewing(pixels, self._grid, 1)
        wanted = Look(facts, questions=6, purpose=0)
        found = look(engine, self._judge, self._moment, [self._prompt], viewing, wanted)
        self.looked += pixels.shape[1]
        (scores,) = read(DRAWINGS, self._weights, found.record, Numbers()).values()
        return np.asarray(scores)
