"""Official names of the modules that checkpoints of models around a Qwen2.5-VL share."""

LAYER = "model.layers.{n}"

# Our module path -> official module name, each pattern a full match.
MODULES: tuple[tuple[str, str], ...] = (
    (r"language\.embed_tokens", "model.embed_tokens"),
    (r"language\.lm_head", "lm_head"),
    (r"language\.und_norm", "model.norm"),
    (r"language\.layers\.und\.input_norm", f"{LAYER}.input_layernorm"),
    (r"language\.layers\.und\.post_norm", f"{LAYER}.post_attention_layernorm"),
    (r"language\.layers\.und\.(\w_proj)", rf"{LAYER}.self_attn.\1"),
    (r"language\.layers\.und\.mlp\.(\w+)", rf"{LAYER}.mlp.\1"),
    (r"vision\.patch_embedding", "visual.patch_embed.proj"),
    (r"vision\.layers\.(norm\d|mlp\.\w+)", r"visual.blocks.{n}.\1"),
    (r"vision\.layers\.(qkv|proj)", r"visual.blocks.{n}.attn.\1"),
    (r"vision\.merger_norm", "visual.merger.ln_q"),
    (r"vision\.merger\.fc1", "visual.merger.mlp.0"),
    (r"vision\.merger\.fc2", "visual.merger.mlp.2"),
)
