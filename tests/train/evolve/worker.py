"""A process of a run without a model, to be killed or to be one of several.

python -m tests.train.evolve.worker FOLDER SECONDS_PER_STEP [COORDINATOR PROCESSES PROCESS]
"""

import sys
from pathlib import Path

from asg_jax.train.evolve import processes, run
from asg_jax.train.mesh import make_mesh
from tests.train.evolve.fake import CONFIG, FakeMethod, make_parts


def main(folder: str, seconds: str, *group: str) -> None:
    """Runs to the end, or until it is stopped."""
    if group:
        processes.connect(group[0], int(group[1]), int(group[2]))
    run.assemble = lambda config: make_parts(FakeMethod(make_mesh(), seconds=float(seconds)))
    run.claim(Path(folder), CONFIG)
    run.finish(CONFIG, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
