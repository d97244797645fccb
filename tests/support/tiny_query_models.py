"""The query-based detectors with few and narrow layers: each as its real configuration, made small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from detector.models.query_architectures import ARCHITECTURES

QUERIES = 12
# Of a family, the detector that is tested; the others differ in the number and the width of their layers.
FAMILIES = ("detr", "deformable_detr", "rtdetr", "dfine_n", "deimv2_n", "rfdetr_nano", "lwdetr")
LAYERS: dict[str, Any] = {
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "num_queries": QUERIES,
    "two_stage_num_proposals": QUERIES,
    "num_denoising": 4,
    "group_detr": 2,
}


def shrink_backbone(backbone: Any) -> Any:
    """The backbone of a configuration, made small."""
    kind = type(backbone)
    if backbone.model_type == "timm_backbone":
        return kind(backbone="test_resnet", out_indices=backbone.out_indices)
    if backbone.model_type == "rt_detr_resnet":
        return kind(
            depths=[1, 1, 1, 1],
            hidden_sizes=[16, 32, 48, 64],
            embedding_size=16,
            layer_type="basic",
            out_indices=[2, 3, 4],
        )
    if backbone.model_type == "hgnet_v2":
        backbone.stage_num_blocks, backbone.stage_numb_of_layers = [1] * 4, [1] * 4
        return backbone
    if backbone.model_type == "rf_detr_dinov2":
        return kind(
            hidden_size=48,
            num_attention_heads=2,
            num_hidden_layers=4,
            image_size=128,
            patch_size=16,
            num_windows=2,
            out_indices=[1, 2, 3, 4],
        )
    assert backbone.model_type == "lw_detr_vit"
    return kind(
        hidden_size=48,
        num_attention_heads=2,
        num_hidden_layers=2,
        image_size=256,
        window_block_indices=[0],
        out_indices=[1, 2],
    )


def shrink(config: Any) -> Any:
    """The configuration with small layers, in place."""
    for name, value in LAYERS.items():
        if hasattr(config, name):
            setattr(config, name, value)
    config.backbone_config = shrink_backbone(config.backbone_config)
    if config.model_type == "rt_detr_v2":
        config.encoder_in_channels = [32, 48, 64]
    return config


def use_tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ARCHITECTURES build the tiny variants."""
    for name, architecture in list(ARCHITECTURES.items()):
        tiny = partial(_make_tiny_config, architecture.make_config)
        monkeypatch.setitem(ARCHITECTURES, name, replace(architecture, make_config=tiny))


def _make_tiny_config(make_config: Callable[[], Any]) -> Any:
    return shrink(make_config())
