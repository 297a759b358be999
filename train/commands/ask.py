"""Answer a question about a picture, with the vote over framings and the token entropy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from absl import flags

from asg_jax.answers import normalize_answer
from asg_jax.models.pictures import open_picture
from asg_jax.prompts import LANGUAGES
from asg_jax.ranges import SEED
from asg_jax.train.asking import ask
from asg_jax.train.evolve.learned import open_roles
from asg_jax.train.flags import number, parse
from asg_jax.train.words import warn_of_unlearned

USAGE = 'usage: asg-jax ask --model=MODEL --image=FILE "question"'

ENTROPY_TOKENS = 5  # the first answer tokens, whose largest entropy counts


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
    model, roles = open_roles(f.model)
    warn_of_unlearned(model.processor, words[0])
    framed = LANGUAGES[f.language or model.language].frame(words[0])
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
