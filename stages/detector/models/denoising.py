"""Contrastive denoising: noised ground-truth objects as additional queries, which makes a DETR converge faster.

Zhang et al. 2022, "DINO: DETR with Improved DeNoising Anchor Boxes": a query that starts near an object must
find it, a query that starts too far away must predict no object. These queries need no matching.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from detector.models.hungarian import MatchIndices, SetTargets
from detector.models.private_imports import CONTRASTIVE_DENOISING_GROUP

DENOISING_QUERIES = 100  # approximate number per image of queries near an object; as many start too far away
LABEL_NOISE, BOX_NOISE = 0.5, 1.0  # half of this fraction get a random class; edge shift in half box sizes


class DenoisingQueries(NamedTuple):
    """K denoising queries per image; most belong to an object, the rest is padding.

    features [B, K, D], boxes [B, K, 4] before the sigmoid. mask: [K + Q, K + Q], added to the attention, hides these
    queries from the Q regular ones and the groups from each other. matches: query and object of each match in the
    batch. groups: number of queries per object.
    """

    features: Tensor
    boxes: Tensor
    mask: Tensor
    matches: MatchIndices
    groups: int


def make_denoising_queries(set_targets: SetTargets, embedding: nn.Embedding, queries: int) -> DenoisingQueries | None:
    """Make denoising queries from `set_targets` of one layer; None without objects. Uses torch's generator.

    embedding: of the classes, [classes + 1, D]. queries: Q, the number of regular queries.
    """
    real = set_targets.labels > 0
    objects = [
        {"class_labels": labels[mask] - 1, "boxes": boxes[mask]}
        for labels, boxes, mask in zip(set_targets.labels, set_targets.boxes_cxcywh, real, strict=True)
    ]
    classes = embedding.num_embeddings - 1
    features, boxes, mask, metadata = CONTRASTIVE_DENOISING_GROUP.load()(
        objects, classes, queries, embedding, DENOISING_QUERIES, LABEL_NOISE, BOX_NOISE
    )
    if features is None:
        return None
    groups = metadata["dn_num_group"]
    query = metadata["dn_positive_idx"]  # per image: the queries of its objects in the first group, the second, ...
    row = torch.cat([torch.full_like(indices, image) for image, indices in enumerate(query)])
    object_index = torch.cat([mask.nonzero()[:, 0].repeat(groups) for mask in real])
    return DenoisingQueries(features, boxes, mask, MatchIndices(row, torch.cat(query), object_index), groups)
