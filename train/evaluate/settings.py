"""What an evaluation asks and draws, and how."""

from __future__ import annotations

from dataclasses import dataclass

from asg_jax.backbone import Sampler, Spec
from asg_jax.errors import UserError
from asg_jax.ranges import SEED, bounded, check
from asg_jax.train.data.scenes import CANVAS


@dataclass(frozen=True)
class EvalSettings:
    """The `eval` section of a config.

    Attributes:
      seed: gives the scenes, questions and prompts, everything sampled, and the resamples.
      questions: how many; a multiple of `per_picture`.
      per_picture: questions about one picture, at most 6.
      votes: answers at T = 1 to each question: all of them are scored, and what most of them say
        shows the headroom.
      pictures_per_batch: pictures whose questions are answered together.
      prompts: pictures that are asked for.
      best_of: pictures of a prompt of which the best counts, for the headroom.
      best_of_prompts: how many of the prompts are drawn so often, the first ones.
      prompts_per_batch: pictures that are drawn together.
      guidance: scale of the text guidance; 1 turns it off.
      temperature: softens the distributions of bits (next-scale models).
      top_p: a bit's rarer value is never drawn if it is no likelier than 1 - top_p; 1 is off.
      steps: how many the flow sampler takes (flow models), as the rest.
      shift: moves the flow's times towards noise (above 1).
      interval: guidance acts at times lo < t <= hi.
      renorm_min: lower clip of the rescaling of guided velocities; 1 turns it off.
    """

    seed: int = bounded(0, SEED)
    questions: int = bounded(3200, least=1)
    per_picture: int = bounded(4, least=1, most=6)
    votes: int = bounded(7, least=1)
    pictures_per_batch: int = bounded(20, least=1)
    prompts: int = bounded(900, least=1)
    best_of: int = bounded(8, least=1)
    best_of_prompts: int = bounded(300, least=1)
    prompts_per_batch: int = bounded(60, least=1)
    guidance: float = bounded(2.5, least=0)
    temperature: float = bounded(1.0, above=0)
    top_p: float = bounded(1.0, above=0, most=1)
    steps: int = bounded(16, least=1)
    shift: float = bounded(3.0, above=0)
    interval: tuple[float, float] = bounded((0.0, 1.0), least=0, most=1)
    renorm_min: float = bounded(1.0, least=0, most=1)

    def __post_init__(self) -> None:
        more = []
        if self.per_picture > 0 and self.questions % self.per_picture:
            more.append(
                f"config.eval.questions is {self.questions}; it must be a multiple of "
                f"config.eval.per_picture, which is {self.per_picture}."
            )
        if self.interval[0] >= self.interval[1]:
            more.append(f"config.eval.interval is {self.interval}; it must rise.")
        check(self, "config.eval", more)

    def sampler(self, spec: Spec) -> Sampler:
        """Settings of image sampling for pictures of the size of a scene.

        Raises:
          UserError: the model cannot draw such pictures.
        """
        side = CANVAS // spec.token_pixels
        if side * spec.token_pixels != CANVAS or not spec.draws((side, side)):
            raise UserError(
                f"the model cannot draw pictures of {CANVAS} x {CANVAS} pixels, which the judge "
                "reads; take one that was trained on rendered scenes."
            )
        return Sampler(
            grid=(side, side),
            steps=self.steps,
            shift=self.shift,
            guidance=self.guidance,
            temperature=self.temperature,
            top_p=self.top_p,
            renorm_min=self.renorm_min,
            interval=self.interval,
        )
