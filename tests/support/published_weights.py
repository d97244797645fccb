"""Stand-ins for the COCO weights of the query-based detectors, as the hub delivers them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detector.models.query_architectures import ARCHITECTURES

NAMES = ("cat", "N/A", "dog")


def publish(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Save a reference network with random weights as the hub would deliver it, and return it."""
    from transformers import AutoModelForObjectDetection

    torch.manual_seed(0)
    config = ARCHITECTURES[name].make_config()
    if name == "detr":
        config.decoder_layers = 1  # see `compute_detr_losses`: transformers' losses of the other layers differ
    if name == "rtdetr":
        config.num_queries = 16**2 + 8**2 + 4**2  # all cells: frozen batch norms round differently and select others
    config.id2label, config.auxiliary_loss = dict(enumerate(NAMES)), name != "detr"
    monkeypatch.setitem(
        ARCHITECTURES,
        name,
        ARCHITECTURES[name].__class__(**{**vars(ARCHITECTURES[name]), "make_config": lambda: config}),
    )
    network: Any = AutoModelForObjectDetection.from_config(config)
    if name == "deformable_detr":  # its layers have heads of their own in the published file
        network.class_embed = nn.ModuleList(nn.Linear(config.d_model, len(NAMES)) for _ in network.class_embed)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if "query_position" in key:
                value.normal_(generator=generator)
            elif value.ndim > 1:
                value.normal_(0, 0.8 * value[0].numel() ** -0.5, generator=generator)
            elif value.is_floating_point() and not key.endswith(("running_var", "up", "reg_scale")):
                value += torch.randn(value.shape, generator=generator) * 0.1
    network.save_pretrained(folder)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repository, file, revision: str(folder / file))
    monkeypatch.setattr("detector.models.pretrained.check_digest", lambda *_: None)
    return AutoModelForObjectDetection.from_pretrained(folder).eval()
