"""What a pre-training run is: lessons, optimizer, sizes."""

from __future__ import annotations

from dataclasses import dataclass

from asg_jax.prompts.scenes import FRAMINGS
from asg_jax.ranges import SEED, bounded, check
from asg_jax.train.data.questions import TRAINING, Usage
from asg_jax.train.data.scenes import TRAINED


@dataclass(frozen=True)
class Lane:
    """Texts that are learned together in one shape; every text belongs to one context.

    Attributes:
      tasks: how often each of the grammar's is drawn.
      pictures: how many a context shows: 0, 1 or 2.
      contexts: how many a step has.
      texts: how many each context has.
      length: the padded instruction and target together, in tokens.
    """

    tasks: tuple[tuple[str, float], ...]
    pictures: int
    contexts: int
    texts: int
    length: int


LANES = (
    Lane((("answer", 8.0), ("ask", 1.0)), pictures=1, contexts=16, texts=8, length=24),
    Lane((("caption", 1.0), ("match", 1.0)), pictures=1, contexts=8, texts=3, length=40),
    Lane((("spec", 1.0), ("decompose", 2.0)), pictures=1, contexts=4, texts=1, length=104),
    Lane((("write", 1.0), ("rewrite", 1.0), ("decompose", 1.0)), 0, 2, texts=1, length=104),
    Lane((("compare", 1.0),), pictures=2, contexts=2, texts=1, length=40),
)


@dataclass(frozen=True)
class Course:
    """How a stage learns from pictures.

    Attributes:
      steps: updates.
      rate: peak learning rate.
      batch: pictures per step.
      strength: factor of the regularisation: the weight of an autoencoder's divergence, or of the
        clarity and even use of its bits; the standard deviation of the noise through which an
        encoder's features are read, or the largest of that which a decoder finds in them.
    """

    steps: int = bounded(800, least=1)
    rate: float = bounded(4e-3, least=0)
    batch: int = bounded(32, least=1)
    strength: float = bounded(1e-3, least=0)


@dataclass(frozen=True)
class PretrainSettings:
    """A run; the same settings give the same weights on the same machine.

    Attributes:
      size: the network's, a name of `registry.Family.small`.
      seed: gives weights, scenes, lessons and noise.
      scenes: labelled scenes that there are.
      wordings: probability of each wording of a question.
      framings: probability of each instruction around a question.
      wrong: share of the answers that are wrong at random.
      habits: how often annotators follow their habits.
      prompts: pictures of a step that are learned to be drawn.
      draws: how many times each is noised, or its bits enter flipped.
      shift: moves the times of their noise (flow models), s -> shift s / (1 + (shift - 1) s): what
        stands where is decided while there is almost nothing but noise.
      unprompted: share of the pictures that are drawn without their caption.
      prompt_length: the padded captions, in tokens.
      drawing: weight of the drawing loss.
      steps: updates of the last phase, which learns everything but the parts of the stages.
      rate: its peak learning rate; matrices are orthogonalised (Muon), the rest is Adam's.
      drawing_rate: peak learning rate of the parameters that only drawing uses: it learns best in
        small batches with large steps, and texts do not.
      autoencoder: the stage that learns targets and the way back to pictures.
      encoder: the stage that learns features to be drawn, where the network draws features.
      decoder: the stage that learns the way back from these to what the autoencoder knows.
      warmup: steps to a peak learning rate; from there it falls to 0 linearly.
      checkpoint_every: steps between checkpoints.
    """

    size: str = "bagel-tiny"
    seed: int = bounded(0, SEED)
    scenes: int = bounded(6_000, least=1)
    wordings: tuple[float, ...] = bounded(TRAINING.wordings, least=0, most=1)
    framings: tuple[float, ...] = bounded((1 / 7,) * 7, least=0, most=1)
    wrong: float = bounded(0.0, least=0, most=1)
    habits: float = bounded(0.0, least=0, most=1)
    prompts: int = bounded(32, least=1)
    draws: int = bounded(4, least=1)
    shift: float = bounded(3.0, above=0)
    unprompted: float = bounded(0.1, least=0, most=1)
    prompt_length: int = bounded(32, least=1)
    drawing: float = bounded(1.0, least=0)
    steps: int = bounded(2_000, least=1)
    rate: float = bounded(4e-3, least=0)
    drawing_rate: float = bounded(1.2e-2, least=0)
    autoencoder: Course = Course()
    encoder: Course = Course(batch=64, strength=0.5)
    decoder: Course = Course(strength=0.3)
    warmup: int = bounded(40, least=0)
    checkpoint_every: int = bounded(100, least=1)

    def __post_init__(self) -> None:
        more = []
        for name, count in (("wordings", len(TRAINING.wordings)), ("framings", len(FRAMINGS))):
            shares = getattr(self, name)
            if len(shares) != count or abs(sum(shares) - 1) > 1e-8:
                more.append(f"config.{name} is {shares}; it must be {count} shares of 1.")
        if sum(share > 0 for share in self.wordings) < 2:
            more.append("config.wordings needs two wordings that occur: texts are reworded.")
        courses = self.autoencoder, self.encoder, self.decoder
        if self.warmup >= min(self.steps, *(course.steps for course in courses)):
            more.append(f"config.warmup is {self.warmup}; it must be below the steps of a phase.")
        check(self, "config", more)

    @property
    def usage(self) -> Usage:
        """The teacher's language."""
        return Usage(self.wordings, TRAINED, self.framings, self.wrong, self.habits)
