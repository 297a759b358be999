"""The programs that score what is given, without sampling; see `asg_jax.engine.programs`.

Q counts the questions about each drawing, G the captions of each picture, S the draws of time and
noise under which a flow's likelihood is estimated.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from asg_jax.backbone import (
    Backbone,
    Bits,
    Flow,
    Params,
    Processor,
    PyTree,
    Request,
    Target,
    encode,
)
from asg_jax.engine.programs import Viewing, keys, shown_features, view
from asg_jax.objectives.painter import times_and_noise
from asg_jax.ops.bits import bit_log_probs
from asg_jax.ops.vocab import unembed
from asg_jax.pytree import pytree
from asg_jax.rollout.text import Texts, predicting_states, score
from asg_jax.signals.likelihood import mean_log_prob, velocity_likelihood
from asg_jax.signals.verdicts import YesNo, yes_no


@pytree
class Poll:
    """Questions about pictures, read off the first token of an answer that nobody samples.

    Attributes:
      texts: Q questions for each example.
      right: first tokens of the right answer's spellings; negative ones do not count.
      wrong: those of its contrary; where all are negative, whatever is not right is wrong.
    """

    texts: Texts
    right: Int[Array, "B Q K"]
    wrong: Int[Array, "B Q N"]


@pytree
class DrawnPoll:
    """The same questions about each of a prompt's drawings."""

    viewing: Viewing
    poll: Poll


@pytree
class SeenPoll:
    """Questions about the pictures of a request, of which an example may have several."""

    request: Request
    poll: Poll


@pytree
class Telling:
    """Texts that are scored as what is said about pictures.

    Attributes:
      request: the pictures.
      told: what the model is told, G times.
      said: what it says.
    """

    request: Request
    told: Texts
    said: Texts


@pytree
class Depiction:
    """Pictures and G captions of each, of which the request's arrays have axes (B, G, ...).

    Attributes:
      pixels: RGB values in [0, 1].
      captions: G captions of each picture, as requests to draw.
      stream: see `asg_jax.engine.programs.keys`.
    """

    pixels: Float[Array, "B H W 3"]
    captions: Request
    stream: UInt32[Array, "B S"]


@pytree
class Depicted:
    """Log-likelihoods per element of pictures, and how many elements each picture has."""

    likelihood: Float[Array, "B G S"]
    elements: Int[Array, " B"]


def ask_drawings(
    backbone: Backbone, processor: Processor, params: Params, batch: DrawnPoll
) -> YesNo:
    """Probabilities of right and wrong answers, (B, L, Q); a drawing is encoded once."""
    images = batch.viewing.pixels.shape[1]
    seen = view(backbone, processor, params, batch.viewing)
    poll = jax.tree.map(lambda x: jnp.repeat(x, images, axis=0), batch.poll)
    found = answer(backbone, params, seen, poll)
    return jax.tree.map(lambda x: x.reshape(-1, images, x.shape[-1]), found)


def ask_apart(
    backbone: Backbone, processor: Processor, params: Params, batch: DrawnPoll
) -> tuple[YesNo, ...]:
    """The same, (B, L) of each question."""
    found = ask_drawings(backbone, processor, params, batch)
    return tuple(YesNo(found.yes[..., n], found.no[..., n]) for n in range(found.yes.shape[-1]))


def ask_pictures(backbone: Backbone, params: Params, batch: SeenPoll) -> YesNo:
    """Probabilities of right and wrong answers, (B, Q)."""
    return answer(backbone, params, encode(backbone, params, batch.request).main, batch.poll)


def answer(backbone: Backbone, params: Params, seen: PyTree, poll: Poll) -> YesNo:
    """Probabilities of right and wrong answers, (B, Q), to questions about encoded prompts."""
    first = Texts(jnp.zeros_like(poll.texts.ids[..., :1]), jnp.ones_like(poll.texts.mask[..., :1]))
    hidden = predicting_states(backbone, params, seen, poll.texts, first)[..., 0, :]
    found = yes_no(unembed(hidden, backbone.unembedding(params)), poll.right, poll.wrong)
    closed = (poll.wrong >= 0).any(-1)
    return YesNo(found.yes, jnp.where(closed, found.no, 1 - found.yes))


def features(
    backbone: Backbone, processor: Processor, params: Params, viewing: Viewing
) -> Float[Array, "B L F"]:
    """What the vision tower gives of drawings, normalised means over their patches."""
    found = shown_features(view(backbone, processor, params, viewing))
    return found.reshape(-1, viewing.pixels.shape[1], found.shape[-1])


def tell(backbone: Backbone, params: Params, batch: Telling) -> Float[Array, "B G"]:
    """Log-likelihood of texts, in nats per token; the pictures' prefix serves all of them."""
    seen = encode(backbone, params, batch.request).main
    scored = score(backbone, params, seen, batch.told, batch.said)
    return mean_log_prob(scored.plain_log_prob, batch.said.mask)


def depict(
    backbone: Backbone, draws: int, shift: float, params: Params, batch: Depiction
) -> Depicted:
    """Log-likelihood of every picture under each of its captions, per element.

    On bits it is the exact mean log-probability, and S is 1. On flows each of the S = `draws` pairs
    of time and noise, the same for all captions of a picture, gives minus the squared error of the
    velocity (`signals.likelihood.velocity_likelihood`). A picture is encoded once, and nothing is
    guided.

    Args:
      backbone: static under jit.
      draws: S; static under jit.
      shift: moves the times towards noise, as the sampler's does; static under jit.
      params: parameters that the drawing model has.
      batch: pictures and captions.
    """
    groups = jax.tree.leaves(batch.captions)[0].shape[1]
    target = backbone.encode_target(params, batch.pixels, None)
    captions = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch.captions)
    again = lambda x: jnp.repeat(x, groups, axis=0)
    of_condition, of_draws = jnp.moveaxis(keys(batch.stream, 2), 1, 0)
    prompts = encode(backbone, params, captions)
    condition = backbone.condition(params, prompts, again(of_condition))
    values = target.values[:, None]
    if backbone.spec.kind == "bits":
        terms = backbone.terms(params, condition, Target(again(values), target.grid), None)
        assert isinstance(terms, Bits)  # by the kind of the backbone
        found = bit_log_probs(terms.logits, terms.bits).mean((-2, -1))
    else:
        shared = jax.tree.map(again, times_and_noise(of_draws, values, draws, shift))
        repeated = again(jnp.repeat(values, draws, axis=1))
        terms = backbone.terms(params, condition, Target(repeated, target.grid), shared)
        assert isinstance(terms, Flow)  # by the kind of the backbone
        found = velocity_likelihood(terms.prediction, terms.goal)
    size = jnp.full(len(values), values.shape[-2] * values.shape[-1])
    return Depicted(found.reshape(-1, groups, found.shape[-1]), size)
