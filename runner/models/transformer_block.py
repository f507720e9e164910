"""A block of GPT-2 small: 12 heads of 64, a hidden layer of 3072, on 128 tokens.

Radford, Wu, Child, Luan, Amodei, Sutskever: Language Models are Unsupervised Multitask Learners,
2019, table 2; what follows the attention is as in their released code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

WIDTH, HEADS, HIDDEN = 768, 12, 3_072
BATCH, TOKENS = 1, 128


class Attention(nn.Module):
    """Causal attention of several heads."""

    def __init__(self) -> None:
        super().__init__()
        self.projection_in = nn.Linear(WIDTH, 3 * WIDTH)
        self.projection_out = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens, N x L x WIDTH, to others of this shape."""
        batch, length, _ = tokens.shape
        of_heads = (batch, length, HEADS, WIDTH // HEADS)
        query, key, value = (
            part.view(of_heads).transpose(1, 2)
            for part in self.projection_in(tokens).split(WIDTH, dim=-1)
        )
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        projected: Tensor = self.projection_out(mixed.transpose(1, 2).reshape(tokens.shape))
        return projected


class Block(nn.Module):
    """Attention, then a hidden layer, each on normalized tokens and added to them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.hidden = nn.Sequential(
            nn.Linear(WIDTH, HIDDEN), nn.GELU("tanh"), nn.Linear(HIDDEN, WIDTH)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens, N x L x WIDTH, to others of this shape."""
        tokens = tokens + self.attention(self.norm_1(tokens))
        hidden: Tensor = self.hidden(self.norm_2(tokens))
        return tokens + hidden


def make_model() -> nn.Module:
    """The block, float32."""
    return Block()


def make_inputs() -> Tensor:
    """Embedded tokens, BATCH x TOKENS x WIDTH."""
    return torch.randn(BATCH, TOKENS, WIDTH)
