"""Private names of other libraries that the models need, all in one place: an upgrade may remove them."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any, NamedTuple


class PrivateName(NamedTuple):
    """A name in a module of another library; imported on first use, because some modules take seconds to import."""

    module: str
    name: str

    def load(self) -> Any:
        """Import the object. Raises ImportError with the library's version when it no longer exists."""
        try:
            return getattr(import_module(self.module), self.name)
        except (ImportError, AttributeError):
            library = self.module.partition(".")[0]
            raise ImportError(
                f"{library} {version(library)} has no {self.module}.{self.name} any more; "
                f"install the version in requirements.txt, or replace the name in {__name__}"
            ) from None


RESNET_FPN_EXTRACTOR = PrivateName("torchvision.models.detection.backbone_utils", "_resnet_fpn_extractor")
MOBILENET_FPN_EXTRACTOR = PrivateName("torchvision.models.detection.backbone_utils", "_mobilenet_extractor")
RETINANET_ANCHOR_GENERATOR = PrivateName("torchvision.models.detection.retinanet", "_default_anchorgen")
SSDLITE_EXTRACTOR = PrivateName("torchvision.models.detection.ssdlite", "_mobilenet_extractor")
DISTRIBUTED_LOSS = PrivateName("transformers.loss.loss_lw_detr", "_is_torch_distributed_initialized")
PRIVATE_NAMES = (
    RESNET_FPN_EXTRACTOR,
    MOBILENET_FPN_EXTRACTOR,
    RETINANET_ANCHOR_GENERATOR,
    SSDLITE_EXTRACTOR,
    DISTRIBUTED_LOSS,
)
