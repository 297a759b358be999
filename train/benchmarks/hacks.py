"""What might fool a signal: empty pictures, those of other texts, a judge that always agrees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from asg_jax.signals.table import Signal
from asg_jax.train.benchmarks.metering import YesMan
from asg_jax.train.benchmarks.power import correlation, power, share
from asg_jax.train.benchmarks.scoring import PictureScorer, Scores, Subject, Table
from asg_jax.train.benchmarks.trials import VERSION, Trial, tricked
from asg_jax.train.evaluate.bootstrap import Interval

Figures = dict[str, Interval | None]


def hacks(
    subject: Subject, judge: PictureScorer, table: Table, trial: Trial, scores: Scores, seed: int
) -> dict[str, Figures]:
    """What might fool each signal, in points of 100 with 95 % intervals; None where it cannot.

    `blank`, `noise`, `written`: how often a right picture outranks such a one in its own group.
    `shuffled/auc`: the AUC after every group got the pictures of another text; 50 for what looks.
    `shuffled/same`: rank correlation of the scores with those that they had before; 100 for what
    reads the text alone.
    `length`: rank correlation of the scores of right pictures with the words of their text.
    `yes_rate`: pictures of another text that score above one half, of scores in [0, 1].
    `all_yes`: what right pictures lose to a judge that says yes to everything, of scores in [0, 1].
    """
    rng = np.random.default_rng([seed, VERSION])
    swapped = tricked(trial, rng)
    moved = _circled(trial, rng)
    fooled, elsewhere = judge.scores(swapped, table), judge.scores(moved, table)
    asking = {name: one for name, one in table.items() if asks(one)}
    yes = YesMan(processor=subject.model.processor)
    agreed = subject.scorer(yes).scores(trial, asking) if asking else {}
    return {
        name: {
            **_fakes(fooled[name], swapped, seed),
            "shuffled/auc": power(elsewhere[name], trial.truth, seed).get("auc"),
            "shuffled/same": correlation(scores[name], elsewhere[name], trial.truth.exists, seed),
            **_habits(scores[name], agreed.get(name), trial, seed),
        }
        for name in table
    }


def _circled(trial: Trial, rng: np.random.Generator) -> Trial:
    """Every group with the pictures of another text: one circle through all texts."""
    order = rng.permutation(len(trial.texts))
    source = np.empty_like(order)
    source[order] = np.roll(order, 1)
    return replace(trial, pictures=trial.pictures[source])


def _fakes(scores: Float[np.ndarray, "G L"], swapped: Trial, seed: int) -> Figures:
    found = power(scores, swapped.truth, seed)
    return {kind: found.get(f"pairs/{kind}") for kind in ("blank", "noise", "written")}


def _habits(
    scores: Float[np.ndarray, "G L"],
    agreed: Float[np.ndarray, "G L"] | None,
    trial: Trial,
    seed: int,
) -> Figures:
    """What scores follow beside the pictures."""
    right, exists = trial.truth.right, trial.truth.exists
    words = np.array([len(text.split()) for text in trial.texts], float)
    found: Figures = {"yes_rate": None, "all_yes": None}
    found["length"] = correlation(
        scores, np.broadcast_to(words[:, None], scores.shape), right, seed
    )
    if scores[exists].min() < 0 or scores[exists].max() > 1:
        return found
    other = exists & (np.array(trial.truth.kinds) == "unrelated")
    if other.any():
        found["yes_rate"] = share(scores > 0.5, other, seed)
    if agreed is not None and right.any():
        found["all_yes"] = share(scores - agreed, right, seed)
    return found


def asks(signal: object) -> bool:
    """Whether a signal compares answers about a picture with those about another."""
    return isinstance(signal, Signal) and signal.compares
