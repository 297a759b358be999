"""What tests of new backbones, methods and signals need.

`check_backbone` is for those who port a model, `check_signal` for those who write a reward; `Toy`
and `ToyProcessor` are a backbone of a few numbers, which can be computed by hand, and `make_tiny`
makes the small models of the package with random weights.
"""

from asg_jax.testing.checks import check_backbone
from asg_jax.testing.signals import check_signal
from asg_jax.testing.tiny import make_tiny
from asg_jax.testing.toy import Toy, ToyProcessor

__all__ = ["Toy", "ToyProcessor", "check_backbone", "check_signal", "make_tiny"]
