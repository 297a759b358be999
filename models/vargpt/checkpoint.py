"""Official VARGPT-v1.1 folders: which tensor holds which parameter, loading and export."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jax.sharding import Mesh
from safetensors.numpy import save_file

from asg_jax.backbone import PyTree
from asg_jax.models import checkpoint as files
from asg_jax.models.checkpoint import (
    Checkpoint,
    Framed,
    Layout,
    Patches,
    Source,
    Tensor,
    weight_files,
)
from asg_jax.models.layers.qwen import official
from asg_jax.models.places import new_folder
from asg_jax.models.sharding import shardings
from asg_jax.models.tokenizers import TOKENIZER_FILES
from asg_jax.models.vargpt.backbone import VargptBackbone
from asg_jax.models.vargpt.config import VargptConfig, read_config, write_config
from asg_jax.models.vargpt.sharding import RULES

FILES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")

# The whole embedding stands in a checkpoint, the network uses one row of it.
SOS = "sos_embedding.weight"
_MASK = "vae_local.quantizer.lfq.mask"
# Tensors of a checkpoint that no output depends on.
UNUSED: tuple[str, ...] = (
    r"image_gen_projector(_out)?\.ln_q\.(weight|bias)",
    r"vargpt_gen\.text_proj_for_ca\.[02]\.(weight|bias)",
    r"vargpt_gen\.text_proj_for_sos\.ca\.mat_q",
    r"vargpt_gen\.(.*\.)?zero_k_bias",
    re.escape(_MASK),
)

_BLOCK = "vargpt_gen.BLOCK"  # stands for `block_name`
_SOS_POOL = "vargpt_gen.text_proj_for_sos.ca"

# Our module path -> official module name, each pattern a full match.
MODULES: tuple[tuple[str, str], ...] = (
    *official.MODULES,
    (r"vision\.layers\.(fc\d)", r"visual.blocks.{n}.mlp.\1"),
    (r"to_language\.fc1", "image_gen_projector.mlp.0"),
    (r"to_language\.fc2", "image_gen_projector.mlp.2"),
    (r"from_language\.fc1", "image_gen_projector_out.mlp.0"),
    (r"from_language\.fc2", "image_gen_projector_out.mlp.2"),
    (r"decoder\.(word_embed|text_norm|head)", r"vargpt_gen.\1"),
    (r"decoder\.level", "vargpt_gen.lvl_embed"),
    (r"decoder\.pool_kv", f"{_SOS_POOL}.mat_kv"),
    (r"decoder\.pool_proj", f"{_SOS_POOL}.proj"),
    (r"decoder\.shared_modulation", "vargpt_gen.shared_ada_lin.1"),
    (r"decoder\.head_modulation", "vargpt_gen.head_nm.ada_lin.1"),
    (r"decoder\.blocks\.sa\.qkv", f"{_BLOCK}.sa.mat_qkv"),
    (r"decoder\.blocks\.ca\.q", f"{_BLOCK}.ca.mat_q"),
    (r"decoder\.blocks\.ca\.kv", f"{_BLOCK}.ca.mat_kv"),
    (r"decoder\.blocks\.mlp\.(fc\d)", rf"{_BLOCK}.ffn.\1"),
    (r"decoder\.blocks\.(.*)", rf"{_BLOCK}.\1"),
    (r"vae\.encoder\.(.*)\.resample", r"vae_local.encoder.\1.downsample.conv.conv"),
    (r"vae\.decoder\.(.*)\.resample", r"vae_local.decoder.\1.upsample.conv.conv"),
    (r"vae\.(.*norm.*)", r"vae_local.\1.norm"),
    (r"vae\.(.*)", r"vae_local.\1.conv"),
)


@dataclass(frozen=True)
class Row(Layout):
    """One row of a table; the others are zero unless they are copied from somewhere."""

    index: int = 0
    rows: int = 0

    def store(self, ours: np.ndarray) -> np.ndarray:
        table = np.zeros((self.rows, *ours.shape), ours.dtype)
        table[self.index] = ours
        return table

    def load(self, official: np.ndarray) -> np.ndarray:
        return official[self.index]


def block_name(config: VargptConfig) -> str:
    """Official name of a block of the visual decoder."""
    chunk = config.decoder.chunk
    return f"vargpt_gen.block_chunks.{{n:/{chunk}}}.module.{{n:%{chunk}}}"


def modules(config: VargptConfig) -> list[tuple[str, str]]:
    """MODULES with the names that blocks of the visual decoder have under a configuration."""
    return [(pattern, name.replace(_BLOCK, block_name(config))) for pattern, name in MODULES]


def official_module(config: VargptConfig, path: str) -> str:
    """Official name of one of our modules; see `models.checkpoint.module_name`."""
    return files.module_name(path, modules(config))


def parameters(config: VargptConfig) -> dict[str, Source]:
    """Official places of the parameters that are no module's weight or bias."""
    vector, start, block = Layout((0,)), config.tokens.draw_start, block_name(config)
    return {
        "decoder.start": Source("vargpt_gen.pos_start", Framed((0,), before=2)),
        "decoder.drawn": Source(SOS, Row((0,), index=start, rows=start + 1)),
        "decoder.undrawn": Source("vargpt_gen.cfg_uncond", Layout((0, 1))),
        "decoder.pool_v_bias": Source(f"{_SOS_POOL}.v_bias", vector),
        "decoder.blocks.modulation": Source(f"{block}.ada_gss", Framed((0, 1), before=2)),
        "decoder.blocks.sa.q_bias": Source(f"{block}.sa.q_bias", vector),
        "decoder.blocks.sa.v_bias": Source(f"{block}.sa.v_bias", vector),
        "decoder.blocks.sa.scale": Source(
            f"{block}.sa.scale_mul_1H11", Framed((0,), ones=2, before=1)
        ),
        "decoder.blocks.ca.v_bias": Source(f"{block}.ca.v_bias", vector),
        "vision.patch_embedding.kernel": Source(
            "visual.patch_embed.proj.weight",
            Patches((1, 0), patch=config.vision.patch_shape),
        ),
    }


