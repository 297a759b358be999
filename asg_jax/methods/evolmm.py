"""EvoLMM (arXiv 2511.16672): a Proposer asks, a Solver answers several times, nothing is drawn.

An answer earns the share of answers that agree with it, to the power of 0.7, less for many words; a
question earns most where answers are split to a certain degree. Both roles learn by REINFORCE with
a running baseline and an adaptive KL coefficient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp

from asg_jax.backbone import Backbone, PyTree
from asg_jax.engine.debate import Debate, hold_debate
from asg_jax.engine.engine import Learned
from asg_jax.engine.method import Examples, Phase
from asg_jax.engine.programs import Lengths, keys
from asg_jax.engine.recipe import Recipe, Step
from asg_jax.engine.report import shuffle, spread
from asg_jax.engine.roles import Optimizer, TextRole, advance, improve_speaker, named
from asg_jax.engine.speaking import Earned, best_rows
from asg_jax.engine.state import TrainState
from asg_jax.objectives.advantages import running_advantages
from asg_jax.objectives.texts import Reinforce, TextLesson
from asg_jax.ops.masked import masked_mean
from asg_jax.ranges import bounded
from asg_jax.signals.rewards import agreement_rewards
from asg_jax.signals.vote import gaussian, vote


def _own(role: TextRole) -> TextRole:
    """A role that learns by REINFORCE, its drift held as by the official code."""
    held = {"kl_start": 1e-3, "kl_target": 0.02, "kl_rate": 0.1, "kl_least": 1e-8}
    return replace(role, objective=Reinforce(), **held)


@dataclass(frozen=True)
class Settings:
    """Every number of the method; the defaults are the official code's.

    Attributes:
      name: how configs and the command line call the preset.
      answers: N, to the question on each picture.
      temperature: divides the logits of questions and answers, above 0.
      proposer, solver, optimizer: how the roles learn.
      proposer_every: steps of the Solver to one of the Proposer.
      lengths: room for texts.
      power, verbosity, terse: see `signals.rewards.agreement_rewards`.
      entropy, width: peak and band of the answers' entropy that a question should have, in nats.
      momentum: what the running mean of either role's rewards keeps per sample, in [0, 1).
      shuffled: rewards are dealt at random among the samples of the batch: the control.
    """

    name: Literal["evolmm"] = "evolmm"
    answers: int = bounded(5, least=2)
    temperature: float = bounded(1.0, above=0)
    proposer: TextRole = _own(TextRole(rank=16, alpha=32.0))
    solver: TextRole = _own(TextRole(rank=16, alpha=32.0))
    proposer_every: int = bounded(5, least=1)
    optimizer: Optimizer = Optimizer()
    lengths: Lengths = Lengths(question=128, answer=128)
    power: float = bounded(0.7, above=0)
    verbosity: float = bounded(0.1, least=0, most=1)
    terse: int = bounded(6, least=1)
    entropy: float = bounded(0.90, least=0)
    width: float = bounded(0.35, above=0)
    momentum: float = bounded(0.9, least=0, below=1)
    shuffled: bool = False


def fit(settings: Settings) -> Settings:
    """Both roles learn as by the official code."""
    return replace(settings, proposer=_own(settings.proposer), solver=_own(settings.solver))


class EvoLMM(Recipe):
    """Implements `asg_jax.engine.method.Method`."""

    names = ("proposer", "solver")

    def __init__(self, *args: Any, **kwargs: Any):
        """See `asg_jax.engine.method.Preset.make`."""
        super().__init__(*args, **kwargs)
        self.learning = partial(learn, self.engine.model.backbone, self.settings)

    @property
    def phases(self) -> Sequence[Phase]:
        """See `asg_jax.engine.method.Method`."""
        return (Phase("understanding", 1, "understanding"),)

    def start_memory(self) -> PyTree:
        """The baseline of either role."""
        return {name: jnp.float32(0) for name in self.names}

    def step(self, state: TrainState, examples: Examples) -> Step:
        """See `asg_jax.engine.method.Method`."""
        engine, settings = self.engine, self.settings
        proposer, solver = (engine.params(state, name) for name in self.names)
        moment, how = engine.moment(examples), (settings.answers, settings.temperature)
        debate, texts = hold_debate(engine, proposer, solver, moment, *how)
        learned = engine.learn(self.learning, state, debate)
        return self.told("understanding", learned, partial(best_rows, *texts))


def learn(
    backbone: Backbone,
    settings: Settings,
    slices: int,
    base: PyTree,
    state: TrainState,
    debate: Debate,
) -> Learned:
    """Updates as `asg_jax.engine.drawing.learn_drawing`: the Proposer's only when it is due."""
    votes, of_step = vote(debate.labels, debate.parsed[:, None]), keys(debate.stream, 4)[0]
    numbers = settings.power, settings.verbosity, settings.terse
    solver = agreement_rewards(votes.shares, debate.words, *numbers)
    asked = gaussian(votes.entropy, settings.entropy, settings.width)
    proposer = jnp.where(debate.parsed, asked, 0)[:, None]
    due = (state.step + 1) % settings.proposer_every == 0
    answered = jnp.broadcast_to(debate.parsed[:, None], solver.shape)
    parts = {
        "proposer": (debate.asked, proposer, due & jnp.ones(proposer.shape, bool)),
        "solver": (debate.answered, solver, answered),
    }
    improved, baselines, metrics = {}, {}, {}
    for n, (name, (said, rewards, kept)) in enumerate(parts.items()):
        role: Any = getattr(settings, name)
        rewards = shuffle(rewards, kept, of_step[n]) if settings.shuffled else rewards
        before = state.memory.own[name]
        advantages, after = running_advantages(before, rewards.ravel(), settings.momentum)
        baselines[name] = jnp.where(kept.any(), after, before)
        lesson = TextLesson(said, advantages.reshape(rewards.shape), kept)
        learner = partial(improve_speaker, backbone, base, settings.optimizer, role)
        improved[name] = learner(state.roles[name], lesson, of_step[n + 2], slices=slices)
        metrics |= named(improved[name].metrics, name)
        metrics |= spread(name, rewards, kept if name == "solver" else jnp.ones_like(kept))
        metrics[f"state/baseline_{name}"] = baselines[name]
    after = advance(state, improved, replace(state.memory, own=baselines))
    metrics |= {
        "signal/vote_entropy": masked_mean(votes.entropy, debate.parsed),
        "signal/majority": masked_mean(votes.fraction, debate.parsed),
        "check/parsed": debate.parsed.mean(),
        "check/answer_tokens": debate.answered.rollout.mask.sum(-1).mean(),
        "state/skipped": after.skipped,
    }
    return Learned(after, metrics, Earned(proposer))
