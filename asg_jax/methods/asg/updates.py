"""Updates of a role's adapter, and the losses of the roles that speak.

Means run over the whole batch, wherever its examples lie.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from asg_jax.backbone import Adapter, Backbone, Params, PyTree, Request, encode
from asg_jax.methods.asg.rollouts import Texts
from asg_jax.methods.asg.settings import Role, Settings
from asg_jax.methods.base import RoleState, TrainState
from asg_jax.objectives.policy import grpo_loss, k3, kl_coefficient_update, reinforce_loss
from asg_jax.ops.vocab import TokenStats, token_stats
from asg_jax.pytree import pytree
from asg_jax.rollout.text import TextRollout, predicting_states
from asg_jax.signals.groups import masked_mean, sequence_means

Metrics = dict[str, Array]


class Measured(NamedTuple):
    """What a loss found on its way.

    Attributes:
      kl: drift of every sample from the frozen model.
      kept: samples that the loss counts.
      metrics: for people.
    """

    kl: Float[Array, "*batch"]
    kept: Bool[Array, "*batch"]
    metrics: Metrics


Loss = Callable[[Adapter], tuple[Array, Measured]]


class Improved(NamedTuple):
    """A role after an update, or as it was where there was none.

    Attributes:
      state: of the role.
      skipped: 1 if the update was left out because it was not finite.
      metrics: for people.
    """

    state: RoleState
    skipped: Int[Array, ""]
    metrics: Metrics


class Learned(NamedTuple):
    """What a step's learning gives.

    Attributes:
      state: after the step.
      metrics: for people.
      judgement: signals and rewards, the first axis of each array counting examples.
    """

    state: TrainState
    metrics: Metrics
    judgement: Any


@pytree
class Said:
    """What a role said (G samples of each example), and to what."""

    request: Request
    texts: Texts
    rollout: TextRollout


def optimizer(settings: Settings, role: Role) -> optax.GradientTransformation:
    """AdamW with a clipped gradient and a linear warm-up."""
    rate = lambda count: role.learning_rate * jnp.minimum(1, (count + 1) / max(1, settings.warmup))
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.adamw(rate, b2=0.999, weight_decay=settings.weight_decay),
    )


def start(settings: Settings, role: Role, adapter: Adapter) -> RoleState:
    """The state of a role before its first update."""
    return RoleState(
        adapter=adapter,
        average=jax.tree.map(jnp.copy, adapter),
        optimizer=optimizer(settings, role).init(cast(PyTree, adapter)),
        kl_coefficient=jnp.float32(role.kl_start),
    )


def improve(settings: Settings, role: Role, state: RoleState, loss: Loss) -> Improved:
    """One optimizer step; none where nothing is kept or a number is not finite."""
    before: PyTree = state.adapter
    (value, measured), gradient = jax.value_and_grad(loss, has_aux=True)(before)
    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(value) & jnp.isfinite(norm)
    update, memory = optimizer(settings, role).update(gradient, state.optimizer, before)
    adapter: PyTree = optax.apply_updates(before, update)
    new = RoleState(
        adapter=adapter,
        average=moving_average(state.average, adapter, settings.average_decay),
        optimizer=memory,
        kl_coefficient=kl_coefficient_update(
            state.kl_coefficient,
            measured.kl,
            measured.kept,
            role.kl_target,
            role.kl_rate,
        ),
    )
    taken = finite & measured.kept.any()
    return Improved(
        state=jax.tree.map(lambda now, before: jnp.where(taken, now, before), new, state),
        skipped=(~finite).astype(jnp.int32),
        metrics={
            "loss": value,
            "gradient": norm,
            "kl": masked_mean(measured.kl, measured.kept),
            "kl_coefficient": state.kl_coefficient,
            **measured.metrics,
        },
    )


def named(metrics: Metrics, role: str) -> Metrics:
    """The metrics of an update under the name of its role."""
    return {f"{name}/{role}": value for name, value in metrics.items()}


def moving_average(average: PyTree, new: PyTree, decay: float) -> PyTree:
    """The average of all values up to a new one, which weighs 1 - decay."""
    return jax.tree.map(lambda old, now: decay * old + (1 - decay) * now, average, new)


def penalty(settings: Settings, state: RoleState) -> float | Array:
    """The coefficient of the drift in a role's loss."""
    return state.kl_coefficient if settings.kl else 0.0


def deal(
    rewards: Float[Array, "*batch"], mask: Bool[Array, "*batch"], key: Key[Array, ""]
) -> Float[Array, "*batch"]:
    """Rewards dealt at random among the samples that the mask keeps: what no signal could teach."""
    flat, kept = rewards.ravel(), mask.ravel()
    drawn = jnp.where(kept, jax.random.uniform(key, flat.shape), 2)
    places = jnp.argsort(~kept, stable=True)  # those that are kept come first in both orders
    return flat.at[places].set(flat[jnp.argsort(drawn, stable=True)]).reshape(rewards.shape)


