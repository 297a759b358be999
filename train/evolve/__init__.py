"""Self-evolution: the loop, its data, checkpoints and logs, and what several runs tell together."""
