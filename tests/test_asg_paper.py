"""Golden numbers of the method's formulas, in float64 and float32.

Inputs are padded to a fixed length with values that would show if a mask let them through, and
every function runs compiled and batched.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.answers import class_ids
from asg_jax.engine.method import Phase, phase_of
from asg_jax.methods.asg.settings import Settings
from asg_jax.objectives import advantages, flow, kl, policy_gradient
from asg_jax.ops.flow import flow_sde_step
from asg_jax.ops.masked import masked_mean
from asg_jax.ops.vocab import logit_stats
from asg_jax.signals import difficulty, diversity, rewards
from asg_jax.signals import vote as votes
from tests import goldens

Inputs = Mapping[str, Any]
JUNK = 1e3  # what stands in padding
PAPER = Settings()


def padded(values: Any, axes: int = 1, junk: float = JUNK) -> jax.Array:
    """An array of at least 16 along its first axes, in the default dtype of the moment."""
    array = np.asarray(values)
    room = [(0, max(16 - size, 0) * (axis < axes)) for axis, size in enumerate(array.shape)]
    array = np.pad(array, room, constant_values=array.dtype.type(junk))
    return jnp.asarray(array, float if array.dtype.kind == "f" else None)


def real(count: int) -> jax.Array:
    """The mask of `count` values that `padded` made longer."""
    return jnp.arange(max(16, count)) < count


@cache
def jitted(function: Callable[..., Any]) -> Callable[..., Any]:
    """The compiled function, shared by all cases."""
    return jax.jit(function)


def numbers(inputs: Inputs, *names: str) -> list[jax.Array]:
    """Scalar inputs, in the default dtype of the moment."""
    return [jnp.asarray(inputs[name], float) for name in names]


def vote(inputs: Inputs) -> dict[str, Any]:
    labels = inputs["labels"]
    result = jitted(votes.vote)(padded(class_ids(labels)), real(len(labels)))
    return {
        "majority": sorted(set(labels), key=labels.index)[int(result.majority)],
        "fraction": result.fraction,
        "margin": result.margin,
        "entropy": result.entropy,
    }


def informativeness(inputs: Inputs) -> jax.Array:
    return jitted(votes.informativeness)(*numbers(inputs, "entropy", "margin"))


def self_consistency_score(inputs: Inputs) -> jax.Array:
    scalars = numbers(inputs, "entropy", "margin", "target")
    return jitted(votes.self_consistency_score)(*scalars)


def entropy_target_update(inputs: Inputs) -> jax.Array:
    target, entropy = numbers(inputs, "target", "entropy")
    return jitted(votes.entropy_target_update)(target, padded(entropy[None]), real(1))


def token_entropy(inputs: Inputs) -> jax.Array:
    logits = padded(inputs["logits"], junk=0.0)
    entropies = logit_stats(logits, jnp.zeros(len(logits), int)).entropy
    mask = real(len(inputs["logits"]))
    return difficulty.token_entropy(entropies, mask, inputs["first_k"], inputs["aggregation"])


def ste_difficulty(inputs: Inputs) -> jax.Array:
    window = difficulty.empty_window(inputs["window_size"])
    if inputs["window"]:
        window = window.at[-len(inputs["window"]) :].set(jnp.asarray(inputs["window"]))
    entropy = padded(np.asarray([inputs["entropy"]], float))
    return jitted(difficulty.ste_difficulty)(window, entropy, real(1))[0][0]


def proposer_reward(inputs: Inputs) -> jax.Array:
    difficulty, consistency, penalty = numbers(inputs, "difficulty", "self_consistency", "penalty")
    signals = {"difficulty": difficulty, "consistency": consistency}
    return jnp.clip(rewards.weighted(signals, PAPER.question_weights) - penalty, -1, 1)


def solver_rewards(inputs: Inputs) -> jax.Array:
    count = len(inputs["labels"])
    vote = jitted(votes.vote)(padded(class_ids(inputs["labels"])), real(count))
    flags = [padded(inputs[name]).astype(bool) for name in ("noncanonical", "low_information")]
    result = jitted(rewards.solver_rewards)(vote, padded(inputs["words"]), *flags)
    np.testing.assert_array_equal(result[count:], 0)
    return result[:count]


def group_advantages(inputs: Inputs) -> jax.Array:
    count = len(inputs["rewards"])
    result = jitted(advantages.group_advantages)(padded(inputs["rewards"]), real(count))
    np.testing.assert_array_equal(result[count:], 0)
    return result[:count]


def ema_baseline(inputs: Inputs) -> dict[str, Any]:
    update, before = jitted(advantages.ema_baseline), []
    baseline, momentum = numbers(inputs, "baseline", "momentum")
    for reward in inputs["rewards"]:
        before.append(baseline)
        baseline = update(baseline, padded([reward]), real(1), momentum)
    return {"baseline_before": before, "after": baseline}


def kl_coefficient_update(inputs: Inputs) -> jax.Array:
    drift = np.nan if inputs["kl"] is None else inputs["kl"]
    (beta,) = numbers(inputs, "beta")
    return jitted(kl.kl_coefficient_update)(beta, padded([drift]), real(1))


def leave_one_out_diversity(inputs: Inputs) -> jax.Array:
    distances = np.asarray(inputs["distances"], float)
    function = jitted(diversity.leave_one_out_diversity)
    result = function(padded(distances, axes=2), real(len(distances)))
    np.testing.assert_array_equal(result[len(distances) :], 0)
    return result[: len(distances)]


def generation_reward(inputs: Inputs) -> jax.Array:
    golden = ("fidelity", "cycle", "diversity", "contradiction")
    names = ("vote_fidelity", "cosine_cycle", "diversity", "contradiction")
    signals: dict[str, jax.Array] = dict(zip(names, numbers(inputs, *golden), strict=True))
    (quality,) = numbers(inputs, "spec_quality")
    return rewards.weighted(signals, PAPER.weights) * quality


def nft_weight(inputs: Inputs) -> jax.Array:
    return jitted(flow.nft_weight)(*numbers(inputs, "advantage"))


def rwr_weights(inputs: Inputs) -> jax.Array:
    count = len(inputs["advantages"])
    (tau,) = numbers(inputs, "tau")
    result = jitted(flow.rwr_weights)(padded(inputs["advantages"]), real(count), tau)
    np.testing.assert_array_equal(result[count:], 0)
    return result[:count]


def tokens(inputs: Inputs, name: str) -> jax.Array:
    """One number per token, padded in both axes."""
    return padded(np.asarray(inputs[name], float), axes=2, junk=-3.0)


def reinforce_loss(inputs: Inputs) -> jax.Array:
    return masked_mean(
        *jitted(policy_gradient.reinforce_loss)(
            padded(inputs["advantages"]),
            tokens(inputs, "logprobs"),
            tokens(inputs, "kl"),
            padded(inputs["mask"], axes=2, junk=0).astype(bool),
            *numbers(inputs, "beta"),
        )
    )


def grpo_loss(inputs: Inputs) -> jax.Array:
    log_probs = tokens(inputs, "logprobs")
    return masked_mean(
        *jitted(policy_gradient.grpo_loss)(
            padded(inputs["advantages"]),
            log_probs,
            tokens(inputs, "old_logprobs"),
            jitted(kl.k3)(log_probs, tokens(inputs, "ref_logprobs")),
            padded(inputs["mask"], axes=2, junk=0).astype(bool),
            *numbers(inputs, "beta", "clip"),
        )
    )


def sde_step(inputs: Inputs) -> dict[str, Any]:
    row = lambda name: jnp.asarray(inputs[name], float)[None]  # (L, C) with L = 1
    t, t_next, level, sigma_time = numbers(inputs, "t", "t_next", "noise_level", "sigma_time")
    noise = row("noise")
    step = jitted(flow_sde_step)(row("x"), row("velocity"), t, t_next, level, noise, sigma_time)
    return {"x_next": step.x_next[0], "log_prob": step.log_prob}


def phase(inputs: Inputs) -> str:
    understanding = Phase("understanding", inputs["understanding_steps"], "understanding")
    generation = Phase("generation", inputs["generation_steps"], "generation")
    return phase_of(inputs["step"], [understanding, generation]).name


FUNCTIONS: dict[str, Callable[[Inputs], Any]] = {
    "vote": vote,
    "informativeness": informativeness,
    "self_consistency_score": self_consistency_score,
    "entropy_target_update": entropy_target_update,
    "token_entropy": token_entropy,
    "ste_difficulty": ste_difficulty,
    "proposer_reward": proposer_reward,
    "solver_rewards": solver_rewards,
    "group_advantages": group_advantages,
    "ema_baseline": ema_baseline,
    "kl_coefficient_update": kl_coefficient_update,
    "leave_one_out_diversity": leave_one_out_diversity,
    "generation_reward": generation_reward,
    "nft_weight": nft_weight,
    "rwr_weights": rwr_weights,
    "reinforce_loss": reinforce_loss,
    "grpo_loss": grpo_loss,
    "flow_sde_step": sde_step,
    "phase": phase,
}


def check(got: Any, want: Any, tolerance: float) -> None:
    """Compares numbers within a tolerance, everything else exactly."""
    if isinstance(want, Mapping):
        assert got.keys() == want.keys()
        for key in want:
            check(got[key], want[key], tolerance)
    elif isinstance(want, str):
        assert got == want
    else:
        np.testing.assert_allclose(got, want, atol=tolerance, rtol=tolerance)


def test_every_golden_function_is_known():
    names = {case["function"] for case in goldens.facts("asg_paper.json")["cases"]}
    assert not names - set(FUNCTIONS)


@pytest.mark.parametrize("x64", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_golden(name, x64):
    cases = [case for case in goldens.facts("asg_paper.json")["cases"] if case["function"] == name]
    if not cases:
        pytest.skip(f"asg_paper.json holds no case of {name}")
    with jax.enable_x64(x64):
        for case in cases:
            check(FUNCTIONS[name](case["inputs"]), case["expected"], 1e-9 if x64 else 2e-5)
