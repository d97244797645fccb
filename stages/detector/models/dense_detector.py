"""The anchor-free detector: backbone, neck and dense head to losses and detections."""

from __future__ import annotations

from torch import Tensor, nn

from detector.engine.structures import Output, Targets
from detector.models.assignment import find_nearest_locations
from detector.models.class_rows import NamedRows
from detector.models.dense_head import DenseHead, DenseOutputs, decode_box_logits, make_locations
from detector.models.dense_loss import dense_loss
from detector.models.normalization import Normalize
from detector.models.postprocess import Postprocess
from detector.models.state_head import apply_presence


class DenseDetector(nn.Module):
    """backbone: images -> feature maps, fine to coarse; neck: feature maps -> maps of equal width for the head."""

    def __init__(
        self, normalize: Normalize, backbone: nn.Module, neck: nn.Module, head: DenseHead, postprocess: Postprocess
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.postprocess = postprocess

    def class_rows(self) -> dict[str, NamedRows]:
        """The tensors with rows per class."""
        return {f"head.class_logits.{kind}": NamedRows() for kind in ("weight", "bias")}

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        """images uint8 [B, 3, H, W], H and W multiples of 32."""
        maps = self.neck(self.backbone(self.normalize(images)))
        outputs: DenseOutputs = self.head(maps)
        sizes = [(level.shape[2], level.shape[3]) for level in maps]
        centers, strides = make_locations(sizes, self.head.strides, images.device)
        losses = {} if targets is None else dense_loss(outputs, centers, strides, targets, self.head.states)
        if self.training:
            return Output(losses, None)
        boxes = decode_box_logits(outputs.boxes, centers, strides)
        scores = apply_presence(outputs.classes.sigmoid(), outputs.states, self.head.states)
        target_states = None
        if targets is not None and outputs.states is not None:
            index = find_nearest_locations(boxes, centers, targets)[..., None].expand(-1, -1, outputs.states.shape[-1])
            target_states = outputs.states.gather(1, index)
        return Output(losses, self.postprocess(boxes, scores, outputs.states), target_states)
