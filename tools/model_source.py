"""Where the ONNX file is that a user named: on the disk, in a git revision, or in the model registry of git tags.

    models/model.onnx            a file
    models/model.onnx@v2         that file in a git revision: commit, branch, tag or DVC experiment
    HEAD~1                       models/model.onnx in that revision
    model@v1.2.0, model#prod     an artifact of dvc.yaml by version or stage (tags as GTO and `dvc artifacts` take them)
    model                        its newest version

What is not on the disk comes from DVC's cache or remote and is kept in .cache/models/. Only that needs DVC.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from detector.core.errors import UserError

if TYPE_CHECKING:
    from dvc.repo import Repo

MODEL = "models/model.onnx"
PIPELINE = Path("dvc.yaml")
KEPT = Path(".cache/models")
VERSION = re.compile(r"v\d+\.\d+\.\d+\S*")


class Named(NamedTuple):
    """What a user's text means: `path` in a git revision, or an artifact's version or stage (its newest without)."""

    path: str = MODEL
    revision: str = ""
    artifact: str = ""
    version: str | None = None
    stage: str | None = None


def model_path(text: str) -> Path:
    """The file that `text` names, fetched where it has to be. Raises UserError saying what could be meant."""
    is_path = "@" not in text and Path(text).suffix == ".onnx"
    if Path(text).exists() or is_path or not PIPELINE.is_file():
        return Path(text)  # whoever opens it says whether it is missing
    try:
        return _fetched(text)
    except ImportError:
        raise UserError(f"{text}: no such file; to take it for a revision or an artifact, install DVC") from None


def artifacts_of(pipeline: Path) -> dict[str, str]:
    """Path by name of what dvc.yaml declares under `artifacts`."""
    import yaml  # DVC needs it, those who name a file do not

    document = yaml.safe_load(pipeline.read_text(encoding="utf-8"))
    return {name: str(artifact["path"]) for name, artifact in (document.get("artifacts") or {}).items()}


def parse(text: str, artifacts: dict[str, str]) -> Named:
    """What is meant by a text that is no file; artifacts: names and paths of dvc.yaml."""
    name, at, rest = text.rpartition("@")
    if not at:
        name, hash_, stage = text.partition("#")
        if name in artifacts:
            return Named(artifacts[name], artifact=name, stage=stage if hash_ else None)
        return Named(revision=text)
    if not name or not rest or rest.startswith("{"):  # @, @{1}, main@{yesterday}
        return Named(revision=text)
    if name in artifacts:
        if VERSION.fullmatch(rest):
            return Named(artifacts[name], artifact=name, version=rest)
        return Named(artifacts[name], revision=rest)
    return Named(name, rest)


def _fetched(text: str) -> Path:
    """Of the repository in the working directory."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import RevError
    from scmrepo.exceptions import SCMError

    named = parse(text, artifacts_of(PIPELINE))
    try:
        with Repo() as repo:
            return _kept(named.path, _revision(named, repo))
    except (DvcException, RevError, SCMError, OSError) as error:
        raise UserError(
            f"{text}: neither a file nor to be had from git and DVC ({error}). Expected the path of an ONNX file, a "
            "git revision, PATH@REVISION, or an artifact as NAME@v1.0.0 or NAME#stage; `git tag` and `dvc exp show` "
            "list revisions, and `dvc pull`, `dvc fetch --all-tags` bring files"
        ) from None


def _revision(named: Named, repo: Repo) -> str:
    """The commit."""
    from dvc.scm import resolve_rev

    if named.revision:
        return str(resolve_rev(repo.scm, named.revision))
    return str(repo.artifacts.get_rev(named.artifact, version=named.version, stage=named.stage))


def _kept(path: str, revision: str) -> Path:
    """The file of a commit, downloaded unless it already was."""
    from dvc.api import DVCFileSystem

    kept = KEPT / revision / Path(path).name
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        try:
            DVCFileSystem(rev=revision).get_file(path, str(part))
            part.replace(kept)
        finally:
            part.unlink(missing_ok=True)
    return kept
