"""Self-evolves `blip3o-tiny` on unlabeled rendered scenes, on a CPU.

asg-jax evolve --config=blip3o_tiny --workdir=runs/blip3o_tiny

The settings are those of `bagel_tiny`: both draw by a flow, this one by that of features instead of
latents. The Generator adapts the language model, whose queries say what to draw, and the
transformer that draws; the decoder from features to pixels stays as it is. Drawings are judged by
the likelihood of their prompt and, a little, by whether the model says that they show it. In groups
of its own drawings that goes with an exact detector (correlation .62); comparing answers with
references hardly does (.33), for it is at chance on this model.
"""

from dataclasses import replace

from ml_collections import ConfigDict

from asg_jax.configs import bagel_tiny
from asg_jax.methods import settings_for
from asg_jax.signals.table import DRAWINGS, weights_of
from asg_jax.train.evolve.typed import as_config

METHOD = bagel_tiny.METHOD | {"weights": weights_of(DRAWINGS, gvu=0.8, p_yes=0.2)}
RUN = replace(
    bagel_tiny.RUN,
    name="blip3o_tiny",
    model="blip3o-tiny",
    steps=200,
    method=settings_for("asg", METHOD),
)


def get_config(method: str = "asg") -> ConfigDict:
    """The settings of a run of some method."""
    return as_config(replace(RUN, method=bagel_tiny.fitted(method, METHOD)))
