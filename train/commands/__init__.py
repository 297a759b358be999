"""The commands of `asg-jax`: one module each.

A module offers `main(argv: list[str]) -> int | None`; the first line of its docstring is its help
line. Its file name is the command's name, with `_` for `-`; names that begin with `_` are helpers.
"""
