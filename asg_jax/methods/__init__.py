"""Ways in which a model improves itself: short compositions of rollouts, signals and objectives.

A method is a file here (or a folder, if it is long) and one line in `METHODS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from asg_jax.engine.method import Ablation, Preset
from asg_jax.errors import UserError
from asg_jax.methods import evolmm, gvu, internal_gap, seer, silmm, srum, suder
from asg_jax.methods.asg import ABLATIONS, Asg, Settings

# The control, and who judges, of every method that has these settings.
CONTROL: Mapping[str, Ablation] = {"shuffled_rewards": {"shuffled": True}}
JUDGES: Mapping[str, Ablation] = {
    f"{judge}_judge": {"judge": judge} for judge in ("live", "frozen", "ema")
}


def _related(
    module: Any, make: Callable[..., Any], fit: Callable[[Any], Any], **more: Any
) -> Preset:
    judged = any(field.name == "judge" for field in fields(module.Settings))
    return Preset(module.Settings, make, {**CONTROL, **(JUDGES if judged else {})}, fit, **more)


METHODS: dict[str, Preset] = {
    "asg": Preset(Settings, Asg, ABLATIONS),
    "suder_grpo": _related(suder, suder.Suder, suder.fit_grpo, targets=True),
    "suder_simpo": _related(suder, suder.Suder, suder.fit_simpo, targets=True),
    "gvu": _related(gvu, gvu.GvU, gvu.fit),
    "internal_gap_sft": _related(internal_gap, internal_gap.InternalGap, internal_gap.fit_sft),
    "internal_gap_dpo": _related(internal_gap, internal_gap.InternalGap, internal_gap.fit_dpo),
    "srum": _related(srum, srum.SRUM, srum.fit),
    "silmm": _related(silmm, silmm.SILMM, silmm.fit, stages=silmm.rounds),
    "silmm_kc": _related(silmm, silmm.SILMM, silmm.fit_kc, stages=silmm.rounds),
    "seer": _related(seer, seer.Seer, seer.fit, stages=seer.stages),
    "evolmm": _related(evolmm, evolmm.EvoLMM, evolmm.fit),
}


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
      UserError: there is none.
    """
    if name not in METHODS:
        raise UserError(f"there is no method '{name}'; choose one of: {', '.join(METHODS)}.")
    return METHODS[name]


def settings_for(name: str, values: Mapping[str, Any]) -> Any:
    """A method's settings with those of the values that it knows: what fits a model fits them all.

    What makes the method that one it keeps, whatever the values say.

    Raises:
      UserError: there is no method of that name.
    """
    chosen = preset(name)
    known = {field.name for field in fields(chosen.settings)}
    fitted = {key: value for key, value in values.items() if key in known}
    return chosen.fit(chosen.settings(**fitted))
