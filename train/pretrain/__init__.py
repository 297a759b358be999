"""Supervised pre-training of a small model on rendered scenes, through the backbone protocol."""
