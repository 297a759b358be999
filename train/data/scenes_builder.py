"""Rendered scenes as a TFDS data set, made on the spot: no download, no TensorFlow.

What trains reads `SceneSource(prepare("images"))`, which has no labels; pre-training and evaluation
read `read(prepare("labelled"), split)` and `scene_of` its records.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, SupportsIndex, cast

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from asg_jax.errors import UserError
from asg_jax.train.data.loading import Example
from asg_jax.train.data.scenes import CANVAS, COLORS, SHAPES, SIZES, Item, Scene, example

PATIENCE = 3600  # seconds after which nobody works at an unfinished folder any more
# Each split draws from its own stream of random numbers; those of 'held_out' show at least one
# combination that no other split does.
STREAMS = {"train": 0, "pretrain": 1, "evaluate": 2, "held_out": 3}
IMAGE = tfds.features.Image(shape=(CANVAS, CANVAS, 3), encoding_format="png")
LABELS = {
    "shade": np.int32,
    "items": tfds.features.Sequence(
        {
            "shape": tfds.features.ClassLabel(names=SHAPES),
            "color": tfds.features.ClassLabel(names=COLORS),
            "size": tfds.features.ClassLabel(names=SIZES),
            "cell": np.int32,
            "shift": tfds.features.Tensor(shape=(2,), dtype=np.int32),
        }
    ),
}


@dataclass(kw_only=True)
class SceneConfig(tfds.core.BuilderConfig):
    """Which splits there are, and how large; labels exist in those of 'labelled' only."""

    seed: int = 0
    splits: tuple[tuple[str, int], ...] = ()
    labels: bool = False


IMAGES = SceneConfig(
    name="images", description="Pictures without labels.", splits=(("train", 10_000),)
)
LABELLED = SceneConfig(
    name="labelled",
    description="Pictures with the scenes that they show.",
    splits=(("pretrain", 10_000), ("evaluate", 2_000), ("held_out", 1_000)),
    labels=True,
)


class Scenes(tfds.core.GeneratorBasedBuilder):
    """Scenes of one to three coloured shapes on a grid of 2 x 2 cells, 32 x 32 pixels."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [IMAGES, LABELLED]
    # TFDS would look for checksums of downloads beside the module, through importlib_resources,
    # which need not be installed.
    code_path = None  # pyright: ignore[reportAssignmentType]

    @property
    def settings(self) -> SceneConfig:
        """The configuration, which is always one of ours."""
        return cast(SceneConfig, self.builder_config)

    def _info(self) -> tfds.core.DatasetInfo:
        labels = LABELS if self.settings.labels else {}
        features = tfds.features.FeaturesDict({"image": IMAGE, **labels})
        # Said in full: TFDS would look for descriptions in files beside the module.
        # Record n is scene n: the order is not shuffled here, but by whoever trains.
        return tfds.core.DatasetInfo(
            builder=self, description=self.__doc__, features=features, disable_shuffling=True
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager
        splits = self.settings.splits
        return {split: self._generate_examples(split, size) for split, size in splits}

    def _generate_examples(self, split: str, size: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(size):
            held_out = split == "held_out"
            scene, pixels = example(self.settings.seed, index, STREAMS[split], held_out)
            labels = asdict(scene) if self.settings.labels else {}
            yield index, {"image": encode(pixels), **labels}


def encode(pixels: np.ndarray) -> BytesIO:
    """PNG bytes; TFDS would need TensorFlow to encode an array itself."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    buffer.seek(0)
    return buffer


def seeded(config: SceneConfig, seed: int) -> SceneConfig:
    """The same with other scenes, under a name of its own."""
    return replace(config, name=f"{config.name}_seed{seed}", seed=seed)


def prepare(config: str | SceneConfig, folder: str | Path | None = None) -> Scenes:
    """The data set, made first where it does not exist yet.

    Args:
      config: 'images', 'labelled', or another; other contents need another name.
      folder: where data sets lie; None is TFDS's own place.

    Raises:
      UserError: it can neither be read nor made.
    """
    for attempt in (1, 2):  # another process may have made the same in the meantime
        try:
            return _prepare(config, folder)
        except Exception as error:  # of JSON, protobuf, array_record, the file system
            if attempt == 2:
                where = folder or "TFDS's folder"
                raise UserError(
                    f"the rendered scenes in {where} cannot be made or read ({error}); remove that"
                    " folder, or set HOME to one that can be written."
                ) from error
    raise AssertionError("unreachable")


def _prepare(config: str | SceneConfig, folder: str | Path | None) -> Scenes:
    place = None if folder is None else str(folder)
    builder = Scenes(config=config, data_dir=place, file_format="array_record")
    builder.download_and_prepare()
    _tidy(Path(builder.data_dir).parent)
    return builder


def _tidy(versions: Path) -> None:
    """Removes what a process that was killed has left unfinished; others may be at work."""
    for part in versions.glob("incomplete.*"):
        with suppress(OSError):  # gone by now, or not ours to remove
            if time.time() - part.stat().st_mtime > PATIENCE:
                shutil.rmtree(part, ignore_errors=True)


def read(builder: Scenes, split: str, **options: Any) -> Sequence[Mapping[str, Any]]:
    """The records of a split by number; TFDS wraps the method so that its type is lost."""
    return cast(Any, builder).as_data_source(split, **options)


def scene_of(record: Mapping[str, Any]) -> Scene:
    """The scene of a labelled record."""
    fields = record["items"]
    numbers = range(len(fields["cell"]))
    items = tuple(
        Item(
            SHAPES[fields["shape"][n]],
            COLORS[fields["color"][n]],
            int(fields["cell"][n]),
            SIZES[fields["size"][n]],
            (int(fields["shift"][n][0]), int(fields["shift"][n][1])),
        )
        for n in numbers
    )
    return Scene(items, int(record["shade"]))


class SceneSource:
    """The unlabeled split; implements `asg_jax.train.data.loading.Source`.

    Attributes:
      fingerprint: name and version of the data set, and its seed.
    """

    def __init__(self, builder: Scenes):
        as_stored = {"image": tfds.decode.SkipDecoding()}
        self.fingerprint = f"{builder.info.full_name}, seed {builder.settings.seed}"
        self._folder = builder.data_dir
        with self._reading():
            self._records = read(builder, "train", decoders=as_stored)
            self._records[0]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: SupportsIndex) -> Example:
        number = index.__index__()
        with self._reading():
            png = self._records[number]["image"]
            return Example(number, Image.open(BytesIO(png)).convert("RGB"))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of array_record, protobuf, Pillow
            raise UserError(
                f"the rendered scenes in {self._folder} are damaged ({error}); remove that folder, "
                "they are made anew."
            ) from error

    def __repr__(self) -> str:
        return f"SceneSource({len(self)} pictures)"
