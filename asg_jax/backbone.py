"""The backbone protocol: what a unified multimodal model offers to the method.

Everything is batched and jit-able, holds no text and has no Python side effects. Letters in the
shape annotations: B prompts, G samples of each, N image patches, M feature rows, T rows of a
prompt or of a text, A axes of the rotary index (1 or 3), D model width, V vocabulary, L image
tokens, C channels of an image token, P prefix rows, S cache rows.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt8
from PIL.Image import Image as Picture

from asg_jax.pytree import pytree, static
from asg_jax.ranges import bounded

PyTree = Any


def host(array: np.ndarray) -> Array:
    """A NumPy array as a leaf of the types below: it goes to the device when a program runs."""
    return cast(Array, array)


Purpose = Literal["answer", "ask", "draw", "embed"]


@pytree
class LoRA:
    """Low-rank update of one linear map (or of a stack of them): y += scale * (x a) b."""

    a: Float[Array, "*layers inputs rank"]
    b: Float[Array, "*layers rank outputs"]
    scale: float = static()


Adapter = Mapping[str, LoRA]  # module path -> factors


@pytree
class Params:
    """The frozen base and the adapter of one role; `adapter=None` is the frozen model."""

    base: PyTree
    adapter: Adapter | None = None


@pytree
class Image:
    """Pictures as the understanding tower reads them: flattened patches, padded to N."""

    patches: Float[Array, "B N P"]
    grid: Int[Array, "B 2"]
    mask: Bool[Array, "B N"]


@pytree
class Prompt:
    """A context of text, images and clean latents, one row per token.

    `order` decides visibility: a row sees every real row whose order is not larger. Consecutive
    values make causal text; rows of one full-attention block share a value. Rows may be stored in
    any order, but the last `latents` rows (static) are image latents of a generation expert, so
    that routing is a slice; text rows are padded on the right. If `causal` (static), rows lie in
    their order, and each sees those up to its own; what padding sees does not matter.
    """

    ids: Int[Array, "B T"]
    slot: Int[Array, "B T"]  # row of `features` that replaces the token embedding, or -1
    positions: Int[Array, "B T A"]  # rotary index
    order: Int[Array, "B T"]
    mask: Bool[Array, "B T"]
    features: Float[Array, "B M D"] | None = None
    latents: int = static(default=0)
    causal: bool = static(default=False)


@pytree
class Prompts:
    """The contexts of one image request; None where the backbone has its own (empty) form."""

    main: Prompt
    no_text: Prompt | None = None
    no_image: Prompt | None = None
    negative: Prompt | None = None


@pytree
class Request:
    """What a processor makes of turns: prompts whose features are still to be encoded.

    The features are the rows of `images` (the i-th picture of every conversation in the i-th
    `Image`), then those of the clean latents of `sources`, pictures in [0, 1] to be edited.
    """

    prompts: Prompts
    images: tuple[Image, ...] = ()
    sources: Float[Array, "B H W 3"] | None = None


@pytree
class Prefix:
    """A prefilled context: keys and values per layer, and where the next token stands."""

    keys: Float[Array, "layers B P heads width"]
    values: Float[Array, "layers B P heads width"]
    mask: Bool[Array, "B P"]
    position: Int[Array, " B"]  # rotary index of the next token (equal on all axes)
    hidden: Float[Array, "B D"]  # final state of the last real row


@pytree
class Cache:
    """G texts growing on one shared prefix; row `index` of the suffix is written next."""

    prefix: Prefix
    keys: Float[Array, "layers B G S heads width"]
    values: Float[Array, "layers B G S heads width"]
    mask: Bool[Array, "B G S"]
    position: Int[Array, "B G"]
    index: Int[Array, ""]


@pytree
class Target:
    """An image in the form in which the backbone generates it, tokens in row-major order.

    `values` holds VAE latents or semantic features (float) or bits (0/1, scales one after
    another); `grid` is the (height, width) in tokens of the picture (of its last scale).
    """

    values: Float[Array, "*batch L C"] | Int[Array, "*batch L C"]
    grid: tuple[int, int] = static()


@pytree
class Draw:
    """The random part of a training loss, shared by a policy and its reference."""

    t: Float[Array, "B G"]
    noise: Float[Array, "B G L C"]


@pytree
class Flow:
    """What a flow backbone predicts for a noisy target, and what it should have predicted."""

    prediction: Float[Array, "B G L C"]
    goal: Float[Array, "B G L C"]


@pytree
class Bits:
    """Logits of bit 0 and bit 1 for every bit of a target, and the bits."""

    logits: Float[Array, "B G L C 2"]
    bits: Int[Array, "B G L C"]


@pytree
class FlowTrace:
    """A stochastic flow rollout: latents before each step and after the last, log-probs."""

    latents: Float[Array, "steps_and_end B G L C"]
    log_probs: Float[Array, "steps B G"]  # mean over elements; 0 where a step is deterministic


@pytree
class BitsTrace:
    """A next-scale rollout: the sampled bits and their log-probs."""

    bits: Int[Array, "B G L C"]
    log_probs: Float[Array, "B G L C"]


@pytree
class State:
    """An image rollout between two steps. `inner` belongs to the backbone."""

    inner: PyTree
    keys: Key[Array, "B G"]
    trace: FlowTrace | BitsTrace | None = None


@dataclass(frozen=True)
class Sampler:
    """Settings of image sampling; hashable, so a static argument of jit.

    Attributes:
      grid: (height, width) of the picture in image tokens.
      steps: number of network evaluations (flow backbones).
      shift: time shift of the flow, t = shift s / (1 + (shift - 1) s).
      guidance: text guidance scale; at most 1 turns all guidance off.
      image_guidance: image guidance scale (editing); at most 1 turns it off.
      renorm: norm that guidance keeps: over the image, per token, or per token of the text
        guidance only.
      renorm_min: lower clip of the rescaling; 1 turns it off.
      interval: guidance acts at times lo < t <= hi.
      temperature: softens the bit distributions (next-scale backbones); 1 leaves them as they are.
      top_p: nucleus of the bit distributions (next-scale backbones).
      noise_level: 0 is the deterministic sampler; above 0 the stochastic one, with a trace.
    """

    grid: tuple[int, int] = bounded(dataclasses.MISSING, least=1)
    steps: int = bounded(49, least=1)
    shift: float = bounded(3.0, above=0)
    guidance: float = 4.0
    image_guidance: float = 1.0
    renorm: Literal["global", "channel", "text_channel"] = "global"
    renorm_min: float = bounded(0.0, least=0, most=1)
    interval: tuple[float, float] = bounded((0.4, 1.0), least=0, most=1)
    temperature: float = bounded(1.0, above=0)
    top_p: float = bounded(1.0, above=0, most=1)
    noise_level: float = bounded(0.0, least=0)


@dataclass(frozen=True)
class Spec:
    """Static facts of a backbone.

    Attributes:
      kind: 'flow' (velocity of latents) or 'bits' (logits of bits, scale by scale).
      steps: network evaluations of one image at the usual settings.
      unrolled: the step index must be a Python integer, because steps differ in shape.
      token_pixels: side in pixels of the square that one image token covers.
      token_channels: C.
      max_grid: largest (height, width) in image tokens; the usual one where there are `grids`.
      axes: A, axes of the rotary index.
      vocabulary: V.
      grids: the only ones that can be drawn; without any, all up to `max_grid`.
      tower: regular expression of the module paths that `encode_image` runs through.
    """

    kind: Literal["flow", "bits"]
    steps: int
    unrolled: bool
    token_pixels: int
    token_channels: int
    max_grid: tuple[int, int]
    axes: int
    vocabulary: int
    grids: tuple[tuple[int, int], ...] = ()
    tower: str = r"(vision|connector)\..*"

    def sees_through(self, module: str) -> bool:
        """Whether an adapter of that module changes what `encode_image` gives."""
        return re.fullmatch(self.tower, module) is not None

    def draws(self, grid: tuple[int, int]) -> bool:
        """Whether pictures of that (height, width) in image tokens can be drawn."""
        if self.grids:
            return grid in self.grids
        return all(0 < n <= most for n, most in zip(grid, self.max_grid, strict=True))


@runtime_checkable
class Backbone(Protocol):
    """A unified multimodal model as pure functions of its parameters."""

    @property
    def spec(self) -> Spec: ...

    def encode_image(self, params: Params, image: Image) -> Float[Array, "B M D"]:
        """Rows that stand for a picture in a prompt."""
        ...

    def encode_target(
        self, params: Params, pixels: Float[Array, "B H W 3"], key: Key[Array, ""] | None
    ) -> Target:
        """Pictures in [0, 1] as generation targets; `key=None` takes the mean of the posterior."""
        ...

    def encode_latents(self, params: Params, target: Target) -> Float[Array, "B L D"]:
        """Rows that stand for a clean picture as context (editing)."""
        ...

    def prefill(self, params: Params, prompt: Prompt) -> Prefix:
        """Runs a context once; every later call continues from it."""
        ...

    def extend(
        self,
        params: Params,
        ids: Int[Array, "B G T"],
        mask: Bool[Array, "B G T"],
        prefix: Prefix,
        room: int,
    ) -> tuple[Float[Array, "B G D"], Cache]:
        """Puts G texts on one shared prefix, with room for `room` decoded tokens.

        T may be 0 (G samples of the prefix itself). Returns the state of the last real token.
        """
        ...

    def decode(
        self, params: Params, token: Int[Array, "B G"], cache: Cache
    ) -> tuple[Float[Array, "B G D"], Cache]:
        """Feeds one token to each sample."""
        ...

    def hidden(
        self,
        params: Params,
        prompt: Prompt,
        ids: Int[Array, "B G T"],
        mask: Bool[Array, "B G T"],
    ) -> Float[Array, "B G T D"]:
        """Teacher forcing: row t predicts `ids[..., t]`; the prompt is computed once."""
        ...

    def states(self, params: Params, prompt: Prompt) -> Float[Array, "B T D"]:
        """Final hidden state of every row."""
        ...

    def unembedding(self, params: Params) -> Float[Array, "V D"]:
        """Logits are `hidden @ unembedding.T`."""
        ...

    def condition(self, params: Params, prompts: Prompts, keys: Key[Array, " B"]) -> PyTree:
        """Everything that image sampling needs of the prompts, every guidance branch included."""
        ...

    def start(
        self, params: Params, condition: PyTree, keys: Key[Array, "B G"], sampler: Sampler
    ) -> State:
        """Initial state of G images per prompt; all randomness comes from `keys`."""
        ...

    def step(
        self,
        params: Params,
        condition: PyTree,
        state: State,
        i: int | Int[Array, ""],
        sampler: Sampler,
    ) -> State:
        """One sampling step, 0 <= i < steps; `i` is a Python integer where `spec.unrolled`."""
        ...

    def preview(self, params: Params, condition: PyTree, state: State, sampler: Sampler) -> Target:
        """The clean image that the state predicts; after the last step the sample itself."""
        ...

    def pixels(
        self, params: Params, condition: PyTree, target: Target, keys: Key[Array, "B G"]
    ) -> Float[Array, "B G H W 3"]:
        """Pictures in [0, 1]."""
        ...

    def velocity(
        self,
        params: Params,
        condition: PyTree,
        x: Float[Array, "B G L C"],
        t: Float[Array, "B G"],
        grid: tuple[int, int],
    ) -> Float[Array, "B G L C"]:
        """Unguided velocity (noise - data) at time t; flow backbones."""
        ...

    def terms(
        self,
        params: Params,
        condition: PyTree,
        target: Target,
        draw: Draw | None,
        sampler: Sampler | None = None,
    ) -> Flow | Bits:
        """What the native training loss compares, without guidance.

        Flows need a draw. Bits need none; with a sampler their logits are those of the distribution
        that it draws from, guidance and temperature included (but for `top_p`).
        """
        ...


@runtime_checkable
class Processor(Protocol):
    """The host side of a backbone: text and pictures to arrays and back."""

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end a text."""
        ...

    def prompt(self, turns: Sequence[Sequence[str | Picture]], purpose: Purpose) -> Request:
        """A batch of conversations, padded to a common bucket.

        Purposes: the model is to `answer` with text; one will `ask` it about the turns, by texts
        that `question` makes; it is to `draw` a picture (a picture among the turns is then to be
        edited); or its states are to `embed` the turns.
        """
        ...

    def question(self, text: str) -> list[int]:
        """Ids that follow a prompt made to `ask`: the question, and all up to the answer."""
        ...

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, without markers."""
        ...

    def text(self, ids: Sequence[int]) -> str:
        """Text of token ids, markers and what follows a stop token left out."""
        ...

    def image(self, pictures: Sequence[Picture]) -> Image:
        """Pictures resized by the backbone's own rule and cut into patches."""
        ...

    def view(self, pixels: Float[Array, "B H W 3"]) -> Image:
        """Generated pictures in [0, 1] as the tower sees them once saved; usable inside jit."""
        ...


def encode(
    backbone: Backbone, params: Params, request: Request, key: Key[Array, ""] | None = None
) -> Prompts:
    """Encodes a request's pictures, each once, and puts the rows into its prompts."""
    rows = [backbone.encode_image(params, image) for image in request.images]
    if request.sources is not None:
        target = backbone.encode_target(params, request.sources, key)
        rows.append(backbone.encode_latents(params, target))
    if not rows:
        return request.prompts
    features = jnp.concatenate(rows, axis=1)
    return jax.tree.map(
        lambda prompt: replace(prompt, features=features),
        request.prompts,
        is_leaf=lambda node: isinstance(node, Prompt),
    )


def to_uint8(pixels: Float[Array, "*batch H W 3"]) -> UInt8[Array, "*batch H W 3"]:
    """Pictures in [0, 1] as 8-bit values, truncated as the official decoders do."""
    return (jnp.clip(pixels, 0, 1) * 255).astype(jnp.uint8)
