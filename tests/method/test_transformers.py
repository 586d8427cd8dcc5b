"""Things that Hugging Face's libraries do to a model, done to one that is a child. They are the extra ``hf``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ssa
from ssa.method.laws import Law, OneShot, TemperatureAnnealing
from ssa.method.subnetwork import Subnetwork, within

LACKING = "needs accelerate and transformers: pip install '.[hf]'"
accelerate: Any = pytest.importorskip("accelerate", reason=LACKING)
transformers: Any = pytest.importorskip("transformers", reason=LACKING)


def llama(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=32, max_position_embeddings=32, **sizes)
    return transformers.LlamaForCausalLM(config).eval()


def words() -> Tensor:
    return torch.randint(0, 32, (2, 8), generator=torch.Generator().manual_seed(1))


def child_of(model: nn.Module, law: Law) -> Subnetwork:
    return Subnetwork(model, ssa.prune(model, 0.8), law)


def trained(model: nn.Module, law: Law, accelerator: Any = None) -> tuple[Subnetwork, nn.Module]:
    """A child after two steps, and what ``accelerator`` made of its module."""
    child = child_of(model, law)
    optimizer: Any = torch.optim.SGD(model.parameters(), 0.1)
    prepared: Any = model
    if accelerator is not None:
        prepared, optimizer = accelerator.prepare(model, optimizer)
    for t in (0.0, 0.5):
        child.at(t)
        prepared(input_ids=words(), labels=words()).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return child, prepared


def test_generated_words_are_those_of_the_folded_model() -> None:
    child, _ = trained(llama(), TemperatureAnnealing(epochs=1))
    how = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    found, expected = (model.eval().generate(words(), **how) for model in (child.module, child.fold()))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("compiled", [False, True])
def test_what_accelerate_unwraps_is_the_child(compiled: bool) -> None:
    accelerator = accelerate.Accelerator(cpu=True)
    model = llama()
    child, prepared = trained(model, TemperatureAnnealing(epochs=1), accelerator)
    prepared = torch.compile(prepared, backend="eager") if compiled else prepared
    unwrapped = accelerator.unwrap_model(prepared, keep_torch_compile=False)
    assert unwrapped is model
    assert within(unwrapped) is child


class Classifier(nn.Module):
    """Takes what a Trainer gives, by the names of its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.last(torch.relu(self.first(x)))
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


@pytest.mark.parametrize("handle", [False, True])
def test_a_trainer_takes_the_child_and_its_module(handle: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Classifier()
    child = child_of(model, OneShot())
    before = {name: weight.detach().clone() for name, weight in child.weights.items()}
    rows = [{"x": torch.randn(4), "labels": torch.tensor(i % 3)} for i in range(16)]
    how = {"max_steps": 2, "report_to": [], "save_strategy": "no", "use_cpu": True, "disable_tqdm": True}
    arguments = transformers.TrainingArguments(str(tmp_path), **how)
    transformers.Trainer(child if handle else model, arguments, train_dataset=rows).train()
    assert not torch.equal(child.weights["first.weight"], before["first.weight"])
    assert ssa.sparsity(child).sparsity == pytest.approx(0.8, abs=0.02)


def test_a_trainer_with_checkpointing_trains_the_same(tmp_path: Path) -> None:
    found = []
    rows = [{"input_ids": words()[0], "labels": words()[0]}] * 4
    for checkpointing in (False, True):
        model = llama()
        child = child_of(model, OneShot())
        how = {"max_steps": 3, "report_to": [], "save_strategy": "no", "use_cpu": True, "disable_tqdm": True}
        arguments = transformers.TrainingArguments(str(tmp_path), gradient_checkpointing=checkpointing, **how)
        transformers.Trainer(model, arguments, train_dataset=rows).train()
        found.append(child.fold().state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
