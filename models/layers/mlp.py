"""Feed-forward blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
from flax import nnx
from jaxtyping import Array, Float

from asg_jax.models.layers.linear import Linear

Activation = Callable[[Array], Array]

# Names as they stand in Hugging Face configurations.
ACTIVATIONS: dict[str, Activation] = {
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_pytorch_tanh": partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}


class MLP(nnx.Module):
    """fc2(activation(fc1(x)))."""

    def __init__(self, inputs: int, inner: int, outputs: int, activation: str, *, rngs: nnx.Rngs):
        self.fc1 = Linear(inputs, inner, rngs=rngs)
        self.fc2 = Linear(inner, outputs, rngs=rngs)
        self.activation = activation

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        return self.fc2(ACTIVATIONS[self.activation](self.fc1(x)))


class GatedMLP(nnx.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, width: int, inner: int, *, bias: bool = False, rngs: nnx.Rngs):
        self.gate_proj = Linear(width, inner, bias=bias, rngs=rngs)
        self.up_proj = Linear(width, inner, bias=bias, rngs=rngs)
        self.down_proj = Linear(inner, width, bias=bias, rngs=rngs)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        return self.down_proj(jax.nn.silu(self.gate_proj(x)) * self.up_proj(x))
