"""Golden numbers of the relatives' formulas, in float64 and float32."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax import answers
from asg_jax.objectives import advantages, flow, kl, policy_gradient, preference
from asg_jax.ops.masked import masked_mean
from asg_jax.ops.vocab import logit_stats
from asg_jax.rollout import search
from asg_jax.signals import dynamics, likelihood, regions, rewards, selection, verdicts, vote
from tests import goldens

FILE = "self_rewards.json"
Inputs = Mapping[str, Any]
numbers = lambda x: jnp.asarray(x, float)
flags = lambda x: jnp.asarray(x).astype(bool)


def mask_of(inputs: Inputs, like: jax.Array) -> jax.Array:
    mask = inputs.get("mask")
    return jnp.ones(like.shape, bool) if mask is None else flags(mask)


def mean_logprob(inputs: Inputs) -> jax.Array:
    values = numbers(inputs["token_logps"])
    return likelihood.mean_log_prob(values, mask_of(inputs, values))


def token_logps(inputs: Inputs) -> jax.Array:
    # The library's own statistics are in float32 whatever comes in.
    logits, ids = numbers(inputs["logits"]), jnp.asarray(inputs["targets"])
    if logits.dtype == jnp.float32:
        return logit_stats(logits, ids).plain_log_prob
    return jnp.take_along_axis(jax.nn.log_softmax(logits), ids[:, None], axis=-1)[:, 0]


def gvu_reward(inputs: Inputs) -> jax.Array:
    values = numbers(inputs["token_logps"])
    return likelihood.token_probability(values, mask_of(inputs, values))


def gvu_from_probs(inputs: Inputs) -> jax.Array:
    return gvu_reward({"token_logps": np.log(inputs["probs"])})


def gvu_from_logits(inputs: Inputs) -> jax.Array:
    return gvu_reward({"token_logps": token_logps(inputs)})


def group_advantages(inputs: Inputs) -> jax.Array:
    rewards = numbers(inputs["rewards"]).reshape(-1, inputs["group_size"])
    # Rounding of equal rewards, which is what the deviation is of there.
    least = 16 * float(jnp.finfo(rewards.dtype).eps * jnp.abs(rewards).max())
    statistic = advantages.GroupStatistic(
        inputs["scale_by_std"], inputs["ddof"], inputs["eps"], least
    )
    return advantages.group_advantages(rewards, jnp.ones(rewards.shape, bool), statistic).ravel()


def k3(inputs: Inputs) -> jax.Array:
    return kl.k3(numbers(inputs["logp"]), numbers(inputs["ref_logp"]))


def grpo_loss(inputs: Inputs) -> dict[str, jax.Array]:
    bounds = inputs["clip_low"], inputs["clip_high"]
    low, high = (1e30 if b is None else b for b in bounds)
    clip = None if bounds == (None, None) else (low, high)
    now, mask, drift = numbers(inputs["logp"]), flags(inputs["mask"]), k3(inputs)
    loss, kept = policy_gradient.grpo_loss(
        numbers(inputs["advantages"]),
        now,
        numbers(inputs["old_logp"]),
        drift,
        mask,
        inputs["beta"],
        clip,
    )
    return {
        "loss": masked_mean(loss, kept),
        "kl": masked_mean(masked_mean(drift, mask, axis=-1), kept),
    }


def adapt_kl_coef(inputs: Inputs) -> jax.Array:
    one = jnp.ones(1, bool)
    beta, drift = numbers(inputs["beta"]), numbers([inputs["kl"]])
    return kl.kl_coefficient_update(
        beta, drift, one, inputs["target"], inputs["rate"], least=1e-8, reach=jnp.inf
    )


def ema_baseline(inputs: Inputs) -> dict[str, jax.Array]:
    found, last = advantages.running_advantages(
        inputs["initial"], numbers(inputs["rewards"]), inputs["momentum"]
    )
    return {"advantages": found, "final": last}


def preferred(scores: jax.Array, **settings: float) -> tuple[jax.Array, jax.Array]:
    """Margins and losses of pairs (chosen, rejected) on the last axis."""
    order = jnp.broadcast_to(jnp.array([1.0, -1.0]), scores.shape)
    losses, kept = preference.pairwise_losses(scores, order, order != 0, **settings)
    assert kept[..., 0].all() and not kept[..., 1].any()
    return scores[..., 0] - scores[..., 1], losses[..., 0]


def of_pairs(inputs: Inputs, name: str) -> jax.Array:
    return jnp.stack([numbers(inputs[name.format(side)]) for side in ("chosen", "rejected")], -1)


def dpo_parts(inputs: Inputs) -> tuple[jax.Array, jax.Array]:
    sums, reference = of_pairs(inputs, "{}_logp"), of_pairs(inputs, "ref_{}_logp")
    scores = preference.dpo_scores(sums, reference, inputs["beta"])
    return preferred(scores, smoothing=inputs.get("label_smoothing") or 0.0)


def dpo_loss(inputs: Inputs) -> dict[str, jax.Array]:
    margin, losses = dpo_parts(inputs)
    right = (margin > 0).mean()
    return {"losses": losses, "mean": losses.mean(), "reward_margins": margin, "accuracy": right}


def dpo_nll_loss(inputs: Inputs) -> dict[str, jax.Array]:
    dpo = dpo_parts(inputs)[1].mean()
    nll = -(numbers(inputs["chosen_logp"]) / numbers(inputs["chosen_len"])).mean()
    return {"dpo": dpo, "nll": nll, "total": dpo + inputs["nll_coef"] * nll}


def simpo_loss(inputs: Inputs) -> dict[str, jax.Array]:
    means = of_pairs(inputs, "{}_logp") / of_pairs(inputs, "{}_len")
    losses = preferred(inputs["beta"] * means, gamma=inputs["gamma"])[1]
    return {"losses": losses, "mean": losses.mean()}


def kc_dpo_loss(inputs: Inputs) -> dict[str, jax.Array]:
    names = ("h_chosen", "h_rejected")
    far = lambda h: [
        preference.feature_distance(
            numbers(inputs[h]), numbers(inputs[name]), inputs["pool"], inputs["distance"]
        )
        for name in names
    ]
    now, still = jnp.stack(far("h")), jnp.stack(far("h_ref"))
    margin = preferred(preference.dpo_scores(-now, -still, 1.0))[0]
    loss = preferred(preference.dpo_scores(-now, -still, inputs["gamma"]))[1]
    return {"margin": margin, "loss": loss}


def pair(found: selection.Pairs) -> list[int] | None:
    return [int(found.better[0]), int(found.worse[0])] if found.exists[0] else None


def select_pair(inputs: Inputs) -> list[int] | None:
    values = numbers(inputs["rewards"])
    return pair(selection.extremes(values, flags([True]), 1, inputs["min_gap"]))


def internal_gap_pair(inputs: Inputs) -> list[int] | None:
    return pair(selection.accepted_pair(numbers(inputs["p_yes"]), flags([1]), inputs["threshold"]))


def non_unification(inputs: Inputs) -> jax.Array:
    return verdicts.non_unification(flags(inputs["decisions"]), flags([1]))


def weak_generation(inputs: Inputs) -> float | None:
    found = float(verdicts.weak_generation(flags(inputs["understanding"]), flags(inputs["judge"])))
    return None if np.isnan(found) else found


def win_rate(inputs: Inputs) -> jax.Array:
    return verdicts.win_rate(*(flags(inputs[name]) for name in ("pre", "post", "judge")))


def macro_average(inputs: Inputs) -> jax.Array:
    return masked_mean(numbers(inputs["values"]), flags([1]))


def sort_out(inputs: Inputs) -> dict[str, Any]:
    decisions = inputs["decisions"]
    chosen, left = selection.sort_out(decisions, range(len(decisions)))
    return {"chosen": [list(one) for one in chosen], "discard": left}


def replay(inputs: Inputs) -> dict[str, Any]:
    chosen, left = selection.sort_out(inputs["decisions"], inputs["discard"])
    return {"added": [list(one) for one in chosen], "discard": left}


def yes_probability(inputs: Inputs) -> jax.Array:
    return verdicts.yes_probability(numbers(inputs["logit_yes"]), numbers(inputs["logit_no"]))


def yes_in_vocabulary(inputs: Inputs) -> jax.Array:
    ids = (jnp.asarray(inputs[name]) for name in ("yes_ids", "no_ids"))
    return verdicts.yes_no(numbers(inputs["logits"]), *ids).preference


def delta_generation(inputs: Inputs) -> jax.Array:
    places = lambda name: jnp.asarray(inputs[name])
    return dynamics.delta_generation(
        numbers(inputs["pi0"]),
        places("x0"),
        numbers(inputs["piu"]),
        places("xu"),
        numbers(inputs["kernel"]),
        inputs["eta"],
    )


def bayes_weights(inputs: Inputs) -> jax.Array:
    return likelihood.bayes_weights(numbers(inputs["logp_x_given_y"]))


def delta_understanding(inputs: Inputs) -> jax.Array:
    changes, weights = numbers(inputs["delta_g"]), numbers(inputs["weights"])
    return dynamics.delta_understanding(changes, weights, inputs["index"])


def silmm_score(inputs: Inputs) -> jax.Array:
    yes, no = numbers(inputs["p_yes"]), numbers(inputs["p_no"])
    return verdicts.question_margin(yes, no, flags([1]))


def srum_reward_map(inputs: Inputs) -> jax.Array:
    boxes = jnp.asarray(inputs["boxes"], int).reshape(-1, 4)
    size = inputs["height"], inputs["width"]
    scores = numbers(inputs["scores"]).reshape(-1)
    return regions.reward_map(boxes, scores, numbers(inputs["global_score"]), size)


def bilinear_resize(inputs: Inputs) -> jax.Array:
    return regions.shrink(numbers(inputs["map"]), (inputs["out_h"], inputs["out_w"]))


def srum_loss(inputs: Inputs) -> dict[str, jax.Array]:
    names = ("v_pred", "target_reward", "weights", "target_ref")
    prediction, goal, weights, reference = (numbers(inputs[name]) for name in names)
    loss = partial(flow.regional_loss, prediction, goal)
    total = loss(weights, reference, inputs["lambda_c"])
    rewarded = loss(weights, reference, 0.0)
    rest = loss(0 * weights, reference, 1.0)
    return {"reward_term": rewarded, "reference_term": rest, "total": total}


def cotv_parse(inputs: Inputs) -> list[list[str]]:
    return [list(one) for one in answers.checked_questions(inputs["text"])]


def cotv_score(inputs: Inputs) -> jax.Array:
    said = flags([answer == "yes" for answer in inputs["answers"]])
    return verdicts.share_of_yes(said, flags([1]))


def best_of_n(inputs: Inputs) -> list[int]:
    return selection.best_of(numbers(inputs["scores"]), inputs["k"]).tolist()


def hts_widths(inputs: Inputs) -> list[int]:
    return search.widths(*(inputs[name] for name in ("n", "k", "d", "t_s", "t_r")))


def hts_branches(inputs: Inputs) -> list[int]:
    return search.branches(inputs["widths"], inputs["k"])


def hts_cost(inputs: Inputs) -> int:
    return search.calls(*(inputs[name] for name in ("n", "k", "d", "total", "t_s", "t_r")))


def seer_reward(inputs: Inputs) -> dict[str, float]:
    found = verdicts.comparison_reward(
        bool(inputs["format_ok"]), inputs["predicted"], inputs["label"]
    )
    return dict(zip(("format", "accuracy"), found, strict=True))


def normalize_answer(inputs: Inputs) -> str:
    return answers.plain_answer(inputs["text"])


def voted(texts: list[str]) -> tuple[list[str], vote.Vote]:
    plain = [answers.plain_answer(text) for text in texts]
    return plain, vote.vote(jnp.asarray(answers.class_ids(plain)), flags([1]))


def answer_distribution(inputs: Inputs) -> dict[str, Any]:
    plain, found = voted(inputs["answers"])
    count = int(found.agrees.sum())
    majority = plain[int(found.agrees.argmax())]
    return {
        "majority": majority,
        "count": count,
        "majority_fraction": found.fraction,
        "entropy": found.entropy,
    }


def evolmm_solver_rewards(inputs: Inputs) -> jax.Array:
    shares = voted(inputs["answers"])[1].shares
    words = jnp.asarray(inputs["pre_words"])
    settings = (inputs[name] for name in ("gamma", "len_weight", "target_words"))
    return rewards.agreement_rewards(shares, words, *settings)


def gaussian_reward(inputs: Inputs) -> jax.Array:
    return vote.gaussian(*(numbers(inputs[name]) for name in ("x", "mu", "sigma")))


def flow_dual_rewards(inputs: Inputs) -> jax.Array:
    goal = numbers(inputs["noise"]) - numbers(inputs["x0"])
    prediction = numbers(inputs["v_pred"])
    # One image token; the draws of a group are the same for all.
    draws = likelihood.velocity_likelihood(prediction[..., None, :], goal[:, None, :])
    return likelihood.estimate(draws).mean


FUNCTIONS: dict[str, Callable[[Inputs], Any]] = {
    "mean_logprob": mean_logprob,
    "dual_rewards": mean_logprob,
    "token_logps_from_logits": token_logps,
    "gvu_reward": gvu_reward,
    "gvu_reward_from_probs": gvu_from_probs,
    "gvu_reward_from_logits": gvu_from_logits,
    "group_advantages": group_advantages,
    "kl_k3": k3,
    "grpo_loss": grpo_loss,
    "adapt_kl_coef": adapt_kl_coef,
    "ema_baseline": ema_baseline,
    "dpo_loss": dpo_loss,
    "dpo_nll_loss": dpo_nll_loss,
    "simpo_loss": simpo_loss,
    "kc_dpo_loss": kc_dpo_loss,
    "select_pair": select_pair,
    "internal_gap_pair": internal_gap_pair,
    "non_unification_score": non_unification,
    "macro_average": macro_average,
    "weak_generation_rate": weak_generation,
    "understanding_win_rate": win_rate,
    "internal_gap_select": sort_out,
    "curriculum_replay": replay,
    "yes_probability": yes_probability,
    "yes_probability_vocab": yes_in_vocabulary,
    "delta_generation": delta_generation,
    "bayes_weights": bayes_weights,
    "delta_understanding": delta_understanding,
    "silmm_score": silmm_score,
    "srum_reward_map": srum_reward_map,
    "bilinear_resize": bilinear_resize,
    "srum_loss": srum_loss,
    "cotv_parse": cotv_parse,
    "cotv_score": cotv_score,
    "best_of_n": best_of_n,
    "hts_widths": hts_widths,
    "hts_branches": hts_branches,
    "hts_cost": hts_cost,
    "seer_verifiable_reward": seer_reward,
    "normalize_answer": normalize_answer,
    "answer_distribution": answer_distribution,
    "evolmm_solver_rewards": evolmm_solver_rewards,
    "gaussian_reward": gaussian_reward,
    "flow_dual_rewards": flow_dual_rewards,
}


def check(got: Any, want: Any, tolerance: Mapping[str, float]) -> None:
    """Compares numbers within the file's tolerance, everything else exactly."""
    if isinstance(want, Mapping):
        assert got.keys() == want.keys()
        for key in want:
            check(got[key], want[key], tolerance)
    elif want is None or isinstance(want, str) or (want and isinstance(np.ravel(want)[0], str)):
        assert got == want
    else:
        np.testing.assert_allclose(got, want, rtol=tolerance["rtol"], atol=tolerance["atol"])


def test_every_golden_function_is_known():
    assert not {case["function"] for case in goldens.facts(FILE)["cases"]} - set(FUNCTIONS)


@pytest.mark.parametrize("x64", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_golden(name: str, x64: bool):
    known = goldens.facts(FILE)
    cases = [case for case in known["cases"] if case["function"] == name]
    if not cases:
        pytest.skip(f"{FILE} holds no case of {name}")
    with jax.enable_x64(x64):
        for case in cases:
            tolerance = known["tolerance"]["float64" if x64 else "float32"]
            check(FUNCTIONS[name](case["inputs"]), case["expected"], tolerance)
