"""Optimizer, learning-rate schedule and moving average of the weights."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from detector.models.recipe import Recipe

WARMUP_START = 0.001  # fraction of the learning rate at the start of warm-up
PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.5, 3


def make_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """Create SGD with Nesterov momentum 0.9, or AdamW.

    There are at most four parameter groups: backbone or not, with weight decay or not. Weights of norms and all
    biases have no weight decay. The backbone is the model's attribute `backbone`, if it has one.
    """
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("backbone."), parameter.ndim > 1), []).append(parameter)
    options = []
    for (backbone, decayed), parameters in sorted(groups.items(), key=lambda item: item[0]):
        lr = recipe.lr * (recipe.backbone_lr_factor if backbone else 1.0)
        decay = recipe.weight_decay if decayed else 0.0
        options.append({"params": parameters, "lr": lr, "base_lr": lr, "weight_decay": decay})
    if recipe.optimizer == "sgd":
        return SGD(options, lr=recipe.lr, momentum=0.9, nesterov=True)
    return AdamW(options, lr=recipe.lr, fused=True)


class Schedule:
    """Sets the learning rate before each iteration.

    It rises linearly from a thousandth during the first `warmup_iterations`; then multistep, cosine, plateau
    (halved when the validation loss has not fallen for 3 epochs) or constant. iterations: of the whole training.
    """

    def __init__(self, optimizer: Optimizer, recipe: Recipe, iterations: int) -> None:
        self._optimizer, self._recipe, self._iterations = optimizer, recipe, iterations
        # Warm-up takes at most a fifth of a short training.
        self._warmup = min(recipe.warmup_iterations, iterations // 5)
        self._lowest, self._stale, self._plateau = math.inf, 0, 1.0

    def step(self, iteration: int) -> float:
        """Set the learning rates of `iteration` (from 0); return the one outside the backbone."""
        factor = self.factor(iteration)
        for group in self._optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        return self._recipe.lr * factor

    def factor(self, iteration: int) -> float:
        """Return the learning rate of `iteration` as a fraction of the base learning rate."""
        if iteration < self._warmup:
            return WARMUP_START + (1 - WARMUP_START) * iteration / self._warmup
        progress = (iteration - self._warmup) / max(1, self._iterations - self._warmup)
        if self._recipe.schedule == "multistep":
            return 0.1 ** sum(iteration >= step * self._iterations for step in self._recipe.lr_steps)
        if self._recipe.schedule == "cosine":
            final = self._recipe.min_lr_ratio
            return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2
        return self._plateau

    def finish_epoch(self, loss: float) -> None:
        """Update the plateau schedule with the validation loss of the epoch."""
        if self._recipe.schedule != "plateau":
            return
        if loss < self._lowest:
            self._lowest, self._stale = loss, 0
        else:
            self._stale += 1
        if self._stale > PLATEAU_PATIENCE:
            self._plateau, self._stale = self._plateau * PLATEAU_FACTOR, 0

    def state_dict(self) -> tuple[float, int, float]:
        """Return the state of the plateau schedule."""
        return self._lowest, self._stale, self._plateau

    def load_state_dict(self, state: tuple[float, int, float]) -> None:
        """Restore what `state_dict` returned."""
        self._lowest, self._stale, self._plateau = state


class AveragedWeights:
    """An exponential moving average of a model's weights and buffers, for evaluation.

    The decay increases with the number of updates, as decay * (1 - exp(-updates / 100)), so the random initial
    weights soon lose their influence.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval()
        self.model.requires_grad_(False)
        self._decay, self._updates = decay, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of its updates."""
        return {"weights": self.model.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.model.load_state_dict(state["weights"])
        self._updates = state["updates"]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average with the weights of `model`."""
        self._updates += 1
        decay = self._decay * (1 - math.exp(-self._updates / 100))
        own, new = self.model.state_dict(), model.state_dict()
        floats = [name for name, value in own.items() if value.is_floating_point()]
        torch._foreach_lerp_([own[name] for name in floats], [new[name] for name in floats], 1 - decay)
        for name in own.keys() - set(floats):
            own[name].copy_(new[name])
