"""What anchor-free detectors share: backbone, pyramid, dense head, and how they become losses and detections."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from detector.contract import Output, Targets
from detector.models.assignment import nearest_locations
from detector.models.dense_head import DenseHead, DenseLogits, conv_block, decode_boxes, locations_of
from detector.models.dense_loss import dense_loss
from detector.models.normalization import Normalize
from detector.models.postprocess import Postprocess


class FeaturePyramid(nn.Module):
    """Coarse maps tell fine ones what they see (Lin et al. 2017); all come out with `channels`."""

    def __init__(self, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv_block(width, channels, kernel=1) for width in widths)
        self.smooth = nn.ModuleList(conv_block(channels, channels) for _ in widths)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Fine to coarse, in and out."""
        maps = [lateral(level) for lateral, level in zip(self.lateral, maps, strict=True)]
        for index in range(len(maps) - 2, -1, -1):
            maps[index] = maps[index] + F.interpolate(maps[index + 1], scale_factor=2.0, mode="nearest")
        return [smooth(level) for smooth, level in zip(self.smooth, maps, strict=True)]


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
        scores = logits.classes.sigmoid()
        if self.head.states is None or logits.states is None:
            return Output(losses, self.postprocess(boxes, scores))
        scores = scores * self.head.states.presence(logits.states)[..., None]
        target_states = None
        if targets is not None:
            place = nearest_locations(boxes, centres, targets)[..., None].expand(-1, -1, logits.states.shape[-1])
            target_states = logits.states.gather(1, place)
        return Output(losses, self.postprocess(boxes, scores, logits.states), target_states)
