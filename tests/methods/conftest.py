"""The tiny random models, and the method that tests of whole steps share."""

from tests.tiny import asg, model

__all__ = ["asg", "model"]
