"""Which linear maps of VARGPT-v1.1 each role adapts, and what else the Generator may."""

from __future__ import annotations

from asg_jax.adapters import LoRASpec

_LANGUAGE = LoRASpec(r"language\.layers\.und\.((q|k|v|o)_proj|mlp\.(gate|up|down)_proj)")

# The picture runs through the language model, so its projections alone already change drawings.
ROLES: dict[str, tuple[LoRASpec, ...]] = {
    "proposer": (_LANGUAGE,),
    "solver": (_LANGUAGE,),
    "generator": (_LANGUAGE,),
    # A larger Generator (`modules="drawing"`): the visual decoder and its projectors learn too.
    "drawing": (
        _LANGUAGE,
        LoRASpec(r"decoder\.blocks\.(sa\.(qkv|proj)|ca\.(q|kv|proj)|mlp\.fc[12])"),
        LoRASpec(r"(to|from)_language\.fc[12]"),
    ),
}
