"""What an evaluation asks and draws, and how."""

from __future__ import annotations

from dataclasses import dataclass, fields

from asg_jax.backbone import Sampler, Spec
from asg_jax.errors import UserError
from asg_jax.train.data.scenes import CANVAS


@dataclass(frozen=True)
class EvalSettings:
    """The `eval` section of a config.

    Attributes:
      seed: of the scenes, questions and prompts, of everything sampled, and of the resamples.
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
      temperature: of the distributions of bits (next-scale models).
      top_p: a bit's rarer value is never drawn if it is no likelier than 1 - top_p; 1 is off.
      steps: of the flow sampler (flow models), as the rest.
      shift: of the flow's times.
      interval: guidance acts at times lo < t <= hi.
      renorm_min: lower clip of the rescaling of guided velocities; 1 turns it off.
    """

    seed: int = 0
    questions: int = 3200
    per_picture: int = 4
    votes: int = 7
    pictures_per_batch: int = 20
    prompts: int = 900
    best_of: int = 8
    best_of_prompts: int = 300
    prompts_per_batch: int = 60
    guidance: float = 2.5
    temperature: float = 1.0
    top_p: float = 1.0
    steps: int = 16
    shift: float = 3.0
    interval: tuple[float, float] = (0.0, 1.0)
    renorm_min: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), int(field.name != "seed")
            if field.type == "int" and value < least:
                raise UserError(
                    f"config.eval.{field.name} is {value}; it must be at least {least}."
                )
        if self.per_picture > 6:  # kinds that suit every scene
            raise UserError(f"config.eval.per_picture is {self.per_picture}; it can be at most 6.")
        if self.questions % self.per_picture:
            raise UserError(
                f"config.eval.questions is {self.questions}; it must be a multiple of "
                f"config.eval.per_picture, which is {self.per_picture}."
            )

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
