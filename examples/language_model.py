"""Prune character-level transformers: does annealing help a language model? An open question of the paper.

python examples/language_model.py [SEEDS STEPS]      (by default 12 1000, some eight minutes of one core)
Not here: at 90% sparsity the loss of annealed minus one-shot is -0.001 ± 0.011 nats, as printed. Of 600 steps, on
seeds 100 to 105, annealing loses 0.051 ± 0.012 nats at 95% and 0.026 ± 0.009 at 98%.
The text is Shakespeare's sonnets 1 to 18 (1609, public domain); the last tenth is held out.
"""

import copy
import sys
from pathlib import Path

import torch
from small_transformer import Transformer
from spread import show

import ssa

SEEDS, STEPS = [int(word) for word in sys.argv[1:]] or (12, 1000)
CONTEXT = 32  # characters
text = (Path(__file__).parent / "sonnets.txt").read_text(encoding="utf-8")
letters, rows = sorted(set(text)), []
codes = torch.tensor([letters.index(letter) for letter in text]).unfold(0, CONTEXT + 1, 1)
train, held_out = codes[: len(codes) * 9 // 10], codes[len(codes) * 9 // 10 + CONTEXT :: CONTEXT]


def fit(model, at=lambda t: None):
    """Train; the loss on held-out text, in nats a character."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    for step in range(STEPS):
        at(step)  # where the annealing stands; here time is counted in steps
        optimizer.zero_grad()
        model(train[torch.randint(len(train), (16,))]).backward()
        optimizer.step()
    return model.eval()(held_out).item()


for seed in range(SEEDS):
    torch.manual_seed(seed)
    parent = Transformer(len(letters), CONTEXT)
    rows.append([fit(parent)])
    for law in (ssa.OneShot(), ssa.TemperatureAnnealing(tau=0.5, epochs=STEPS / 4)):
        mask = ssa.prune(parent, 0.9, criterion="random", seed=seed)
        child = ssa.Subnetwork(copy.deepcopy(parent).train(), mask, law, epochs=STEPS)
        rows[-1].append(fit(child, child.at))
show(rows, " nats a character of held-out text", digits=3)
