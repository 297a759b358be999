"""Ask, Solve, Generate (arXiv 2606.27376): a Proposer asks, a Solver answers, a Generator draws."""

from asg_jax.methods.asg.method import Asg
from asg_jax.methods.asg.settings import ABLATIONS, Settings

__all__ = ["ABLATIONS", "Asg", "Settings"]
