"""A child in transformers' Trainer: annealed, saved, resumed and loaded as the best model, on a tiny GPT-2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import ssa

transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[hf]'")

from ssa.integrations.transformers import AnnealingCallback  # noqa: E402


def gpt2(seed: int = 0) -> torch.nn.Module:
    """A GPT-2 of two layers, 16 wide, over 32 tokens, without dropout."""
    torch.manual_seed(seed)
    sizes = {"vocab_size": 32, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    off = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **off, bos_token_id=0, eos_token_id=0))


def texts() -> list[dict[str, torch.Tensor]]:
    """Sixteen invented texts of eight tokens."""
    tokens = torch.randint(0, 32, (16, 8), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": row, "labels": row} for row in tokens]


class Times(transformers.TrainerCallback):
    """Notes the child's time at each step's end."""

    def __init__(self, child: ssa.Subnetwork) -> None:
        self.child, self.times = child, []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.times.append(self.child.time)


def trainer(model: torch.nn.Module, child: ssa.Subnetwork, folder: Path, **more: Any) -> tuple[Any, Times]:
    """A Trainer of four epochs of two steps each."""
    times = Times(child)
    settings = {"num_train_epochs": 4, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    settings |= {"learning_rate": 0.01, "report_to": [], "disable_tqdm": True, "use_cpu": True, "seed": 3}
    arguments = transformers.TrainingArguments(str(folder), **settings | {"save_strategy": "epoch"} | more)
    callbacks = [AnnealingCallback(child), times]
    data = {"train_dataset": texts(), "eval_dataset": texts()}
    return transformers.Trainer(model, arguments, callbacks=callbacks, **data), times


LAWS = {
    "temperature": ssa.TemperatureAnnealing(tau=0.5, epochs=2),
    "re-ranked": ssa.Iterative(epochs=2, order="reranked"),
}


def child_of(model: torch.nn.Module, law: str) -> ssa.Subnetwork:
    """A child at 80%, by magnitude."""
    return ssa.Subnetwork(model, ssa.prune(model, 0.8, "magnitude"), LAWS[law], seed=5)


@pytest.mark.parametrize("law", LAWS)
def test_the_trainer_anneals_and_a_resumed_run_ends_as_the_whole_one(law: str, tmp_path: Path) -> None:
    whole = child_of(model := gpt2(), law)
    run, times = trainer(model, whole, tmp_path / "whole")
    run.train()
    assert times.times == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    resumed = child_of(model := gpt2(), law)
    run, times = trainer(model, resumed, tmp_path / "resumed")
    run.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert times.times == [1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    for a, b in zip(whole.fold().parameters(), resumed.fold().parameters(), strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(whole.mask[name], entry) for name, entry in resumed.mask.items())


class Stream(torch.utils.data.IterableDataset):
    """The same texts, of which nobody knows how many come."""

    def __iter__(self) -> Any:
        return iter(texts())


def test_data_without_a_length_are_refused_before_the_first_step(tmp_path: Path) -> None:
    model = gpt2()
    run, times = trainer(model, child_of(model, "temperature"), tmp_path, max_steps=8)
    run.train_dataset = Stream()
    with pytest.raises(ValueError, match="the training data have no length"):
        run.train()
    assert times.times == []


def test_what_the_trainer_saves_is_the_child_for_a_plain_model(tmp_path: Path) -> None:
    child = child_of(model := gpt2(), "temperature")
    run, _ = trainer(model, child, tmp_path)
    run.train()
    run.save_model(str(tmp_path / "saved"))
    plain = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "saved").eval()
    tokens = {"input_ids": texts()[0]["input_ids"][None]}
    assert torch.equal(plain(**tokens).logits, child.fold().eval()(**tokens).logits)
    assert ssa.sparsity(plain).sparsity == pytest.approx(0.8, abs=0.01)


def test_the_best_model_is_loaded_at_the_end(tmp_path: Path) -> None:
    child = child_of(model := gpt2(), "temperature")
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "eval_strategy": "epoch"}
    run, _ = trainer(model, child, tmp_path, **best)
    run.train()
    losses = {row["step"]: row["eval_loss"] for row in run.state.log_history if "eval_loss" in row}
    assert run.state.best_metric == min(losses.values())
    assert run.evaluate()["eval_loss"] == pytest.approx(min(losses.values()), rel=1e-5)
