"""Find the model that a user refers to: on disk, in a git revision, or in the model registry of git tags.

    models/model.onnx            a file; evaluate_model.py also takes a checkpoint, models/detector.safetensors
    models/model.onnx@v2         that file in a git revision: commit, branch, tag or DVC experiment
    HEAD~1, my-experiment        models/model.onnx in that revision
    model@v1.2.0, model#prod     an artifact of dvc.yaml by version or stage (tags as in GTO and `dvc artifacts`)
    model                        its newest version

Files that are not on disk are fetched from DVC's cache or remote to .cache/models/, a checkpoint with its card; only
this needs DVC.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from detector.core.errors import UserError
from detector.core.output_files import replace_file

if TYPE_CHECKING:
    from dvc.repo import Repo

MODEL = "models/model.onnx"
PIPELINE = Path("dvc.yaml")
CACHE = Path(".cache/models")
CHECKPOINT = ".safetensors"  # beside which is a card, .json
VERSION = re.compile(r"v\d+\.\d+\.\d+\S*")


class ModelReference(NamedTuple):
    """`path` in a git revision, or a version or stage of an artifact (with neither, its newest version)."""

    path: str = MODEL
    revision: str = ""
    artifact: str = ""
    version: str | None = None
    stage: str | None = None


def resolve_model(text: str) -> Path:
    """Return the path of the model that `text` refers to; fetch it if necessary. Raises UserError if not found."""
    is_path = "@" not in text and Path(text).suffix in (".onnx", CHECKPOINT)
    if Path(text).exists() or is_path or not PIPELINE.is_file():
        return Path(text)  # a missing file is reported when it is opened
    try:
        return _fetch(text)
    except ImportError:
        raise UserError(f"{text}: no such file; install DVC to use a git revision or an artifact") from None


def read_artifacts(pipeline: Path) -> dict[str, str]:
    """Return the paths of the artifacts declared in dvc.yaml, by name. Raises UserError."""
    from detector.core.yaml_files import read_yaml  # not needed for a plain file

    document = read_yaml(pipeline)
    try:
        return {name: str(artifact["path"]) for name, artifact in (document.get("artifacts") or {}).items()}
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"{pipeline}: expected `artifacts` as names, each with a `path`") from None


def parse_reference(text: str, artifacts: dict[str, str]) -> ModelReference:
    """Parse a text that is not a file; artifacts: paths by name, from dvc.yaml."""
    name, at, rest = text.rpartition("@")
    if not at:
        name, hash_, stage = text.partition("#")
        if name in artifacts:
            return ModelReference(artifacts[name], artifact=name, stage=stage if hash_ else None)
        return ModelReference(revision=text)
    if not name or not rest or rest.startswith("{"):  # @, @{1}, main@{yesterday}
        return ModelReference(revision=text)
    if name in artifacts:
        if VERSION.fullmatch(rest):
            return ModelReference(artifacts[name], artifact=name, version=rest)
        return ModelReference(artifacts[name], revision=rest)
    return ModelReference(name, rest)


def _fetch(text: str) -> Path:
    """Fetch the file from the repository in the working directory."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import RevError
    from dvc_data.index import DataIndexError
    from scmrepo.exceptions import SCMError

    reference = parse_reference(text, read_artifacts(PIPELINE))
    try:
        with Repo() as repo:
            revision = _resolve_revision(reference, repo)
            if reference.path.endswith(CHECKPOINT):
                _fetch_to_cache(str(Path(reference.path).with_suffix(".json")), revision)
            return _fetch_to_cache(reference.path, revision)
    except (DvcException, DataIndexError, RevError, SCMError, OSError) as error:
        raise UserError(
            f"{text}: not a file, and not available from git and DVC ({error}). Expected the path of a model, a git "
            "revision, PATH@REVISION, or an artifact as NAME@v1.0.0 or NAME#stage. `git tag` and `dvc exp show` "
            "list revisions; `dvc pull` and `dvc fetch --all-tags` download files"
        ) from None


def _resolve_revision(reference: ModelReference, repo: Repo) -> str:
    """Return the commit of a reference."""
    from dvc.repo.artifacts import ArtifactNotFoundError
    from dvc.scm import resolve_rev

    from revisions import project_folder

    if reference.revision:
        return str(resolve_rev(repo.scm, reference.revision))
    # In a larger repository, a tag names the folder too: `detectors/bolts=model@v1.0.0`.
    folder, options = project_folder(), {"version": reference.version, "stage": reference.stage}
    if folder:
        with suppress(ArtifactNotFoundError):
            return str(repo.artifacts.get_rev(f"{folder}:{reference.artifact}", **options))
    return str(repo.artifacts.get_rev(reference.artifact, **options))


def _fetch_to_cache(path: str, revision: str) -> Path:
    """Return the file of a commit, downloading it unless it is cached."""
    from revisions import open_files  # a container has only the files that serving a plain file needs

    cached = CACHE / revision / path
    if not cached.resolve().is_relative_to((CACHE / revision).resolve()):
        raise UserError(f"{path}: expected the path of a file below this folder")
    if not cached.is_file():
        files = open_files(revision)
        with replace_file(cached) as new:
            files.get_file(path, str(new))
    return cached
