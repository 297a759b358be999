"""Opening a model: official folders, converted folders, and random models of known sizes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from asg_jax.adapters import LoRASpec
from asg_jax.backbone import Backbone, Params, Processor, PyTree
from asg_jax.errors import UserError
from asg_jax.models.checkpoint import copy_files, paths
from asg_jax.models.downloads import from_bucket, from_hub, is_hub_id
from asg_jax.models.layers.attention import load_kernels
from asg_jax.models.places import new_folder, place
from asg_jax.models.random_weights import random_base
from asg_jax.models.sharding import Rules, shardings
from asg_jax.models.tokenizers import TOKENIZER_FILES, PieceTokenizer
from asg_jax.pytree import pytree

FAMILIES = (
    "bagel",
    "blip3o",
    "vargpt",
)  # sub-packages; each offers a FAMILY in its module `family`
CONVERTED = "orbax"  # sub-folder that holds the parameters of a converted model
PRETRAINED = "pretraining.json"  # beside the weights that `asg-jax pretrain` made
RANDOM = "random:"  # prefix of the name of a model with random weights
SHIPPED = Path(__file__).parent / "shipped"  # checkpoints that come with the package, by name


@pytree
class Pictures:
    """Pictures that pre-training shows, and what it knows of them.

    Attributes:
      pixels: RGB values in [0, 1].
      facts: what is true of every part of a picture, which is cut evenly.
    """

    pixels: Float[Array, "B H W 3"]
    facts: Bool[Array, "B rows columns F"]


@dataclass(frozen=True)
class Stage:
    """A part of the network that pre-training teaches from pictures alone, then leaves as it is.

    Attributes:
      name: how a pre-training config calls its settings.
      part: name of its parameters among the base parameters.
      loss: function of the backbone, base parameters, pictures, a key, the strength of
        regularisation, and the parameters of `helper`, if any.
      helper: makes parameters that learn with the part and are then dropped, from the backbone, the
        number of facts and a key.
    """

    name: str
    part: str
    loss: Callable[[Any, PyTree, Pictures, Array, float, PyTree], Array]
    helper: Callable[[Any, int, Array], PyTree] | None = None


def _autoencoder_loss(
    backbone: Any, base: PyTree, pictures: Pictures, key: Array, kl: float, _: PyTree
) -> Array:
    return backbone.model(Params(base)).vae.loss(pictures.pixels, key, kl)


AUTOENCODER = Stage("autoencoder", "vae", _autoencoder_loss)  # a part `models.layers.vae.VAE`


@dataclass(frozen=True)
class Family:
    """What a kind of backbone offers the programs.

    Attributes:
      describes: whether a folder's json files describe such a model.
      open: backbone and processor of a folder, which compute in a dtype.
      stored_dtype: dtype of the weights of an official folder.
      load: base parameters of an official folder.
      export: writes an official folder; the last argument is a folder with the tokenizer.
      files: names of the files that make up a folder with the tokenizer's and the weights.
      official_module: official name of a module, from the backbone and our path.
      rules: sharding of the parameters.
      roles: the modules that each role adapts; further entries are a role's other choices.
      sizes: configurations by name, opened with random weights.
      random: backbone and processor of a configuration.
      official: names of official folders, and of the configurations that they hold.
      small: names of the configurations that pre-training starts from.
      create: writes the json files of a small configuration and a tokenizer of these words.
      stages: what pre-training teaches from pictures alone, before texts and drawing.
      draws: finds, in their dotted paths, the parameters that only drawing uses.
      with_targets: the backbone with what `encode_target` alone needs, and those base parameters,
        where a folder is opened without them; from the folder, the backbone, a dtype and a mesh.
      complete: the backbone with what `encode_target` alone needs, as pre-training starts it.
    """

    describes: Callable[[Path], bool]
    open: Callable[[Path, str], tuple[Any, Processor]]
    stored_dtype: Callable[[Path], str]
    load: Callable[[Path, str, Mesh | None], PyTree]
    export: Callable[[Path, Any, PyTree, Path | None], None]
    files: tuple[str, ...]
    official_module: Callable[[Any, str], str]
    rules: Rules
    roles: Mapping[str, Sequence[LoRASpec]]
    sizes: Mapping[str, Any]
    random: Callable[[Any, str], tuple[Any, Processor]]
    official: Mapping[str, str]
    small: tuple[str, ...]
    create: Callable[[str, Path, Sequence[str]], None]
    stages: tuple[Stage, ...]
    draws: str
    with_targets: Callable[[Path, Any, str, Mesh | None], tuple[Any, PyTree]] | None = None
    complete: Callable[[Any], Any] = lambda backbone: backbone


@dataclass(frozen=True)
class Model:
    """A backbone with its base parameters and its processor."""

    backbone: Backbone
    base: PyTree
    processor: Processor
    family: Family
    folder: Path | None  # where json and tokenizer files stand; None for random weights

    def official_module(self, path: str) -> str:
        """Official name of one of our modules, of a stack as `checkpoint.layer_name` takes it."""
        return self.family.official_module(self.backbone, path)

    @property
    def language(self) -> str:
        """Its name in `asg_jax.prompts.LANGUAGES`: our pre-training is on scenes."""
        ours = self.folder is not None and (self.folder / PRETRAINED).exists()
        return "scenes" if ours else "english"


def family(name: str) -> Family:
    """The family of a sub-package."""
    return importlib.import_module(f"asg_jax.models.{name}.family").FAMILY


def small_family(size: str) -> Family:
    """The family of a size that pre-training starts from.

    Raises:
      UserError: no family has it.
    """
    known = {name: kind for kind in map(family, FAMILIES) for name in kind.small}
    if size not in known:
        raise UserError(f"there is no size '{size}' to pre-train; known are {', '.join(known)}.")
    return known[size]


def shipped_models() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(path.name for path in SHIPPED.iterdir()) if SHIPPED.is_dir() else []


def model_folder(name: str) -> Path:
    """The folder of a shipped model, of one that is named by its folder, or of a download.

    Raises:
      UserError: there is none.
    """
    if "://" in name:
        return from_bucket(name)
    folder = SHIPPED / name if name in shipped_models() else place(name)
    try:
        if folder.is_dir():
            return folder
    except OSError as error:
        raise UserError(f"{folder} cannot be reached ({error.strerror}).") from error
    if is_hub_id(name):
        return from_hub(name)
    known = ", ".join(shipped_models())
    raise UserError(
        f"there is no folder {folder}; name the folder of a checkpoint, a model of the hub"
        f" (ORG/NAME) or a shipped one ({known})."
    )


def open_model(
    name: str, dtype: str | None = None, mesh: Mesh | None = None, targets: bool = False
) -> Model:
    """Opens a model.

    Args:
      name: an official or converted folder, also in a bucket (gs://...), a shipped model
        (`shipped_models`), one of the hub (ORG/NAME or ORG/NAME@REVISION), or `random:SIZE`.
      dtype: parameters and computation have it; that of the stored weights by default, float32 for
        shipped models, which are stored in bfloat16 for size alone.
      mesh: devices over which the parameters are cut; the default device without it.
      targets: whether `encode_target` will be asked for; what it alone needs can be large.

    Raises:
      UserError: nothing of that name is there, or its files are damaged.
    """
    load_kernels()
    if name.startswith(RANDOM):
        return _random(name.removeprefix(RANDOM), dtype or "float32", mesh)
    folder = model_folder(name)
    if name in shipped_models():
        dtype = dtype or "float32"
    kind = _family_of(folder)
    if (folder / CONVERTED).is_dir():
        backbone, base, processor = _restore(folder, kind, dtype, mesh)
    else:
        dtype = dtype or kind.stored_dtype(folder)
        backbone, processor = kind.open(folder, dtype)
        base = kind.load(folder, dtype, mesh)
    if targets and kind.with_targets is not None:
        stored = dtype or str(jax.tree.leaves(base)[0].dtype)
        backbone, part = kind.with_targets(folder, backbone, stored, mesh)
        base = base | part
    return Model(backbone, base, processor, kind, folder)


def describe_model(name: str, dtype: str | None, mesh: Mesh) -> Model:
    """A model without its weights: in place of the parameters stand their shapes and shardings.

    Args:
      name: as `open_model` takes it, of a folder only the json and tokenizer files are read; or the
        name of an official folder, which need not be there: its texts are then counted by words
        and marks.
      dtype: what parameters and computation have; that of official folders (bfloat16) by default,
        float32 for shipped models.
      mesh: devices over which the parameters would be cut.

    Raises:
      UserError: nothing of that name is known.
    """
    known = {size: kind for kind in map(family, FAMILIES) for size in kind.sizes}
    released = {
        folder: size for kind in map(family, FAMILIES) for folder, size in kind.official.items()
    }
    size = name.removeprefix(RANDOM)
    if not name.startswith(RANDOM) and not place(name).is_dir():
        size = released.get(place(name).name, size)
    if size in known:
        kind, folder, dtype = known[size], None, dtype or "bfloat16"
        backbone, bytewise = kind.random(kind.sizes[size], dtype)
        texts: Any = bytewise  # a processor of every family has a tokenizer
        processor: Processor = replace(texts, tokenizer=PieceTokenizer(texts.tokenizer.specials))
    else:
        folder = model_folder(name)
        dtype = dtype or ("float32" if name in shipped_models() else "bfloat16")
        kind = _family_of(folder)
        backbone, processor = kind.open(folder, dtype)
    abstract = backbone.abstract_base(dtype)
    lay = lambda leaf, to: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=to)
    base = jax.tree.map(lay, abstract, shardings(abstract, mesh, kind.rules))
    return Model(backbone, base, processor, kind, folder)


def save_converted(folder: Path, model: Model) -> None:
    """Writes a model as sharded arrays beside its json and tokenizer files.

    Args:
      folder: a place where nothing is yet, or an empty folder; it appears when it is whole.
      model: what is written.

    Raises:
      UserError: something is there already.
    """
    with new_folder(folder) as part:
        if model.folder is not None:
            names = (*model.family.files, *TOKENIZER_FILES, PRETRAINED)
            copy_files(names, model.folder, part)
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save((part / CONVERTED).absolute(), model.base)


def save_official(folder: Path, model: Model) -> None:
    """Writes a model as its authors do.

    Args:
      folder: a place where nothing is yet, or an empty folder; it appears when it is whole.
      model: what is written.

    Raises:
      UserError: something is there already.
    """
    model.family.export(folder, model.backbone, model.base, model.folder)
    if model.folder is not None:
        copy_files((PRETRAINED,), model.folder, folder)


def _family_of(folder: Path) -> Family:
    """The family whose json files a folder holds."""
    kind = next((k for k in map(family, FAMILIES) if k.describes(folder)), None)
    if kind is None:
        raise UserError(
            f"{folder} is no checkpoint of a known model ({', '.join(FAMILIES)}); it lacks their "
            "json files."
        )
    return kind


def _restore(
    folder: Path, kind: Family, dtype: str | None, mesh: Mesh | None
) -> tuple[Backbone, PyTree, Processor]:
    path = (folder / CONVERTED).absolute()
    with ocp.StandardCheckpointer() as checkpointer:
        try:
            stored = checkpointer.metadata(path).item_metadata.tree
        except Exception as error:  # Orbax and TensorStore raise nearly anything
            raise UserError(
                f"{path} is damaged or incomplete ({_short(error)}); convert the model again."
            ) from error
        dtype = dtype or str(jax.tree.leaves(stored)[0].dtype)
        backbone, processor = kind.open(folder, dtype)
        abstract = backbone.abstract_base(dtype)
        shapes = {name: tuple(leaf.shape) for name, leaf in paths(stored)}
        if shapes != {name: leaf.shape for name, leaf in paths(abstract)}:
            raise UserError(
                f"{path} does not hold the model that the json files beside it describe; "
                "convert the model again."
            )
        if mesh is not None:
            place = shardings(abstract, mesh, kind.rules)
        else:
            only = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            place = jax.tree.map(lambda leaf: only, abstract)
        target = jax.tree.map(
            lambda leaf, to: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=to),
            abstract,
            place,
        )
        try:
            base = checkpointer.restore(path, target)
        except Exception as error:
            raise UserError(
                f"{path} is damaged ({_short(error)}); convert the model again."
            ) from error
    all_finite = jax.jit(lambda tree: [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)])
    for (name, _), good in zip(paths(base), all_finite(base), strict=True):
        if not good:
            raise UserError(
                f"{path}: {name} holds numbers that are not finite; its training diverged, or it is"
                " damaged: convert the model again."
            )
    return backbone, base, processor


def _short(error: Exception) -> str:
    """The beginning of what an error says, which may be pages."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _random(size: str, dtype: str, mesh: Mesh | None) -> Model:
    known = {name: kind for kind in map(family, FAMILIES) for name in kind.sizes}
    if size not in known:
        raise UserError(f"there is no model size '{size}'; known are {', '.join(known)}.")
    kind = known[size]
    backbone, processor = kind.random(kind.sizes[size], dtype)
    abstract = backbone.abstract_base(dtype)
    place = shardings(abstract, mesh, kind.rules) if mesh else None
    base = random_base(abstract, place)
    return Model(backbone, base, processor, kind, None)
