"""A convolution net: the stem and the first stage of ResNet-18, on one image of ImageNet's size.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016, table 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

IMAGE, CHANNELS, CLASSES = 224, 64, 1_000
BLOCKS = 2  # of the first stage


class Block(nn.Module):
    """Two 3x3 convolutions with batch normalization, and what came in added to them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution_1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm_1 = nn.BatchNorm2d(channels)
        self.convolution_2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm_2 = nn.BatchNorm2d(channels)

    def forward(self, images: Tensor) -> Tensor:
        """Images, N x channels x H x W, to others of this shape."""
        hidden = self.norm_1(self.convolution_1(images)).relu()
        added: Tensor = self.norm_2(self.convolution_2(hidden)) + images
        return added.relu()


def make_model() -> nn.Module:
    """The stem, the blocks, and a linear layer on what is pooled, float32."""
    return nn.Sequential(
        nn.Conv2d(3, CHANNELS, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(CHANNELS),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        *(Block(CHANNELS) for _ in range(BLOCKS)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(CHANNELS, CLASSES),
    )


def make_inputs() -> Tensor:
    """One image, 1 x 3 x IMAGE x IMAGE."""
    return torch.randn(1, 3, IMAGE, IMAGE)
