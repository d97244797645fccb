"""Our models against torchvision's: the same outputs with its COCO weights, and the same losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

from detector.engine.structures import Targets
from detector.models import MODELS
from detector.models.fcos import fcos_loss
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.retinanet import retinanet_loss
from detector.models.ssdlite import make_default_boxes
from detector.models.state_head import StateConfig
from tests.support.targets import whole_image_targets
from tests.support.torchvision_reference import to_file_names

SIZE = (128, 192)
STATISTICS = PixelStatistics((120, 110, 100), (60, 60, 60))
PEERS: dict[str, Callable[..., nn.Module]] = {
    "ssdlite": detection.ssdlite320_mobilenet_v3_large,
    "faster_rcnn": detection.fasterrcnn_mobilenet_v3_large_320_fpn,
    "faster_rcnn_resnet50": detection.fasterrcnn_resnet50_fpn,
    "retinanet": detection.retinanet_resnet50_fpn,
    "fcos": detection.fcos_resnet50_fpn,
}


def build(name: str, weights: str, classes: int = 90) -> Any:
    """90 classes, as in torchvision: its class layers have the same shapes here, and must not be loaded."""
    states = StateConfig((True, False), (1.0, 1.0), 0.5)
    return MODELS[name].build(classes, states, STATISTICS, Postprocess(), weights).eval()


def peer_with_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """torchvision's detector with random weights, which our models then load as if they were downloaded."""
    torch.manual_seed(1)
    stored = PEERS[name](weights=None, weights_backbone=None).state_dict()
    for key, value in stored.items():
        if key.endswith("running_var"):
            value.uniform_(1e-4, 2.0)  # a wrong epsilon must change the outputs
        elif key.endswith("running_mean") or "bias" in key:
            value.normal_(0, 0.1)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: to_file_names(stored))
    return PEERS[name](weights="DEFAULT").eval()


