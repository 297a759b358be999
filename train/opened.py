"""An opened model that is asked, draws and scores: what `asg_jax.open_model` gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array
from PIL.Image import Image as Picture

from asg_jax.answers import normalize_answer
from asg_jax.backbone import Backbone, Params, Request, encode, host
from asg_jax.models.pictures import open_picture, to_picture
from asg_jax.models.registry import Model
from asg_jax.prompts import LANGUAGES
from asg_jax.rollout.text import Texts, score
from asg_jax.train.asking import ask, rows_of
from asg_jax.train.compiler import jit
from asg_jax.train.drawing import draw
from asg_jax.train.evolve.learned import open_roles

ENTROPY_TOKENS = 5  # the first answer tokens, whose largest entropy counts


class Answer(NamedTuple):
    """What a model says to a question.

    Attributes:
      text: the greedy answer.
      votes: how many framings of the question got each normalised answer, most frequent first.
      entropy: largest token entropy of the greedy answer's first tokens, in nats.
    """

    text: str
    votes: dict[str, int]
    entropy: float


@dataclass(frozen=True)
class OpenModel(Model):
    """A model with what its roles have learned.

    Attributes:
      roles: parameters of proposer, solver and generator.
    """

    roles: Mapping[str, Params]

    def ask(
        self,
        picture: Picture | str | Path,
        question: str,
        *,
        language: str | None = None,
        temperature: float = 0.0,
        max_tokens: int = 64,
        seed: int = 0,
    ) -> Answer:
        """Answers a question about a picture, and takes a vote over its framings.

        Args:
          picture: or the file that holds it.
          question: any words that the model knows.
          language: what framings are written in, one of `LANGUAGES`; the model's own by default.
          temperature: divides the logits of the framings' answers; 0 is greedy.
          max_tokens: the most that an answer may have, its stop token included.
          seed: gives the samples.

        Raises:
          UserError: the file holds no picture.
        """
        framed = LANGUAGES[language or self.language].frame(question)
        spoken, rollout = ask(
            self,
            _opened(picture),
            [question, *framed],
            [0.0, *[temperature] * len(framed)],
            params=self.roles["solver"],
            max_tokens=max_tokens,
            seed=seed,
        )
        votes = Counter(normalize_answer(text) for text in spoken[1:])
        entropy = float(rollout.entropies[0, 0, :ENTROPY_TOKENS].max())
        return Answer(spoken[0], dict(votes.most_common()), entropy)

    def draw(
        self,
        prompt: str,
        *,
        count: int = 1,
        picture: Picture | str | Path | None = None,
        seed: int = 0,
        **options: Any,
    ) -> list[Picture]:
        """Draws pictures of a prompt, or edits one by it.

        Args:
          prompt: what to draw.
          count: how many pictures, at least 1.
          picture: what is edited, or the file that holds it.
          seed: gives the pictures.
          options: some of `asg_jax.train.drawing.GIVEN`: height, width, guidance, steps ...

        Raises:
          UserError: the model does not draw such pictures, or has no such option.
        """
        source = [] if picture is None else [_opened(picture)]
        request = self.processor.prompt([[*source, prompt]], "draw")
        keys = jax.random.split(jax.random.key(seed), (1, count))
        return [
            to_picture(x) for x in draw(self, self.roles["generator"], request, keys, options)[0]
        ]

    def score(
        self, picture: Picture | str | Path, question: str, answers: Sequence[str]
    ) -> list[float]:
        """How likely the Solver holds answers to a question about a picture to be.

        Args:
          picture: or the file that holds it.
          question: any words that the model knows.
          answers: texts; each ends with the model's stop token, which counts too.

        Returns:
          The log-probability of each answer in nats, summed over its tokens.
        """
        stop = self.processor.stop_ids[0]
        request = self.processor.prompt([[_opened(picture)]], "ask")
        before = _texts([self.processor.question(question)] * len(answers))
        after = _texts([[*self.processor.ids(answer), stop] for answer in answers])
        found = _score(self.backbone, self.roles["solver"], request, before, after)
        return np.asarray(found).tolist()


def open_model(name: str) -> OpenModel:
    """Opens a model with what its roles have learned.

    Args:
      name: a model as `asg_jax.models.registry.open_model` takes it, or the folder of a finished
        run.

    Raises:
      UserError: nothing of that name is there, or its files are damaged.
    """
    model, roles = open_roles(name)
    parts = model.backbone, model.base, model.processor, model.family, model.folder
    return OpenModel(*parts, roles=roles)


def _opened(picture: Picture | str | Path) -> Picture:
    return open_picture(picture) if isinstance(picture, str | Path) else picture


def _texts(ids: Sequence[Sequence[int]]) -> Texts:
    rows, mask = rows_of(ids)
    return Texts(host(rows), host(mask))


@partial(jit, static_argnums=0)
def _score(
    backbone: Backbone, params: Params, request: Request, before: Texts, after: Texts
) -> Array:
    prompt = encode(backbone, params, request).main
    return score(backbone, params, prompt, before, after).log_prob.sum(-1)[0]
