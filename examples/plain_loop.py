"""A plain PyTorch loop: prune a network of scikit-learn's digits and fine-tune it, one-shot and annealed.

python examples/plain_loop.py [EPOCHS]        (fine-tuning; by default 20, a quarter of them annealed)
"""

import copy
import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

import ssa

EPOCHS, SPARSITY = int(sys.argv[1]) if len(sys.argv) > 1 else 20, 0.95
torch.manual_seed(0)
images, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
images, order = images.float() / 16, torch.randperm(len(labels))
(x, test_x), (y, test_y) = images[order].split([400, 1397]), labels[order].split([400, 1397])


def fit(model, epochs, at=lambda t: None):
    """Train; the percentage of test images that are right."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(epochs):
        batches = torch.randperm(len(y), generator=torch.Generator().manual_seed(epoch)).split(50)
        for step, batch in enumerate(batches):
            at(epoch + step / len(batches))  # where the annealing stands, in epochs
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return 100 * (model.eval()(test_x).argmax(1) == test_y).float().mean()


parent = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
print(f"parent: {fit(parent, 20):.1f}% of 1397 test images")
mask = ssa.prune(parent, SPARSITY, criterion="random")
for law in (ssa.OneShot(), ssa.TemperatureAnnealing(tau=0.5, epochs=EPOCHS / 4)):
    child = ssa.Subnetwork(copy.deepcopy(parent), mask, law, epochs=EPOCHS)
    print(f"{type(law).__name__} at {SPARSITY:.0%} sparsity: {fit(child, EPOCHS, child.at):.1f}% (n = 1)")
