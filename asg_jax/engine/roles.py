"""How a role learns: its settings, its state, and one update over any split of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int, Key

from asg_jax.adapters import LoRASpec, dropped
from asg_jax.backbone import Adapter, Backbone, PyTree
from asg_jax.engine.spending import drawing_update, text_update
from asg_jax.engine.state import RoleState, TrainState
from asg_jax.errors import UserError
from asg_jax.objectives.drawings import NFT, RWR, DrawingObjective
from asg_jax.objectives.kl import kl_coefficient_update
from asg_jax.objectives.losses import Losses
from asg_jax.objectives.painter import DrawingLesson, Painter
from asg_jax.objectives.texts import GRPO, TextLesson, TextObjective, text_losses
from asg_jax.ops.masked import Scalar, masked_mean
from asg_jax.ops.slices import part, uncut
from asg_jax.ranges import Range, bounded

Metrics = dict[str, Array]
KL_BOUNDS = Range(least=1e-3, most=1e2)  # of every coefficient
# (adapter, examples, coefficient of the drift) -> losses of these examples
Loss = Callable[[Adapter, PyTree, Scalar], Losses]


@dataclass(frozen=True)
class Role:
    """How one role learns.

    Full fine-tuning of the adapted maps is a rank as large as the model's width: then the update of
    every map has full rank.

    Attributes:
      learning_rate: AdamW's; 0 freezes the role. It alone says how fast a role learns next to the
        others, because AdamW undoes every weight of a loss.
      modules: entry of the backbone's table that is adapted; None is that of the role itself.
      rank: inner size of the low-rank updates; None keeps that of every module in the table.
      alpha: the updates are scaled by alpha / rank; None keeps that of the table.
      kl_start: first coefficient of the drift from the frozen model.
      kl_target: drift at which the coefficient stays, in the unit of the objective.
      kl_rate: how fast the coefficient follows, per update.
      kl_least: lower bound of the coefficient.
    """

    learning_rate: float = bounded(1e-6, least=0)
    modules: str | None = None
    rank: int | None = bounded(None, least=1)
    alpha: float | None = bounded(None, above=0)
    kl_start: float = bounded(0.01, KL_BOUNDS)
    kl_target: float = bounded(0.02, above=0)
    kl_rate: float = bounded(0.10, least=0)
    kl_least: float = bounded(KL_BOUNDS.least, above=0)


@dataclass(frozen=True)
class TextRole(Role):
    """A role that speaks; its drift is in nats per token.

    Attributes:
      objective: what it minimises.
    """

    objective: TextObjective = GRPO()


@dataclass(frozen=True)
class DrawingRole(Role):
    """A role that draws; for the unit of its drift see `asg_jax.objectives.drawings`.

    Attributes:
      objective: what it minimises.
    """

    objective: DrawingObjective = RWR()


@dataclass(frozen=True)
class Optimizer:
    """AdamW, as all roles share it.

    Attributes:
      clip_norm: largest norm of a gradient.
      weight_decay: share of the factors that an update takes off, times the learning rate.
      warmup: updates over which the learning rate grows to its value.
      average_decay: what the averaged factors that are evaluated keep per update, in [0, 1); 0
        averages nothing.
      kl: whether drift from the frozen model is penalised; it is measured in any case.
    """

    clip_norm: float = bounded(1.0, above=0)
    weight_decay: float = bounded(0.01, least=0)
    warmup: int = bounded(0, least=0)
    average_decay: float = bounded(0.96, least=0, below=1)
    kl: bool = True

    def transformation(self, learning_rate: float) -> optax.GradientTransformation:
        """The Optax form, with a clipped gradient and a linear warm-up."""
        rate = lambda count: learning_rate * jnp.minimum(1, (count + 1) / max(1, self.warmup))
        return optax.chain(
            optax.clip_by_global_norm(self.clip_norm),
            optax.adamw(rate, b2=0.999, weight_decay=self.weight_decay),
        )


class Improved(NamedTuple):
    """A role after an update, or as it was where there was none.

    Attributes:
      state: what the role has learned.
      taken: whether there was one.
      skipped: 1 if the update was left out because it was not finite.
      metrics: what people read, by name.
    """

    state: RoleState
    taken: Bool[Array, ""]
    skipped: Int[Array, ""]
    metrics: Metrics


def adapted(role: str, settings: Role, modules: Mapping[str, Sequence[LoRASpec]]) -> list[LoRASpec]:
    """What a role adapts, with the rank and scale of the settings but where the table fixes them.

    Raises:
      UserError: the table has no such entry.
    """
    name = settings.modules or role
    if name not in modules:
        raise UserError(
            f"{role}.modules is '{name}'; this backbone has: {', '.join(sorted(modules))}."
        )
    given = {"rank": settings.rank, "alpha": settings.alpha}
    size = {key: value for key, value in given.items() if value is not None}
    return [spec if spec.fixed else replace(spec, **size) for spec in modules[name]]


def start(optimizer: Optimizer, role: Role, adapter: Adapter) -> RoleState:
    """The state of a role before its first update; a frozen role has nothing but its factors."""
    learns = role.learning_rate > 0
    memory = optimizer.transformation(role.learning_rate).init(cast(PyTree, adapter))
    return RoleState(
        adapter=adapter,
        average=jax.tree.map(jnp.copy, adapter) if learns and optimizer.average_decay else None,
        optimizer=memory if learns else None,
        kl_coefficient=jnp.float32(role.kl_start),
    )


def improve(
    optimizer: Optimizer,
    role: Role,
    state: RoleState,
    loss: Loss,
    examples: PyTree,
    key: Key[Array, ""],
    dropout: float = 0.0,
    slices: int = 1,
) -> Improved:
    """One optimizer step; none where nothing is kept or a number is not finite.

    Sums over the kept samples of all slices are divided by their number at the end, so that any
    number of slices gives the gradient of the whole batch, at the memory of one slice.

    Args:
      optimizer: static under jit.
      role: static under jit.
      state: what the role was before the step.
      loss: what the role makes smaller.
      examples: a pytree whose arrays count examples along their first axis.
      key: gives the dropout.
      dropout: share of the inputs of every adapted map that its update ignores meanwhile.
      slices: how many parts the examples are cut into; a divisor of their number.
    """
    beta = state.kl_coefficient if optimizer.kl else jnp.float32(0)
    total, found, gradient = _gradient(
        lambda adapter, part: loss(dropped(adapter, key, dropout), part, beta),
        state.adapter,
        examples,
        slices,
    )
    count = jnp.maximum(found.kept.sum(), 1)
    value, gradient = total / count, jax.tree.map(lambda g: g / count, gradient)
    norm = optax.tree.norm(gradient)
    metrics = {
        "loss": value,
        "gradient": norm,
        "kl": masked_mean(found.drift, found.kept),
        "kl_coefficient": state.kl_coefficient,
        **{
            name: jnp.where(found.kept, x, 0).max()
            if name.endswith("_max")
            else masked_mean(x, found.kept)
            for name, x in found.measures.items()
        },
    }
    if role.learning_rate == 0:
        return Improved(state, jnp.bool_(False), jnp.int32(0), metrics)
    new = _updated(optimizer, role, state, gradient, found)
    finite = jnp.isfinite(value) & jnp.isfinite(norm) & _finite(new.adapter)
    taken = finite & found.kept.any()
    kept = jax.tree.map(lambda now, before: jnp.where(taken, now, before), new, state)
    return Improved(kept, taken, (~finite).astype(jnp.int32), metrics)


def improve_speaker(
    backbone: Backbone,
    base: PyTree,
    optimizer: Optimizer,
    role: TextRole,
    state: RoleState,
    lesson: TextLesson,
    key: Key[Array, ""],
    dropout: float = 0.0,
    slices: int = 1,
) -> Improved:
    """`improve` of a role that speaks, with what it costs."""

    def loss(adapter: Adapter, lesson: TextLesson, beta: Scalar) -> Losses:
        return text_losses(role.objective, backbone, base, adapter, lesson, beta)

    improved = improve(optimizer, role, state, loss, lesson, key, dropout, slices)
    return _priced(improved, text_update(lesson))


def improve_painter(
    painter: Painter,
    optimizer: Optimizer,
    role: DrawingRole,
    state: RoleState,
    lesson: DrawingLesson,
    key: Key[Array, ""],
    dropout: float = 0.0,
    slices: int = 1,
) -> Improved:
    """`improve` of a role that draws, with what it costs."""
    objective = role.objective

    def loss(adapter: Adapter, lesson: DrawingLesson, beta: Scalar) -> Losses:
        return objective.losses(painter, adapter, lesson, beta)

    improved = improve(optimizer, role, state, loss, lesson, key, dropout, slices)
    kind = painter.backbone.spec.kind
    return _priced(improved, drawing_update(lesson, objective, painter.sampler, kind))


def _priced(improved: Improved, tokens: int) -> Improved:
    return improved._replace(metrics=improved.metrics | {"cost": jnp.float32(tokens)})


def advance(
    state: TrainState, improved: Mapping[str, Improved], memory: PyTree = None
) -> TrainState:
    """The state after a step.

    Args:
      state: what the step began with.
      improved: the roles that had an update.
      memory: what the method remembers afterwards; as it was if None.
    """
    roles = {name: role.state for name, role in improved.items()}
    return replace(
        state,
        step=state.step + 1,
        roles={**state.roles, **roles},
        skipped=state.skipped + sum(role.skipped for role in improved.values()),
        memory=state.memory if memory is None else memory,
    )


def _updated(
    optimizer: Optimizer, role: Role, state: RoleState, gradient: PyTree, found: Losses
) -> RoleState:
    before: PyTree = state.adapter
    transformation = optimizer.transformation(role.learning_rate)
    update, memory = transformation.update(gradient, state.optimizer, before)
    adapter: PyTree = optax.apply_updates(before, update)
    average = state.average
    if average is not None:
        average = moving_average(average, adapter, optimizer.average_decay)
    beta = kl_coefficient_update(
        state.kl_coefficient,
        found.drift,
        found.kept,
        role.kl_target,
        role.kl_rate,
        role.kl_least,
    )
    return RoleState(adapter, average, memory, beta)


def _gradient(
    loss: Callable[[Adapter, PyTree], Losses], adapter: Adapter, examples: PyTree, slices: int
) -> tuple[Array, Losses, PyTree]:
    """Sum of the kept losses, all of them, and the gradient of the sum."""

    def total(adapter: Adapter, examples: PyTree) -> tuple[Array, Losses]:
        found = loss(adapter, examples)
        return jnp.where(found.kept, found.values, 0).sum(), found

    of_part = jax.value_and_grad(total, has_aux=True)
    if slices == 1:
        (value, found), gradient = of_part(adapter, examples)
        return value, found, gradient

    def add(sums: tuple[Array, PyTree], n: Array) -> tuple[tuple[Array, PyTree], Losses]:
        (value, found), gradient = of_part(adapter, part(examples, slices, n))
        return (sums[0] + value, jax.tree.map(jnp.add, sums[1], gradient)), found

    zero = (jnp.float32(0), jax.tree.map(jnp.zeros_like, adapter))
    (value, gradient), found = jax.lax.scan(add, zero, jnp.arange(slices))
    return value, uncut(found), gradient


def named(metrics: Metrics, role: str) -> Metrics:
    """The metrics of an update under the name of its role."""
    return {f"{name}/{role}": value for name, value in metrics.items()}


def moving_average(average: PyTree, new: PyTree, decay: float) -> PyTree:
    """The average of all values up to a new one, which weighs 1 - decay."""
    return jax.tree.map(lambda old, now: decay * old + (1 - decay) * now, average, new)


def follow(objective: DrawingObjective, anchor: PyTree, improved: Improved) -> PyTree:
    """The older policy of an objective after an update: NFT's follows the newer one slowly."""
    if anchor is None or not isinstance(objective, NFT):
        return anchor
    followed = moving_average(anchor, improved.state.adapter, objective.decay)
    choose = lambda new, old: jnp.where(improved.taken, new, old)
    return jax.tree.map(choose, followed, anchor)


def _finite(tree: PyTree) -> Array:
    return jnp.array([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()
