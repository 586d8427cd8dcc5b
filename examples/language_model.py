"""Prune a character-level transformer: does annealing help a language model? An open question of the paper.

python examples/language_model.py [STEPS]        (of each training; by default 400, a quarter of fine-tuning annealed)
The text is Shakespeare's sonnets 1 to 18 (1609, public domain); the last tenth is held out."""

import copy
import sys
from pathlib import Path

import torch
from torch import nn

import ssa

STEPS, SPARSITY, CONTEXT = int(sys.argv[1]) if len(sys.argv) > 1 else 400, 0.9, 32
torch.manual_seed(0)
text = (Path(__file__).parent / "sonnets.txt").read_text(encoding="utf-8")
codes = torch.tensor([sorted(set(text)).index(letter) for letter in text]).unfold(0, CONTEXT + 1, 1)
train, held_out = codes[: len(codes) * 9 // 10], codes[len(codes) * 9 // 10 + CONTEXT :: CONTEXT]


class Model(nn.Module):
    """Two blocks of width 64, called with windows of CONTEXT + 1 characters."""

    def __init__(self, letters, width=64):
        super().__init__()
        block = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True, norm_first=True)
        self.blocks, self.head = nn.TransformerEncoder(block, 2, enable_nested_tensor=False), nn.Linear(width, letters)
        self.letter, self.place = nn.Embedding(letters, width), nn.Embedding(CONTEXT, width)
        self.causal = nn.Transformer.generate_square_subsequent_mask(CONTEXT)

    def forward(self, windows):
        """The mean loss of every next character, in nats."""
        x = self.blocks(self.letter(windows[:, :-1]) + self.place.weight, self.causal, is_causal=True)
        return nn.functional.cross_entropy(self.head(x).transpose(1, 2), windows[:, 1:])


def fit(model, at=lambda t: None):
    """Train; the loss on held-out text, in words."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    for step in range(STEPS):
        at(step)  # where the annealing stands; here time is counted in steps
        optimizer.zero_grad()
        model(train[torch.randint(len(train), (32,))]).backward()
        optimizer.step()
    return f"{model.eval()(held_out):.3f} nats a character of held-out text"


parent = Model(len(set(text)))
print(f"parent: {fit(parent)}")
for law in (ssa.OneShot(), ssa.TemperatureAnnealing(tau=0.5, epochs=STEPS / 4)):
    child = ssa.Subnetwork(copy.deepcopy(parent).train(), ssa.prune(parent, SPARSITY), law, epochs=STEPS)
    print(f"{type(law).__name__} at {SPARSITY:.0%} sparsity: {fit(child, child.at)} (n = 1)")
