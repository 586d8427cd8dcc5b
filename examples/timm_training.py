"""timm's own parts around a child: its model, optimizer, scheduler, mixup, loss, and average of the weights (EMA).

python examples/timm_training.py [EPOCHS]        (of each training; by default 10, a quarter of fine-tuning annealed)
"""

import copy
import sys

import timm
import torch
from sklearn.datasets import load_digits
from timm import data, loss, optim, scheduler, utils

import ssa

EPOCHS, SPARSITY = int(sys.argv[1]) if len(sys.argv) > 1 else 10, 0.9
torch.manual_seed(0)
images, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
images, (train, test) = images.float().view(-1, 1, 8, 8) / 16, torch.randperm(len(labels)).split([1000, 797])


def fit(model, at=lambda t: None):
    """Train; the accuracy of the averaged weights, in words."""
    optimizer = optim.create_optimizer_v2(model, opt="adamw", lr=3e-3, weight_decay=0.05)
    rates, _ = scheduler.create_scheduler_v2(optimizer, sched="cosine", num_epochs=EPOCHS)
    mixup, criterion = data.Mixup(mixup_alpha=0.2, num_classes=10), loss.SoftTargetCrossEntropy()
    average = utils.ModelEmaV3(model, decay=0.9)
    for epoch in range(EPOCHS):
        rates.step(epoch)
        for step, batch in enumerate(train[torch.randperm(1000)].split(50)):
            at(epoch + step / 20)  # where the annealing stands, in epochs
            x, y = mixup(images[batch], labels[batch])
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
            average.update(model)
    return f"{100 * (average(images[test]).argmax(1) == labels[test]).float().mean():.1f}% of 797 test images (n = 1)"


parent = timm.create_model("test_resnet", in_chans=1, num_classes=10)
print(f"parent: {fit(parent)}")
for law in (ssa.OneShot(), ssa.TemperatureAnnealing(tau=0.5, epochs=EPOCHS / 4)):
    child = ssa.Subnetwork(copy.deepcopy(parent), ssa.prune(parent, SPARSITY), law, epochs=EPOCHS)
    print(f"{type(law).__name__} at {SPARSITY:.0%} sparsity: {fit(child, child.at)}")
