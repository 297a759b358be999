"""Self-evolves `vargpt-tiny` on unlabeled rendered scenes, in minutes on a CPU.

asg-jax evolve --config=vargpt_tiny --workdir=runs/vargpt_tiny

The settings are those of `bagel_tiny`, but for the Generator: its bits are learned from under the
distribution that they were drawn from, without guidance; it adapts the visual decoder and the
projectors too; and because a reward says little about any single bit, more drawings of a prompt
are compared, mostly by the probabilities of the reference answers to questions on it.
"""

from dataclasses import replace

from ml_collections import ConfigDict

from asg_jax.configs import bagel_tiny
from asg_jax.objectives.drawings import BitsGRPO
from asg_jax.signals.table import DRAWINGS, weights_of
from asg_jax.train.evolve.typed import as_config

METHOD = bagel_tiny.METHOD | {
    "images": 16,
    "sampler": replace(bagel_tiny.METHOD["sampler"], guidance=1.0),
    "generator": replace(
        bagel_tiny.METHOD["generator"],
        learning_rate=5e-4,
        kl_target=0.05,  # nats per bit
        modules="drawing",
        objective=BitsGRPO(),
    ),
    "weights": weights_of(
        DRAWINGS,
        probability_fidelity=0.65,
        likelihood_cycle=0.20,
        diversity=0.10,
        contradiction=-0.20,
    ),
}
RUN = replace(
    bagel_tiny.RUN,
    name="vargpt_tiny",
    model="vargpt-tiny",
    steps=200,
    eval=replace(bagel_tiny.RUN.eval, guidance=2.0),
)


def get_config(method: str = "asg") -> ConfigDict:
    """The settings of a run of some method."""
    return as_config(replace(RUN, method=bagel_tiny.fitted(method, METHOD)))
