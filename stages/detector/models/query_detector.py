"""All query-based detectors of transformers: one adapter from its public interface to ours.

What a detector is, its COCO weights and its recipe stand in `query_architectures.py`; its losses in `query_losses.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from detector.engine.structures import Output, Targets
from detector.models.class_rows import NamedRows
from detector.models.hungarian import denormalize_boxes, gather_target_states, hungarian_match, state_loss
from detector.models.normalization import FrozenBatchNorm, Normalize, PixelStatistics
from detector.models.padding import make_content_mask, measure_content
from detector.models.postprocess import Postprocess
from detector.models.query_architectures import ARCHITECTURES, QueryArchitecture
from detector.models.query_losses import compute_detr_losses, make_labels, use_own_normalization
from detector.models.query_weights import CLASS_TENSOR, find_aliases, load_body, make_network
from detector.models.state_head import StateConfig, apply_presence, build_state_head

# Where transformers' models keep what is pretrained on ImageNet; the parts around it belong to the detector.
BACKBONES = ("model.backbone.backbone", "model.backbone", "model.conv_encoder.backbone", "model.conv_encoder.model")


class QueryDetector(nn.Module):
    """Normalization, a backbone and transformers' network around it, and a state head on the final queries."""

    def __init__(
        self,
        architecture: QueryArchitecture,
        network: Any,
        states: StateConfig,
        statistics: PixelStatistics,
        postprocess: Postprocess,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(statistics)
        self.backbone = detach_backbone(network)
        self.network = network
        self.states = build_state_head(network.config.d_model, states)
        self.postprocess = postprocess
        self.uses_mask = architecture.uses_mask
        self.is_detr = network.config.model_type == "detr"
        self.queries: int = network.config.num_queries
        self.classes: int = network.config.num_labels
        self.aliases = find_aliases(self)
        self.register_state_dict_post_hook(drop_aliases)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(add_aliases)  # type: ignore[no-untyped-call]

    def class_rows(self) -> dict[str, NamedRows]:
        """The tensors with rows per class; the class head of DETR and embeddings of classes have one for no object."""
        return {
            name: NamedRows(background="last" if len(tensor) > self.classes else "none")
            for name, tensor in self.state_dict().items()
            if CLASS_TENSOR.search(name)
        }

    def containers(self) -> list[nn.Module]:
        """The modules inside whose `forward` computes boxes and losses itself: only their parts can be compiled, or
        compute in lower precision.
        """
        decoder = self.network.model.decoder
        integral = [module for name, module in decoder.named_modules() if name.rpartition(".")[2] == "integral"]
        return [self.network, self.network.model, decoder, *integral]

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        """images uint8 [B, 3, H, W], H and W multiples of the architecture's. With a mask, boxes are of the content."""
        height, width = images.shape[-2:]
        size = torch.tensor([[height, width]], dtype=torch.float32, device=images.device)  # [1, 2]
        inputs: dict[str, Any] = {"pixel_values": self.normalize(images)}
        if self.uses_mask:
            size = measure_content(images, self.normalize.mean) if targets is None else targets.content  # [B, 2]
            inputs["pixel_mask"] = make_content_mask(size, (height, width), 1).long()
        labels = None if targets is None else make_labels(targets, size, self.states)
        outputs, losses = self._compute(inputs, labels, (height, width))
        # In training, denoising queries come first in some architectures, and further groups of queries last in others.
        meta = getattr(outputs, "denoising_meta_values", None) if self.training else None
        first = 0 if meta is None else meta["dn_num_split"][0]
        logits, boxes_cxcywh, features = (
            tensor[:, first : first + self.network.config.num_queries].float()
            for tensor in (outputs.logits, outputs.pred_boxes, outputs.last_hidden_state)
        )
        scores = logits.softmax(-1)[..., :-1] if self.is_detr else logits.sigmoid()
        state_logits = None if self.states is None else self.states(features).float()
        if self.states is not None and state_logits is not None and targets is not None:
            matches = hungarian_match(scores, boxes_cxcywh, targets, size)
            losses["loss_state"] = state_loss(state_logits, targets, matches, self.states)
        if self.training:
            return Output(losses, None)
        boxes_xyxy = denormalize_boxes(boxes_cxcywh, size)
        detections = self.postprocess.select_without_nms(
            boxes_xyxy, apply_presence(scores, state_logits, self.states), state_logits
        )
        return Output(losses, detections, gather_target_states(boxes_xyxy, state_logits, targets))

    def _compute(
        self, inputs: dict[str, Any], labels: list[dict[str, Tensor]] | None, size: tuple[int, int]
    ) -> tuple[Any, dict[str, Tensor]]:
        """The network's outputs, and its losses by component; {} without labels."""
        config = self.network.config
        config.num_queries = min(self.queries, count_cells(config, size))
        if self.is_detr:
            outputs = self.network(**inputs, output_hidden_states=labels is not None)
            return outputs, {} if labels is None else compute_detr_losses(self.network, outputs, labels)
        outputs = self.network(**inputs, labels=labels)
        if labels is None:
            return outputs, {}
        losses = outputs.loss_dict
        if hasattr(self.network.model, "denoising_class_embed"):
            # A batch without objects has no denoising queries, and other training processes would wait for a gradient.
            first = next(iter(losses))
            losses[first] = losses[first] + self.network.model.denoising_class_embed.weight.sum() * 0
        return outputs, losses


def count_cells(config: Any, size: tuple[int, int]) -> int:
    """The number of cells of which the best become the queries, for an input of `size` (H, W).

    Only of architectures that accept fewer queries than trained with; a large number for the others.
    """
    strides = getattr(config, "feat_strides", None)
    if strides is None or config.learn_initial_query:
        return config.num_queries if strides is None else 10**9
    more = [strides[-1] * 2**level for level in range(1, config.num_feature_levels - len(strides) + 1)]
    return sum(-(-size[0] // stride) * -(-size[1] // stride) for stride in (*strides, *more))


def detach_backbone(network: Any) -> nn.Module:
    """Return the network's backbone, which the network still uses but no longer owns.

    So its parameters have names under `backbone.`, as in all models, and exist once.
    """
    modules = dict(network.named_modules())
    path = next(path for path in BACKBONES if path in modules)
    owner, _, name = path.rpartition(".")
    backbone: nn.Module = modules[path]
    delattr(modules[owner], name)
    object.__setattr__(modules[owner], name, backbone)
    return backbone


def drop_aliases(model: Any, state: dict[str, Tensor], prefix: str, _: object) -> None:
    """Remove the further names from a state_dict: a file holds, and an average changes, each tensor once."""
    for alias in model.aliases:
        del state[prefix + alias]


def add_aliases(model: Any, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Add the further names to a state_dict that is loaded."""
    for alias, name in model.aliases.items():
        if prefix + name in state:
            state[prefix + alias] = state[prefix + name]


def set_backbone_training(model: QueryDetector, pretrained: bool) -> None:
    """Give the backbone batch norms of one kind, so that its tensors have the same names for all weights, in place.

    Those that transformers freezes stay frozen if pretrained; from scratch the whole backbone is trained.
    """
    for parent in list(model.backbone.modules()):
        for name, child in list(parent.named_children()):
            frozen = type(child).__name__.endswith("FrozenBatchNorm2d")
            if frozen:
                norm = (FrozenBatchNorm if pretrained else nn.BatchNorm2d)(child.get_buffer("weight").shape[0], 1e-5)
                norm.load_state_dict(child.state_dict(), strict=False)  # all but the number of batches
                setattr(parent, name, norm)
    if not pretrained:
        model.backbone.requires_grad_(True)
    for name, parameter in model.backbone.named_parameters():
        if name.endswith("mask_token"):  # of DINOv2's pretraining; not used
            parameter.requires_grad_(False)


def build_query_detector(
    name: str,
    classes: int,
    states: StateConfig,
    statistics: PixelStatistics,
    postprocess: Postprocess,
    weights: str,
) -> QueryDetector:
    """Build the detector `name` of ARCHITECTURES; weights: coco (all but the rows per class; downloaded),
    checkpoint (to be loaded by the caller) or none.
    """
    architecture = ARCHITECTURES[name]
    network = make_network(architecture, classes, pretrained=weights != "none")
    if weights == "coco":
        load_body(network, architecture)
    architecture.prepare(network)
    use_own_normalization(network)
    model = QueryDetector(architecture, network, states, statistics, postprocess)
    set_backbone_training(model, weights != "none")
    return model
