"""RoI pooling by matrix products and by pyramid level, against torchvision's RoIAlign."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign, roi_align

from detector.models.roi_pooling import POOL_SIZE, pool_by_levels, pool_by_matmul

CORNER = st.floats(-80, 300, width=32)


def prepend_image_index(boxes: torch.Tensor) -> torch.Tensor:
    """[B, R, 4] -> [B * R, 5] with the image index first."""
    image = torch.arange(len(boxes)).view(-1, 1, 1).expand(-1, boxes.shape[1], 1)
    return torch.cat([image, boxes], dim=2).flatten(0, 1)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(CORNER, CORNER, CORNER, CORNER), min_size=4, max_size=4), st.integers(1, 6), st.integers(1, 6)
)
def test_products_equal_roi_align(corners: list[tuple[float, ...]], height: int, width: int) -> None:
    boxes = torch.tensor(corners).view(2, 2, 4)  # including outside, empty and inverted ones
    level = torch.randn(2, 5, height, width, generator=torch.Generator().manual_seed(0))
    expected = roi_align(level, prepend_image_index(boxes), POOL_SIZE, spatial_scale=1 / 32, sampling_ratio=2)
    assert torch.allclose(pool_by_matmul(level, 32, boxes), expected, atol=1e-4)


def test_products_have_the_same_gradient() -> None:
    torch.manual_seed(0)
    boxes = torch.rand(2, 6, 4) * 100
    boxes[..., 2:] += boxes[..., :2]
    level = torch.randn(2, 3, 5, 7, requires_grad=True)
    weights = torch.randn(12, 3, POOL_SIZE, POOL_SIZE)
    ours, theirs = (
        torch.autograd.grad((weights * pooled).sum(), level)[0]
        for pooled in (
            pool_by_matmul(level, 32, boxes),
            roi_align(level, prepend_image_index(boxes), POOL_SIZE, 1 / 32, 2),
        )
    )
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_each_box_is_pooled_from_the_level_for_its_size() -> None:
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, 512 // stride, 512 // stride) for stride in (4, 8, 16, 32)]
    sides = torch.tensor([3.0, 55, 56, 111, 112, 223, 224, 447, 448, 500])
    boxes = torch.cat([torch.zeros(10, 2), sides[:, None].expand(-1, 2)], dim=1).expand(2, -1, -1)
    peer = MultiScaleRoIAlign(["0", "1", "2", "3"], POOL_SIZE, 2)
    expected = peer(dict(zip("0123", maps, strict=True)), list(boxes), [(512, 512)] * 2)
    assert torch.equal(pool_by_levels(maps, (4, 8, 16, 32), boxes), expected)


class Pool(nn.Module):
    """`pool_by_levels` as a module, for export."""

    def forward(self, maps: list[Tensor], boxes: Tensor) -> Tensor:
        """Call `pool_by_levels`."""
        return pool_by_levels(maps, (4, 8, 16, 32), boxes)


def test_levels_are_selected_in_the_export_too() -> None:
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, 512 // stride, 512 // stride) for stride in (4, 8, 16, 32)]
    sides = torch.tensor([40.0, 100, 150, 300, 460])
    boxes = torch.cat([torch.zeros(5, 2), sides[:, None].expand(-1, 2)], dim=1).expand(2, -1, -1)
    exported = torch.export.export(Pool(), (maps, boxes)).module()
    assert torch.allclose(exported(maps, boxes), pool_by_levels(maps, (4, 8, 16, 32), boxes), atol=1e-5)
