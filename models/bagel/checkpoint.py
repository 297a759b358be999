"""Official BAGEL folders: which tensor holds which parameter, loading and export."""

from __future__ import annotations

from pathlib import Path

from jax.sharding import Mesh

from asg_jax.backbone import PyTree
from asg_jax.models import checkpoint as files
from asg_jax.models.bagel.backbone import BagelBackbone
from asg_jax.models.bagel.config import read_config, write_config
from asg_jax.models.bagel.sharding import RULES
from asg_jax.models.checkpoint import Checkpoint, Layout, Source, Tensor
from asg_jax.models.places import new_folder
from asg_jax.models.sharding import shardings
from asg_jax.models.tokenizers import TOKENIZER_FILES

MAIN_FILES = ("ema.safetensors", "model.safetensors")  # the first that exists is read
VAE_FILE = "ae.safetensors"

# Tensors that may stand in a checkpoint without being part of the model: none are known.
UNUSED: tuple[str, ...] = ()

_DECODER = "language_model.model.layers.{n}"
_VISION = "vit_model.vision_model"

# Our module path -> official module name, each pattern a full match.
MODULES: tuple[tuple[str, str], ...] = (
    (r"language\.embed_tokens", "language_model.model.embed_tokens"),
    (r"language\.lm_head", "language_model.lm_head"),
    (r"language\.und_norm", "language_model.model.norm"),
    (r"language\.gen_norm", "language_model.model.norm_moe_gen"),
    (r"language\.layers\.und\.input_norm", f"{_DECODER}.input_layernorm"),
    (r"language\.layers\.gen\.input_norm", f"{_DECODER}.input_layernorm_moe_gen"),
    (r"language\.layers\.und\.post_norm", f"{_DECODER}.post_attention_layernorm"),
    (r"language\.layers\.gen\.post_norm", f"{_DECODER}.post_attention_layernorm_moe_gen"),
    (r"language\.layers\.und\.(\w_proj|\w_norm)", rf"{_DECODER}.self_attn.\1"),
    (r"language\.layers\.gen\.(\w_proj|\w_norm)", rf"{_DECODER}.self_attn.\1_moe_gen"),
    (r"language\.layers\.und\.mlp\.(\w+)", rf"{_DECODER}.mlp.\1"),
    (r"language\.layers\.gen\.mlp\.(\w+)", rf"{_DECODER}.mlp_moe_gen.\1"),
    (r"vision\.(\w+_embedding)", rf"{_VISION}.embeddings.\1"),
    (r"vision\.layers\.(\w+_proj)", rf"{_VISION}.encoder.layers.{{n}}.self_attn.\1"),
    (r"vision\.layers\.(layer_norm\d|mlp\.\w+)", rf"{_VISION}.encoder.layers.{{n}}.\1"),
    (r"vision\.post_layernorm", f"{_VISION}.post_layernorm"),
    (r"(connector\.fc\d|vae2llm|llm2vae)", r"\1"),
    (r"time_embedder\.fc1", "time_embedder.mlp.0"),
    (r"time_embedder\.fc2", "time_embedder.mlp.2"),
    (r"vae\.encoder\.(.*)\.resample", r"encoder.\1.downsample.conv"),
    (r"vae\.decoder\.(.*)\.resample", r"decoder.\1.upsample.conv"),
    (r"vae\.(.*)", r"\1"),
)
# Parameters that are no module's weight or bias.
PARAMETERS = {
    "vision_positions": "vit_pos_embed.pos_embed",
    "latent_positions": "latent_pos_embed.pos_embed",
}


def official_module(path: str) -> str:
    """Official name of one of our modules; see `models.checkpoint.module_name`."""
    return files.module_name(path, MODULES)


def source(path: str, axes: int) -> Source:
    """Official place of one of our parameters, which has `axes` axes."""
    if path in PARAMETERS:
        return Source(PARAMETERS[path], Layout((0, 1)))
    return files.module_source(path, axes, MODULES)


def tables(base: PyTree) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The official tensors of the main file and of the autoencoder's file."""
    main = {name: part for name, part in base.items() if name != "vae"}
    return files.tensor_table(main, source), files.tensor_table({"vae": base["vae"]}, source)


def load(
    folder: Path, dtype: str = "bfloat16", mesh: Mesh | None = None
) -> tuple[BagelBackbone, PyTree]:
    """Opens an official folder.

    Args:
      folder: holds the json files, `ema.safetensors` (or `model.safetensors`), `ae.safetensors`.
      dtype: what parameters have in memory; the autoencoder is always float32.
      mesh: devices over which the parameters are cut; the default device without it.

    Returns:
      The backbone, which computes in `dtype`, and its base parameters.

    Raises:
      UserError: something is missing, damaged, or belongs to another model.
    """
    backbone = open_config(folder, dtype)
    abstract = backbone.abstract_base(dtype)
    place = shardings(abstract, mesh, RULES) if mesh else None
    checkpoints = [Checkpoint([_main_file(folder)]), Checkpoint([folder / VAE_FILE])]
    for opened, table in zip(checkpoints, tables(abstract), strict=True):
        files.check(opened, table, UNUSED)
    base = {}
    for opened, table, vae in zip(checkpoints, tables(abstract), (False, True), strict=True):
        part = {name: leaf for name, leaf in abstract.items() if (name == "vae") == vae}
        where = {name: place[name] for name in part} if place else None
        base |= files.load(opened, part, table, where)
    return backbone, base


def stored_dtype(folder: Path) -> str:
    """The dtype in which a folder keeps the weights of the network."""
    return files.network_dtype([_main_file(folder)])


def open_config(folder: Path, dtype: str = "bfloat16") -> BagelBackbone:
    """The backbone that the json files of a folder describe, computing in `dtype`.

    Raises:
      UserError: the folder or a json file is missing or damaged.
    """
    files.check_folder(folder, "BAGEL")
    return BagelBackbone(read_config(folder).compute(dtype))


def export(folder: Path, backbone: BagelBackbone, base: PyTree, tokenizer: Path | None) -> None:
    """Writes an official folder: json files, both safetensors files, the tokenizer's files.

    Args:
      folder: a place where nothing is yet, or an empty folder; it appears when it is whole.
      backbone: its configuration goes into the json files.
      base: parameters, written in the dtype in which they are held.
      tokenizer: folder whose tokenizer files are copied, if any.

    Raises:
      UserError: something is there already.
    """
    main, vae = tables(base)
    with new_folder(folder) as part:
        write_config(backbone.config, part)
        files.export(part / MAIN_FILES[0], base, main)
        files.export(part / VAE_FILE, base, vae)
        if tokenizer is not None:
            files.copy_files(TOKENIZER_FILES, tokenizer, part)


def _main_file(folder: Path) -> Path:
    return next((folder / n for n in MAIN_FILES if (folder / n).exists()), folder / MAIN_FILES[0])
