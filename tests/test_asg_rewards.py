"""Golden cases of the pure functions that the library shares with the released program.

Of the released token entropy the margin of the two best logits is not compared, and of its vote
labels only the class is: the library flags less.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.answers import (
    class_ids,
    is_objective_question,
    normalize_answer,
    parse_answer,
    vote_label,
    words_before_answer,
)
from asg_jax.objectives.kl import kl_coefficient_update
from asg_jax.objectives.policy_gradient import reinforce_loss
from asg_jax.ops.masked import masked_mean
from asg_jax.ops.vocab import logit_stats
from asg_jax.signals import difficulty, fidelity
from asg_jax.signals.vote import gaussian, vote
from tests import goldens

Inputs = Mapping[str, Any]
ONE = jnp.ones(1, bool)


def self_consistency(inputs: Inputs) -> dict[str, Any]:
    labels = inputs["labels"]
    result = vote(jnp.asarray(class_ids(labels)), jnp.ones(len(labels), bool))
    return {
        "majority": sorted(set(labels), key=labels.index)[int(result.majority)],
        "count": int(result.agrees.sum()),
        "fraction": result.fraction,
        "entropy_nats": result.entropy,
        "margin": result.margin,
    }


def gaussian_reward(inputs: Inputs) -> jax.Array:
    return gaussian(jnp.asarray(inputs["x"], float), inputs["mu"], inputs["sigma"])


def token_entropy(inputs: Inputs) -> dict[str, Any]:
    logits = jnp.asarray(inputs["logits_per_token"], float)
    entropies = logit_stats(logits, jnp.zeros(len(logits), int)).entropy
    mask, first = jnp.ones(len(logits), bool), inputs["first_k"]
    return {
        "token_entropies_nats": entropies[:first],
        "max": difficulty.token_entropy(entropies, mask, first, "max"),
        "mean": difficulty.token_entropy(entropies, mask, first, "mean"),
    }


def ste_difficulty(inputs: Inputs) -> dict[str, Any]:
    raw = jnp.asarray(inputs[f"{inputs['aggregation']}_token_entropy"], float)
    recent = jnp.asarray(inputs["window_before"], float)
    window = jnp.concatenate([difficulty.empty_window(128), recent])[-128:]
    result, window = difficulty.ste_difficulty(window, raw[None], ONE)
    size = int(jnp.isfinite(window).sum())
    return {"raw": raw, "difficulty": result[0], "window_size_after": size}


def kl_controller(inputs: Inputs) -> list[Any]:
    assert (inputs["min"], inputs["max"]) == (0.001, 100)
    beta, betas = inputs["beta0"], []
    for kl in inputs["kl_values"]:
        observed = jnp.asarray([float(kl)], float)
        beta = kl_coefficient_update(beta, observed, ONE, inputs["target"], inputs["rate"])
        betas.append(beta)
    return betas


def role_policy_loss(inputs: Inputs) -> jax.Array:
    one = lambda x: jnp.full((1, 1), x, float)
    advantage = jnp.asarray([inputs["advantage"]], float)
    kl = one(inputs["kl_mean"])
    log_probs = one(-inputs["ce_mean"])
    return masked_mean(*reinforce_loss(advantage, log_probs, kl, ONE[None], inputs["beta"]))


def qa_fidelity(inputs: Inputs) -> dict[str, Any]:
    judged = [
        fidelity.match_answers(question, answers, reference)
        for (question, reference), answers in zip(
            inputs["qa_pairs"], inputs["answers_per_question"], strict=True
        )
    ]
    room = 3 - len(judged)
    match, fraction, conflict = jnp.asarray(judged + [(9.0, 9.0, 9.0)] * room, float).T
    asked = jnp.arange(3) < len(judged)
    scores = fidelity.pair_score(match, fraction)
    return {
        "spec_score": fidelity.qa_fidelity(scores, asked),
        "contradiction": masked_mean(conflict, asked),
        "per_question": scores[: len(judged)],
        "qa_confidence": masked_mean(fraction, asked),
    }


def spec_quality(inputs: Inputs) -> dict[str, Any]:
    spec = fidelity.spec_quality([(question, answer) for question, answer in inputs["qa_pairs"]])
    return {
        "quality": spec.quality,
        "kept": [list(pair) for pair in spec.kept],
        "details": {
            "count_score": spec.completeness,
            "validity_score": spec.validity,
            "uniqueness_score": spec.uniqueness,
            "yes_no_penalty": spec.yes_no_penalty,
        },
    }


FUNCTIONS: dict[str, Callable[[Inputs], Any]] = {
    "self_consistency": self_consistency,
    "gaussian_reward": gaussian_reward,
    "token_entropy": token_entropy,
    "ste_difficulty": ste_difficulty,
    "kl_controller": kl_controller,
    "role_policy_loss": role_policy_loss,
    "soft_match": lambda inputs: fidelity.soft_match(**inputs),
    "qa_fidelity": qa_fidelity,
    "normalize_answer": lambda inputs: normalize_answer(**inputs),
    "parse_answer": lambda inputs: parse_answer(**inputs),
    "pre_answer_word_count": lambda inputs: words_before_answer(**inputs),
    "vote_label": lambda inputs: {"label": vote_label(**inputs).name},
    "is_objective_question": lambda inputs: is_objective_question(**inputs),
    "spec_quality": spec_quality,
}
LEFT_OUT = {
    "token_entropy": {"min_margin"},
    "vote_label": {"answer_type", "low_info", "noncanonical"},
}


def check(got: Any, want: Any, tolerance: float, left_out: set[str]) -> None:
    """Compares floats within a tolerance, everything else exactly."""
    if isinstance(want, Mapping):
        assert got.keys() == want.keys() - left_out
        for key in got:
            check(got[key], want[key], tolerance, left_out)
    elif isinstance(want, float) or (isinstance(want, list) and np.asarray(want).dtype == float):
        np.testing.assert_allclose(got, want, atol=tolerance, rtol=tolerance)
    else:
        assert got == want


@pytest.mark.parametrize("name", FUNCTIONS)
def test_golden(name):
    cases = goldens.facts("asg_rewards.json")["cases"]
    cases = [case for case in cases if case["function"] == f"blip3o.{name}"]
    if not cases:
        pytest.skip(f"asg_rewards.json holds no case of {name}")
    tolerance = 1e-5 if name == "token_entropy" else 1e-9  # its numbers come from a float32 softmax
    with jax.enable_x64(True):
        for case in cases:
            check(
                FUNCTIONS[name](case["inputs"]),
                case["expected"],
                tolerance,
                LEFT_OUT.get(name, set()),
            )
