"""A child in Lightning: annealed, saved, resumed, and loaded from the best checkpoint, on a tiny network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ssa

pl = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed: pip install '.[lightning]'")

from ssa.integrations.lightning import AnnealingCallback  # noqa: E402


class Classifier(pl.LightningModule):
    """Two layers on eight numbers; notes the child's time at each batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
        self.child: Any = None
        self.times: list[float] = []

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        self.times.append(self.child[0].time)
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, number: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def loader() -> Any:
    """Eight batches of four."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(32, 8, generator=generator), torch.randint(0, 3, (32,), generator=generator)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4)


def run(folder: Path, epochs: int, law: ssa.Law, resume: str | None = None, **more: Any) -> tuple[Any, Classifier]:
    """Train a child in Lightning for so many epochs."""
    model = Classifier()
    child = ssa.Subnetwork(model.net, ssa.prune(model.net, 0.8, "random"), law, seed=5)
    model.child = (child,)  # in a tuple: it is no part of the LightningModule
    keep = pl.callbacks.ModelCheckpoint(folder, monitor="val_loss", save_last=True)
    settings = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=epochs, callbacks=[AnnealingCallback(child), keep], **settings | more)
    trainer.fit(model, loader(), loader(), ckpt_path=resume, weights_only=False)
    return trainer, model


@pytest.mark.parametrize("law", [ssa.TemperatureAnnealing(epochs=2), ssa.Iterative(epochs=2, order="reranked")])
def test_lightning_anneals_and_a_resumed_run_ends_as_the_whole_one(law: ssa.Law, tmp_path: Path) -> None:
    _, whole = run(tmp_path / "whole", 3, law, accumulate_grad_batches=2)
    assert whole.times[:6] == [0.0, 0.0, 0.25, 0.25, 0.5, 0.5]  # one mask for the batches of a step
    run(tmp_path / "half", 1, law, accumulate_grad_batches=2)
    _, resumed = run(tmp_path / "half", 3, law, str(tmp_path / "half" / "last.ckpt"), accumulate_grad_batches=2)
    assert resumed.times == whole.times[8:]
    for a, b in zip(whole.child[0].fold().parameters(), resumed.child[0].fold().parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_best_checkpoint_gives_the_child_to_a_plain_model(tmp_path: Path) -> None:
    trainer, model = run(tmp_path, 3, ssa.TemperatureAnnealing(epochs=2))
    state = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=False)["state_dict"]
    plain = Classifier()
    plain.load_state_dict(state, strict=False)
    model.load_state_dict(state)
    x = next(iter(loader()))[0]
    assert torch.equal(plain.net(x), model.child[0].eval()(x))
    assert ssa.sparsity(plain.net).sparsity == pytest.approx(0.8, abs=0.01)


def test_data_without_a_length_are_refused(tmp_path: Path) -> None:
    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self) -> Any:
            yield from ((torch.zeros(8), torch.tensor(0)) for _ in range(4))

    model = Classifier()
    child = ssa.Subnetwork(model.net, ssa.prune(model.net, 0.8, "random"), ssa.OneShot())
    settings = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=1, callbacks=[AnnealingCallback(child)], enable_checkpointing=False, **settings)
    with pytest.raises(ValueError, match="no length: set limit_train_batches"):
        trainer.fit(model, torch.utils.data.DataLoader(Endless(), batch_size=2))
