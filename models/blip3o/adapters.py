"""Which linear maps of BLIP3o each role adapts."""

from __future__ import annotations

from asg_jax.adapters import LoRASpec

_LANGUAGE = LoRASpec(r"language\.layers\.und\.((q|k|v|o)_proj|mlp\.(gate|up|down)_proj)")

# Patterns match whole paths: the vision tower and the transformer have projections of these names.
ROLES: dict[str, tuple[LoRASpec, ...]] = {
    "proposer": (_LANGUAGE,),
    "solver": (_LANGUAGE, LoRASpec(r"vision\.merger\.fc[12]", rank=4, alpha=8.0, fixed=True)),
    "generator": (
        _LANGUAGE,
        # The output map of the cross-attention is that of the self-attention, too.
        LoRASpec(r"dit\.(layers\.(attn2\.to_[qkv]|to_out)|caption_projection\.fc[12])"),
    ),
}
