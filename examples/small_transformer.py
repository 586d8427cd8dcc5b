"""A character-level transformer for the example of a language model."""

import torch
from torch import nn


class Transformer(nn.Module):
    """Two blocks of width 64 over windows of ``context`` + 1 characters."""

    def __init__(self, letters: int, context: int, width: int = 64) -> None:
        super().__init__()
        block = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True, norm_first=True)
        self.blocks, self.head = nn.TransformerEncoder(block, 2, enable_nested_tensor=False), nn.Linear(width, letters)
        self.letter, self.place = nn.Embedding(letters, width), nn.Embedding(context, width)
        self.causal = nn.Transformer.generate_square_subsequent_mask(context)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """The mean loss of every next character, in nats."""
        x = self.blocks(self.letter(windows[:, :-1]) + self.place.weight, self.causal, is_causal=True)
        return nn.functional.cross_entropy(self.head(x).transpose(1, 2), windows[:, 1:])
