"""Answer a question about a picture, with the vote over framings and the token entropy."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from asg_jax.models.pictures import open_picture
from asg_jax.prompts import LANGUAGES
from asg_jax.ranges import SEED
from asg_jax.train.flags import number, parse
from asg_jax.train.opened import open_model
from asg_jax.train.words import warn_of_unlearned

USAGE = 'usage: asg-jax ask --model=MODEL --image=FILE "question"'


def define() -> flags.FlagValues:
    """The command's flags."""
    f = flags.FlagValues()
    flags.DEFINE_string("model", None, "Checkpoint, shipped model or run.", f, required=True)
    flags.DEFINE_string("image", None, "Picture file.", f, required=True)
    number(f, "max_tokens", 64, "Longest answer.", least=1, most=65536)
    number(f, "temperature", 0.0, "Of the framings' answers; 0 is greedy.", float, least=0)
    known = sorted(LANGUAGES)
    flags.DEFINE_enum("language", None, known, "Of the framings; the model's own by default.", f)
    number(f, "seed", 0, "Random seed.", within=SEED)
    return f


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    f = define()
    words = parse(f, argv, USAGE, words=1)
    if words is None:
        return
    picture = open_picture(f.image)
    model = open_model(f.model)
    warn_of_unlearned(model.processor, words[0])
    answer = model.ask(
        picture,
        words[0],
        language=f.language,
        temperature=f.temperature,
        max_tokens=f.max_tokens,
        seed=f.seed,
    )
    votes = [f"{label or '(nothing)'} {n}" for label, n in answer.votes.items()]
    print(f"answer   {answer.text}")
    print(f"vote     {', '.join(votes)}")
    print(f"entropy  {answer.entropy:.3f} nats at most, per token")
