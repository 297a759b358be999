"""Checkpoints that are not on this disk: of the Hugging Face hub, and in buckets."""

from __future__ import annotations

import os
import re
import shutil
from hashlib import sha256
from pathlib import Path

from etils import epath
from etils.epath.stat_utils import StatResult

from asg_jax.errors import UserError

PATTERNS = ("*.json", "*.txt", "*.safetensors")  # configs, tokenizers, weights
BUCKETS = Path("~/.cache/asg_jax/models")  # copies of checkpoints in buckets
BLOCK = 1 << 24  # bytes that are copied at a time
_HUB = re.compile(r"(?P<id>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[^@\s]+))?")


def is_hub_id(name: str) -> bool:
    """Whether a name is ORG/NAME or ORG/NAME@REVISION, as the hub has them."""
    return _HUB.fullmatch(name) is not None


def from_hub(name: str) -> Path:
    """The folder of a model of the hub, in its local cache; what that lacks is downloaded.

    A download that broke off goes on. Without a network (or with `HF_HUB_OFFLINE=1`) the cache
    alone is used; `HF_HOME` says where it is.

    Args:
      name: ORG/NAME, or ORG/NAME@REVISION with a branch, tag or commit.

    Raises:
      UserError: there is no such model or revision, it may not be read, or the network is down.
    """
    from huggingface_hub import errors, snapshot_download  # takes a while to import

    found = _HUB.fullmatch(name)
    assert found is not None  # `is_hub_id`
    try:
        folder = snapshot_download(
            found["id"], revision=found["revision"], allow_patterns=list(PATTERNS)
        )
    except errors.RevisionNotFoundError as error:
        raise UserError(
            f"{found['id']} has no revision '{found['revision']}' on the hub; name another."
        ) from error
    except errors.GatedRepoError as error:
        raise UserError(
            f"{found['id']} is given only to those who agreed to its terms; do so on its page, then"
            " log in with `hf auth login`."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"there is no folder {name} and no model of that name on the hub; correct the name, or"
            " log in with `hf auth login` if it is private."
        ) from error
    except Exception as error:  # also those of the HTTP library, which releases exchange
        raise UserError(
            f"there is no folder {name}, and of the hub's model of that name not all files are here"
            f" or can be had ({_cause(error)}); try again with a network, what is here stays."
        ) from error
    return Path(folder)


def from_bucket(url: str) -> Path:
    """A copy of a folder in a bucket on this disk; only what is new there is copied.

    Raises:
      UserError: there is no such folder, or it cannot be read.
    """
    place = BUCKETS.expanduser() / sha256(url.rstrip("/").encode()).hexdigest()[:16]
    try:
        source = epath.Path(url)
        if not source.is_dir():
            raise UserError(f"there is no folder {url}; name the folder of a checkpoint.")
        _copy(source, place)
    except (OSError, ImportError, RuntimeError, ValueError) as error:
        raise UserError(f"{url} cannot be read ({_cause(error)}); see the extra `gcs`.") from error
    return place


def _copy(source: epath.Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        copy = target / path.name
        if path.is_dir():
            _copy(path, copy)
            continue
        there = path.stat()
        if copy.is_file() and (copy.stat().st_size, copy.stat().st_mtime) == _mark(there):
            continue
        part = copy.with_name(f".{copy.name}.{os.getpid()}.part")
        with path.open("rb") as data, part.open("wb") as file:
            shutil.copyfileobj(data, file, BLOCK)
        os.utime(part, (_mark(there)[1], _mark(there)[1]))
        part.replace(copy)


def _mark(stat: StatResult) -> tuple[int, float]:
    """Size and time, which tell whether a file is the one that was copied."""
    return stat.length, float(stat.mtime or 0)


def _cause(error: BaseException) -> str:
    """The first line of what an error says, which may be pages, or of what lies behind it."""
    while error.__cause__ is not None and not isinstance(error.__cause__, UserError):
        error = error.__cause__
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
