"""Official safetensors files to parameter trees and back, one tensor at a time."""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
from jax.sharding import Sharding
from safetensors import SafetensorError, safe_open

from asg_jax.backbone import PyTree
from asg_jax.errors import UserError
from asg_jax.models.config_files import read_object, write_objects

# safetensors' names of the dtypes that weights come in.
DTYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}


BLOCK = 1 << 20  # numbers that are looked at together: they stay in the cache of a processor

INDEX_FILE = "model.safetensors.index.json"
STACKED = "{n"  # in the name of every layer of a stack, see `layer_name`


@dataclass(frozen=True)
class Layout:
    """How an official tensor is stored: `axes` permutes ours to the official order.

    `ones` official axes of size 1 follow (a 1x1 convolution that we keep as a linear map).
    """

    axes: tuple[int, ...]
    ones: int = 0

    def store(self, ours: np.ndarray) -> np.ndarray:
        """Our array in the official shape."""
        official = ours.transpose(self.axes)
        return official.reshape(official.shape + (1,) * self.ones)

    def load(self, official: np.ndarray) -> np.ndarray:
        """The official tensor in our shape."""
        squeezed = official.reshape(official.shape[: official.ndim - self.ones])
        return squeezed.transpose(np.argsort(self.axes))


@dataclass(frozen=True)
class Framed(Layout):
    """Official axes of size 1 also stand before ours."""

    before: int = 0

    def store(self, ours: np.ndarray) -> np.ndarray:
        stored = super().store(ours)
        return stored.reshape((1,) * self.before + stored.shape)

    def load(self, official: np.ndarray) -> np.ndarray:
        return super().load(official.reshape(official.shape[self.before :]))


@dataclass(frozen=True)
class Patches(Layout):
    """A convolution over whole patches that we keep as a linear map."""

    patch: tuple[int, ...] = ()  # channels, frames, rows, columns

    def store(self, ours: np.ndarray) -> np.ndarray:
        stored = super().store(ours)
        return stored.reshape(stored.shape[0], *self.patch)

    def load(self, official: np.ndarray) -> np.ndarray:
        return super().load(official.reshape(official.shape[0], -1))


LINEAR = Layout((1, 0))
CONV = Layout((3, 2, 0, 1))  # ours (height, width, in, out), official (out, in, height, width)
POINTWISE = Layout((1, 0), ones=2)


@dataclass(frozen=True)
class Source:
    """Where a parameter stands officially; a name of stacked layers is made by `layer_name`."""

    name: str
    layout: Layout

    @property
    def stacked(self) -> bool:
        return STACKED in self.name


@dataclass(frozen=True)
class Tensor:
    """One official tensor: the parameter that holds it, and its layer within the stack."""

    path: str
    layer: int | None
    source: Source
    shape: tuple[int, ...]  # official


class Checkpoint:
    """The tensors of a set of safetensors files: names, shapes and dtypes; values when asked for.

    Raises:
      UserError: a file is missing, truncated or not a safetensors file.
    """

    def __init__(self, files: Iterable[Path]):
        self.file: dict[str, Path] = {}
        self.shape: dict[str, tuple[int, ...]] = {}
        self.dtype: dict[str, str] = {}  # in safetensors' own notation
        for path in files:
            if not path.is_file():
                raise UserError(f"{path} is missing; copy it from the checkpoint you downloaded.")
            try:
                with safe_open(path, framework="numpy") as handle:
                    for name in handle.keys():
                        view = handle.get_slice(name)
                        self.file[name] = path
                        self.shape[name] = tuple(view.get_shape())
                        self.dtype[name] = view.get_dtype()
            except (SafetensorError, OSError) as error:
                raise UserError(
                    f"{path} is truncated or not a safetensors file ({error}); download it again."
                ) from error

    def read(self, name: str) -> np.ndarray:
        """One tensor; the file is opened anew, so that its mapped pages do not pile up."""
        with safe_open(self.file[name], framework="numpy") as handle:
            return handle.get_tensor(name)


def paths(tree: PyTree) -> Iterator[tuple[str, Any]]:
    """Dotted path and leaf of every leaf of a nested dict."""
    for keys, leaf in jax.tree.leaves_with_path(tree):
        yield ".".join(str(key.key) for key in keys), leaf


class _Layer(int):
    """Index of a layer that also knows its chunk, see `layer_name`."""

    def __format__(self, part: str) -> str:
        if not part:
            return str(int(self))
        chunk, place = divmod(self, int(part[1:]))
        return str(chunk if part[0] == "/" else place)


