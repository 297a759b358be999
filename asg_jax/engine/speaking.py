"""Texts of a role and what they earned: one update of any role that speaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

from asg_jax.backbone import Backbone, PyTree
from asg_jax.engine.engine import Learned
from asg_jax.engine.programs import keys
from asg_jax.engine.report import shuffle, spread
from asg_jax.engine.roles import TextRole, advance, improve_speaker, named
from asg_jax.engine.state import TrainState
from asg_jax.objectives.advantages import group_advantages
from asg_jax.objectives.texts import Said, TextLesson
from asg_jax.pytree import pytree


@pytree
class Scored:
    """G samples of a role on each example, and what they earned.

    Attributes:
      said: the samples.
      rewards: one number per text.
      kept: examples that count.
      stream: see `asg_jax.engine.programs.keys`.
    """

    said: Said
    rewards: Float[Array, "B G"]
    kept: Bool[Array, " B"]
    stream: UInt32[Array, "B S"]


class Earned(NamedTuple):
    """What samples earned."""

    reward: Float[Array, "B G"]


def learn_speaker(
    backbone: Backbone,
    settings: Any,
    name: str,
    slices: int,
    base: PyTree,
    state: TrainState,
    scored: Scored,
) -> Learned:
    """One update of a role by advantages within groups.

    Args:
      backbone: static under jit.
      settings: the method's, with a field for the role; static under jit.
      name: which role learns; static under jit.
      slices: see `asg_jax.engine.roles.improve`; static under jit.
      base: frozen parameters.
      state: what the step began with.
      scored: what the role said.
    """
    rewards, of_step = scored.rewards, keys(scored.stream, 2)[0]
    kept = jnp.broadcast_to(scored.kept[:, None], rewards.shape)
    learned_from = shuffle(rewards, kept, of_step[0]) if settings.shuffled else rewards
    lesson = TextLesson(scored.said, group_advantages(learned_from, kept), kept)
    role: TextRole = getattr(settings, name)
    own = role, state.roles[name], lesson, of_step[1]
    improved = improve_speaker(backbone, base, settings.optimizer, *own, slices=slices)
    after = advance(state, {name: improved})
    metrics = spread(name, rewards, kept) | named(improved.metrics, name)
    metrics |= {"check/learned": scored.kept.mean(), "state/skipped": after.skipped}
    return Learned(after, metrics, Earned(rewards))


def best_rows(
    heads: Sequence[dict[str, Any]], texts: Sequence[Sequence[str]], judged: Any
) -> list[dict[str, Any]]:
    """The best text of each example with its reward, for people.

    Args:
      heads: what else a row says.
      texts: G of each example.
      judged: rewards, as `reward`.
    """
    best = judged.reward.argmax(1).tolist()
    rows = zip(heads, texts, judged.reward, best, strict=True)
    return [{**head, "said": row[k], "reward": float(own[k])} for head, row, own, k in rows]
