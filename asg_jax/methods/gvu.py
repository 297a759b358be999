"""GvU (arXiv 2603.06043): a drawing earns the probability of its prompt, token by token.

R = (prod_j p(y_j | drawing, y_<j))^(1/L), compared in its group, with an unbiased deviation. The
update is the policy gradient that the backbone has: GRPO on bits, or a surrogate on flows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from asg_jax.engine.drawing import DrawingMethod, DrawingSettings
from asg_jax.engine.selection import Everyone, Selection
from asg_jax.objectives.advantages import GroupStatistic
from asg_jax.signals.table import DRAWINGS, weights_of

REWARD = weights_of(DRAWINGS, gvu=1.0)
# Of the official code; its coefficient of the drift, 0.03, stays as it is.
STATISTIC = GroupStatistic(ddof=1, eps=1e-4)


@dataclass(frozen=True)
class Settings(DrawingSettings):
    """See `asg_jax.engine.drawing.DrawingSettings`; the official judge is the live model.

    Attributes:
      name: how configs and the command line call the preset.
    """

    name: Literal["gvu"] = "gvu"
    weights: Mapping[str, float] = field(default_factory=lambda: REWARD)
    selection: Selection = Everyone(STATISTIC)


def fit(settings: Settings) -> Settings:
    """What makes settings those of GvU."""
    generator = replace(settings.generator, kl_start=0.03, kl_rate=0.0)
    return replace(settings, weights=REWARD, selection=Everyone(STATISTIC), generator=generator)


class GvU(DrawingMethod):
    """Implements `asg_jax.engine.method.Method`."""
