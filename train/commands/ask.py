"""Answer a question about a picture, with the vote over framings and the token entropy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from asg_jax.answers import normalize_answer
from asg_jax.models.pictures import open_picture
from asg_jax.prompts import LANGUAGES
from asg_jax.train.asking import ask
from asg_jax.train.evolve.learned import open_roles
from asg_jax.train.flags import parse

USAGE = 'usage: asg-jax ask --model=MODEL --image=FILE "question"'

ENTROPY_TOKENS = 5  # the first answer tokens, whose largest entropy counts


def define() -> flags.FlagValues:
    """The command's flags."""
    f = flags.FlagValues()
    flags.DEFINE_string("model", None, "Checkpoint, shipped model or run.", f, required=True)
    flags.DEFINE_string("image", None, "Picture file.", f, required=True)
    flags.DEFINE_integer("max_tokens", 64, "Longest answer.", lower_bound=1, flag_values=f)
    flags.DEFINE_float(
        "temperature", 0.0, "Of the framings' answers; 0 is greedy.", lower_bound=0, flag_values=f
    )
    known = sorted(LANGUAGES)
    flags.DEFINE_enum("language", "english", known, "Of the framings; tiny models: scenes.", f)
    flags.DEFINE_integer("seed", 0, "Random seed.", flag_values=f)
    return f


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    f = define()
    words = parse(f, argv, USAGE, words=1)
    if words is None:
        return
    picture = open_picture(Path(f.image))
    model, roles = open_roles(f.model)
    framed = LANGUAGES[f.language].frame(words[0])
    heat = [0.0, *[f.temperature] * len(framed)]
    spoken, rollout = ask(
        model,
        picture,
        [words[0], *framed],
        heat,
        params=roles["solver"],
        max_tokens=f.max_tokens,
        seed=f.seed,
    )
    print(f"answer   {spoken[0]}")
    print(f"vote     {vote_line([normalize_answer(text) for text in spoken[1:]])}")
    print(f"entropy  {rollout.entropies[0, 0, :ENTROPY_TOKENS].max():.3f} nats at most, per token")


def vote_line(labels: Sequence[str]) -> str:
    """The answers with their votes, most frequent first."""
    return ", ".join(f"{label or '(nothing)'} {n}" for label, n in Counter(labels).most_common())
