"""Ask, Solve, Generate: unified multimodal models that improve themselves on unlabeled images."""

__version__ = "0.1.0"
