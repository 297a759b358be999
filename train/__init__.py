"""The programs: data, mesh, loop, checkpoints, evaluation, benchmarks and the command line."""
