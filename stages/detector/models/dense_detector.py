"""What anchor-free detectors share: how backbone, neck and dense head become losses and detections."""

from __future__ import annotations

from torch import Tensor, nn

from detector.engine.structures import Output, Targets
from detector.models.assignment import nearest_locations
from detector.models.dense_head import DenseHead, DenseLogits, decode_boxes, locations_of
from detector.models.dense_loss import dense_loss
from detector.models.normalization import Normalize
from detector.models.postprocess import Postprocess
from detector.models.state_head import present_scores


class DenseDetector(nn.Module):
    """backbone: images -> maps, fine to coarse; neck: maps -> maps of one width, for the head."""

    def __init__(
        self, normalize: Normalize, backbone: nn.Module, neck: nn.Module, head: DenseHead, postprocess: Postprocess
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.postprocess = postprocess

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        """images uint8 [B, 3, H, W], H and W multiples of 32."""
        maps = self.neck(self.backbone(self.normalize(images)))
        logits: DenseLogits = self.head(maps)
        sizes = [(level.shape[2], level.shape[3]) for level in maps]
        centres, strides = locations_of(sizes, self.head.strides, images.device)
        losses = {} if targets is None else dense_loss(logits, centres, strides, targets, self.head.states)
        if self.training:
            return Output(losses, None)
        boxes = decode_boxes(logits.boxes, centres, strides)
        scores = present_scores(logits.classes.sigmoid(), logits.states, self.head.states)
        target_states = None
        if targets is not None and logits.states is not None:
            place = nearest_locations(boxes, centres, targets)[..., None].expand(-1, -1, logits.states.shape[-1])
            target_states = logits.states.gather(1, place)
        return Output(losses, self.postprocess(boxes, scores, logits.states), target_states)
