"""transformers' networks, and their COCO weights: every tensor is loaded, and the checkpoint is the one expected."""

from __future__ import annotations

import math
import re
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from detector.core.errors import UserError
from detector.models.class_rows import TrainedRows
from detector.models.pretrained import HubWeights, damaged_file_error, download_hub_weights
from detector.models.query_architectures import ARCHITECTURES, QueryArchitecture

# Tensors with rows per class.
CLASS_TENSOR = re.compile(
    r"(^|\.)(class_embed|class_labels_classifier|enc_score_head|enc_out_class_embed|denoising_class_embed)\."
)
# Settings of a checkpoint that may differ from ours: notes, names of classes, and what only training uses.
FREE_SETTINGS = re.compile(
    r"(^|\.)(_.*|architectures|transformers_version|d?type|torch_dtype|return_dict|output_.*"
    r"|chunk_size_feed_forward|problem_type|is_encoder_decoder|tie_word_embeddings|use_pretrained_backbone|eval_size)$"
    r"|(^|\.)(id2label|label2id)(\.|$)"
    r"|loss|cost|dropout|layerdrop|drop_path|noise|initializer|init_std|init_xavier|matcher|focal|eos_coefficient|freeze"
    r"|alpha|dense_one_to_one|weight_decay"
)


def make_network(architecture: QueryArchitecture, classes: int, pretrained: bool) -> Any:
    """Build transformers' network with random weights, for `classes` classes.

    pretrained: whether its weights will be replaced.
    """
    from transformers import AutoModelForObjectDetection  # slow to import

    config = architecture.make_config()
    config.num_labels = classes
    config.auxiliary_loss = config.model_type != "detr"  # DETR: see `compute_detr_losses`
    if not pretrained:
        # About that of Xavier's initialization; the usual 0.01 or 0.02 hardly learns.
        config.init_std = config.initializer_range = config.d_model**-0.5
    network = AutoModelForObjectDetection.from_config(config)
    architecture.untie(network)
    if not pretrained:
        architecture.initialize(network)
    # Shadows the builtin in transformers' module: it asks for the batch size by `len`, which fixes it in an ONNX file.
    vars(import_module(type(network).__module__))["len"] = get_length
    for name, parameter in network.named_parameters():
        if CLASS_TENSOR.search(name) and name.endswith(".bias") and config.model_type != "detr":
            # Initial probabilities are 1%, or the many queries without an object would outweigh the others (Lin et al.
            # 2017, "Focal Loss"); transformers does so for some of the heads.
            nn.init.constant_(parameter, -math.log(99))
    return network


def get_length(values: Any) -> Any:
    """`len`, but of a tensor its first dimension, which torch.export keeps variable."""
    return values.shape[0] if isinstance(values, Tensor) else len(values)


def find_aliases(model: nn.Module) -> dict[str, str]:
    """Further names of parameters that have several: name -> first name."""
    first: dict[nn.Parameter, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first.setdefault(parameter, name)
    return {
        name: first[parameter]
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if first[parameter] != name
    }


def load_body(network: Any, architecture: QueryArchitecture) -> None:
    """Load the COCO weights into the network, in place, all but the rows per class.

    Raises UserError when parameters that the network shares between layers differ in the file.
    """
    stored = load_coco_network(architecture).state_dict()
    own = network.state_dict()
    if stored.keys() != own.keys():
        raise RuntimeError(f"weights of another model: {', '.join(sorted(stored.keys() ^ own.keys()))}")
    different = [
        f"{name} and {first}"
        for name, first in find_aliases(network).items()
        if not torch.equal(stored[name], stored[first])
    ]
    if different:
        raise UserError(
            f"the weights of {architecture.repository} are not those of the model this project knows, which shares "
            f"{'; '.join(different)}; train from scratch with `train.weights: none`, or report it"
        )
    network.load_state_dict({name: own[name] if CLASS_TENSOR.search(name) else stored[name] for name in own})


def load_coco_rows(name: str) -> TrainedRows:
    """The rows per class of the COCO weights, under the names of our model `name`."""
    network = load_coco_network(ARCHITECTURES[name])
    labels = network.config.id2label
    tensors = {f"network.{key}": tensor for key, tensor in network.state_dict().items() if CLASS_TENSOR.search(key)}
    return TrainedRows([labels[index] for index in range(len(labels))], tensors)


def load_coco_network(architecture: QueryArchitecture) -> Any:
    """Download the COCO weights, unless they are cached, and load them into transformers' network.

    Raises UserError when the download fails, a file is damaged, the checkpoint's settings differ from ours, or a tensor
    of the network or of the file has no counterpart.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForObjectDetection

    source = HubWeights(architecture.repository, architecture.commit, architecture.digest)
    folder = download_hub_weights(source)
    try:
        theirs, config = AutoConfig.from_pretrained(folder), architecture.make_config()
    except (OSError, ValueError, KeyError) as error:
        raise damaged_file_error(folder / "config.json", error) from None
    check_settings(theirs.to_dict(), config.to_dict(), source.repository)
    config.id2label, config.label2id = theirs.id2label, theirs.label2id
    try:
        network, found = AutoModelForObjectDetection.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
        )
    except (OSError, SafetensorError) as error:
        raise damaged_file_error(folder / "model.safetensors", error) from None
    missing = [name for name in found["missing_keys"] if not name.endswith("num_batches_tracked")]
    mismatched = [str(entry[0]) for entry in found["mismatched_keys"]]
    problems = {"missing": missing, "not in the model": found["unexpected_keys"], "of another shape": mismatched}
    wrong = "; ".join(f"{kind}: {', '.join(sorted(names))}" for kind, names in problems.items() if names)
    if wrong or found["error_msgs"]:
        raise UserError(
            f"{folder / 'model.safetensors'} does not fit the model of {source.repository}: {wrong}"
            f"{' '.join(found['error_msgs'])}; train from scratch with `train.weights: none`, or report it"
        )
    return network


def check_settings(theirs: dict[str, Any], ours: dict[str, Any], repository: str) -> None:
    """Raise UserError naming the settings of the checkpoint's config.json that differ from ours."""
    first, second = flatten(theirs), flatten(ours)
    different = [
        f"{key}: {first.get(key, 'nothing')}, expected {second.get(key, 'nothing')}"
        for key in sorted(first.keys() | second.keys())
        # What transformers' configuration has no field for cannot change its network.
        if key.split(".")[0] in ours and not FREE_SETTINGS.search(key) and first.get(key) != second.get(key)
    ]
    if different:
        raise UserError(
            f"the config.json of {repository} is not that of the model this project knows: {'; '.join(different)}; "
            "train from scratch with `train.weights: none`, or report it"
        )


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names; a None counts as absent."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