def spread(name: str, rewards: Float[Array, "B G"], mask: Bool[Array, "B G"]) -> Metrics:
    """Mean and standard deviation of rewards, and the share of groups that teach nothing.

    Args:
      name: whose rewards they are.
      rewards: in groups.
      mask: which of them count.
    """
    mean = masked_mean(rewards, mask)
    centred = rewards - masked_mean(rewards, mask, axis=-1)[..., None]
    flat = jnp.where(mask, jnp.abs(centred), 0).max(-1) < 1e-6
    return {
        f"reward/{name}": mean,
        f"reward/{name}_std": jnp.sqrt(masked_mean((rewards - mean) ** 2, mask)),
        f"reward/{name}_flat": share(flat, mask.any(-1)),
    }


def share(flags: Bool[Array, "*batch"], mask: Bool[Array, "*#batch"]) -> Float[Array, ""]:
    """How many of the items that the mask keeps have a flag, of 1."""
    return masked_mean(flags.astype(jnp.float32), mask)


def speech_stats(
    backbone: Backbone, base: PyTree, adapter: Adapter, said: Said, frozen: Float[Array, "B G N D"]
) -> TokenStats:
    """Statistics of what was said, under an adapter and under the frozen model.

    Args:
      backbone: static under jit.
      base: frozen parameters.
      adapter: of the role.
      said: texts that were sampled at temperatures above 0.
      frozen: states of the frozen model, see `speech_states`.
    """
    params = Params(base, adapter)
    hidden = speech_states(backbone, params, said)
    return token_stats(
        hidden,
        backbone.unembedding(params),
        said.rollout.ids,
        temperature=said.rollout.temperature,
        reference=(frozen, backbone.unembedding(Params(base))),
    )


def speech_states(backbone: Backbone, params: Params, said: Said) -> Float[Array, "B G N D"]:
    """The final states that predict the tokens of what was said."""
    prompt = encode(backbone, params, said.request).main
    return predicting_states(
        backbone, params, prompt, said.texts.ids, said.texts.mask, said.rollout
    )


def grpo(
    backbone: Backbone,
    base: PyTree,
    said: Said,
    advantages: Float[Array, "B G"],
    kept: Bool[Array, "B G"],
    beta: float | Array,
    clip: float,
) -> Loss:
    """The Proposer's loss. (Ask, Solve, Generate, arXiv 2606.27376, understanding step.)"""

    def value(stats: TokenStats, mask: Array) -> Array:
        drift = k3(stats.log_prob, _given(stats.reference_log_prob))
        old = said.rollout.log_probs
        return grpo_loss(advantages, stats.log_prob, old, drift, mask, beta, clip)

    return _speech_loss(backbone, base, said, advantages, kept, value)


def reinforce(
    backbone: Backbone,
    base: PyTree,
    said: Said,
    advantages: Float[Array, "B G"],
    kept: Bool[Array, "B G"],
    beta: float | Array,
) -> Loss:
    """The Solver's loss; with advantages of 1 it is the cross-entropy of what was said.

    (Ask, Solve, Generate, arXiv 2606.27376, understanding step.)
    """

    def value(stats: TokenStats, mask: Array) -> Array:
        return reinforce_loss(advantages, stats.log_prob, _given(stats.kl), mask, beta)

    return _speech_loss(backbone, base, said, advantages, kept, value)


def _speech_loss(
    backbone: Backbone,
    base: PyTree,
    said: Said,
    advantages: Float[Array, "B G"],
    kept: Bool[Array, "B G"],
    value: Callable[[TokenStats, Array], Array],
) -> Loss:
    frozen = speech_states(backbone, Params(base), said)
    mask = said.rollout.mask & kept[..., None]

    def loss(adapter: Adapter) -> tuple[Array, Measured]:
        stats = speech_stats(backbone, base, adapter, said, frozen)
        kl, exists = sequence_means(_given(stats.kl), mask)
        apart = jnp.abs(stats.log_prob - said.rollout.log_probs)
        metrics = {
            "advantage": masked_mean(jnp.abs(advantages), exists),
            "entropy": masked_mean(*sequence_means(stats.entropy, mask)),
            "mismatch": jnp.where(mask, apart, 0).max(),
        }
        return value(stats, mask), Measured(kl, exists, metrics)

    return loss


def _given(statistic: Array | None) -> Array:
    assert statistic is not None  # it is there wherever a reference was given
    return statistic
