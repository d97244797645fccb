"""A real git and DVC repository in a temporary folder: this project with a tiny dataset and a short training."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
STAGES = ("preprocess", "split", "coco-convert", "train", "evaluate", "export")
WRITTEN = ("data", "metrics", "models", "plots")  # folders with nothing but what stages write
KEPT = (".gitignore", "decisions.csv")  # what else is in them
DATASET = "data/raw/sample"
SHORT = {
    "train.model": "simple",
    "train.image_size": "64",
    "train.epochs": "2",
    "train.batch_size": "4",
    "train.threads": "1",
    "evaluate.threads": "1",
    "postprocess.score_threshold": "0.00001",  # or so short a training would detect nothing
    "export.parity_images": "50",
}


class Repository:
    """A folder and the commands in it."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root = root
        self.environment = environment

    def run(self, *command: str) -> str:
        """What the command printed, both streams; an AssertionError with all of it when it fails."""
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"`{' '.join(command)}` ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def git(self, *arguments: str) -> str:
        """`git ...`"""
        return self.run("git", *arguments)

    def dvc(self, *arguments: str) -> str:
        """`dvc ...`"""
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def commit(self) -> None:
        """Everything that git does not ignore."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "A state of the test")

    def copy(self, target: Path) -> Repository:
        """The same repository elsewhere: files, DVC's cache and git's history."""
        shutil.copytree(self.root, target, symlinks=True)
        return Repository(target, self.environment)

    def clone(self, target: Path) -> Repository:
        """What a colleague gets: what is in git, and nothing of DVC's."""
        self.git("clone", "--quiet", ".", str(target))
        return Repository(target, self.environment)

    def read(self, path: str) -> str:
        """A file's text."""
        return (self.root / path).read_text(encoding="utf-8")

    def replace(self, path: str, old: str, new: str) -> None:
        """Put `new` in place of the first `old` in a file."""
        text = self.read(path)
        assert old in text, f"{path} has no {old!r}"
        (self.root / path).write_text(text.replace(old, new, 1), encoding="utf-8")

    def set_params(self, values: dict[str, str]) -> None:
        """Edit single values of params.yaml, as a person would: `{"train.image_size": "64"}`."""
        text = self.read("params.yaml")
        for key, value in values.items():
            section, name = key.split(".")
            pattern = rf"(^{section}:\n(?:(?:  .*)?\n)*?  {name}: )\S+"
            text, count = re.subn(pattern, rf"\g<1>{value}", text, count=1, flags=re.MULTILINE)
            assert count == 1, f"params.yaml has no {key}"
        (self.root / "params.yaml").write_text(text, encoding="utf-8")

    def make_dataset(self) -> None:
        """The smallest sample dataset, dirt included; the same bytes each time."""
        self.run(sys.executable, "tools/sample_data.py", "--images", "20")


def stages_run(output: str) -> list[str]:
    """The stages whose command was really run, in order."""
    return re.findall(r"^Running stage '(.+)':$", output, flags=re.MULTILINE)


def environment_for(folder: Path) -> dict[str, str]:
    """This process's environment, without the user's settings of git and DVC; DVC's own files go to `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC", "GIT_"))}
    # Six processes import the same libraries in every run: let them keep the compiled files.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    (folder / "global").mkdir(parents=True, exist_ok=True)
    (folder / "global/config").write_text("[core]\n    analytics = false\n    check_update = false\n")
    return kept | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")]),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "global"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / "system"),
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": text for who in ("AUTHOR", "COMMITTER")
           for what, text in (("NAME", "Test"), ("EMAIL", "test@example.org"))},
    }  # fmt: skip


def new_repository(root: Path, environment: dict[str, str]) -> Repository:
    """This working tree as it is now, without any result, with the tiny dataset added and committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=SOURCE, check=True, capture_output=True, text=True).stdout.split("\0")
    for path in map(Path, filter(None, names)):
        if (SOURCE / path).exists() and (path.parts[0] not in WRITTEN or path.name in KEPT):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SOURCE / path, root / path)
    (root / "dvc.lock").unlink(missing_ok=True)
    (root / "split.lock").write_text("")
    repository = Repository(root, environment)
    repository.set_params(SHORT)
    repository.git("init", "--quiet")
    repository.make_dataset()
    repository.dvc("add", "--quiet", DATASET)
    repository.commit()
    return repository
