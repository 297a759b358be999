"""Ways in which a model improves itself: short compositions of rollouts, signals and objectives.

A method is a file here (or a folder, if it is long) and one line in `METHODS`.
"""

from collections.abc import Mapping

from asg_jax.engine.method import Preset
from asg_jax.methods.asg import ABLATIONS, Asg, Settings

METHODS: Mapping[str, Preset] = {"asg": Preset(Settings, Asg, ABLATIONS)}