def sources(config: VargptConfig) -> Callable[[str, int], Source]:
    """Official place of a parameter, from its path and number of axes."""
    special, table = parameters(config), modules(config)

    def source(path: str, axes: int) -> Source:
        if path in special:
            return special[path]
        return files.module_source(path, axes, table)

    return source


def table(config: VargptConfig, base: PyTree) -> dict[str, Tensor]:
    """The official tensors of the network."""
    return files.tensor_table(base, sources(config))


def load(
    folder: Path, dtype: str = "bfloat16", mesh: Mesh | None = None
) -> tuple[VargptBackbone, PyTree]:
    """Opens an official folder.

    Args:
      folder: holds `config.json` and the safetensors files.
      dtype: what parameters have in memory; the tokenizer is always float32.
      mesh: devices over which the parameters are cut; the default device without it.

    Returns:
      The backbone, which computes in `dtype`, and its base parameters.

    Raises:
      UserError: something is missing, damaged, or belongs to another model.
    """
    backbone = open_config(folder, dtype)
    abstract = backbone.abstract_base(dtype)
    place = shardings(abstract, mesh, RULES) if mesh else None
    opened, tensors = Checkpoint(weight_files(folder)), table(backbone.config, abstract)
    files.check(opened, tensors, UNUSED)
    return backbone, files.load(opened, abstract, tensors, place)


def stored_dtype(folder: Path) -> str:
    """The dtype in which a folder keeps the weights of the network."""
    return files.network_dtype(weight_files(folder), others=("vae_local.",))


def open_config(folder: Path, dtype: str = "bfloat16") -> VargptBackbone:
    """The backbone that the json files of a folder describe, computing in `dtype`.

    Raises:
      UserError: the folder or a json file is missing or damaged.
    """
    files.check_folder(folder, "VARGPT-v1.1")
    return VargptBackbone(read_config(folder).compute(dtype))


def export(folder: Path, backbone: VargptBackbone, base: PyTree, origin: Path | None) -> None:
    """Writes an official folder: json files, two safetensors files with their index, tokenizer.

    Args:
      folder: a place where nothing is yet, or an empty folder; it appears when it is whole.
      backbone: its configuration goes into the json files.
      base: parameters, written in the dtype in which they are held.
      origin: folder of the checkpoint that the parameters came from, if any; its tokenizer files
        and the tensors that the network does not use are copied.

    Raises:
      UserError: something is there already.
    """
    tensors = table(backbone.config, base)
    own = {name: tensor for name, tensor in tensors.items() if name != SOS}
    unused = spare(backbone.config, base, origin)
    with new_folder(folder) as part:
        write_config(backbone.config, part)
        files.export(part / FILES[0], base, own)
        save_file(unused, part / FILES[1], metadata={"format": "pt"})
        files.write_index(part, {FILES[0]: own, FILES[1]: unused})
        if origin is not None:
            files.copy_files(TOKENIZER_FILES, origin, part)


def spare(config: VargptConfig, base: PyTree, origin: Path | None) -> dict[str, np.ndarray]:
    """The tensors that the network does not read, or reads one row of.

    They are those of the checkpoint that the parameters came from; without one, what a new official
    model holds: a table with its one row, ones and zeros.
    """
    row = np.asarray(base["decoder"]["drawn"])
    found = fresh(config, row.dtype)
    if origin is None or not list(origin.glob("*.safetensors")):
        return found | {SOS: parameters(config)["decoder.drawn"].layout.store(row)}
    opened = Checkpoint(weight_files(origin))
    sos = opened.read(SOS).astype(row.dtype)
    sos[config.tokens.draw_start] = row
    return found | {name: opened.read(name) for name in found if name in opened.file} | {SOS: sos}


def fresh(config: VargptConfig, dtype: np.dtype) -> dict[str, np.ndarray]:
    """The unused tensors of a new model, which `UNUSED` names."""
    decoder, width, bits = config.decoder, config.decoder.width, config.vae.bits
    zeros = lambda *shape: np.zeros(shape, dtype)
    found: dict[str, np.ndarray] = {_MASK: 2 ** np.arange(bits - 1, -1, -1, dtype=np.int64)}
    for name, size in (("", width), ("_out", config.language.width)):
        found[f"image_gen_projector{name}.ln_q.weight"] = np.ones(size, dtype)
        found[f"image_gen_projector{name}.ln_q.bias"] = zeros(size)
    for n in (0, 2):
        found[f"vargpt_gen.text_proj_for_ca.{n}.weight"] = zeros(width, width)
        found[f"vargpt_gen.text_proj_for_ca.{n}.bias"] = zeros(width)
    found[f"{_SOS_POOL}.mat_q"] = zeros(1, width // 128, 128)  # heads of its own
    found[f"{_SOS_POOL}.zero_k_bias"] = zeros(width)
    for layer in range(decoder.layers):
        for part in ("sa", "ca"):
            name = f"{files.layer_name(block_name(config), layer)}.{part}.zero_k_bias"
            found[name] = zeros(width)
    return found
