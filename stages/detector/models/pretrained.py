"""Loading pretrained weights: downloads that are verified, renaming, and advice when there is no internet access."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from detector.core.errors import UserError

Loaded = TypeVar("Loaded")


class HubWeights(NamedTuple):
    """Weights on the Hugging Face hub: repository, commit or branch, SHA-256 of model.safetensors or "" if unknown."""

    repository: str
    commit: str
    digest: str


def load_pretrained(build: Callable[[], Loaded], source: WeightsEnum | None) -> Loaded:
    """Call `build`, which downloads torchvision's weights `source` unless they are cached or None.

    Raises UserError naming the cache folder when the download fails, and the file when it is damaged.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if source is not None:
        check_cached_file(folder / source.url.rpartition("/")[2])
    try:
        return build()
    except (OSError, RuntimeError) as error:
        raise download_error(error, f"{folder}: copy the file") from None


def check_cached_file(path: Path) -> None:
    """Raise UserError when a cached file has not the SHA-256 whose start its name ends in, as torchvision names it.

    torch compares it after a download only.
    """
    expected = path.stem.rpartition("-")[2]
    if path.exists() and not hash_file(path).startswith(expected):
        raise damaged_file_error(path, f"its SHA-256 does not start with {expected}")


def download_error(error: Exception, cache: str) -> UserError:
    """The error of a download that failed; cache: where the files belong, and what to copy there."""
    return UserError(
        f"could not download the pretrained weights: {error}\n"
        f"They are cached in {cache} there from a machine with internet access, or train from scratch with "
        "`train.weights: none`."
    )


def damaged_file_error(path: Path, reason: object) -> UserError:
    """The error of a downloaded file that cannot be used."""
    return UserError(f"{path} is damaged: {reason}; delete the file and run the same command again")


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def download_hub_weights(source: HubWeights) -> Path:
    """Return the folder with the files of this commit, downloaded unless they are cached.

    Raises UserError naming the cache folder when the download fails, and when the weights are not those with the known
    SHA-256.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HTTPError

    names = ("config.json", "model.safetensors")
    try:
        config, weights = (Path(hf_hub_download(source.repository, name, revision=source.commit)) for name in names)
    except (OSError, RuntimeError, ValueError, HTTPError) as error:
        folder = f"models--{source.repository.replace('/', '--')}"
        raise download_error(error, f"{HF_HUB_CACHE}: copy the folder {folder}") from None
    check_digest(weights, source)
    return config.parent


def check_digest(weights: Path, source: HubWeights) -> None:
    """Compare the file with the known SHA-256; without one, print the file's, which the training log keeps."""
    digest = hash_file(weights)
    if not source.digest:
        print(f"COCO weights {source.repository}, commit {weights.parent.name}, SHA-256 {digest}")
    elif digest != source.digest:
        raise UserError(
            f"{weights} has the SHA-256 {digest}, expected {source.digest} for {source.repository}: it is damaged, or "
            "it was replaced; delete the file and run the same command again"
        )


def download_detection_weights(source: WeightsEnum, names: dict[str, str]) -> dict[str, Tensor]:
    """Download torchvision's weights of a whole detector and rename them for our model.

    names: name prefixes in torchvision -> name prefixes in our model.
    """
    stored = load_pretrained(lambda: source.get_state_dict(progress=True, check_hash=True), source)
    renamed = {}
    for name, value in stored.items():
        prefix = next((prefix for prefix in names if name.startswith(prefix)), "")
        renamed[names.get(prefix, "") + name.removeprefix(prefix)] = value
    return renamed


def load_except(model: nn.Module, weights: dict[str, Tensor], skip: tuple[str, ...]) -> None:
    """Load the weights into the model, except for names that start with one of the prefixes `skip`."""
    selected = {name: value for name, value in weights.items() if not name.startswith(skip)}
    missing, unexpected = model.load_state_dict(selected, strict=False)
    missing = [name for name in missing if not name.startswith((*skip, "normalize."))]
    if missing or unexpected:
        raise RuntimeError(f"torchvision's weights have changed: missing {missing}, unexpected {unexpected}")


def adjust_batch_norm_epsilon(weights: dict[str, Tensor], trained: float, used: float) -> dict[str, Tensor]:
    """Scale weights trained with batch norms of epsilon `trained` to compute the same with epsilon `used`."""
    scaled = dict(weights)
    for name, variance in weights.items():
        if name.endswith(".running_var"):
            weight = name.replace(".running_var", ".weight")
            scaled[weight] = weights[weight] * ((variance + used) / (variance + trained)).sqrt()
    return scaled


def load_without_batch_counts(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load weights of a model with frozen batch norms, which lack batch counters; all other names must match."""
    missing, unexpected = module.load_state_dict(weights, strict=False)
    mismatched = [*unexpected, *(name for name in missing if not name.endswith("num_batches_tracked"))]
    if mismatched:
        raise RuntimeError(f"weights of another model: {', '.join(mismatched)}")