def layer_name(name: str, layer: int | None) -> str:
    """The name of one layer of a stack.

    Args:
      name: `{n}` stands for the layer; where a checkpoint cuts the stack into chunks of k layers,
        `{n:/k}` is the number of the chunk and `{n:%k}` the layer's place in it.
      layer: None if the name is that of no stack.
    """
    return name if layer is None else name.format(n=_Layer(layer))


def module_name(path: str, modules: Iterable[tuple[str, str]]) -> str:
    """Official name of one of our modules, of a stack as `layer_name` takes it.

    Args:
      path: where the module stands.
      modules: patterns that match whole paths, and the names that they stand for.

    Raises:
      KeyError: no pattern matches.
    """
    for pattern, name in modules:
        match = re.fullmatch(pattern, path)
        if match:
            return match.expand(name)
    raise KeyError(f"no official name is known for the module {path}")


def module_source(path: str, axes: int, modules: Iterable[tuple[str, str]]) -> Source:
    """Official place of a module's weight or bias, which has `axes` axes; see `module_name`."""
    module, kind = path.rsplit(".", 1)
    name = module_name(module, modules)
    if kind != "kernel":
        layout = Layout(tuple(range(axes - (STACKED in name))))
        return Source(f"{name}.{'bias' if kind == 'bias' else 'weight'}", layout)
    layout = CONV if axes == 4 else POINTWISE if path.startswith("vae.") else LINEAR
    return Source(f"{name}.weight", layout)


def copy_files(names: Iterable[str], origin: Path, folder: Path) -> None:
    """Copies the files of those names that a folder has."""
    for name in names:
        if (origin / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin / name, folder / name)


def tensor_table(abstract: PyTree, source: Callable[[str, int], Source]) -> dict[str, Tensor]:
    """Official name -> tensor, for every tensor that a parameter tree is made of.

    Args:
      abstract: parameters or their shapes.
      source: official place of a parameter, from its path and number of axes.

    Raises:
      ValueError: two parameters claim one official tensor.
    """
    table: dict[str, Tensor] = {}
    for path, leaf in paths(abstract):
        where = source(path, leaf.ndim)
        single = leaf.shape[1:] if where.stacked else leaf.shape
        shape = where.layout.store(np.broadcast_to(np.int8(0), single)).shape
        for layer in range(leaf.shape[0]) if where.stacked else [None]:
            name = layer_name(where.name, layer)
            if name in table:
                raise ValueError(f"{path} and {table[name].path} both claim the tensor {name}")
            table[name] = Tensor(path, layer, where, shape)
    return table


def weight_files(folder: Path, others: Collection[str] = ()) -> list[Path]:
    """The safetensors files of a model: those of the folder's index, or all that there are.

    Args:
      folder: the checkpoint's.
      others: names of files that hold something else.

    Raises:
      UserError: there are none, or the index is damaged.
    """
    index = folder / INDEX_FILE
    if index.exists():
        try:
            names = set(read_object(index, "restore it")["weight_map"].values())
            wrong = [name for name in names if Path(name).name != name]
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{index} is no index of safetensors files ({error}); restore the file."
            ) from error
        if wrong:
            raise UserError(
                f"{index} names {wrong[0]}, which is outside of its folder; restore it."
            )
        return sorted(folder / name for name in names)
    found = sorted(p for p in folder.glob("*.safetensors") if p.name not in others)
    if not found:
        raise UserError(
            f"{folder} holds no safetensors files; copy them from the checkpoint you downloaded."
        )
    return found


def check_folder(folder: Path, kind: str) -> None:
    """Makes sure that a folder is there.

    Raises:
      UserError: it is not.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; name the folder of a {kind} checkpoint.")


def network_dtype(files: Iterable[Path], others: tuple[str, ...] = ()) -> str:
    """The dtype in which files keep the weights of the network.

    Args:
      files: paths of safetensors files.
      others: how the names of tensors begin that are no part of it.
    """
    found = Checkpoint(files).dtype.items()
    codes = {code for name, code in found if not name.startswith(others)}
    return "float32" if codes == {"F32"} else "bfloat16"


def write_index(folder: Path, names: Mapping[str, Iterable[str]]) -> None:
    """Writes which tensors stand in which safetensors file of a folder, from the files' names."""
    where = {name: file for file, inside in names.items() for name in inside}
    write_objects(folder, {INDEX_FILE: {"metadata": {}, "weight_map": where}})


