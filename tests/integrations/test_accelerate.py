"""A child in a loop with accelerate: annealed, saved, resumed in the middle of an epoch, and unwrapped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import ssa

accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed: pip install '.[hf]'")

from ssa.integrations.accelerate import annealed  # noqa: E402


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))


class Run:
    """A prepared child with its optimiser and eight batches of four."""

    def __init__(self, law: ssa.Law) -> None:
        self.accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
        model = net()
        self.child = ssa.Subnetwork(model, ssa.prune(model, 0.8, "random"), law, seed=5)
        generator = torch.Generator().manual_seed(1)
        data = torch.utils.data.TensorDataset(
            torch.randn(32, 8, generator=generator), torch.randint(0, 3, (32,), generator=generator)
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        loader = torch.utils.data.DataLoader(data, batch_size=4)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(model, optimizer, loader)
        self.times: list[float | None] = []

    def train(self, epoch: int, skipped: int = 0, stop: int = 8) -> None:
        """Train the batches from ``skipped`` to ``stop`` of an epoch."""
        loader = accelerate.skip_first_batches(self.loader, skipped) if skipped else self.loader
        for number, (x, y) in enumerate(annealed(loader, self.child, self.accelerator, epoch, skipped), skipped):
            if number == stop:
                return
            with self.accelerator.accumulate(self.model):
                self.times.append(self.child.time)
                self.accelerator.backward(nn.functional.cross_entropy(self.model(x), y))
                self.optimizer.step()
                self.optimizer.zero_grad()


@pytest.mark.parametrize("law", [ssa.TemperatureAnnealing(epochs=2), ssa.Iterative(epochs=2, order="reranked")])
def test_a_loop_anneals_and_one_resumed_within_an_epoch_ends_as_the_whole_one(law: ssa.Law, tmp_path: Path) -> None:
    whole = Run(law)
    for epoch in range(3):
        whole.train(epoch)
    assert whole.times[:6] == [0.0, 0.0, 0.25, 0.25, 0.5, 0.5]  # one mask for the batches of a step
    begun = Run(law)
    begun.train(0, stop=4)
    begun.accelerator.save_state(str(tmp_path))
    resumed = Run(law)
    resumed.accelerator.load_state(str(tmp_path))
    resumed.train(0, skipped=4)
    for epoch in (1, 2):
        resumed.train(epoch)
    assert resumed.times == whole.times[4:]
    for a, b in zip(whole.child.fold().parameters(), resumed.child.fold().parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_is_unwrapped_and_saved_is_the_child(tmp_path: Path) -> None:
    run = Run(ssa.TemperatureAnnealing(epochs=2))
    run.train(0)
    unwrapped = run.accelerator.unwrap_model(run.model)
    plain = net()
    plain.load_state_dict(run.accelerator.get_state_dict(run.model), strict=False)
    x = torch.randn(5, 8)
    assert torch.equal(plain(x), unwrapped.eval()(x))
    assert ssa.sparsity(plain).sparsity == pytest.approx(0.8, abs=0.01)
