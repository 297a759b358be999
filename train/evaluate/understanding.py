"""The judge of answers: what a model says to questions about pictures, against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from asg_jax.answers import normalize_answer
from asg_jax.backbone import Backbone, Params, Processor, Request, encode, host
from asg_jax.models.pictures import bucket, to_picture
from asg_jax.models.registry import Model
from asg_jax.prompts import SCENES
from asg_jax.rollout.text import TextSampler, sample_text
from asg_jax.train.data.questions import OPTIONS
from asg_jax.train.evaluate.batches import in_batches, item_keys
from asg_jax.train.evaluate.outcomes import Outcomes
from asg_jax.train.evaluate.questions import STREAM, QuestionItem, QuestionSet, question_set
from asg_jax.train.evaluate.settings import EvalSettings

# Measures: the greedy answer to the plain question, several at T = 1, the most frequent greedy one
# over all framings, the most frequent of those at T = 1. The last two show what a model could gain
# by agreeing with itself.
GREEDY, SAMPLED, ENSEMBLE, VOTE = "greedy", "sampled", "ensemble", "vote"


class QuestionAnswers(NamedTuple):
    """What was said to one question.

    Attributes:
      samples: answers at T = 1 to the question in its canonical framing; at least one.
      framings: greedy answers to the question in its framings, the canonical one first.
    """

    samples: Sequence[str]
    framings: Sequence[str]


class AskingRows(NamedTuple):
    """Pictures, and texts about each of them; the arrays of a `QuestionSet`."""

    request: Request
    ids: Int[np.ndarray, "B G T"]
    mask: Bool[np.ndarray, "B G T"]
    keys: Key[Array, "B G"]


def judge_understanding(
    model: Model, params: Params, settings: EvalSettings, headroom: bool
) -> Outcomes:
    """Asks the solver the questions of a seed.

    Args:
      model: backbone and processor; its own parameters are not used.
      params: the solver's.
      settings: the evaluation's.
      headroom: measure framings and votes as well; the other measures are the same without.
    """
    asked = question_set(settings.seed, settings.questions, settings.per_picture)
    answers = answer_all(model, params, asked, settings, headroom)
    return judge_answers(asked.items, answers, settings.seed)


def judge_answers(
    items: Sequence[QuestionItem], answers: Sequence[QuestionAnswers], seed: int
) -> Outcomes:
    """Compares answers with the truth; an answer is parsable if its question allows it.

    Args:
      items: what was asked.
      answers: one list for each question.
      seed: gives the question set.
    """
    spoken = [_measures(given) for given in answers]
    pairs = list(zip(items, spoken, strict=True))
    outputs = lambda verdict: {
        m: np.array([[verdict(x, item) for x in said[m]] for item, said in pairs]).T
        for m in spoken[0]
    }
    return Outcomes(
        seed=seed,
        clusters=np.array([item.picture for item in items]),
        labels={
            "kind": tuple(item.question.kind for item in items),
            "wording": tuple("unseen" if item.unseen else "seen" for item in items),
            "combination": tuple("held out" if item.held_out else "trained" for item in items),
        },
        right=outputs(lambda answer, item: answer == item.truth),
        clear=outputs(lambda answer, item: answer in item.question.options),
    )


def _measures(given: QuestionAnswers) -> dict[str, list[str]]:
    """The normalised answers that count for every measure."""
    samples, framings = (list(map(normalize_answer, texts)) for texts in given)
    measures = {GREEDY: framings[:1], SAMPLED: samples}
    if len(framings) == 1:
        return measures
    return measures | {ENSEMBLE: [most_frequent(framings)], VOTE: [most_frequent(samples)]}


def most_frequent(answers: Sequence[str]) -> str:
    """The modal answer; among equally frequent ones that which was given first."""
    return max(answers, key=list(answers).count)


def answer_all(
    model: Model,
    params: Params,
    asked: QuestionSet,
    settings: EvalSettings,
    framed: bool,
) -> list[QuestionAnswers]:
    """The answers to every question of a set; one prefix of a picture serves all its texts.

    Args:
      model: backbone and processor.
      params: the solver's.
      asked: the questions.
      settings: seed, batch size and answers at T = 1 to each question.
      framed: put each question in all its framings; else in the canonical one only.
    """
    votes = settings.votes
    framings = [SCENES.frame(str(item.question)) for item in asked.items]
    texts = [[forms[0]] * votes + (forms if framed else forms[:1]) for forms in framings]
    batch = _batch(model.processor, asked, texts, settings.seed)
    each = len(texts[0])
    sampled = np.arange(batch.ids.shape[1]) % each < votes
    speak = lambda rows: _speak(
        model.backbone,
        params,
        rows,
        sampled,
        longest_answer(model.processor),
        model.processor.stop_ids,
    )
    ids = in_batches(speak, batch, settings.pictures_per_batch)
    said = _decode(model.processor, ids.reshape(-1, ids.shape[-1]))
    starts = range(0, len(said), each)
    return [QuestionAnswers(said[n : n + votes], said[n + votes : n + each]) for n in starts]


def longest_answer(processor: Processor) -> int:
    """Tokens of the longest true answer and its stop token; what says more is wrong anyway."""
    options = {option for several in OPTIONS.values() for option in several}
    return max(len(processor.ids(option)) for option in options) + 1


def _batch(
    processor: Processor, asked: QuestionSet, texts: Sequence[Sequence[str]], seed: int
) -> AskingRows:
    """The texts to every question (all of one number) as arrays with a row for each picture."""
    known = {text: processor.question(text) for text in {t for several in texts for t in several}}
    rows = [known[text] for several in texts for text in several]
    lengths = np.array([len(row) for row in rows])
    ids = np.zeros((len(rows), bucket(int(lengths.max()))), np.int32)
    for padded, row in zip(ids, rows, strict=True):
        padded[: len(row)] = row
    mask = np.arange(ids.shape[1]) < lengths[:, None]
    key = jax.random.fold_in(jax.random.key(seed), STREAM)
    keys = item_keys(key, np.arange(len(texts)), len(texts[0]))
    pictures = len(asked.pictures)
    return AskingRows(
        processor.prompt([[to_picture(pixels)] for pixels in asked.pictures], "ask"),
        ids.reshape(pictures, -1, ids.shape[1]),
        mask.reshape(pictures, -1, ids.shape[1]),
        keys.reshape(pictures, -1),
    )


@partial(jax.jit, static_argnums=(0, 4, 5))
def _speak(
    backbone: Backbone,
    params: Params,
    batch: AskingRows,
    sampled: Bool[Array, " G"],
    max_tokens: int,
    stop_ids: tuple[int, ...],
) -> Int[Array, "B G N"]:
    """Continues every text of every picture, at T = 1 or greedily."""
    prefix = backbone.prefill(params, encode(backbone, params, batch.request).main)
    temperature = jnp.broadcast_to(sampled.astype(jnp.float32), batch.keys.shape)
    sampler = TextSampler(temperature, max_tokens, stop_ids)
    return sample_text(
        backbone, params, prefix, host(batch.ids), host(batch.mask), batch.keys, sampler
    ).ids


def _decode(processor: Processor, ids: Int[np.ndarray, "R N"]) -> list[str]:
    """The text of each row; there are few different ones."""
    rows = list(map(tuple, ids.tolist()))
    known = {row: processor.text(row) for row in set(rows)}
    return [known[row] for row in rows]
