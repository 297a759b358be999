"""Ways in which a model improves itself: short compositions of rollouts, signals and objectives.

A method is a file here (or a folder, if it is long) and one line in `METHODS`.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from asg_jax.engine.method import Preset
from asg_jax.errors import UserError
from asg_jax.methods import evolmm, gvu, internal_gap, seer, silmm, srum, suder
from asg_jax.methods.asg import ABLATIONS, Asg, Settings

METHODS: dict[str, Preset] = {
    "asg": Preset(Settings, Asg, ABLATIONS),
    "suder_grpo": Preset(suder.Settings, suder.Suder, fit=suder.fit_grpo),
    "suder_simpo": Preset(suder.Settings, suder.Suder, fit=suder.fit_simpo),
    "gvu": Preset(gvu.Settings, gvu.GvU, fit=gvu.fit),
    "internal_gap_sft": Preset(
        internal_gap.Settings, internal_gap.InternalGap, fit=internal_gap.fit_sft
    ),
    "internal_gap_dpo": Preset(
        internal_gap.Settings, internal_gap.InternalGap, fit=internal_gap.fit_dpo
    ),
    "srum": Preset(srum.Settings, srum.SRUM, fit=srum.fit),
    "silmm": Preset(silmm.Settings, silmm.SILMM, fit=silmm.fit),
    "silmm_kc": Preset(silmm.Settings, silmm.SILMM, fit=silmm.fit_kc),
    "seer": Preset(seer.Settings, seer.Seer),
    "evolmm": Preset(evolmm.Settings, evolmm.EvoLMM, fit=evolmm.fit),
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
