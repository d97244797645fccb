"""The table of query-based detectors: weights on the hub, license, configuration, recipe and input rule of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from detector.models.normalization import IMAGENET_STATISTICS, PixelStatistics
from detector.models.query_configs import (
    make_deformable_detr_config,
    make_deimv2_config,
    make_detr_config,
    make_dfine_config,
    make_lwdetr_config,
    make_rfdetr_config,
    make_rtdetr_config,
)
from detector.models.query_quirks import (
    initialize_detr,
    keep,
    prepare_deformable_detr,
    prepare_rfdetr,
    reset_batch_norms,
    untie_class_heads,
)
from detector.models.recipe import Recipe

# Normalization of the weights whose preprocessing is x / 255.
UNIT_STATISTICS = PixelStatistics((0, 0, 0), (255, 255, 255))
APACHE = "Apache-2.0"


@dataclass(frozen=True)
class QueryArchitecture:
    """One query-based detector of transformers.

    repository, commit, digest: of the COCO weights on the hub, see `HubWeights`; "main" and "" where not known.
    license: of the code and of these weights. make_config: builds the configuration of these weights. coco_statistics:
    the pixel normalization that they were trained with. size_multiple: of both sides of the input, in pixels.
    min_cells: of 16 x 16 pixels, of which the best become the queries; 0 where fewer cells give fewer queries.
    uses_mask: whether padding is masked. untie: gives layers tensors of their own, before weights are loaded. prepare:
    what a network needs for inputs that are not square and for export, in place. initialize: what a network with random
    weights needs to learn, in place.
    """

    title: str
    repository: str
    license: str
    make_config: Callable[[], Any]
    recipe: Recipe
    commit: str = "main"
    digest: str = ""
    coco_statistics: PixelStatistics = UNIT_STATISTICS
    size_multiple: int = 32
    min_cells: int = 0
    uses_mask: bool = False
    untie: Callable[[Any], None] = keep
    prepare: Callable[[Any], None] = keep
    initialize: Callable[[Any], None] = keep


# For fine-tuning: a tenth of the paper's schedule at half its learning rate. At 640 pixels, a 4:3 photograph has a
# shorter side of 480, the smallest in the training of the COCO weights.
DETR_RECIPE = Recipe(
    image_size=640,
    epochs=30,
    batch_size=4,
    optimizer="adamw",
    lr=5e-5,
    weight_decay=1e-4,
    schedule="cosine",
    warmup_iterations=100,
    min_lr_ratio=0.02,
    grad_clip_norm=1.0,
    backbone_lr_factor=0.1,
)
# The paper's recipe, adapted to fine-tuning: fewer epochs, a shorter warm-up, and weights averaged over the last 500
# steps instead of 10,000 (a decay of 0.9999), which would be the whole training on a few hundred images.
RTDETR_RECIPE = Recipe(
    image_size=640,
    epochs=60,
    batch_size=8,
    optimizer="adamw",
    lr=1e-4,
    weight_decay=1e-4,
    schedule="cosine",
    warmup_iterations=200,
    min_lr_ratio=0.02,
    grad_clip_norm=0.1,
    backbone_lr_factor=0.1,
)
# The paper trains 32 images per step at 2e-4 and drops the rate at the end; by the square root, 7e-5 for 4.
DEFORMABLE_RECIPE = replace(DETR_RECIPE, lr=7e-5, grad_clip_norm=0.1)
# The paper's rates (8e-4 for 128 images, 2e-4 for 32) at 8 images, by the square root; its backbones get a
# half (n, s) or a tenth (m) of it. Epochs, warm-up and averaging as for RT-DETR, whose training D-FINE adopts.
DFINE_RECIPE = replace(RTDETR_RECIPE, backbone_lr_factor=0.5)
DFINE_NANO_RECIPE = replace(DFINE_RECIPE, lr=2e-4)
DFINE_MEDIUM_RECIPE = replace(DFINE_RECIPE, backbone_lr_factor=0.1)
# The authors' settings for fine-tuning: 16 images per step, 1e-4, no warm-up to speak of. They multiply the encoder's
# rate by 1.5 * 0.7 and by 0.8 per layer from the last one on, which is 0.3 on average.
RFDETR_RECIPE = Recipe(
    image_size=384,
    epochs=50,
    batch_size=4,
    accumulate_steps=4,
    optimizer="adamw",
    lr=1e-4,
    weight_decay=1e-4,
    schedule="cosine",
    warmup_iterations=50,
    min_lr_ratio=0.02,
    grad_clip_norm=0.1,
    backbone_lr_factor=0.3,
    ema_decay=0.993,
)
# Its authors fine-tune on COCO with the same rates, 32 images per step, after training on Objects365.
LWDETR_RECIPE = replace(RFDETR_RECIPE, image_size=640)


def make_dfine(size: str, name: str, recipe: Recipe) -> QueryArchitecture:
    """The entry of D-FINE of size n, s or m."""
    return QueryArchitecture(
        f"D-FINE-{size.upper()}",
        f"ustc-community/dfine-{name}-coco",
        APACHE,
        partial(make_dfine_config, size),
        recipe,
    )


def make_rfdetr(name: str, image_size: int, decoder_layers: int) -> QueryArchitecture:
    """The entry of RF-DETR of size nano, small or medium: patches of 16 pixels in 2 windows per side."""
    return QueryArchitecture(
        f"RF-DETR {name}",
        f"Roboflow/rf-detr-{name}",
        APACHE,
        partial(make_rfdetr_config, image_size, decoder_layers),
        replace(RFDETR_RECIPE, image_size=image_size),
        coco_statistics=IMAGENET_STATISTICS,
        min_cells=300,
        prepare=prepare_rfdetr,
    )


ARCHITECTURES: dict[str, QueryArchitecture] = {
    "detr": QueryArchitecture(
        "DETR, ResNet-50",
        "facebook/detr-resnet-50",
        APACHE,
        make_detr_config,
        DETR_RECIPE,
        "1d5f47bd3bdd2c4bbfa585418ffe6da5028b4c0b",
        "830f5e2eeaada8c8c8281779dcc8ab12833972eb8514ed0a35be6c1d4420ad81",
        coco_statistics=IMAGENET_STATISTICS,
        uses_mask=True,
        initialize=initialize_detr,
    ),
    "deformable_detr": QueryArchitecture(
        "Deformable DETR with box refinement, ResNet-50",
        "SenseTime/deformable-detr-with-box-refine",
        APACHE,
        make_deformable_detr_config,
        DEFORMABLE_RECIPE,
        "2e9e461623a8fdc296e19666c46c8a4389a3a6fe",
        "4113700fe8aade398808424b7c5c1304cfbf886adc6450a6ca5d50a702be3373",
        coco_statistics=IMAGENET_STATISTICS,
        uses_mask=True,
        untie=untie_class_heads,
        prepare=prepare_deformable_detr,
    ),
    "rtdetr": QueryArchitecture(
        "RT-DETRv2, ResNet-18",
        "PekingU/rtdetr_v2_r18vd",
        APACHE,
        make_rtdetr_config,
        RTDETR_RECIPE,
        "5650961749fa93567c0d46fc7f43ea4f9e914107",
        "d18309d0d7ea57048138885c4c6ecfcb1e24506fc6153b94ad484f8ab62c7115",
        initialize=reset_batch_norms,
    ),
    "dfine_n": make_dfine("n", "nano", DFINE_NANO_RECIPE),
    "dfine_s": make_dfine("s", "small", DFINE_RECIPE),
    "dfine_m": make_dfine("m", "medium", DFINE_MEDIUM_RECIPE),
    "rfdetr_nano": make_rfdetr("nano", 384, 2),
    "rfdetr_small": make_rfdetr("small", 512, 3),
    "rfdetr_medium": make_rfdetr("medium", 576, 4),
    "deimv2_n": QueryArchitecture(
        "DEIMv2-N",
        "harshaljanjani/DEIMv2_HGNetv2_N_COCO_Transformers",
        APACHE,
        make_deimv2_config,
        DFINE_NANO_RECIPE,
    ),
    "lwdetr": QueryArchitecture(
        "LW-DETR-tiny",
        "AnnaZhang/lwdetr_tiny_60e_coco",
        APACHE,
        make_lwdetr_config,
        LWDETR_RECIPE,
        "4b636b514dcf623f6eafc9e1ab63b8ad5c513925",
        coco_statistics=IMAGENET_STATISTICS,
        size_multiple=64,  # patches of 16 pixels in 4 windows per side
        min_cells=100,
    ),
}
