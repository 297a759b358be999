"""Ask, Solve, Generate: unified multimodal models that improve themselves on unlabeled images.

The names below are the public face; each is imported when it is first used. Everything else is
private by convention: it may change from one release to the next.

    import asg_jax

    model = asg_jax.open_model("bagel-tiny")
    (picture,) = model.draw("a red circle", steps=16, guidance=2.5)
    print(model.ask(picture, "what color is the circle?"))
    print(model.score(picture, "what color is the circle?", ["red", "blue"]))
    asg_jax.evolve("bagel_tiny", folder="runs/mine", steps=20)
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from asg_jax.backbone import (
        Backbone,
        Image,
        Params,
        Processor,
        Prompt,
        Request,
        Sampler,
    )
    from asg_jax.engine.method import Method, Preset
    from asg_jax.errors import UserError
    from asg_jax.methods import METHODS
    from asg_jax.prompts import LANGUAGES
    from asg_jax.prompts.language import Language
    from asg_jax.signals.table import DRAWINGS, QUESTIONS, Signal
    from asg_jax.train.evaluate.judges import evaluate
    from asg_jax.train.evaluate.settings import EvalSettings
    from asg_jax.train.evolve.config import RunConfig
    from asg_jax.train.evolve.start import evolve, load_run
    from asg_jax.train.opened import Answer, OpenModel, open_model

_HOMES = {
    "asg_jax.backbone": "Backbone Image Params Processor Prompt Request Sampler",
    "asg_jax.engine.method": "Method Preset",
    "asg_jax.errors": "UserError",
    "asg_jax.methods": "METHODS",
    "asg_jax.prompts": "LANGUAGES",
    "asg_jax.prompts.language": "Language",
    "asg_jax.signals.table": "DRAWINGS QUESTIONS Signal",
    "asg_jax.train.evaluate.judges": "evaluate",
    "asg_jax.train.evaluate.settings": "EvalSettings",
    "asg_jax.train.evolve.config": "RunConfig",
    "asg_jax.train.evolve.start": "evolve load_run",
    "asg_jax.train.opened": "Answer OpenModel open_model",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [  # said again for type checkers, which read no expressions here; a test compares
    "Answer",
    "Backbone",
    "DRAWINGS",
    "EvalSettings",
    "Image",
    "LANGUAGES",
    "Language",
    "METHODS",
    "Method",
    "OpenModel",
    "Params",
    "Preset",
    "Processor",
    "Prompt",
    "QUESTIONS",
    "Request",
    "RunConfig",
    "Sampler",
    "Signal",
    "UserError",
    "evaluate",
    "evolve",
    "load_run",
    "open_model",
]


def __getattr__(name: str) -> Any:
    """Imports a public name at its first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'asg_jax' has no attribute '{name}'")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
