"""Private names of other libraries: whether the installed versions still have them."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from detector.models.private_imports import PRIVATE_NAMES, RESNET_FPN_EXTRACTOR, PrivateName


@pytest.mark.parametrize("private_name", PRIVATE_NAMES, ids=str)
def test_the_installed_version_has_the_name(private_name: PrivateName) -> None:
    assert callable(private_name.load())


@pytest.mark.parametrize(
    "missing",
    [
        RESNET_FPN_EXTRACTOR._replace(name="_gone"),
        RESNET_FPN_EXTRACTOR._replace(module="torchvision.models.gone"),
    ],
)
def test_a_removed_name_is_reported_with_the_version(missing: PrivateName) -> None:
    with pytest.raises(ImportError) as caught:
        missing.load()
    message = str(caught.value)
    assert f"torchvision {version('torchvision')} has no {missing.module}.{missing.name} any more" in message
