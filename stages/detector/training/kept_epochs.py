"""Epochs that `train.keep_every` keeps: the model, to be evaluated, and the whole state, to continue from it.

They are not outputs, so nothing depends on them and nothing deletes them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from detector.core.output_files import replace_file
from detector.engine.checkpoint import Card, save_checkpoint


class KeptEpochs(NamedTuple):
    """folder: of this training. every: 0 keeps none. make_card: from the epoch's validation metrics."""

    folder: Path
    every: int
    make_card: Callable[[dict[str, float]], Card]

    def includes(self, epoch: int) -> bool:
        """Whether to keep this epoch (from 1)."""
        return self.every > 0 and epoch > 0 and epoch % self.every == 0

    def keep(self, weights: dict[str, Tensor], validation: dict[str, float], checkpoint: Path) -> None:
        """Write detector.safetensors with its card, and a copy of the checkpoint to resume from.

        weights: the averaged ones of the epoch that `validation` names.
        """
        folder = self.folder / f"{int(validation['epoch']):03}"
        try:
            save_checkpoint(folder / "detector.safetensors", weights, self.make_card(validation))
            with replace_file(folder / checkpoint.name) as new:
                shutil.copyfile(checkpoint, new)
            print(f"kept {folder}", flush=True)
        except OSError as error:  # as for the checkpoints to resume from: the training does not need them
            print(f"warning: could not keep {folder} ({error})", flush=True)
