"""Read files of this project in a git revision, also where the project is a folder of a larger git repository.

git and DVC take a path in a revision from git's root. Here all paths are relative to the project, the working
directory.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from detector.core.errors import UserError
from git_commands import git, git_or_none

if TYPE_CHECKING:
    from fsspec.implementations.dirfs import DirFileSystem


def read_git_file(revision: str, path: str) -> str | None:
    """The text of a file that git tracks, in a revision; None if the revision or the file does not exist."""
    return git_or_none("show", f"{revision}:./{path}")


def project_folder() -> str:
    """The project's folder from git's root, such as `detectors/bolts`; "" if it is git's root. Raises UserError."""
    return git("rev-parse", "--show-prefix").rstrip("/")


def open_files(revision: str | None) -> DirFileSystem:
    """The files that git or DVC track in a revision or experiment (None: the workspace), and those in DVC's cache.

    What the cache lacks is fetched from DVC's remote; both are those that are configured now. Raises UserError if there
    is no such revision, or the working directory is no project of DVC in a git repository.
    """
    from dvc.api import DVCFileSystem  # takes half a second, which files on disk do not need
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import RevError
    from fsspec.implementations.dirfs import DirFileSystem

    try:
        if revision is None:
            return DirFileSystem("/", DVCFileSystem(Path.cwd()))
        with Repo() as repo:
            config = {section: dict(repo.config[section]) for section in ("core", "cache", "remote")}
        # In the settings that DVC reads from a revision, relative paths are wrong.
        files = DVCFileSystem(rev=revision, subrepos=True, config=config, repo_factory=partial(Repo, config=config))
        _ = files.repo  # looks the revision up
    except RevError:
        raise UserError(
            f"`{revision}` is not a git revision or experiment of this repository: see `dvc exp show` and `git log`"
        ) from None
    except DvcException as error:
        raise UserError(f"a revision needs a repository of git and DVC: {error}") from None
    return DirFileSystem(f"/{project_folder()}", files)
