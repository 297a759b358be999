"""A question on each picture and several answers to it, read as votes."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Int, UInt32

from asg_jax.answers import class_ids, parse_answer, plain_answer, words_before_answer
from asg_jax.backbone import Params, host
from asg_jax.engine.engine import Engine, Moment
from asg_jax.objectives.texts import Said
from asg_jax.pytree import pytree

ASK, SOLVE, LEARN = range(3)  # what random numbers are for


@pytree
class Debate:
    """A question on each picture and N answers to it.

    Attributes:
      asked: what the Proposer said, one question on each picture.
      answered: what the Solver said.
      labels: class of every answer, by number.
      words: how many stand before the answer span.
      parsed: there is a question.
      stream: see `asg_jax.engine.programs.keys`.
    """

    asked: Said
    answered: Said
    labels: Int[Array, "B N"]
    words: Int[Array, "B N"]
    parsed: Bool[Array, " B"]
    stream: UInt32[Array, "B S"]


def hold_debate(
    engine: Engine,
    proposer: Params,
    solver: Params,
    moment: Moment,
    answers: int,
    temperature: float,
) -> tuple[Debate, tuple[list[dict[str, Any]], list[list[str]]]]:
    """Lets one role ask and another answer; answers count as in EvoLMM (arXiv 2511.16672).

    Args:
      engine: the model at work.
      proposer: who asks.
      solver: who answers.
      moment: the step.
      answers: N.
      temperature: divides the logits of questions and answers, above 0.

    Returns:
      What was said; what people read, pictures with answers and the questions.
    """
    scribe, lengths, ids = engine.scribe, engine.lengths, moment.examples.ids
    told = scribe.tell([[engine.language.ask]] * len(ids))
    asked = engine.continue_texts(proposer, lengths.question, moment, told, temperature, ASK)
    questions = [row[0] for row in scribe.questions(engine.placement.get(asked.rollout.texts))]
    framed = [[engine.language.frame(q or "")[0]] * answers for q in questions]
    told = scribe.tell(framed, scribe.framed)
    answered = engine.continue_texts(solver, lengths.answer, moment, told, temperature, SOLVE)
    spoken = scribe.hear(engine.placement.get(answered.rollout.texts))
    plain = [[plain_answer(parse_answer(text)) for text in row] for row in spoken]
    words = [[words_before_answer(text) for text in row] for row in spoken]
    found = (
        host(np.array([class_ids(row) for row in plain], np.int32)),
        host(np.array(words, np.int32)),
        host(np.array([question is not None for question in questions])),
        moment.examples.stream(LEARN),
    )
    pairs = zip(ids, plain, strict=True)
    heads = [{"picture": number, "answers": ", ".join(row)} for number, row in pairs]
    debate = Debate(asked, answered, *engine.placement.put(found))
    return debate, (heads, [[question or ""] for question in questions])
