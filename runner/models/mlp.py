"""A multilayer perceptron of the size of PyTorch's Quickstart tutorial: 784-512-512-10."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PIXELS, HIDDEN, CLASSES = 28 * 28, 512, 10  # docs.pytorch.org/tutorials, Quickstart
BATCH = 64  # likewise


def make_model() -> nn.Module:
    """Three linear layers with ReLU between them, float32."""
    return nn.Sequential(
        nn.Linear(PIXELS, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, CLASSES),
    )


def make_inputs() -> Tensor:
    """A batch of images, BATCH x PIXELS."""
    return torch.rand(BATCH, PIXELS)
