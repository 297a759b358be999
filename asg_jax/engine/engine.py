"""A model at work: its roles' parameters, and its programs, each compiled once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from PIL.Image import Image as Picture
from PIL.ImageOps import fit

from asg_jax.adapters import LoRASpec, init_roles
from asg_jax.backbone import Params, PyTree, Request, Sampler, host
from asg_jax.engine import programs, scoring
from asg_jax.engine.method import Examples
from asg_jax.engine.model import UnifiedModel
from asg_jax.engine.placement import Placement, Program
from asg_jax.engine.programs import (
    Comparison,
    Explanation,
    Inquiry,
    Lengths,
    Likeness,
    Order,
    Remark,
    Replies,
    Talk,
    Viewing,
)
from asg_jax.engine.roles import Metrics, Optimizer, Role, adapted, start
from asg_jax.engine.scoring import Depicted, Depiction, DrawnPoll, Poll, SeenPoll, Telling
from asg_jax.engine.spending import evaluations, picture_tokens, rows, text_tokens
from asg_jax.engine.state import TrainState
from asg_jax.engine.texts import Scribe
from asg_jax.objectives.texts import Said
from asg_jax.ops.slices import part, uncut
from asg_jax.prompts.language import Language
from asg_jax.rollout.image import Drawings
from asg_jax.rollout.text import Texts
from asg_jax.signals.verdicts import YesNo


@dataclass(frozen=True)
class Moment:
    """A step's examples, their pictures on devices.

    Attributes:
      examples: what the step works on.
      request: the pictures as every role sees them whose adapter leaves the vision tower alone.
      pictures: the pictures as the others see them, not yet encoded.
      pixels: the pictures in [0, 1] as they are to be drawn; None where `prepare` was not told
        their size.
    """

    examples: Examples
    request: Request
    pictures: Request
    pixels: Float[Array, "B H W 3"] | None = None


class Learned(NamedTuple):
    """What a step's learning gives.

    Attributes:
      state: what the step leaves.
      metrics: what people read, by name.
      judged: signals and rewards, the first axis of each array counting examples.
    """

    state: TrainState
    metrics: Metrics
    judged: Any


JudgeKind = Literal["live", "frozen", "ema"]
# (base, state, batch) with static slices in front -> what was learned
Learn = Callable[[int, PyTree, TrainState, Any], Learned]


@dataclass(frozen=True, eq=False)
class Engine:
    """A model at work.

    Attributes:
      model: what is worked with.
      language: what prompts and answers are in.
      lengths: room for every sort of text.
      placement: how batches lie on devices.
      micro: examples that each device takes at a time in updates and drawings; None is all.
      spent: token-forwards since the last bill, see `asg_jax.engine.spending`.
    """

    model: UnifiedModel
    language: Language
    lengths: Lengths
    placement: Placement
    micro: int | None = None
    spent: Counter[str] = field(default_factory=Counter)
    _compiled: dict[Any, Callable[..., Any]] = field(default_factory=dict)

    @cached_property
    def scribe(self) -> Scribe:
        """Reads and writes."""
        return Scribe(self.model.processor, self.language, self.lengths)

    def modules(self, settings: Mapping[str, Role]) -> dict[str, list[LoRASpec]]:
        """What every role adapts; see `asg_jax.engine.roles.adapted`."""
        return {name: adapted(name, role, self.model.modules) for name, role in settings.items()}

    def start(
        self,
        seed: int | np.uint32,
        optimizer: Optimizer,
        settings: Mapping[str, Role],
        memory: PyTree = (),
    ) -> TrainState:
        """The state before the first step: every role has an adapter that changes nothing yet.

        Args:
          seed: the run's; every random number depends on it.
          optimizer: what the roles' updates share.
          settings: how every role learns.
          memory: what the method itself remembers.
        """
        adapters = init_roles(jax.random.key(seed), self.model.base, self.modules(settings))
        roles = {name: start(optimizer, role, adapters[name]) for name, role in settings.items()}
        return TrainState(jnp.asarray(seed, jnp.uint32), jnp.int32(0), roles, jnp.int32(0), memory)

    def params(self, state: TrainState, role: str | None) -> Params:
        """The model as a role; None is the frozen model."""
        return Params(self.model.base, None if role is None else state.roles[role].adapter)

    def judge(self, state: TrainState, kind: JudgeKind, role: str) -> Params:
        """The model as the one that judges: a role as it is, the frozen model, or its average."""
        if kind == "ema":
            return Params(self.model.base, state.roles[role].evaluated)
        return self.params(state, role if kind == "live" else None)

    def prepare(self, pictures: Sequence[Picture], grid: tuple[int, int] | None = None) -> Request:
        """Pictures as arrays on the host.

        Args:
          pictures: what a step works on, one an example.
          grid: (height, width) in image tokens at which they are to be drawn themselves, if so.
        """
        request = self.scribe.pictures(pictures)
        if grid is None:
            return request
        side = self.model.backbone.spec.token_pixels
        size = grid[1] * side, grid[0] * side
        fitted = [np.asarray(fit(picture.convert("RGB"), size)) for picture in pictures]
        return replace(request, sources=host(np.stack(fitted).astype(np.float32) / 255))

    def moment(self, examples: Examples) -> Moment:
        """A step's pictures on devices, encoded once for all roles that can share this."""
        pictures = self.placement.put(examples.request)
        pixels, pictures = pictures.sources, replace(pictures, sources=None)
        self.spent["scoring"] += rows(pictures)
        request = self._run(programs.see)(Params(self.model.base), pictures)
        return Moment(examples, request, pictures, pixels)

    def blank(self, examples: Examples) -> Moment:
        """The same step without its pictures: nothing but texts."""
        bare = self.placement.put(self.scribe.pictures([None] * len(examples.ids)))
        return Moment(examples, bare, bare)

    def seen(self, params: Params, moment: Moment) -> Request:
        """The step's pictures as a role sees them."""
        reach = any(map(self.model.backbone.spec.sees_through, params.adapter or ()))
        return moment.pictures if reach else moment.request

    def continue_texts(
        self,
        params: Params,
        tokens: int,
        moment: Moment,
        texts: Texts,
        temperature: float | Float[np.ndarray, " G"],
        purpose: int,
    ) -> Said:
        """Lets a role continue texts about the step's pictures; on devices.

        Args:
          params: the role.
          tokens: most tokens of what it says.
          moment: seed, step and examples that the random numbers depend on.
          texts: what the role is told, as NumPy arrays.
          temperature: divides the logits; 0 is greedy.
          purpose: keeps these random numbers apart from those of other rollouts.
        """
        warmth = np.broadcast_to(np.float32(temperature), texts.ids.shape[:2])
        told = self.placement.put((texts, warmth, moment.examples.stream(purpose)))
        talk = Talk(self.seen(params, moment), *told)
        self.spent["sampling"] += rows(talk.request) + text_tokens(talk.texts, tokens)
        program = self._run(programs.continue_texts, tokens, self.model.processor.stop_ids)
        return Said(talk.request, talk.texts, program(params, talk))

    def order(self, captions: Sequence[str], examples: Examples, purpose: int) -> Order:
        """Captions to be drawn, one for each example; on devices."""
        stream = host(examples.stream(purpose))
        return self.placement.put(Order(self.scribe.order(captions), stream))

    def viewing(
        self, pixels: Float[Array, "B L H W 3"], grid: tuple[int, int], count: int
    ) -> Viewing:
        """Drawings as pictures that one can be asked about.

        Args:
          pixels: RGB values in [0, 1], on devices.
          grid: their (height, width) in image tokens.
          count: prompts of this process.

        Raises:
          UserError: the vision tower would resize such pictures.
        """
        side = self.model.backbone.spec.token_pixels
        frame = self.scribe.frame(grid[0] * side, grid[1] * side, count)
        return Viewing(pixels, self.placement.put(frame))

    def draw(self, params: Params, sampler: Sampler, images: int, order: Order) -> Drawings:
        """A group of images for each caption; on devices, as all that follows."""
        drawn = self._run(programs.draw, sampler, images, batch=order)(params, order)
        each = evaluations(sampler, self.model.backbone.spec.kind)
        self.spent["sampling"] += rows(order.request) + each * picture_tokens(drawn.values)
        return drawn

    def ask_about(self, params: Params, facts: frozenset[str], inquiry: Inquiry) -> Replies:
        """Answers about drawings, and captions of them: the fields of the replies that are wanted.

        Others than these may be named.
        """
        wanted = facts & names(Replies)
        if not wanted:
            return Replies()
        answers = text_tokens(inquiry.questions, self.lengths.answer) if "answers" in wanted else 0
        told = text_tokens(inquiry.describe, self.lengths.caption) if "captions" in wanted else 0
        self.spent["scoring"] += self._seen(inquiry.viewing, answers + told)
        program = self._run(
            programs.ask_about, self.model.processor, self.lengths, wanted, batch=inquiry
        )
        return program(params, inquiry)

    def remark(self, params: Params, tokens: int, viewing: Viewing, texts: Texts) -> Texts:
        """How texts about drawings go on, greedily; axes (B, L, G, tokens)."""
        batch = Remark(viewing, texts)
        self.spent["scoring"] += self._seen(viewing, text_tokens(texts, tokens))
        program = self._run(programs.remark, self.model.processor, tokens, batch=batch)
        return program(params, batch)

    def compare(self, params: Params, facts: frozenset[str], batch: Comparison) -> Likeness:
        """How drawings, prompts and captions resemble each other: the fields that are wanted.

        Others than these may be named.
        """
        wanted = facts & names(Likeness)
        if not wanted:
            return Likeness()
        texts = batch.prompts.prompt.ids.size
        texts += batch.captions.prompt.ids.size if batch.captions and "captions" in wanted else 0
        self.spent["scoring"] += self._seen(batch.viewing) + texts
        program = self._run(programs.compare, self.model.processor, wanted, batch=batch)
        return program(params, batch)

    def explain(self, params: Params, batch: Explanation) -> Float[Array, "B L"]:
        """Log-likelihood of each prompt as its drawings' caption, in nats per token."""
        texts = batch.describe.ids.size + batch.drawn.ids.size
        self.spent["scoring"] += self._seen(batch.viewing, texts)
        return self._run(programs.explain, self.model.processor, batch=batch)(params, batch)

    def ask_drawings(self, params: Params, viewing: Viewing, poll: Poll) -> YesNo:
        """How likely right and wrong answers about drawings are, (B, L, Q)."""
        batch = DrawnPoll(viewing, poll)
        self.spent["scoring"] += self._seen(viewing, poll.texts.ids.size)
        program = self._run(scoring.ask_drawings, self.model.processor, batch=batch)
        return program(params, batch)

    def ask_apart(self, params: Params, viewing: Viewing, poll: Poll) -> tuple[YesNo, ...]:
        """The same, (B, L) of each question."""
        batch = DrawnPoll(viewing, poll)
        self.spent["scoring"] += self._seen(viewing, poll.texts.ids.size)
        return self._run(scoring.ask_apart, self.model.processor, batch=batch)(params, batch)

    def features(self, params: Params, viewing: Viewing) -> Float[Array, "B L F"]:
        """What the vision tower gives of drawings."""
        self.spent["scoring"] += self._seen(viewing)
        return self._run(scoring.features, self.model.processor, batch=viewing)(params, viewing)

    def ask_pictures(self, params: Params, request: Request, poll: Poll) -> YesNo:
        """How likely right and wrong answers about the pictures of a request are, (B, Q)."""
        batch = SeenPoll(request, poll)
        self.spent["scoring"] += rows(request) + poll.texts.ids.size
        return self._run(scoring.ask_pictures, batch=batch)(params, batch)

    def tell(self, params: Params, moment: Moment, told: Texts, said: Texts) -> Float[Array, "B G"]:
        """Log-likelihood of texts about a step's pictures, in nats per token."""
        batch = Telling(self.seen(params, moment), told, said)
        self.spent["scoring"] += rows(batch.request) + told.ids.size + said.ids.size
        return self._run(scoring.tell, batch=batch)(params, batch)

    def depict(self, params: Params, draws: int, shift: float, batch: Depiction) -> Depicted:
        """Log-likelihood of pictures under their captions, per element; see `scoring.depict`."""
        found = self._run(scoring.depict, draws, shift, batch=batch)(params, batch)
        _, groups, times = found.likelihood.shape
        self.spent["scoring"] += rows(batch.captions) + groups * times * self._tokens(batch.pixels)
        return found

    def bill(self) -> dict[str, float]:
        """Token-forwards since the last bill, as metrics."""
        bill = {f"cost/{name}": float(tokens) for name, tokens in self.spent.items()}
        self.spent.clear()
        return bill

    def _seen(self, viewing: Viewing, texts: int = 0) -> int:
        """Tokens of drawings that are looked at, and of the texts about each of them."""
        return viewing.pixels.shape[1] * (rows(viewing.frame) + texts)

    def _tokens(self, pixels: Float[Array, "B H W 3"]) -> int:
        """Image tokens of pictures that are drawn again, those of the last scale alone."""
        batch, height, width, _ = pixels.shape
        return batch * height * width // self.model.backbone.spec.token_pixels**2

    def slices(self, batch: PyTree) -> int:
        """Into how many parts a batch is cut so that no device takes more than `micro` examples."""
        rows = len(jax.tree.leaves(batch)[0]) // self.placement.shares
        fits = lambda n: rows % n == 0 and (self.micro is None or rows // n <= self.micro)
        return next(filter(fits, range(1, rows + 1)), 1)

    def _run(self, function: Callable[..., Any], *static: Any, batch: PyTree = None) -> Program:
        """The compiled form of a program with these static arguments, in slices of a batch."""
        slices = 1 if batch is None else self.slices(batch)
        name = (function, static, slices)
        if name not in self._compiled:
            whole = partial(function, self.model.backbone, *static)
            program: Any = whole if slices == 1 else partial(_in_slices, whole, slices)
            program.__name__ = function.__name__  # as compilers and profiles call it
            self._compiled[name] = self.placement.compile(program)
        return self._compiled[name]

    def learn(self, learn: Learn, state: TrainState, batch: Any) -> Learned:
        """Runs the learning of a step, which takes the old state's memory for the new one.

        The new state lies on devices as the old one did; `batch.stream` counts examples.
        """
        slices = self.slices(batch.stream)
        name = (learn, slices)
        if name not in self._compiled:

            def update(base: PyTree, state: TrainState, batch: Any) -> tuple[Any, Any, Any]:
                learned = learn(slices, base, state, batch)
                return learned.state, learned.metrics, learned.judged

            update.__name__ = "learn"
            self._compiled[name] = self.placement.compile_update(update)
        return Learned(*self._compiled[name](self.model.base, state, batch))


def names(record: type) -> frozenset[str]:
    """The fields of a record."""
    return frozenset(field.name for field in fields(record))


def _in_slices(program: Program, slices: int, params: Params, batch: PyTree) -> PyTree:
    run = lambda n: program(params, part(batch, slices, n))
    return uncut(jax.lax.map(run, jnp.arange(slices)))
