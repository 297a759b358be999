"""Which linear maps of BAGEL each role adapts."""

from __future__ import annotations

from asg_jax.adapters import LoRASpec

_PROJECTIONS = r"((q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"

# Text roles never run the generation expert; the Generator reads its prompt with the other one.
ROLES: dict[str, tuple[LoRASpec, ...]] = {
    "proposer": (LoRASpec(rf"language\.layers\.und\.{_PROJECTIONS}"),),
    "solver": (LoRASpec(rf"language\.layers\.und\.{_PROJECTIONS}"),),
    "generator": (LoRASpec(rf"language\.layers\.(und|gen)\.{_PROJECTIONS}"),),
}
