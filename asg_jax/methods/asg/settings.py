"""Every number of Ask, Solve, Generate (arXiv 2606.27376); the defaults are the paper's.

Where the paper gives no number, the default is the official release's or a plain choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from asg_jax.backbone import Sampler
from asg_jax.errors import UserError
from asg_jax.signals.fidelity import MAX_PAIRS, MIN_PAIRS

ROLES = ("proposer", "solver", "generator")
# What each kind of backbone (`Spec.kind`) can be trained by.
OBJECTIVES = {"flow": ("rwr", "nft", "flow_grpo"), "bits": ("grpo", "surrogate")}


@dataclass(frozen=True)
class Role:
    """How one role learns.

    Full fine-tuning of the adapted maps is a rank as large as the model's width: then the update of
    every map has full rank.

    Attributes:
      learning_rate: of AdamW; 0 freezes the role. It alone says how fast a role learns next to the
        others, because AdamW undoes every weight of a loss.
      modules: that are adapted, an entry of the backbone's table; None is that of the role itself.
      rank: of the low-rank updates; None keeps that of the backbone's table of modules.
      alpha: their scale is alpha / rank; None keeps that of the table.
      kl_start, kl_target, kl_rate: of the adaptive coefficient of the drift from the frozen model.
        The drift of texts is in nats per token, that of flows a mean square of velocities.
    """

    learning_rate: float = 1e-6
    modules: str | None = None
    rank: int | None = None
    alpha: float | None = None
    kl_start: float = 0.01
    kl_target: float = 0.02
    kl_rate: float = 0.10


@dataclass(frozen=True)
class Lengths:
    """The most tokens that a text of each sort may have, its stop token included."""

    question: int = 40
    answer: int = 16
    caption: int = 64
    spec: int = 160


@dataclass(frozen=True)
class Temperatures:
    """Of sampling; 0 is greedy, which is of no use for what is learned from.

    Attributes:
      question: of the Proposer's candidates.
      answer: of the Solver's answers in the vote.
      caption: of the Solver's captions of real pictures.
      spec: of the Proposer's questions on a caption.
      check: of the Solver's answers about drawn pictures.
      recaption: of the Solver's captions of drawn pictures.
    """

    question: float = 1.0
    answer: float = 1.0
    caption: float = 0.8
    spec: float = 1.0
    check: float = 1.0
    recaption: float = 0.0


@dataclass(frozen=True)
class Weights:
    """What the signals weigh in the rewards.

    Attributes:
      ste: difficulty by token entropy, in the Proposer's reward.
      consistency: of the vote, in the Proposer's reward.
      fidelity: of answers about a drawn picture, in the Generator's reward.
      cycle: agreement of prompt, drawn picture and its caption.
      diversity: what a drawn picture adds to its group.
      contradiction: plain yes against plain no; it is subtracted.
    """

    ste: float = 0.70
    consistency: float = 0.30
    fidelity: float = 0.65
    cycle: float = 0.20
    diversity: float = 0.10
    contradiction: float = 0.20


@dataclass(frozen=True)
class Settings:
    """A run of the method.

    Attributes:
      understanding_steps: per cycle; it comes first.
      generation_steps: per cycle. A two-stage run is a single cycle as long as the run.
      candidates: K, questions per picture.
      framings: N, answers per question; with more than the language has, framings come again.
      framed: each answer comes from another framing; else all come from the canonical one, and
        only the temperature tells them apart.
      images: L, drawings per prompt.
      questions: M, on a prompt.
      checks: answers to each of them about a drawing, each from another framing.
      retries: further attempts at a spec that was rejected.
      proposer, solver, generator: how the roles learn.
      lengths, temperatures, weights: of texts, sampling, rewards.
      sampler: of drawings that are learned from; the grid must give pictures that the vision tower
        reads without resizing.
      objective: of the Generator, one of OBJECTIVES for the kind of its backbone.
      update: by reward, or `sft`: imitation of the majority's answers, the best question and the
        best drawing.
      least_majority: share of the answers that a majority needs for the Solver to learn from them;
        what narrower ones say is little better than chance.
      balanced: answers of yes, and all others to such questions, are compared among themselves by
        the Solver's update; else the more frequent one grows for being frequent.
      advantages: what the centred rewards of drawings are divided by: the deviation in their own
        `group`, or that in all groups of the `batch`, so that groups of equals count for little.
      draws: pairs of time and noise per drawing at which flow objectives compare velocities.
      rwr_temperature: of the weights of `rwr`.
      anchor_decay: of the older policy in `nft`, per update.
      clip: of the ratio in GRPO.
      kl: whether drift from the frozen model is penalised; it is measured in any case.
      average_decay: of the averaged factors that are evaluated, per update.
      clip_norm: of the gradient.
      weight_decay: of AdamW.
      warmup: updates over which the learning rate grows to its value.
      window: recent token entropies that rank a new one; None is the larger of 128 and those of
        eight steps.
      ste_tokens: first tokens of an answer whose entropy counts.
      ste_aggregation: over them.
      judge: who captions the pictures to draw, answers the questions on them and looks at the
        drawings: the `live` Solver, or the `frozen` model, whose answers no training makes surer
        than they are right.
      fidelity: of a drawing's answers: `vote` compares texts, `probability` is that of the
        reference answer.
      image_similarity: of drawing and prompt: `cosine` of embeddings, or `likelihood` of the
        prompt as the drawing's caption.
      shuffled: rewards are dealt at random among the samples of the batch: the control.
      kept_reward: least reward of a drawing that is worth keeping.
    """

    understanding_steps: int = 3
    generation_steps: int = 2
    candidates: int = 3
    framings: int = 7
    framed: bool = True
    images: int = 3
    questions: int = 3
    checks: int = 3
    retries: int = 2
    proposer: Role = Role()
    solver: Role = Role()
    generator: Role = Role()
    lengths: Lengths = Lengths()
    temperatures: Temperatures = Temperatures()
    weights: Weights = Weights()
    sampler: Sampler = Sampler(grid=(28, 28), steps=25, guidance=1.0)
    objective: Literal["rwr", "nft", "flow_grpo", "grpo", "surrogate"] = "rwr"
    update: Literal["reward", "sft"] = "reward"
    least_majority: float = 0.0
    balanced: bool = False
    advantages: Literal["group", "batch"] = "group"
    draws: int = 1
    rwr_temperature: float = 1.0
    anchor_decay: float = 0.9
    clip: float = 0.2
    kl: bool = True
    average_decay: float = 0.96
    clip_norm: float = 1.0
    weight_decay: float = 0.01
    warmup: int = 0
    window: int | None = None
    ste_tokens: int = 5
    ste_aggregation: Literal["max", "mean"] = "max"
    judge: Literal["live", "frozen"] = "live"
    fidelity: Literal["vote", "probability"] = "vote"
    image_similarity: Literal["cosine", "likelihood"] = "cosine"
    shuffled: bool = False
    kept_reward: float = 0.5

    def role(self, name: str) -> Role:
        """How the role of that name learns."""
        return {"proposer": self.proposer, "solver": self.solver, "generator": self.generator}[name]


# The paper's ablations and our control: the settings that each of them changes.
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "understanding_only": {"generation_steps": 0},
    "generation_only": {"understanding_steps": 0},
    "no_ste": {"weights.ste": 0.0},
    "no_self_consistency": {"weights.consistency": 0.0},
    "mean_ste": {"ste_aggregation": "mean"},
    "temperature_for_framings": {"framed": False},
    "no_fidelity": {"weights.fidelity": 0.0},
    "no_cycle": {"weights.cycle": 0.0},
    "sft": {"update": "sft"},
    "frozen_proposer": {"proposer.learning_rate": 0.0},
    "no_kl": {"kl": False},
    "shuffled_rewards": {"shuffled": True},
}


def ablation(settings: Settings, name: str) -> Settings:
    """The settings of one of the ABLATIONS.

    Raises:
      UserError: there is none of that name.
    """
    if name not in ABLATIONS:
        raise UserError(f"there is no ablation '{name}'; known are {', '.join(ABLATIONS)}.")
    for path, value in ABLATIONS[name].items():
        settings = _changed(settings, path, value)
    return settings


def _changed(node: Any, path: str, value: Any) -> Any:
    """A dataclass with another value at a dotted path."""
    head, _, rest = path.partition(".")
    return replace(node, **{head: _changed(getattr(node, head), rest, value) if rest else value})


def check(settings: Settings, kind: str) -> None:
    """Makes sure that settings fit each other and the kind of backbone.

    Raises:
      UserError: they do not.
    """
    known = OBJECTIVES[kind]
    if settings.objective not in known:
        raise UserError(
            f"objective '{settings.objective}' does not train a backbone of kind '{kind}'; "
            f"choose one of: {', '.join(known)}."
        )
    for name in ("question", "answer"):
        if getattr(settings.temperatures, name) <= 0:
            raise UserError(
                f"temperatures.{name} must be above 0: greedy texts have no policy to learn from."
            )
    sampler = settings.sampler
    if settings.objective == "flow_grpo" and (sampler.noise_level <= 0 or sampler.guidance > 1):
        raise UserError(
            "flow_grpo learns from a stochastic sampler without guidance; set "
            "sampler.noise_level above 0 and sampler.guidance to 1."
        )
    plain = sampler.guidance <= 1 and sampler.temperature == 1 and sampler.top_p >= 1
    if kind == "bits" and not plain:
        raise UserError(
            "bits are learned from under the distribution that they were drawn from; set "
            "sampler.guidance, sampler.temperature and sampler.top_p to 1."
        )
    _check_counts(settings)


def _check_counts(settings: Settings) -> None:
    for name in ("candidates", "framings", "images", "checks", "draws"):
        if getattr(settings, name) < 1:
            raise UserError(f"{name} is {getattr(settings, name)}; it must be at least 1.")
    if not MIN_PAIRS <= settings.questions <= MAX_PAIRS:
        raise UserError(
            f"questions is {settings.questions}; it must be from {MIN_PAIRS} to {MAX_PAIRS}."
        )
    if settings.understanding_steps + settings.generation_steps < 1:
        raise UserError(
            "a cycle needs a step; set understanding_steps or generation_steps above 0."
        )
