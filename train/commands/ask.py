"""Answer a question about a picture, with the vote over framings and the token entropy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Array
from PIL.Image import Image as Picture

from asg_jax.answers import normalize_answer
from asg_jax.backbone import Backbone, Params, Request, encode
from asg_jax.models.pictures import bucket, open_picture
from asg_jax.models.registry import Model, open_model
from asg_jax.prompts import LANGUAGES
from asg_jax.rollout.text import TextRollout, TextSampler, sample_text
from asg_jax.train.flags import parse

USAGE = 'usage: asg-jax ask --model=MODEL --image=FILE "question"'

ENTROPY_TOKENS = 5  # the first answer tokens, whose largest entropy counts


def define() -> flags.FlagValues:
    """The command's flags."""
    f = flags.FlagValues()
    flags.DEFINE_string("model", None, "Checkpoint folder or shipped model.", f, required=True)
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
    model = open_model(f.model)
    texts = [words[0], *LANGUAGES[f.language].frame(words[0])]
    rollout = jax.tree.map(np.asarray, answers(f, model, picture, texts))
    spoken = [
        model.processor.text(ids[mask].tolist())
        for ids, mask in zip(rollout.ids[0], rollout.mask[0], strict=True)
    ]
    print(f"answer   {spoken[0].strip()}")
    print(f"vote     {vote_line([normalize_answer(text) for text in spoken[1:]])}")
    print(f"entropy  {rollout.entropies[0, 0, :ENTROPY_TOKENS].max():.3f} nats at most, per token")


def vote_line(labels: Sequence[str]) -> str:
    """The answers with their votes, most frequent first."""
    return ", ".join(f"{label or '(nothing)'} {n}" for label, n in Counter(labels).most_common())


def answers(
    f: flags.FlagValues, model: Model, picture: Picture, texts: Sequence[str]
) -> TextRollout:
    """One answer to each text about one picture; the first is greedy."""
    request = model.processor.prompt([[picture]], "ask")
    ids = [model.processor.question(text) for text in texts]
    length = bucket(max(map(len, ids)))
    rows = np.zeros((1, len(ids), length), np.int32)
    for row, question in zip(rows[0], ids, strict=True):
        row[: len(question)] = question
    mask = np.arange(length) < np.array([len(question) for question in ids])[None, :, None]
    keys = jax.random.split(jax.random.key(f.seed), (1, len(ids)))
    sampler = TextSampler(
        temperature=jnp.full((1, len(ids)), f.temperature).at[:, 0].set(0),
        max_tokens=f.max_tokens,
        stop_ids=model.processor.stop_ids,
    )
    return answer(model.backbone, Params(model.base), request, rows, mask, keys, sampler)


@partial(jax.jit, static_argnames="backbone")
def answer(
    backbone: Backbone,
    params: Params,
    request: Request,
    ids: Array,
    mask: Array,
    keys: Array,
    sampler: TextSampler,
) -> TextRollout:
    """Encodes and prefills the pictures once, and continues every text on that prefix."""
    prefix = backbone.prefill(params, encode(backbone, params, request).main)
    return sample_text(backbone, params, prefix, ids, mask, keys, sampler)
