"""Models of the hub, from a server on this machine, and of buckets, in memory."""

import os
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from etils import epath
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem
from huggingface_hub import constants

from asg_jax.errors import UserError
from asg_jax.models import downloads
from asg_jax.models.downloads import from_hub, is_hub_id
from asg_jax.models.fingerprint import fingerprint
from asg_jax.models.registry import SHIPPED, open_model
from tests.models.hub import COMMIT, Hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with a single-file and a sharded model; the cache is empty."""
    with Hub().serving() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        for name in ("bagel-tiny", "vargpt-tiny"):
            server.repositories[f"tiny/{name}"] = shutil.copytree(SHIPPED / name, tmp_path / name)
        yield server


def same(one, other) -> None:
    cast = lambda tree: jax.tree.map(lambda x: np.asarray(x, np.float32), tree)
    jax.tree.map(np.testing.assert_array_equal, cast(one.base), cast(other.base))


@pytest.mark.parametrize("name", ["bagel-tiny", "vargpt-tiny@v2", f"bagel-tiny@{COMMIT}"])
def test_a_model_of_the_hub_is_the_one_that_was_put_there(hub, tmp_path, name):
    (tmp_path / name.split("@")[0] / "pytorch_model.bin").write_bytes(b"a pickle")
    model = open_model(f"tiny/{name}", "float32")
    same(model, open_model(name.split("@")[0]))
    assert model.language == "scenes"
    assert model.folder is not None and model.folder.name == COMMIT
    assert not any("pytorch_model.bin" in path for _, path, _ in hub.asked)


def test_without_a_network_the_cache_is_used(hub, monkeypatch):
    folder = from_hub("tiny/bagel-tiny")
    known = fingerprint("tiny/bagel-tiny")
    asked = len(hub.asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert from_hub("tiny/bagel-tiny") == folder
    assert fingerprint("tiny/bagel-tiny") == known and len(hub.asked) == asked
    with pytest.raises(UserError, match="there is no folder tiny/vargpt-tiny, and of the hub's"):
        from_hub("tiny/vargpt-tiny")


def test_a_broken_connection_goes_on_where_it_broke(hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)
    hub.breaks = ["ema.safetensors"]
    folder = from_hub("tiny/bagel-tiny")
    size = (SHIPPED / "bagel-tiny" / "ema.safetensors").stat().st_size
    ranges = [
        given for m, path, given in hub.asked if m == "GET" and path.endswith("ema.safetensors")
    ]
    assert ranges == [None, f"bytes={size // 2 // 4096 * 4096}-"]
    same(open_model(str(folder), "float32"), open_model("bagel-tiny"))


def test_what_was_loaded_before_a_download_failed_stays(hub):
    hub.lost = ["model-00002-of-00002.safetensors"]
    with pytest.raises(UserError, match=r"not all files are here or can be had \(.*") as e:
        open_model("tiny/vargpt-tiny")
    assert "\n" not in str(e.value)
    hub.lost, hub.asked = [], []
    same(open_model("tiny/vargpt-tiny", "float32"), open_model("vargpt-tiny"))
    fetched = [path.rsplit("/")[-1] for method, path, _ in hub.asked if method == "GET"]
    assert "model-00002-of-00002.safetensors" in fetched
    assert "model-00001-of-00002.safetensors" not in fetched


def test_a_shard_that_the_repository_lacks_is_one_sentence(hub, tmp_path):
    (tmp_path / "vargpt-tiny" / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match="model-00002-of-00002.safetensors is missing") as error:
        open_model("tiny/vargpt-tiny")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("tiny/bagel-tinny", "no folder tiny/bagel-tinny and no model of that name on the hub"),
        ("tiny/bagel-tiny@v3", "tiny/bagel-tiny has no revision 'v3' on the hub"),
    ],
)
def test_names_that_the_hub_lacks_are_one_sentence(hub, name, line):
    with pytest.raises(UserError, match=line) as error:
        open_model(name)
    assert "\n" not in str(error.value)


def test_the_command_reads_the_variables_of_the_hub_and_names_a_dead_one(tmp_path):
    with socket.socket() as taken:  # bound and not listening: refused at once
        taken.bind(("127.0.0.1", 0))
        own = {
            "HF_ENDPOINT": f"http://127.0.0.1:{taken.getsockname()[1]}",
            "HF_HOME": str(tmp_path),
        }
        command = [sys.executable, "-m", "asg_jax.train.main", "convert", "--model=tiny/bagel-tiny"]
        done = subprocess.run(
            [*command, f"--out={tmp_path / 'out'}"],
            capture_output=True,
            text=True,
            env=os.environ | own,
            cwd=tmp_path,
        )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("asg-jax: there is no folder tiny/bagel-tiny, and of the hub's")
    assert done.stderr.count("\n") == 1


def test_names_of_the_hub_are_told_from_paths():
    assert all(map(is_hub_id, ["a/b", "ByteDance-Seed/BAGEL-7B-MoT", "a/b@refs/pr/1", "a/b@v1.0"]))
    assert not any(
        map(is_hub_id, ["a", "/a/b", "./a/b", "~/a", "a/b/c", "../b", "a/b@", "gs://a/b"])
    )


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    store = MemoryFileSystem()
    monkeypatch.setattr(backend.fsspec_backend, "fs", lambda path: store)
    monkeypatch.setattr(downloads, "BUCKETS", tmp_path / "copies")
    place = epath.Path(f"gs://{tmp_path.name}/model")
    place.mkdir(parents=True)
    for path in (SHIPPED / "bagel-tiny").iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    return place


def test_a_model_in_a_bucket_is_copied_once(bucket, monkeypatch):
    same(open_model(str(bucket), "float32"), open_model("bagel-tiny"))
    copied, original = [], shutil.copyfileobj
    count = lambda data, *rest: copied.append(data) or original(data, *rest)
    monkeypatch.setattr(downloads.shutil, "copyfileobj", count)
    assert open_model(f"{bucket}/").language == "scenes"
    assert copied == []
    (bucket / "scores.json").write_bytes(b"{ }")
    open_model(str(bucket))
    assert len(copied) == 1


def test_a_bucket_without_the_folder_is_one_sentence(bucket):
    with pytest.raises(UserError, match="there is no folder gs://.*other; name the folder"):
        open_model(f"{bucket}/other")
