"""Scores of pictures by signals of a method, or by functions of a user."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import Float, UInt8

from asg_jax.backbone import Params
from asg_jax.engine.method import Examples, Method, Scorer
from asg_jax.engine.placement import Placement
from asg_jax.engine.programs import Lengths
from asg_jax.engine.state import TrainState
from asg_jax.engine.texts import Scribe
from asg_jax.errors import UserError
from asg_jax.models.pictures import to_picture
from asg_jax.models.registry import Model
from asg_jax.prompts import LANGUAGES
from asg_jax.signals.table import DRAWINGS, Signal
from asg_jax.train.benchmarks.trials import Trial
from asg_jax.train.evolve.config import Batch, RunConfig
from asg_jax.train.evolve.parts import make_method

# (texts, pictures) -> a score for every picture
Own = Callable[[Sequence[str], UInt8[np.ndarray, "G L H W 3"]], Float[np.ndarray, "G L"]]
Table = Mapping[str, Signal | Own]
Scores = dict[str, Float[np.ndarray, "G L"]]

GROUPS = 8  # scored together
SIDES = 64  # that are tried


def chosen(names: Sequence[str]) -> Table:
    """Signals by name; `MODULE:NAME` is one's own, a `Signal` or a function of texts and pictures.

    Raises:
      UserError: there is none of that name.
    """
    table: dict[str, Signal | Own] = {}
    for name in names or DRAWINGS:
        if ":" in name:
            table[name] = _import(name)
        elif name in DRAWINGS:
            table[name] = DRAWINGS[name]
        else:
            raise UserError(
                f"there is no signal '{name}'; known are {', '.join(DRAWINGS)}, and MODULE:NAME"
                " is one of your own."
            )
    return table


def _import(name: str) -> Signal | Own:
    module, _, attribute = name.partition(":")
    sys.path.insert(0, os.getcwd())  # where a user's module lies beside what is typed
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever a module does while it is imported
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"the signal {name} cannot be imported ({reason}).") from error
    finally:
        sys.path.pop(0)
    if not (isinstance(found, Signal) or callable(found)):
        raise UserError(
            f"{name} is no signal; it must be a function of texts and pictures, or a"
            " asg_jax.signals.table.Signal."
        )
    return cast(Signal | Own, found)


def readable(model: Model, language: str, least: int) -> int:
    """The least side in pixels, from `least` on, of pictures that are drawn and read as they are.

    Raises:
      UserError: there is none that is of use.
    """
    scribe = Scribe(model.processor, LANGUAGES[language], Lengths())
    step = model.backbone.spec.token_pixels
    first = -(-least // step)
    for count in range(first, first + SIDES):
        try:
            scribe.frame(count * step, count * step, 1)
            return count * step
        except UserError:
            continue
    raise UserError(f"the model reads no picture of {least} pixels and a little more as it is.")


@dataclass(frozen=True, eq=False)
class Subject:
    """A model whose signals are tried.

    Attributes:
      model: what looks at the pictures.
      roles: its parameters as a role, by name (`asg_jax.train.evolve.learned.open_roles`).
      config: method and language.
      side: pixels along the sides of the pictures.
      words: tokens of the longest text.
    """

    model: Model
    roles: Mapping[str, Params]
    config: RunConfig
    side: int
    words: int

    def scorer(self, placement: Placement) -> PictureScorer:
        """The method at work, its programs placed in some way."""
        settings = self.config.method
        room = max(self.words + 1, settings.lengths.caption)
        grid = self.side // self.model.backbone.spec.token_pixels
        settings = replace(
            settings,
            lengths=replace(settings.lengths, caption=room),
            sampler=replace(settings.sampler, grid=(grid, grid)),
        )
        config = replace(self.config, method=settings, batch=Batch(GROUPS, GROUPS))
        method = make_method(config, self.model, placement)
        return PictureScorer(method, self._state(method), self.config.eval.seed)

    def _state(self, method: Method) -> TrainState:
        """Roles as they were opened."""
        state = method.init(self.config.seed)
        known = {name: self.roles[name].adapter for name in state.roles}
        learned = {
            name: replace(role, adapter=role.adapter if known[name] is None else known[name])
            for name, role in state.roles.items()
        }
        return replace(state, roles=learned)


@dataclass(frozen=True, eq=False)
class PictureScorer:
    """A method that scores pictures, and the state of its roles."""

    method: Method
    state: TrainState
    seed: int

    def scores(self, trial: Trial, table: Table) -> Scores:
        """Scores of all pictures of a trial, by signal."""
        read = {name: one for name, one in table.items() if isinstance(one, Signal)}
        groups = len(trial.texts)
        found: Scores = {
            name: _checked(name, one, trial)
            for name, one in table.items()
            if not isinstance(one, Signal)
        }
        if read:
            parts = [self._part(trial, read, start) for start in range(0, groups, GROUPS)]
            joined = jax.tree.map(lambda *x: np.concatenate(x)[:groups], *parts)
            found |= {name: np.asarray(x, np.float64) for name, x in joined.items()}
        return {name: found[name] for name in table}

    def _part(
        self, trial: Trial, signals: Mapping[str, Signal], start: int
    ) -> Mapping[str, Float[np.ndarray, "B L"]]:
        """Scores of the groups from `start` on, the last of them as often as there is room."""
        rows = np.minimum(np.arange(start, start + GROUPS), len(trial.texts) - 1)
        request = None
        if any(signal.compares for signal in signals.values()):
            assert trial.references is not None  # those who choose signals see to it
            request = self.method.prepare([to_picture(trial.references[n]) for n in rows])
        places = tuple(range(start, start + GROUPS))
        examples = Examples(self.seed, 0, places, tuple(range(GROUPS)), request)
        texts = [trial.texts[n] for n in rows]
        assert isinstance(self.method, Scorer)
        return self.method.score(self.state, examples, texts, trial.pictures[rows], signals)


def _checked(name: str, own: Own, trial: Trial) -> Float[np.ndarray, "G L"]:
    """Scores of a user's function.

    Raises:
      UserError: it fails, or returns something else than a number for every picture.
    """
    wanted = trial.pictures.shape[:2]
    try:
        found = np.asarray(own(trial.texts, trial.pictures), np.float64)
    except Exception as error:  # whatever a user's function does
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"the signal {name} failed ({reason}).") from error
    if found.shape != wanted or not np.isfinite(found).all():
        raise UserError(
            f"the signal {name} must return finite numbers of shape {wanted}, one for each text"
            f" and picture; it returned shape {found.shape}."
        )
    return found
