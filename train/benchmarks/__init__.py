"""Benchmarks: what `asg-jax bench` measures, one module each."""
