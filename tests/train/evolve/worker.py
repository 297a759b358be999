"""A process of a run without a model, to be killed or to be one of several.

python -m tests.train.evolve.worker FOLDER OPTIONS, where OPTIONS is JSON: seconds per step, sizes
of the pictures, side that they are brought to, mesh axes, and the group of processes to join.
"""

import json
import sys
from dataclasses import replace

from etils import epath

from asg_jax.errors import UserError
from asg_jax.train.evolve import processes, run
from asg_jax.train.evolve.config import Data, MeshAxes
from asg_jax.train.evolve.rehearsal import Rehearsable
from asg_jax.train.mesh import make_mesh
from tests.train.evolve.fake import CONFIG, RULES, FakeMethod, Noise, make_parts


def main(folder: str, options: str) -> int:
    """Runs to the end, or until it is stopped."""
    told = {"seconds": 0.0, "sizes": 1, "side": 0, "mesh": {}, "group": [], **json.loads(options)}
    if told["group"]:
        processes.connect(*told["group"])
    mesh, data = MeshAxes(**told["mesh"]), Data(side=told["side"])

    def assemble(config: object) -> object:
        placement = Rehearsable(make_mesh(mesh.fsdp, mesh.tensor), mesh.rollouts, RULES)
        method = FakeMethod(placement, seconds=told["seconds"])
        return make_parts(method, source=Noise(told["sizes"]))

    run.assemble = assemble  # type: ignore[assignment]
    return run.finish(replace(CONFIG, mesh=mesh, data=data), epath.Path(folder))


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except UserError as error:
        sys.exit(f"asg-jax: {error}")
