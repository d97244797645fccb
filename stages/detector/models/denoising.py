"""Objects with noise as further queries in training, which makes a DETR learn sooner.

Zhang et al. 2022, "DINO: DETR with Improved DeNoising Anchor Boxes": the decoder is to find the object that a
query began near, and nothing from a query that began too far off. No matching is needed for these.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from detector.models.hungarian import Goals, Pairs

OBJECTS = 100  # about so many queries near an object, and as many too far off, has each image
LABEL_NOISE, BOX_NOISE = 0.5, 1.0  # half of this share gets a random class; how far edges move, in half boxes


class Noisy(NamedTuple):
    """K queries for each image; most of them belong to an object, the others pad.

    features [B, K, D], boxes [B, K, 4] before the sigmoid. mask: added to the attention [K + Q, K + Q], so that
    the Q other queries do not see these and those of one group not another. pairs: which of them answers for
    which object. groups: how many queries each object has.
    """

    features: Tensor
    boxes: Tensor
    mask: Tensor
    pairs: Pairs
    groups: int


def add_noise(goals: Goals, embedding: nn.Embedding, queries: int) -> Noisy | None:
    """Of the objects in `goals`, a row for each image; None where there are none. Uses torch's generator.

    embedding: of the classes, [classes + 1, D]. queries: Q, how many others there are.
    """
    # Here, because importing it takes seconds.
    from transformers.models.rt_detr_v2.modeling_rt_detr_v2 import get_contrastive_denoising_training_group

    real = goals.labels > 0
    objects = [
        {"class_labels": labels[known] - 1, "boxes": boxes[known]}
        for labels, boxes, known in zip(goals.labels, goals.boxes_cxcywh, real, strict=True)
    ]
    classes = embedding.num_embeddings - 1
    features, boxes, mask, facts = get_contrastive_denoising_training_group(
        objects, classes, queries, embedding, OBJECTS, LABEL_NOISE, BOX_NOISE
    )
    if features is None:
        return None
    groups = facts["dn_num_group"]
    places = facts["dn_positive_idx"]  # of each image: its objects in the first group, in the second, ...
    row = torch.cat([torch.full_like(place, number) for number, place in enumerate(places)])
    owner = torch.cat([known.nonzero()[:, 0].repeat(groups) for known in real])
    return Noisy(features, boxes, mask, Pairs(row, torch.cat(places), owner), groups)
