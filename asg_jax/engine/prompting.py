"""Where the prompts of drawings come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from asg_jax.backbone import Params
from asg_jax.engine.engine import Engine, Moment
from asg_jax.prompts.language import Pair

# What the model says of the step's pictures, what it writes by itself, or what the user gave.
Source = Literal["captions", "written", "given"]


def write_prompts(
    engine: Engine,
    params: Params,
    moment: Moment,
    source: Source,
    given: Sequence[str],
    temperature: float,
    purpose: int,
) -> list[str | None]:
    """A prompt for each example of a step; None where the model wrote none that fits.

    Args:
      engine: the model at work.
      params: parameters that the writing role has.
      moment: the step.
      source: where prompts come from.
      given: the user's prompts; the number of a picture in its source chooses one.
      temperature: divides the logits of what is written; 0 is greedy.
      purpose: number that keeps these random numbers apart from others.
    """
    examples, language, scribe = moment.examples, engine.language, engine.scribe
    if source == "given":
        return [given[number % len(given)] for number in examples.ids]
    told = language.describe if source == "captions" else language.write
    shown = moment if source == "captions" else engine.blank(examples)
    texts = scribe.tell([[told]] * len(examples.ids))
    tokens = engine.lengths.caption
    said = engine.continue_texts(params, tokens, shown, texts, temperature, purpose)
    return scribe.captions(engine.placement.get(said.rollout.texts))


def take_apart(
    engine: Engine, params: Params, moment: Moment, prompts: Sequence[str | None], purpose: int
) -> list[list[Pair]]:
    """Questions that check each prompt, and their right answers; the picture is not shown.

    (SILMM, arXiv 2412.05818, decomposition.)
    """
    language, scribe = engine.language, engine.scribe
    texts = scribe.tell([[language.check(prompt or "")] for prompt in prompts], scribe.decomposed)
    blank, tokens = engine.blank(moment.examples), engine.lengths.spec
    said = engine.continue_texts(params, tokens, blank, texts, 0.0, purpose)
    heard = scribe.hear(engine.placement.get(said.rollout.texts))
    askable = lambda pairs: [pair for pair in pairs if scribe.is_askable(pair[0])]
    return [askable(language.spec(row[0])) for row in heard]
