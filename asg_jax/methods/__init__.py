"""Ways in which a model improves itself: short compositions of rollouts, signals and objectives."""
