"""transformers' configurations of the query-based detectors, with the values of the COCO weights, built offline."""

from __future__ import annotations

from typing import Any


def make_detr_config() -> Any:
    """DETR with ResNet-50."""
    from transformers import DetrConfig  # slow to import

    return DetrConfig()


def make_deformable_detr_config() -> Any:
    """Deformable DETR with ResNet-50 and iterative refinement of the boxes."""
    from transformers import DeformableDetrConfig

    return DeformableDetrConfig(with_box_refine=True)


def make_rtdetr_config() -> Any:
    """RT-DETRv2 with ResNet-18."""
    from transformers import RTDetrResNetConfig, RTDetrV2Config

    backbone = RTDetrResNetConfig(
        depths=[2, 2, 2, 2],
        hidden_sizes=[64, 128, 256, 512],
        layer_type="basic",
        out_indices=[2, 3, 4],  # type: ignore[call-arg]
    )
    return RTDetrV2Config(
        backbone_config=backbone,
        encoder_in_channels=backbone.hidden_sizes[1:],
        hidden_expansion=0.5,
        decoder_layers=3,
    )


def make_hgnet_config(**options: Any) -> Any:
    """HGNetV2-B0, the smallest of D-FINE's backbones, except for `options`."""
    from transformers import HGNetV2Config

    values: dict[str, Any] = {
        "embedding_size": 32,
        "hidden_sizes": [128, 256, 512, 1024],
        "stem_channels": [3, 16, 16],
        "stage_in_channels": [16, 64, 256, 512],
        "stage_mid_channels": [16, 32, 64, 128],
        "stage_out_channels": [64, 256, 512, 1024],
        "stage_num_blocks": [1, 1, 2, 1],
        "stage_numb_of_layers": [3, 3, 3, 3],
        "use_learnable_affine_block": True,
        "out_indices": [2, 3, 4],
    }
    return HGNetV2Config(**(values | options))


def make_dfine_config(size: str) -> Any:
    """D-FINE of size n, s or m."""
    from transformers import DFineConfig

    nano = {
        "backbone_config": make_hgnet_config(out_indices=[3, 4]),
        "encoder_in_channels": [512, 1024],
        "encoder_hidden_dim": 128,
        "encoder_ffn_dim": 512,
        "encode_proj_layers": [1],
        "feat_strides": [16, 32],
        "hidden_expansion": 0.34,
        "depth_mult": 0.5,
        "d_model": 128,
        "decoder_in_channels": [128, 128],
        "decoder_ffn_dim": 512,
        "num_feature_levels": 2,
        "decoder_n_points": [6, 6],
        "decoder_layers": 3,
    }
    small = {
        "backbone_config": make_hgnet_config(),
        "encoder_in_channels": [256, 512, 1024],
        "hidden_expansion": 0.5,
        "depth_mult": 0.34,
        "decoder_n_points": [3, 6, 3],
        "decoder_layers": 3,
    }
    medium = {
        "backbone_config": make_hgnet_config(
            hidden_sizes=[192, 384, 768, 1536],
            stem_channels=[3, 24, 32],
            stage_in_channels=[32, 96, 384, 768],
            stage_mid_channels=[32, 64, 128, 256],
            stage_out_channels=[96, 384, 768, 1536],
            stage_num_blocks=[1, 1, 3, 1],
            stage_numb_of_layers=[4, 4, 4, 4],
        ),
        "encoder_in_channels": [384, 768, 1536],
        "depth_mult": 0.67,
        "decoder_n_points": [3, 6, 3],
        "decoder_layers": 4,
    }
    return DFineConfig(**{"n": nano, "s": small, "m": medium}[size])


def make_deimv2_config() -> Any:
    """DEIMv2-N: D-FINE-N with sums instead of concatenations in the encoder, and gates in the decoder."""
    from transformers import Deimv2Config

    return Deimv2Config(
        backbone_config=make_hgnet_config(out_indices=[3, 4], depths=[3, 3, 3, 3]),
        encoder_in_channels=[512, 1024],
        encoder_hidden_dim=128,
        encoder_ffn_dim=512,
        encode_proj_layers=[1],
        feat_strides=[16, 32],
        hidden_expansion=0.34,
        depth_mult=0.5,
        d_model=128,
        decoder_in_channels=[128, 128],
        decoder_ffn_dim=512,
        decoder_activation_function="silu",
        num_feature_levels=2,
        decoder_n_points=[6, 6],
        decoder_layers=3,
    )


def make_rfdetr_config(image_size: int, decoder_layers: int) -> Any:
    """RF-DETR with DINOv2-S, trained on squares of `image_size` pixels."""
    from transformers import RfDetrConfig, RfDetrDinov2Config

    backbone = RfDetrDinov2Config(
        image_size=image_size,
        patch_size=16,
        hidden_size=384,
        num_attention_heads=6,
        num_windows=2,
        out_features=["stage3", "stage6", "stage9", "stage12"],  # type: ignore[call-arg]
    )
    return RfDetrConfig(backbone_config=backbone, decoder_n_points=2, decoder_layers=decoder_layers)


def make_lwdetr_config() -> Any:
    """LW-DETR-tiny."""
    from transformers import LwDetrConfig, LwDetrViTConfig

    backbone = LwDetrViTConfig(
        image_size=1024,
        hidden_size=192,
        num_hidden_layers=6,
        window_block_indices=[0, 2, 4],
        out_indices=[2, 4, 6],  # type: ignore[call-arg]
    )
    return LwDetrConfig(
        backbone_config=backbone,
        projector_scale_factors=[1.0],
        num_queries=100,
        decoder_n_points=2,
    )
