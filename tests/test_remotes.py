"""Datasets that live elsewhere: remotes, imports, and images that have to go for good."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.support.repository import Repository, environment_for, stages_run

DATASET = "data/raw/set"
PIPELINE = f"""
stages:
  list:
    cmd: ls {DATASET} > list.txt
    deps: [{DATASET}]
    outs: [list.txt]
"""
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Repository, Repository]:
    """A repository with a pipeline of one stage and no data yet; and the same with three images and a result."""
    folder = tmp_path_factory.mktemp("made")
    empty = Repository(folder / "empty", environment_for(folder / "settings") | KEYS)
    empty.root.mkdir()
    empty.git("init", "--quiet")
    empty.dvc("init", "--quiet")
    (empty.root / "dvc.yaml").write_text(PIPELINE)
    (empty.root / DATASET).parent.mkdir(parents=True)
    full = empty.copy(folder / "full")
    for name in "abc":
        write_image(full, name)
    track(full)
    return empty, full


@pytest.fixture
def owner(made: tuple[Repository, Repository], tmp_path: Path) -> Repository:
    """Who has the images."""
    return made[1].copy(tmp_path / "owner")


def write_image(repository: Repository, name: str) -> bytes:
    """Stands for an image: bytes that occur nowhere else."""
    path = repository.root / DATASET / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(f"the pixels of {name}".encode())
    return path.read_bytes()


def track(repository: Repository) -> None:
    """What one types after a change of the dataset."""
    repository.dvc("add", "--quiet", DATASET)
    repository.dvc("repro", "--quiet")
    repository.commit()


@pytest.fixture
def s3() -> Iterator[str]:
    """The address of an S3 server on this machine with a bucket named `detector`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    names = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=address, **names).create_bucket(Bucket="detector")
    yield address
    server.stop()


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_clone_gets_data_and_results_from_the_remote(
    kind: str, owner: Repository, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    owner.dvc(
        "remote", "add", "--default", "storage", str(tmp_path / "storage") if kind == "folder" else "s3://detector"
    )
    if kind == "s3":
        owner.dvc("remote", "modify", "storage", "endpointurl", request.getfixturevalue("s3"))
    owner.commit()
    owner.dvc("push", "--run-cache")
    clone = owner.clone(tmp_path / "clone")
    (clone.root / "dvc.lock").unlink()  # so that only the run cache can tell the result
    clone.dvc("fetch", "--run-cache")
    assert stages_run(clone.dvc("repro", "--pull")) == []
    assert clone.read("list.txt") == "a\nb\nc\n"
    assert clone.read(f"{DATASET}/b") == "the pixels of b"


def test_a_folder_is_read_over_http(owner: Repository, tmp_path: Path) -> None:
    owner.dvc("remote", "add", "--default", "storage", str(tmp_path / "storage"))
    owner.dvc("push")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=os.fspath(tmp_path / "storage"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        clone = owner.clone(tmp_path / "clone")
        clone.dvc("remote", "add", "--default", "storage", f"http://127.0.0.1:{server.server_port}")
        clone.dvc("pull")
        write_image(clone, "d")
        clone.dvc("add", "--quiet", DATASET)
        with pytest.raises(AssertionError, match="failed to push"):
            clone.dvc("push")
        server.shutdown()
    assert clone.read("list.txt") == "a\nb\nc\n"
    assert clone.read(f"{DATASET}/b") == "the pixels of b"


@pytest.mark.long
def test_an_import_is_updated_and_reruns_what_depends_on_it(
    made: tuple[Repository, Repository], tmp_path: Path
) -> None:
    """The dataset has a repository of its own, of which there is a bare one to pull from, with tags for versions."""
    user, registry = (made[0].copy(tmp_path / name) for name in ("user", "registry"))
    registry.dvc("remote", "add", "--default", "storage", str(tmp_path / "storage"))
    bare = str(tmp_path / "bare.git")
    registry.git("init", "--quiet", "--bare", bare)

    def publish(version: str, name: str) -> None:
        write_image(registry, name)
        registry.dvc("add", "--quiet", DATASET)
        registry.commit()
        registry.git("tag", version)
        registry.dvc("push")
        registry.git("push", "--quiet", bare, "HEAD:refs/heads/main", version)

    publish("v1", "a")
    registry.git("--git-dir", bare, "symbolic-ref", "HEAD", "refs/heads/main")
    user.dvc("import", bare, DATASET, "--out", DATASET)
    assert stages_run(user.dvc("repro")) == ["list"]
    user.commit()
    publish("v2", "b")
    assert "update available" in user.dvc("status")
    assert stages_run(user.dvc("repro")) == [], "nothing changes by itself"
    user.dvc("update", f"{DATASET}.dvc")
    assert stages_run(user.dvc("repro")) == ["list"]
    assert user.read("list.txt") == "a\nb\n"
    user.dvc("update", "--rev", "v1", f"{DATASET}.dvc")
    assert stages_run(user.dvc("repro")) == [], "the run cache remembers"
    assert user.read("list.txt") == "a\n"


@pytest.mark.long
def test_images_that_have_to_go_are_gone_everywhere(owner: Repository, tmp_path: Path) -> None:
    """As docs/data.md says; git never had them."""

    def holders(pixels: bytes) -> list[str]:
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        return [path.relative_to(tmp_path).as_posix() for path in files if pixels in path.read_bytes()]

    owner.dvc("remote", "add", "--default", "storage", str(tmp_path / "storage"))
    pixels = write_image(owner, "person")
    track(owner)
    owner.git("tag", "v1")
    owner.dvc("push", "--run-cache")
    assert len(holders(pixels)) == 3, "in the workspace, in the cache, on the remote"

    (owner.root / DATASET / "person").unlink()
    track(owner)
    owner.dvc("push", "--run-cache")
    assert len(holders(pixels)) == 2
    owner.dvc("gc", "--workspace", "--cloud", "--force")
    assert holders(pixels) == []
    clone = owner.clone(tmp_path / "clone")
    clone.dvc("pull")
    assert clone.read("list.txt") == "a\nb\nc\n"
    with pytest.raises(AssertionError, match="missing"):
        clone.git("checkout", "--quiet", "v1") + clone.dvc("pull")
