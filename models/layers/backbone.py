"""What backbones around a `LanguageModel` do alike: parameters, texts, contexts, flows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cache, partial
from typing import Any, ClassVar, Generic, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from asg_jax.backbone import (
    Cache,
    Draw,
    Flow,
    Image,
    Params,
    Prefix,
    Prompt,
    PyTree,
    Sampler,
    State,
    Target,
)
from asg_jax.models.layers import context
from asg_jax.models.layers.linear import attach
from asg_jax.ops.int8 import quantize

Network = TypeVar("Network", bound=nnx.Module)


class TextBackbone(Generic[Network]):
    """What `asg_jax.backbone.Backbone` asks of texts and pictures that are read.

    Attributes:
      network: its constructor; the module has the parts `language` and `vae`, and `image_rows`.
      config: sizes of the network.
    """

    network: ClassVar[Any]
    config: Any

    @property
    def _abstract(self) -> tuple[Any, Any]:
        return _structure(self.network, self.config)

    def model(self, params: Params) -> Network:
        """The network with its parameters in place; cheap, meant for use inside jit."""
        model = nnx.merge(self._abstract[0], params.base)
        attach(model, params.adapter)
        return model

    def abstract_base(self, dtype: jnp.dtype | str = jnp.bfloat16) -> PyTree:
        """Shapes and dtypes of the base parameters: the autoencoder float32, the rest `dtype`."""
        base = nnx.to_pure_dict(self._abstract[1])
        dtypes = {name: jnp.dtype("float32" if name == "vae" else dtype) for name in base}
        return {
            name: jax.tree.map(partial(_with_dtype, dtype=dtypes[name]), part)
            for name, part in base.items()
        }

    def init_base(self, key: Key[Array, ""]) -> PyTree:
        """Random float32 base parameters; meant to be compiled."""
        return nnx.to_pure_dict(nnx.state(self.network(self.config, rngs=nnx.Rngs(key))))

    def encode_image(self, params: Params, image: Image) -> Float[Array, "B N D"]:
        model: Any = self.model(params)
        return model.image_rows(image)

    def prefill(self, params: Params, prompt: Prompt) -> Prefix:
        return context.prefill(self._language(params), prompt)

    def extend(
        self,
        params: Params,
        ids: Int[Array, "B G T"],
        mask: Bool[Array, "B G T"],
        prefix: Prefix,
        room: int,
    ) -> tuple[Float[Array, "B G D"], Cache]:
        return context.extend(self._language(params), ids, mask, prefix, room)

    def decode(
        self, params: Params, token: Int[Array, "B G"], cache: Cache
    ) -> tuple[Float[Array, "B G D"], Cache]:
        return context.decode(self._language(params), token, cache)

    def hidden(
        self,
        params: Params,
        prompt: Prompt,
        ids: Int[Array, "B G T"],
        mask: Bool[Array, "B G T"],
    ) -> Float[Array, "B G T D"]:
        return context.teacher_forced(self._language(params), prompt, ids, mask)

    def states(self, params: Params, prompt: Prompt) -> Float[Array, "B T D"]:
        return context.states(self._language(params), prompt)

    def unembedding(self, params: Params) -> Float[Array, "V D"]:
        return params.base["language"]["lm_head"]["table"]

    def _language(self, params: Params) -> Any:
        model: Any = self.model(params)
        return model.language


def in_int8(base: PyTree) -> PyTree:
    """Base parameters whose language model's layers hold their matrices as `Int8`."""

    def hold(keys: Any, leaf: Any) -> Any:
        is_kernel = (keys[0].key, keys[-1].key) == ("language", "kernel")
        return quantize(leaf) if is_kernel else leaf

    return jax.tree.map_with_path(hold, base)


def recomputing(backbone: Any, policy: str) -> Any:
    """A backbone with a policy of what the backward pass recomputes (none, dots, full)."""
    config = backbone.config
    return replace(backbone, config=config.compute(config.language.dtype, policy))


class FlowBackbone(TextBackbone[Network], ABC):
    """The same of networks that draw by rectified flow."""

    def preview(self, params: Params, condition: Any, state: State, sampler: Sampler) -> Target:
        return Target(state.inner.clean, sampler.grid)

    @abstractmethod
    def velocity(
        self,
        params: Params,
        condition: Any,
        x: Float[Array, "B G L C"],
        t: Float[Array, "B G"],
        grid: tuple[int, int],
    ) -> Float[Array, "B G L C"]: ...

    def terms(
        self,
        params: Params,
        condition: Any,
        target: Target,
        draw: Draw | None,
        sampler: Sampler | None = None,
    ) -> Flow:
        if draw is None:
            raise ValueError("a flow backbone needs times and noise to compare velocities")
        t = draw.t[..., None, None]
        noisy = (1 - t) * target.values + t * draw.noise
        prediction = self.velocity(params, condition, noisy, draw.t, target.grid)
        return Flow(prediction, draw.noise - target.values)


@cache
def _structure(network: Any, config: Any) -> tuple[Any, Any]:
    """Graph and shapes of a network, traced once for all backbones of that configuration."""
    return nnx.split(nnx.eval_shape(lambda: network(config, rngs=nnx.Rngs(0))))


def _with_dtype(leaf: Any, dtype: jnp.dtype) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, dtype)
