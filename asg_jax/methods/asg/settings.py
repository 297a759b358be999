"""Every number of Ask, Solve, Generate (arXiv 2606.27376); the defaults are the paper's.

Where the paper gives no number, the default is the official release's or a plain choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from asg_jax import ranges
from asg_jax.backbone import Sampler
from asg_jax.engine.engine import JudgeKind
from asg_jax.engine.method import Ablation
from asg_jax.engine.programs import Lengths
from asg_jax.engine.roles import DrawingRole, Optimizer, Role, TextRole
from asg_jax.errors import UserError
from asg_jax.objectives.drawings import DrawingImitation, fault
from asg_jax.objectives.texts import Imitation, Reinforce
from asg_jax.pytree import pytree
from asg_jax.ranges import bounded
from asg_jax.signals.difficulty import Difficulty
from asg_jax.signals.fidelity import SpecGate
from asg_jax.signals.rewards import AnswerReward, Penalties
from asg_jax.signals.table import (
    DRAWINGS,
    QUESTIONS,
    Drawn,
    Numbers,
    check_weights,
    weights_of,
)


@dataclass(frozen=True)
class Temperatures:
    """Temperatures of sampling; 0 is greedy, which has no policy to learn from.

    Attributes:
      question: Proposer's candidates.
      answer: Solver's answers in the vote.
      caption: captions of real pictures.
      spec: Proposer's questions on a caption.
      check: answers about drawn pictures.
      recaption: captions of drawn pictures.
    """

    question: float = bounded(1.0, above=0)
    answer: float = bounded(1.0, above=0)
    caption: float = bounded(0.8, least=0)
    spec: float = bounded(1.0, least=0)
    check: float = bounded(1.0, least=0)
    recaption: float = bounded(0.0, least=0)


@dataclass(frozen=True)
class Settings:
    """A run of the method.

    Attributes:
      name: the preset's.
      understanding_steps: how many a cycle begins with.
      generation_steps: how many follow. A two-stage run is a single cycle as long as the run.
      candidates: K, questions per picture.
      framings: N, answers per question; with more than the language has, framings come again.
      framed: each answer comes from another framing; else all come from the canonical one, and
        only the temperature tells them apart.
      images: L, drawings per prompt.
      questions: M, on a prompt.
      checks: answers to each of them about a drawing, each from another framing.
      retries: further attempts at a spec, of which the first fit one counts.
      proposer, solver, generator: how the roles learn.
      optimizer: what their updates share.
      adapter_dropout: share of the inputs of every adapted map that its update ignores while it
        learns; the paper has 0.05.
      lengths: room for texts.
      temperatures: one for each kind of text.
      sampler: makes the drawings that are learned from; the grid must give pictures that the vision
        tower reads without resizing.
      question_weights: reward of a question, by signal.
      weights: reward of a drawing, by signal; the spec's quality multiplies it.
      numbers: thresholds of the signals.
      difficulty: how token entropies become a difficulty.
      penalties: costs of a question's faults.
      answers: what an answer earns in a vote.
      gate: when a spec is fit.
      least_majority: share of the answers that a majority needs for the Solver to learn from them;
        what narrower ones say is little better than chance.
      least_vote_gain: running gain of the votes (`asg_jax.signals.vote.vote_gain`) below which the
        Solver learns nothing, because its greedy answers are as good; -1 as in the paper, always
        learns.
      balanced: answers of yes, and all others to such questions, are compared among themselves by
        the Solver's update; else the more frequent one grows for being frequent.
      baseline_momentum: how much a step keeps of the running mean of the Solver's rewards.
      advantages: what the centred rewards of drawings are divided by: the deviation in their own
        `group`, or that in all groups of the `batch`, so that groups of equals count for little.
      judge: who captions the pictures to draw, answers the questions on them and looks at the
        drawings: the `live` Solver, its average (`ema`), or the `frozen` model, whose answers no
        training makes surer than they are right.
      shuffled: rewards are dealt at random among the samples of the batch: the control.
      kept_reward: least reward of a drawing that is worth keeping for replay.
    """

    name: Literal["asg"] = "asg"
    understanding_steps: int = bounded(3, least=0)
    generation_steps: int = bounded(2, least=0)
    candidates: int = bounded(3, least=1)
    framings: int = bounded(7, least=1)
    framed: bool = True
    images: int = bounded(3, least=1)
    questions: int = 3
    checks: int = bounded(3, least=1)
    retries: int = bounded(2, least=0)
    proposer: TextRole = TextRole()
    solver: TextRole = TextRole(objective=Reinforce())
    generator: DrawingRole = DrawingRole()
    optimizer: Optimizer = Optimizer()
    adapter_dropout: float = bounded(0.0, least=0, below=1)
    lengths: Lengths = Lengths()
    temperatures: Temperatures = Temperatures()
    sampler: Sampler = Sampler(grid=(28, 28), steps=25, guidance=1.0)
    question_weights: Mapping[str, float] = field(
        default_factory=lambda: weights_of(QUESTIONS, difficulty=0.70, consistency=0.30)
    )
    weights: Mapping[str, float] = field(
        default_factory=lambda: weights_of(
            DRAWINGS, vote_fidelity=0.65, cosine_cycle=0.20, diversity=0.10, contradiction=-0.20
        )
    )
    numbers: Numbers = Numbers()
    difficulty: Difficulty = Difficulty()
    penalties: Penalties = Penalties()
    answers: AnswerReward = AnswerReward()
    gate: SpecGate = SpecGate()
    least_majority: float = bounded(0.0, least=0, most=1)
    least_vote_gain: float = bounded(-1.0, least=-1, most=1)
    balanced: bool = False
    baseline_momentum: float = bounded(0.6, least=0, most=1)
    advantages: Literal["group", "batch"] = "group"
    judge: JudgeKind = "live"
    shuffled: bool = False
    kept_reward: float = 0.5

    @property
    def roles(self) -> dict[str, Role]:
        """How every role learns, by its name."""
        return {"proposer": self.proposer, "solver": self.solver, "generator": self.generator}


@pytree
class Memory:
    """The running numbers of the method.

    Attributes:
      baseline: moving average of the Solver's reward.
      entropy_target: moving target of the vote entropy, in nats.
      window: recent token entropies, in nats (`signals.difficulty.empty_window`).
      vote_gain: moving average of the votes' gain, from 0 on.
      anchor: factors of an older Generator, for objectives that need it; else None.
    """

    baseline: Any
    entropy_target: Any
    window: Any
    vote_gain: Any
    anchor: Any


def two_stage(settings: Settings, steps: int) -> Settings:
    """All understanding steps of a run first, then all generation steps."""
    cycle = settings.understanding_steps + settings.generation_steps
    first = steps * settings.understanding_steps // cycle
    return replace(settings, understanding_steps=first, generation_steps=steps - first)


# Its questions have answers of their own, so that it takes no prompt apart into others.
FOUND = {field.name for field in fields(Drawn)} - {"answers"}

# The paper's ablations and our control: the settings that each of them changes.
ABLATIONS: Mapping[str, Ablation] = {
    "understanding_only": {"generation_steps": 0},
    "generation_only": {"understanding_steps": 0},
    "no_ste": {"question_weights.difficulty": 0.0},
    "no_self_consistency": {"question_weights.consistency": 0.0},
    "mean_ste": {"difficulty.aggregation": "mean"},
    "temperature_for_framings": {"framed": False},
    "no_fidelity": {"weights.vote_fidelity": 0.0, "weights.probability_fidelity": 0.0},
    "no_cycle": {"weights.cosine_cycle": 0.0, "weights.likelihood_cycle": 0.0},
    "sft": {
        "proposer.objective": Imitation(),
        "solver.objective": Imitation(),
        "generator.objective": DrawingImitation(),
    },
    "frozen_proposer": {"proposer.learning_rate": 0.0},
    "no_kl": {"optimizer.kl": False},
    "shuffled_rewards": {"shuffled": True},
    "two_stage": two_stage,
}


def check(settings: Settings, kind: str) -> None:
    """Makes sure that settings are in their ranges and fit each other and the kind of backbone.

    Raises:
      UserError: they do not.
    """
    ranges.check(settings, "config.method")
    if wrong := fault(settings.generator.objective, kind, settings.sampler):
        raise UserError(f"{wrong}.")
    check_weights("question_weights", QUESTIONS, settings.question_weights)
    check_weights("weights", DRAWINGS, settings.weights, FOUND)
    least, most = settings.gate.pairs
    if not least <= settings.questions <= most:
        raise UserError(f"questions is {settings.questions}; it must be from {least} to {most}.")
    if settings.understanding_steps + settings.generation_steps < 1:
        raise UserError(
            "a cycle needs a step; set understanding_steps or generation_steps above 0."
        )
