"""Captions of real pictures that earn how likely they make these. (SUDER, arXiv 2506.07963.)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from asg_jax.backbone import Backbone, Params, PyTree, host
from asg_jax.engine.engine import Engine, Learned, Moment
from asg_jax.engine.programs import keys
from asg_jax.engine.report import shuffle, spread
from asg_jax.engine.roles import advance, improve_speaker, named
from asg_jax.engine.scoring import Depicted, Depiction
from asg_jax.engine.speaking import Earned
from asg_jax.engine.state import TrainState
from asg_jax.objectives.texts import Said, TextLesson
from asg_jax.pytree import pytree
from asg_jax.signals.likelihood import bayes_gap, estimate, mean_log_prob


@dataclass(frozen=True)
class Captioning:
    """How pictures are described, and the captions scored.

    Attributes:
      captions: captions of each picture, at least 2.
      temperature: divides the logits of captions, above 0.
      draws: pairs of time and noise by which a flow's likelihood is estimated.
      shift: moves the times towards noise, as the sampler's does; 1 leaves them.
    """

    captions: int
    temperature: float
    draws: int
    shift: float


@pytree
class Described:
    """G captions of each picture, and what is likely given what; per token or element.

    Attributes:
      said: the captions.
      pictures: log-likelihood of the picture under each caption and, last, under none, at S draws.
      texts: nats per token of each caption by itself, without the picture.
      stream: see `asg_jax.engine.programs.keys`.
    """

    said: Said
    pictures: Depicted
    texts: Float[Array, "B G"]
    stream: UInt32[Array, "B S"]


def describe(
    engine: Engine,
    speaker: Params,
    painter: Params,
    moment: Moment,
    how: Captioning,
    purposes: tuple[int, int],
) -> tuple[Described, list[list[str]]]:
    """Lets one role describe the pictures, and another say how likely that makes these.

    Args:
      engine: the model at work.
      speaker: who describes.
      painter: who judges.
      moment: the step, with its pictures as they are to be drawn.
      how: numbers.
      purposes: numbers that keep the random numbers of captions, and of what follows, apart.

    Returns:
      What was said and found; the captions as texts.
    """
    scribe, put, examples = engine.scribe, engine.placement.put, moment.examples
    assert moment.pixels is not None  # the method's `prepare` gives them
    told = scribe.tell([[engine.language.describe] * how.captions] * len(examples.ids))
    tokens = engine.lengths.caption
    said = engine.continue_texts(speaker, tokens, moment, told, how.temperature, purposes[0])
    texts = scribe.drawable(scribe.hear(engine.placement.get(said.rollout.texts)))
    order = scribe.order([text for row in texts for text in (*row, "")])
    group = lambda x: x.reshape(len(texts), -1, *x.shape[1:])
    stream = host(examples.stream(purposes[1]))
    batch = Depiction(moment.pixels, *put((jax.tree.map(group, order), stream)))
    pictures = engine.depict(painter, how.draws, how.shift, batch)
    alone = engine.tell(speaker, engine.blank(examples), said.texts, said.rollout.texts)
    return Described(said, pictures, alone, batch.stream), texts


def learn_captions(
    backbone: Backbone,
    settings: Any,
    slices: int,
    base: PyTree,
    state: TrainState,
    described: Described,
) -> Learned:
    """One update of the Solver.

    Args:
      backbone: static under jit.
      settings: `selection`, `solver`, `optimizer` and `shuffled` of a method; static under jit.
      slices: see `asg_jax.engine.roles.improve`; static under jit.
      base: frozen parameters.
      state: what the step began with.
      described: captions, and how likely they make the pictures.
    """
    found = estimate(described.pictures.likelihood[:, :-1])
    everyone, of_step = jnp.ones(found.mean.shape, bool), keys(described.stream, 4)[0]
    rewards = shuffle(found.mean, everyone, of_step[2]) if settings.shuffled else found.mean
    choice = settings.selection.choose(rewards, everyone)
    said = described.said if choice.places is None else described.said.pick(choice.places)
    lesson = TextLesson(said, choice.advantages, choice.kept)
    role = settings.solver, state.roles["solver"]
    improved = improve_speaker(
        backbone, base, settings.optimizer, *role, lesson, of_step[3], slices=slices
    )
    after = advance(state, {"solver": improved})
    metrics = spread("solver", found.mean, everyone) | named(improved.metrics, "solver")
    metrics |= {
        "signal/picture_likelihood": found.mean.mean(),
        "check/caption_tokens": described.said.rollout.mask.sum(-1).mean(),
        "state/skipped": after.skipped,
        **_checks(backbone, described),
    }
    return Learned(after, metrics, Earned(found.mean))


def _checks(backbone: Backbone, described: Described) -> dict[str, Array]:
    """How sure estimated likelihoods are, or how far exact ones contradict Bayes' rule, in nats.

    The two sides of a flow have no common unit: its likelihoods are estimates up to a scale.
    """
    if backbone.spec.kind == "flow":
        found = estimate(described.pictures.likelihood[:, :-1])
        return {
            "check/likelihood_variance": found.variance.mean(),
            "check/likelihood_variance_alone": found.alone.mean(),
        }
    rollout, pictures = described.said.rollout, described.pictures
    given, tokens = mean_log_prob(rollout.plain_log_probs, rollout.mask), rollout.mask.sum(-1)
    total = pictures.elements[:, None] * pictures.likelihood.mean(-1)
    parts = total[:, :-1], tokens * described.texts, tokens * given, total[:, -1:]
    return {"check/bayes_gap": bayes_gap(*parts).mean()}
