"""transformers' Trainer: a network of one's own for scikit-learn's digits, fine-tuned one-shot and annealed.

python examples/transformers_trainer.py [SEEDS EPOCHS]    (by default 12 40; each seed has 100 training images)
The network and its regime are those of plain_loop.py. With the Trainer annealing gains 3.10 ± 0.92 points."""

import copy
import sys
from tempfile import TemporaryDirectory

import torch
import transformers
from sklearn.datasets import load_digits
from spread import show
from torch import nn

import ssa
from ssa.integrations.transformers import AnnealingCallback

SEEDS, EPOCHS = [int(word) for word in sys.argv[1:]] or (12, 40)
images, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
images, rows = images.float() / 16, []
TRAINED = {"num_train_epochs": EPOCHS, "per_device_train_batch_size": 25, "lr_scheduler_type": "cosine"}
TRAINED["label_names"] = ["labels"]  # which the network does not take
QUIET = {"report_to": [], "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "use_cpu": True}


def fit(model, train, test, callbacks=()):
    """Train for EPOCHS; the percentage of test images that are right."""
    data = [{"input": images[i], "labels": labels[i]} for i in train]
    sgd = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    own = {"optimizers": (sgd, None), "compute_loss_func": lambda x, y, **_: nn.functional.cross_entropy(x, y)}
    with TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(folder, **TRAINED, **QUIET)
        trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=list(callbacks), **own)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return 100 * (model.eval()(images[test]).argmax(1) == labels[test]).float().mean().item()


for seed in range(SEEDS):
    transformers.set_seed(seed)
    train, test = torch.randperm(1797).split([100, 1697])
    parent = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    rows.append([fit(parent, train, test)])
    for law in (ssa.OneShot(), ssa.TemperatureAnnealing(tau=0.5, epochs=EPOCHS / 4)):
        child = ssa.Subnetwork(copy.deepcopy(parent), ssa.prune(parent, 0.95, criterion="random", seed=seed), law)
        rows[-1].append(fit(child.module, train, test, [AnnealingCallback(child)]))
show(rows, "% of 1697 test images")
