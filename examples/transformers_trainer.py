"""transformers' Trainer: a small timm network for scikit-learn's digits, pruned and fine-tuned, one-shot and annealed.

python examples/transformers_trainer.py [SEEDS EPOCHS]    (by default 12 40; each seed has 100 training images)
One of fifteen regimes: +1.55 ± 1.34 points on seeds 100 to 111, +1.02 ± 2.99 on these. None shows a plain gain."""

import copy
import sys
from tempfile import TemporaryDirectory

import torch
import transformers
from sklearn.datasets import load_digits
from spread import show

import ssa
from ssa.integrations.transformers import AnnealingCallback

SEEDS, EPOCHS = [int(word) for word in sys.argv[1:]] or (12, 40)
pixels, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
images = [{"pixel_values": x, "labels": y} for x, y in zip(pixels.float().view(-1, 1, 8, 8) / 16, labels, strict=True)]
CONFIG = transformers.TimmWrapperConfig(architecture="test_resnet", num_labels=10, model_args={"in_chans": 1})
TRAINED = {"num_train_epochs": EPOCHS, "per_device_train_batch_size": 20, "lr_scheduler_type": "cosine"}
QUIET = {"report_to": [], "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "use_cpu": True}
rows = []


def fit(model, train, test, callbacks=()):
    """Train for EPOCHS; the percentage of test images that are right."""
    with TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(folder, **TRAINED, **QUIET)
        sgd = torch.optim.SGD(model.parameters(), 0.2, momentum=0.9, weight_decay=5e-4, nesterov=True)
        more = {"callbacks": list(callbacks), "optimizers": (sgd, None)}  # None: the scheduler that arguments name
        trainer = transformers.Trainer(model, arguments, train_dataset=train, **more)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        found = trainer.predict(test)
    return 100 * (found.predictions.argmax(1) == found.label_ids).mean()


transformers.logging.set_verbosity_error()
for seed in range(SEEDS):
    transformers.set_seed(seed)
    train, test = ([images[i] for i in part] for part in torch.randperm(1797).split([100, 1697]))
    parent = transformers.TimmWrapperForImageClassification(CONFIG)
    rows.append([fit(parent, train, test)])
    for law in (ssa.OneShot(), ssa.TemperatureAnnealing(tau=0.5, epochs=EPOCHS / 4)):
        child = ssa.Subnetwork(copy.deepcopy(parent), ssa.prune(parent, 0.9, criterion="random", seed=seed), law)
        rows[-1].append(fit(child.module, train, test, [AnnealingCallback(child)]))
show(rows, "% of 1697 test images")
