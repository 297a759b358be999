"""Where the parameters of BAGEL are cut: matmuls over `fsdp` and `tensor`, the rest replicated.

A map into heads, hidden units or the vocabulary is cut over `tensor` at its output, the map back at
its input. Four key-value heads limit `tensor` to 4 at full size.
"""

RULES = (
    (r"language\.embed_tokens\.table", ("tensor", "fsdp")),
    # Logits stay cut over the vocabulary: no device ever needs the whole matrix.
    (r"language\.lm_head\.table", ("fsdp,tensor", None)),
    (r".*\.((q|k|v)_proj|(gate|up)_proj|fc1)\.kernel", ("fsdp", "tensor")),
    (r".*\.(o_proj|out_proj|down_proj|fc2)\.kernel", ("tensor", "fsdp")),
    (r".*\.((q|k|v)_proj|fc1)\.bias", ("tensor",)),
)
