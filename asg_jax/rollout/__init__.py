"""Sampling of texts and images, and the log-probs of what was sampled."""
