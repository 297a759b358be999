"""What a pre-training run is: lessons, optimizer, sizes."""

from __future__ import annotations

from dataclasses import dataclass

from asg_jax.train.data.questions import TRAINING, Usage
from asg_jax.train.data.scenes import TRAINED


@dataclass(frozen=True)
class Lane:
    """Texts that are learned together in one shape; every text belongs to one context.

    Attributes:
      tasks: of the grammar, and how often each is drawn.
      pictures: that a context shows: 0, 1 or 2.
      contexts: per step.
      texts: per context.
      length: of the padded instruction and target together, in tokens.
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
class PretrainSettings:
    """A run; the same settings give the same weights on the same machine.

    Attributes:
      size: of the network, a name of `registry.Family.small`.
      seed: of weights, scenes, lessons and noise.
      scenes: labelled scenes that there are.
      wordings: probability of each wording of a question.
      framings: probability of each instruction around a question.
      wrong: share of the answers that are wrong at random.
      habits: how often annotators follow their habits.
      prompts: pictures of a step that are learned to be drawn.
      draws: of noise for each of them, or of bits that enter flipped.
      shift: of the times of their noise (flow models), s -> shift s / (1 + (shift - 1) s): what
        stands where is decided while there is almost nothing but noise.
      unprompted: share of the pictures that are drawn without their caption.
      prompt_length: of the padded captions, in tokens.
      drawing: weight of the drawing loss.
      steps: updates of the second phase, which learns everything but the autoencoder.
      rate: its peak learning rate; matrices are orthogonalised (Muon), the rest is Adam's.
      drawing_rate: that of the parameters that only drawing uses: it learns best in small batches
        with large steps, and texts do not.
      autoencoder_steps: updates of the first phase.
      autoencoder_rate: its peak learning rate.
      autoencoder_batch: its pictures per step.
      kl: weight of the autoencoder's divergence, or of the clarity and even use of its bits.
      warmup: steps to a peak learning rate; from there it falls to 0 linearly.
      checkpoint_every: steps between checkpoints.
    """

    size: str = "bagel-tiny"
    seed: int = 0
    scenes: int = 6_000
    wordings: tuple[float, ...] = TRAINING.wordings
    framings: tuple[float, ...] = (1 / 7,) * 7
    wrong: float = 0.0
    habits: float = 0.0
    prompts: int = 32
    draws: int = 4
    shift: float = 3.0
    unprompted: float = 0.1
    prompt_length: int = 32
    drawing: float = 1.0
    steps: int = 2_000
    rate: float = 4e-3
    drawing_rate: float = 1.2e-2
    autoencoder_steps: int = 800
    autoencoder_rate: float = 4e-3
    autoencoder_batch: int = 32
    kl: float = 1e-3
    warmup: int = 40
    checkpoint_every: int = 100

    @property
    def usage(self) -> Usage:
        """The teacher's language."""
        return Usage(self.wordings, TRAINED, self.framings, self.wrong, self.habits)