def check(checkpoint: Checkpoint, table: Mapping[str, Tensor], unused: Iterable[str] = ()) -> None:
    """Compares names, shapes and dtypes with the table before anything is read.

    Args:
      checkpoint: the opened files.
      table: what the model needs.
      unused: patterns (full match) of tensors that may be present and are not loaded.

    Raises:
      UserError: a tensor is missing, extra or misshapen, or holds no floating-point numbers.
    """
    found = checkpoint.file
    files = ", ".join(sorted({path.name for path in found.values()}))
    missing = [name for name in table if name not in found]
    if missing:
        raise UserError(
            f"tensor {missing[0]} is missing from {files}{_others(missing)}; the files do not "
            "belong to the model that the json files describe."
        )
    for name, tensor in table.items():
        if checkpoint.shape[name] != tensor.shape:
            raise UserError(
                f"tensor {name} in {found[name]} has shape {checkpoint.shape[name]}, but the "
                f"configuration asks for {tensor.shape}; the json files describe another model."
            )
        if checkpoint.dtype[name] not in DTYPES:
            raise UserError(
                f"tensor {name} in {found[name]} is stored as {checkpoint.dtype[name]}; "
                f"convert it to one of {', '.join(DTYPES)}."
            )
    ignored = re.compile("|".join(unused)) if unused else None
    extra = [n for n in found if n not in table and not (ignored and ignored.fullmatch(n))]
    if extra:
        raise UserError(
            f"tensor {extra[0]} in {found[extra[0]]} belongs to no part of the model"
            f"{_others(extra)}; the checkpoint has another architecture."
        )


def finite(value: np.ndarray) -> bool:
    """Whether an array of floating-point numbers holds no infinity and no NaN.

    Their exponents have all bits set: looking at those is several times faster than `isfinite`.
    """
    info = ml_dtypes.finfo(value.dtype)
    bits = value.reshape(-1).view(f"u{value.dtype.itemsize}")
    mask = bits.dtype.type(((1 << info.nexp) - 1) << info.nmant)
    blocks = (bits[n : n + BLOCK] for n in range(0, bits.size, BLOCK))
    return not any(((block & mask) == mask).any() for block in blocks)


def load(
    checkpoint: Checkpoint,
    abstract: PyTree,
    table: Mapping[str, Tensor],
    shardings: PyTree | None = None,
) -> PyTree:
    """Reads every parameter into its dtype and sharding, holding one at a time on the host.

    Raises:
      UserError: a number is not finite.

    Args:
      checkpoint: files that passed `check`.
      abstract: shapes and dtypes of the parameters.
      table: the official tensors of each parameter.
      shardings: sharding of each parameter; without it they go to the default device.
    """
    names: dict[str, list[str]] = {}
    for name, tensor in table.items():
        names.setdefault(tensor.path, []).append(name)

    def read(path: str, leaf: jax.ShapeDtypeStruct, sharding: Sharding | None) -> jax.Array:
        value = np.empty(leaf.shape, leaf.dtype)
        for name in names[path]:
            tensor = table[name]
            where = ... if tensor.layer is None else tensor.layer
            value[where] = tensor.source.layout.load(checkpoint.read(name))
            if not finite(value[where]):
                raise UserError(
                    f"tensor {name} in {checkpoint.file[name]} holds numbers that are not finite "
                    f"in {leaf.dtype}; its training diverged, or the file is damaged."
                )
        if sharding is None:
            return jax.device_put(value)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: value[index])

    leaves = list(paths(abstract))
    targets = jax.tree.leaves(shardings) if shardings is not None else [None] * len(leaves)
    arrays = [read(p, leaf, to) for (p, leaf), to in zip(leaves, targets, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(abstract), arrays)


def export(path: Path, base: PyTree, table: Mapping[str, Tensor]) -> None:
    """Writes the tensors of a table to one safetensors file, one at a time.

    The library's own writer wants all tensors in memory at once; the format is a length, a json
    header and the bytes (https://github.com/huggingface/safetensors#format). The file appears
    under its name only when it is complete.
    """
    leaves = dict(paths(base))
    codes = {dtype: code for code, dtype in DTYPES.items()}
    header, end = {}, 0
    for name, tensor in table.items():
        dtype = np.dtype(leaves[tensor.path].dtype)
        start, end = end, end + dtype.itemsize * int(np.prod(tensor.shape))
        header[name] = {
            "dtype": codes[dtype],
            "shape": tensor.shape,
            "data_offsets": [start, end],
        }
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in table.values():
            leaf = leaves[tensor.path]
            value = np.asarray(leaf if tensor.layer is None else leaf[tensor.layer])
            file.write(np.ascontiguousarray(tensor.source.layout.store(value)).tobytes())
    partial.rename(path)


def _others(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
