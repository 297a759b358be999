"""Judges: what a model gets right, measured outside the training loop."""
