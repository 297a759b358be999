"""What a judge finds in drawings: the facts that signals read, each only where one needs it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Bool, Float

from asg_jax.backbone import Params, host
from asg_jax.engine.engine import Engine, Moment
from asg_jax.engine.programs import Explanation, Viewing
from asg_jax.engine.prompting import take_apart
from asg_jax.engine.scoring import Poll
from asg_jax.prompts.language import Contrast
from asg_jax.pytree import pytree
from asg_jax.signals.table import Drawn
from asg_jax.signals.verdicts import YesNo

NOTHING: Contrast = ("", (), ())  # where there is no question
FACTS = frozenset({"likelihood", "verdict", "answers", "features"})  # that can be found out here


@dataclass(frozen=True)
class Look:
    """What is to be found out.

    Attributes:
      facts: names in `asg_jax.signals.table.Drawn`.
      questions: most questions on a prompt.
      purpose: number that keeps these random numbers apart from others.
    """

    facts: Collection[str]
    questions: int
    purpose: int


@pytree
class Found:
    """What was found out.

    Attributes:
      record: what signals read.
      mismatched: the verdict on another example's prompt, which gives a judge away who says yes to
        everything; None where no verdict is wanted.
    """

    record: Drawn
    mismatched: YesNo | None


def look(
    engine: Engine,
    params: Params,
    moment: Moment,
    prompts: Sequence[str | None],
    viewing: Viewing,
    wanted: Look,
) -> Found:
    """Looks at the drawings of prompts.

    Args:
      engine: the model at work.
      params: parameters that the judge has.
      moment: the step.
      prompts: what was drawn; None where there is no prompt, and its drawings do not count.
      viewing: the drawings.
      wanted: what is needed.
    """
    put, facts = engine.placement.put, wanted.facts
    images = viewing.pixels.shape[1]
    verdict = mismatched = None
    if "verdict" in facts:
        verdict, mismatched = verdicts(engine, params, prompts, viewing)
    asked, answers = np.zeros((len(prompts), wanted.questions), bool), None
    if "answers" in facts:
        poll, asked = _questions(engine, params, moment, prompts, wanted)
        answers = engine.ask_drawings(params, viewing, put(poll))
    exists = np.repeat([[prompt is not None] for prompt in prompts], images, axis=1)
    record = Drawn(
        asked=put(host(asked)),
        exists=put(host(exists)),
        likelihood=likelihood(engine, params, prompts, viewing) if "likelihood" in facts else None,
        features=engine.features(params, viewing) if "features" in facts else None,
        verdict=verdict,
        answers=answers,
    )
    return Found(record, mismatched)


def verdicts(
    engine: Engine, params: Params, prompts: Sequence[str | None], viewing: Viewing
) -> tuple[YesNo, YesNo]:
    """Does a drawing show its prompt, and does it show that of the next example?"""
    poll = engine.placement.put(_matches(engine, prompts))
    own, other = engine.ask_apart(params, viewing, poll)
    return own, other


def likelihood(
    engine: Engine, params: Params, prompts: Sequence[str | None], viewing: Viewing
) -> Float[Array, "B L"]:
    """Log-likelihood of each prompt as its drawings' description, in nats per token."""
    scribe, put = engine.scribe, engine.placement.put
    told = scribe.tell([[engine.language.describe]] * len(prompts))
    said = scribe.say([[prompt or ""] for prompt in prompts], engine.lengths.caption)
    return engine.explain(params, Explanation(viewing, put(told), put(said)))


def _matches(engine: Engine, prompts: Sequence[str | None]) -> Poll:
    language = engine.language
    ask = lambda prompt: language.contrast(language.match.format(caption=prompt or ""), "yes")
    others = [*prompts[1:], prompts[0]]
    rows = [[ask(own), ask(other)] for own, other in zip(prompts, others, strict=True)]
    return engine.scribe.poll(rows, engine.scribe.about)


def _questions(
    engine: Engine, params: Params, moment: Moment, prompts: Sequence[str | None], wanted: Look
) -> tuple[Poll, Bool[np.ndarray, "B Q"]]:
    """The questions on each prompt in their canonical framing, and which there are."""
    pairs = take_apart(engine, params, moment, prompts, wanted.purpose)
    count, language = wanted.questions, engine.language
    ask = lambda question, answer: language.contrast(language.frame(question)[0], answer)
    rows = [[ask(*pair) for pair in row[:count]] for row in pairs]
    asked = np.arange(count) < np.array([len(row) for row in rows])[:, None]
    full = [[*row, *[NOTHING] * (count - len(row))] for row in rows]
    return engine.scribe.poll(full, engine.scribe.framed), asked
