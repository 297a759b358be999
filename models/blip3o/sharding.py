"""Where the parameters of BLIP3o are cut: matmuls over `fsdp` and `tensor`, no others.

A map into heads, hidden units or the vocabulary is cut over `tensor` at its output, the map back at
its input. Four key-value heads limit `tensor` to 4 at full size.
"""

RULES = (
    (r"language\.embed_tokens\.table", ("tensor", "fsdp")),
    # Logits stay cut over the vocabulary: no device ever needs the whole matrix.
    (r"language\.lm_head\.table", ("fsdp,tensor", None)),
    (
        r".*\.((q|k|v)_proj|(gate|up)_proj|fc1|qkv|to_[qkv]|modulation|ff_in|proj_in)\.kernel",
        ("fsdp", "tensor"),
    ),
    (r".*\.((o|down)_proj|fc2|proj|to_out|ff_out|proj_out)\.kernel", ("tensor", "fsdp")),
    (r"unet\..*(conv[12]|resample)\.kernel", (None, None, "fsdp", "tensor")),
    (r".*\.((q|k|v)_proj|(gate|up)_proj|fc1|qkv|ff_in|proj_in)\.bias", ("tensor",)),
)
