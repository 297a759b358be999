"""Official BLIP3o folders: which tensor holds which parameter, loading and export."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from jax.sharding import Mesh
from safetensors.numpy import save_file

from asg_jax.backbone import PyTree
from asg_jax.errors import UserError
from asg_jax.models import checkpoint as files
from asg_jax.models.blip3o.backbone import CONVERT, Blip3oBackbone
from asg_jax.models.blip3o.config import DECODER, Blip3oConfig, read_config, write_config
from asg_jax.models.blip3o.sharding import RULES
from asg_jax.models.checkpoint import (
    LINEAR,
    POINTWISE,
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

EVA_FILE = "eva_clip.safetensors"
MAIN_FILE, SPARE_FILE = "model.safetensors", "model-unused.safetensors"
DECODER_FILE = "diffusion_pytorch_model.bf16.safetensors"  # of UNet and autoencoder
PARTS = ("main", "eva", "unet", "vae")  # of a checkpoint, each with files of its own

# Tensors that may stand in a part without being read: copies of the tower, and ends that it lacks.
UNUSED: dict[str, tuple[str, ...]] = {
    "main": (r"model\.gen_vision_tower\..*",),
    "eva": (r"(norm|fc_norm|head)\.(weight|bias)",),
}

_DIT = "model.dit.model"
_BLOCK = f"{_DIT}.layers.{{n}}"

# Our module path -> official module name, each pattern a full match.
MODULES: tuple[tuple[str, str], ...] = (
    *official.MODULES,
    (r"dit\.caption_projection\.fc(\d)", rf"{_DIT}.caption_projection.linear_\1"),
    (r"dit\.patch_embedder", f"{_DIT}.patch_embedder.proj"),
    (
        r"dit\.time_embedder\.fc(\d)",
        rf"{_DIT}.time_caption_embed.timestep_embedder.linear_\1",
    ),
    (r"dit\.caption_norm", f"{_DIT}.time_caption_embed.caption_embedder.0"),
    (r"dit\.caption_embedder", f"{_DIT}.time_caption_embed.caption_embedder.1"),
    (r"dit\.out_modulation", f"{_DIT}.norm_out.linear_1"),
    (r"dit\.out", f"{_DIT}.norm_out.linear_2"),
    (r"dit\.layers\.modulation", f"{_BLOCK}.norm1.linear"),
    (r"dit\.layers\.norm1", f"{_BLOCK}.norm1.norm"),
    (r"dit\.layers\.context_norm", f"{_BLOCK}.norm1_context"),
    (r"dit\.layers\.to_out", f"{_BLOCK}.attn2.to_out.0"),
    (r"dit\.layers\.mlp\.gate_proj", f"{_BLOCK}.feed_forward.linear_1"),
    (r"dit\.layers\.mlp\.down_proj", f"{_BLOCK}.feed_forward.linear_2"),
    (r"dit\.layers\.mlp\.up_proj", f"{_BLOCK}.feed_forward.linear_3"),
    (r"dit\.layers\.(norm2|ffn_norm\d|attn\d\.\w+)", rf"{_BLOCK}.\1"),
    (r"eva\.patch_embedding", "patch_embed.proj"),
    (r"eva\.layers\.(qkv|proj)", r"blocks.{n}.attn.\1"),
    (r"eva\.layers\.(norm\d|mlp\.fc\d)", r"blocks.{n}.\1"),
    (r"unet\.time\.fc(\d)", r"time_embedding.linear_\1"),
    (r"unet\.sizes\.fc(\d)", r"add_embedding.linear_\1"),
    (r"unet\.norm_out", "conv_norm_out"),
    (r"unet\.(conv_\w+)", r"\1"),
)
_RESIDUAL = {"time": "time_emb_proj", "shortcut": "conv_shortcut", "nin_shortcut": "conv_shortcut"}
_INNER = {"ff_in": "ff.net.0.proj", "ff_out": "ff.net.2"}
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def official_module(config: Blip3oConfig, path: str) -> str:
    """Official name of one of our modules; see `models.checkpoint.module_name`."""
    if re.match(r"unet\.(down|mid|up)\.", path):
        return _unet_module(path)
    if path.startswith("vae."):
        return _vae_module(path.removeprefix("vae."), len(config.vae.multipliers) - 1)
    return files.module_name(path, MODULES)


def _unet_module(path: str) -> str:
    level, kind, rest = _matched(
        r"unet\.(mid|(?:down|up)\.\d+)\.(resnets|transformers|resample)\.?(.*)", path
    )
    side, _, number = level.partition(".")
    place = f"{side}_block" + (f"s.{number}" if number else "")
    if kind == "resample":
        return f"{place}.{side}samplers.0.conv"
    index, _, rest = rest.partition(".")
    if kind == "resnets":
        return f"{place}.resnets.{index}.{_RESIDUAL.get(rest, rest)}"
    name = f"{place}.attentions.{index}"
    if not rest.startswith("blocks."):
        return f"{name}.{rest}"
    inner = rest.removeprefix("blocks.")
    inner = _INNER.get(inner, inner.replace("to_out", "to_out.0"))
    return f"{name}.transformer_blocks.{{n}}.{inner}"


def _vae_module(path: str, last: int) -> str:
    if path in ("quant", "post_quant"):
        return f"{path}_conv"
    coder, rest = path.split(".", 1)
    if rest.startswith("mid.attn_1."):
        return f"{coder}.mid_block.attentions.0.{_ATTENTION[rest.rsplit('.', 1)[1]]}"
    if rest.startswith("mid."):
        number, name = _matched(r"mid\.block_(\d)\.(\w+)", rest)
        return f"{coder}.mid_block.resnets.{int(number) - 1}.{name}"
    if match := re.fullmatch(r"(down|up)\.(\d+)\.(.*)", rest):
        side, level, inner = match.groups()
        # Officially, the way up begins with the lowest resolution.
        place = f"{coder}.{side}_blocks.{last - int(level) if side == 'up' else level}"
        if inner == "resample":
            return f"{place}.{side}samplers.0.conv"
        number, name = _matched(r"block\.(\d+)\.(\w+)", inner)
        return f"{place}.resnets.{number}.{_RESIDUAL.get(name, name)}"
    return f"{coder}.{rest.replace('norm_out', 'conv_norm_out')}"


def _matched(pattern: str, path: str) -> tuple[str, ...]:
    match = re.fullmatch(pattern, path)
    if match is None:
        raise KeyError(f"no official name is known for the module {path}")
    return match.groups()


def parameters(config: Blip3oConfig) -> dict[str, Source]:
    """Official places of the parameters that are no plain weight or bias of a module."""
    patch = (3, config.eva.patch, config.eva.patch)
    return {
        "queries": Source("model.latent_queries", Framed((0, 1), before=1)),
        "dit.layers.gate": Source(f"{_BLOCK}.gate", Layout((0,))),
        "eva.first": Source("cls_token", Framed((0,), before=2)),
        "eva.positions": Source("pos_embed", Framed((0, 1), before=1)),
        "eva.patch_embedding.kernel": Source(
            "patch_embed.proj.weight", Patches((1, 0), patch=patch)
        ),
        "vision.patch_embedding.kernel": Source(
            "visual.patch_embed.proj.weight", Patches((1, 0), patch=config.vision.patch_shape)
        ),
    }


def sources(config: Blip3oConfig) -> Callable[[str, int], Source]:
    """Official place of a parameter, from its path and number of axes."""
    special = parameters(config)

    def source(path: str, axes: int) -> Source:
        if path in special:
            return special[path]
        module = path.rsplit(".", 1)[0]
        found = files.module_source(path, axes, [(re.escape(module), _escaped(config, module))])
        if not path.endswith(".kernel") or axes == 4:
            return found
        narrow = re.search(r"shortcut|quant", path)  # a convolution of one pixel
        return Source(found.name, POINTWISE if narrow else LINEAR)

    return source


def _escaped(config: Blip3oConfig, module: str) -> str:
    return official_module(config, module).replace("\\", r"\\")


def tables(config: Blip3oConfig, base: PyTree) -> dict[str, dict[str, Tensor]]:
    """The official tensors of every part that the base has."""
    source = sources(config)
    return {name: files.tensor_table(part, source) for name, part in split(base).items() if part}


def split(base: PyTree) -> dict[str, PyTree]:
    """The base by the parts of a checkpoint."""
    own = {name: {name: base[name]} for name in PARTS[1:] if name in base}
    return {"main": {k: v for k, v in base.items() if k not in own}, **own}


def part_files(folder: Path, part: str) -> list[Path]:
    """The safetensors files of a part.

    Raises:
      UserError: there are none.
    """
    if part == "main":
        return weight_files(folder, others=(EVA_FILE,))
    if part != "eva":
        return weight_files(folder / DECODER / part)
    if not (folder / EVA_FILE).exists():
        raise UserError(f"{folder / EVA_FILE} is missing; {CONVERT}.")
    return [folder / EVA_FILE]


def load(
    folder: Path, dtype: str = "bfloat16", mesh: Mesh | None = None, targets: bool = False
) -> tuple[Blip3oBackbone, PyTree]:
    """Opens an official folder.

    Args:
      folder: holds the json files, the safetensors files, and `diffusion-decoder`.
      dtype: what parameters have in memory; the autoencoder is always float32.
      mesh: devices over which the parameters are cut; the default device without it.
      targets: whether to load EVA-CLIP, too.

    Returns:
      The backbone, which computes in `dtype`, and its base parameters.

    Raises:
      UserError: something is missing, damaged, or belongs to another model.
    """
    backbone = open_config(folder, dtype, targets)
    return backbone, load_parts(folder, backbone, backbone.abstract_base(dtype), mesh)


def load_parts(
    folder: Path, backbone: Blip3oBackbone, abstract: PyTree, mesh: Mesh | None
) -> PyTree:
    """The parameters of those parts that `abstract` has; see `load`."""
    place = split(shardings(abstract, mesh, RULES)) if mesh else {}
    table, parts = tables(backbone.config, abstract), split(abstract)
    opened = {name: Checkpoint(part_files(folder, name)) for name in table}
    for name, checkpoint in opened.items():
        files.check(checkpoint, table[name], UNUSED.get(name, ()))
    base = {}
    for name, checkpoint in opened.items():
        base |= files.load(checkpoint, parts[name], table[name], place.get(name))
    return base


def stored_dtype(folder: Path) -> str:
    """The dtype in which a folder keeps the weights of the network."""
    return files.network_dtype(part_files(folder, "main"))


def open_config(folder: Path, dtype: str = "bfloat16", targets: bool = False) -> Blip3oBackbone:
    """The backbone that the json files of a folder describe, computing in `dtype`.

    Raises:
      UserError: the folder or a json file is missing or damaged.
    """
    files.check_folder(folder, "BLIP3o")
    return Blip3oBackbone(read_config(folder).compute(dtype)).with_targets(targets)


def export(folder: Path, backbone: Blip3oBackbone, base: PyTree, origin: Path | None) -> None:
    """Writes an official folder: json files, the safetensors files of every part, tokenizer.

    Args:
      folder: a place where nothing is yet, or an empty folder; it appears when it is whole.
      backbone: its configuration goes into the json files.
      base: parameters, written in the dtype in which they are held.
      origin: folder of the checkpoint that the parameters came from, if any; its tokenizer files,
        the tensors that the network does not use and, where it is not loaded, the file of EVA-CLIP
        are copied.

    Raises:
      UserError: something is there already.
    """
    place = {"main": MAIN_FILE, "eva": EVA_FILE}
    with new_folder(folder) as part:
        write_config(backbone.config, part)
        for name, table in tables(backbone.config, base).items():
            file = place.get(name, f"{DECODER}/{name}/{DECODER_FILE}")
            files.export(part / file, base, table)
        if origin is not None:
            files.copy_files(TOKENIZER_FILES, origin, part)
            _copy_spare(origin, part, "eva" not in base)


def _copy_spare(origin: Path, folder: Path, tower: bool) -> None:
    """Copies what the network does not read."""
    if tower:
        files.copy_files((EVA_FILE,), origin, folder)
    if not list(origin.glob("*.safetensors")):
        return
    opened, ignored = Checkpoint(part_files(origin, "main")), re.compile("|".join(UNUSED["main"]))
    spare = {name: opened.read(name) for name in opened.file if ignored.fullmatch(name)}
    if not spare:
        return
    save_file(spare, folder / SPARE_FILE, metadata={"format": "pt"})
    own = Checkpoint([folder / MAIN_FILE]).file
    files.write_index(folder, {MAIN_FILE: own, SPARE_FILE: spare})