def is_close(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


@pytest.fixture
def images() -> Tensor:
    """Normalized images, float [2, 3, H, W]."""
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_coco_weights_of_ssdlite(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    peer, ours = peer_with_weights("ssdlite", monkeypatch), build("ssdlite", "coco")
    theirs = list(peer.backbone(images).values())
    x, maps = images, []
    for block in (*ours.backbone, *ours.extra):
        x = block(x)
        maps.append(x)
    assert maps[1].shape[1] == 2 * theirs[1].shape[1]
    assert all(is_close(own[:, : other.shape[1]], other) for own, other in zip(maps, theirs, strict=True))
    assert is_close(ours.head.regression_head(maps), peer.head.regression_head(theirs))
    blocks = zip(ours.head.classification_head.module_list, peer.head.classification_head.module_list, strict=True)
    for (own, other), level, their_level in zip(blocks, maps, theirs, strict=True):
        assert is_close(own[0](level)[:, : their_level.shape[1]], other[0](their_level))
        assert not is_close(own[1].weight[:, : their_level.shape[1]], other[1].weight)
    square = torch.zeros(1, 3, 320, 320)
    maps = [torch.zeros(1, 1, side, side) for side in (20, 10, 5, 3, 2, 1)]
    expected = peer.anchor_generator(ImageList(square, [(320, 320)]), maps)[0]
    assert torch.allclose(make_default_boxes(ours.boxes, square, maps), expected, atol=1e-4)


def test_default_boxes_are_not_squashed() -> None:
    ours = build("ssdlite", "none")
    boxes = []
    for height in (320, 192):
        maps = [torch.zeros(1, 1, height // stride, 320 // stride) for stride in (16, 32)]
        boxes.append(make_default_boxes(ours.boxes, torch.zeros(1, 3, height, 320), maps))
    square, wide = boxes
    # The same boxes at the same places as on a square input, of which only the upper rows are left.
    assert torch.allclose(wide[: 12 * 20 * 6], square[: 12 * 20 * 6], atol=1e-4)
    assert torch.allclose(wide[12 * 20 * 6 :], square[20 * 20 * 6 :][: 6 * 10 * 6], atol=1e-4)
    sides = wide[:, 2:] - wide[:, :2]
    assert torch.allclose(sides[0], torch.tensor([64.0, 64.0]), atol=1e-4)


@pytest.mark.parametrize("name", ["faster_rcnn", "faster_rcnn_resnet50"])
@torch.no_grad()
def test_coco_weights_of_two_stages(name: str, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    peer, ours = peer_with_weights(name, monkeypatch), build(name, "coco")
    theirs = peer.backbone(images)
    maps = list(ours.pyramid(ours.backbone(images)).values())
    assert all(is_close(own, other) for own, other in zip(maps, theirs.values(), strict=True))
    objectness, offsets, anchors, _ = ours.proposal_network(maps, images)
    their_objectness, their_offsets = peer.rpn.head(list(theirs.values()))
    assert is_close(objectness, torch.cat([level.permute(0, 2, 3, 1).flatten(1) for level in their_objectness], 1))
    assert is_close(offsets.flatten(1), torch.cat([level.permute(0, 2, 3, 1).flatten(1) for level in their_offsets], 1))
    assert torch.equal(anchors, peer.rpn.anchor_generator(ImageList(images, [SIZE]), list(theirs.values()))[0])
    boxes = torch.rand(2, 40, 4) * torch.tensor([100.0, 60.0, 92.0, 68.0])
    boxes[..., 2:] += boxes[..., :2]
    boxes = torch.cat([boxes, boxes * 4, boxes / 8], dim=1)  # from all maps
    outputs: list[Tensor] = []
    ours.box_head.layers.register_forward_hook(lambda *call: outputs.append(call[2]))
    ours.box_head(maps, boxes)
    their_pooled = peer.roi_heads.box_roi_pool(theirs, list(boxes), [SIZE, SIZE])
    assert is_close(outputs[0], peer.roi_heads.box_head(their_pooled))
    assert not is_close(ours.box_head.predictor.cls_score.weight, peer.roi_heads.box_predictor.cls_score.weight)


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
@torch.no_grad()
def test_coco_weights_of_dense_heads(name: str, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    peer, ours = peer_with_weights(name, monkeypatch), build(name, "coco")
    theirs = list(peer.backbone(images).values())
    maps = list(ours.pyramid(ours.backbone(images)).values())
    assert all(is_close(own, other) for own, other in zip(maps, theirs, strict=True))
    own_edges, their_edges = ours.head.regression_head(maps), peer.head.regression_head(theirs)
    if name == "fcos":
        assert all(is_close(own, other) for own, other in zip(own_edges, their_edges, strict=True))
    else:
        assert is_close(own_edges, their_edges)
    own, other = ours.head.classification_head, peer.head.classification_head
    assert all(is_close(own.conv(level), other.conv(their)) for level, their in zip(maps, theirs, strict=True))
    assert not is_close(own.cls_logits.weight[:90], other.cls_logits.weight[:90])
    generator = ours.anchors if name == "retinanet" else ours.cells
    expected = peer.anchor_generator(ImageList(images, [SIZE]), theirs)[0]
    assert torch.equal(generator(ImageList(images, [SIZE]), maps)[0], expected)


@pytest.mark.parametrize("name", PEERS)
def test_weights_trained_from_coco_load_into_a_model_built_without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    peer_with_weights(name, monkeypatch)
    trained, loaded = build(name, "coco", classes=3), build(name, "none", classes=3)
    loaded.load_state_dict(trained.state_dict())
    images = torch.randint(0, 256, (1, 3, *SIZE), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(trained(images).detections.scores, loaded(images).detections.scores)


def make_targets() -> Targets:
    """Two images with small and large boxes, some overlapping; the third box of the second image is padding."""
    boxes = [[[10, 10, 60, 70], [20, 20, 190, 120], [60, 40, 76, 60]], [[0, 0, 40, 30], [100, 20, 180, 100], [0] * 4]]
    labels = torch.tensor([[1, 2, 3], [3, 1, 0]])
    return whole_image_targets(torch.tensor(boxes, dtype=torch.float32), labels, None, SIZE)


def to_torchvision_targets(targets: Targets, image: int) -> list[dict[str, Tensor]]:
    """Targets in torchvision's format, with class indices from 0."""
    real = targets.labels[image] > 0
    return [{"boxes": targets.boxes_xyxy[image, real], "labels": targets.labels[image, real] - 1}]


def test_retinanet_loss_equals_torchvision() -> None:
    peer = detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    maps = [torch.zeros(1, 256, SIZE[0] // stride, SIZE[1] // stride) for stride in (8, 16, 32, 64, 128)]
    anchors = peer.anchor_generator(ImageList(torch.zeros(1, 3, *SIZE), [SIZE]), maps)[0]
    torch.manual_seed(0)
    logits, offsets = torch.randn(1, len(anchors), 3) - 3, torch.randn(1, len(anchors), 4)
    for image in (0, 1):
        targets = Targets(*(part[image : image + 1] for part in make_targets()))
        ours = retinanet_loss(offsets, logits, anchors, targets, state_logits=None, states=None)
        outputs = {"cls_logits": logits, "bbox_regression": offsets}
        theirs = peer.compute_loss(to_torchvision_targets(targets, 0), outputs, [anchors])
        assert torch.isclose(ours["loss_cls"], theirs["classification"], rtol=1e-4)
        assert torch.isclose(ours["loss_l1"], theirs["bbox_regression"], rtol=1e-4)


def test_fcos_loss_equals_torchvision() -> None:
    peer: Any = detection.fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    ours: Any = build("fcos", "none", classes=3)
    maps = [torch.zeros(1, 256, -(-SIZE[0] // stride), -(-SIZE[1] // stride)) for stride in (8, 16, 32, 64, 128)]
    cells = peer.anchor_generator(ImageList(torch.zeros(1, 3, *SIZE), [SIZE]), maps)[0]
    torch.manual_seed(0)
    logits = type(ours._logits(maps))(
        torch.randn(2, len(cells), 3) - 3, torch.rand(2, len(cells), 4) * 6, torch.randn(2, len(cells)), None
    )
    targets = make_targets()
    centers, strides = (cells[:, :2] + cells[:, 2:]) / 2, cells[:, 2] - cells[:, 0]
    losses = fcos_loss(logits, centers, strides, targets, None)
    outputs = {
        "cls_logits": logits.classes,
        "bbox_regression": logits.distances,
        "bbox_ctrness": logits.centerness[..., None],
    }
    peers = [target for image in (0, 1) for target in to_torchvision_targets(targets, image)]
    levels = [level.shape[2] * level.shape[3] for level in maps]
    theirs = peer.compute_loss(peers, outputs, [cells, cells], levels)
    assert torch.isclose(losses["loss_cls"], theirs["classification"], rtol=1e-4)
    assert torch.isclose(losses["loss_giou"], theirs["bbox_regression"], rtol=1e-4)
    assert torch.isclose(losses["loss_centerness"], theirs["bbox_ctrness"], rtol=1e-4)
