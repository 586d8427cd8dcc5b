"""Models of transformers, made small and random from their configurations: what is pruned, and what comes of it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ssa
from ssa.method.selection import prunable, spared

LACKING = "needs accelerate, peft and transformers: pip install '.[dev]'"
peft: Any = pytest.importorskip("peft", reason=LACKING)
transformers: Any = pytest.importorskip("transformers", reason=LACKING)

SIZES = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"max_position_embeddings": 32, "bos_token_id": 0, "eos_token_id": 1}
TOKENS = torch.randint(0, 32, (2, 8), generator=torch.Generator().manual_seed(1))


def build(kind: str, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    model = getattr(transformers, kind)
    built: nn.Module = model(model.config_class(**SIZES, **settings))
    return built


def logits(model: nn.Module) -> Tensor:
    outputs = model(input_ids=TOKENS)
    found: Tensor = outputs.logits if "logits" in outputs else outputs.last_hidden_state
    return found


def check_trains_folds_and_loads(model: nn.Module, mask: ssa.Mask, fresh: nn.Module, path: Path) -> None:
    child = ssa.Subnetwork(model, mask, ssa.TemperatureAnnealing(epochs=2))
    before = {name: weight.detach().clone() for name, weight in child.weights.items() if weight.requires_grad}
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], 0.1)
    for t in (0.0, 1.0):
        child.at(t)
        logits(model).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(not torch.equal(child.weights[name], before[name]) for name in mask if name in before)
    plain = child.fold().eval()
    assert {name: int((plain.get_parameter(name) == 0).sum()) for name in mask} == {
        name: int((~entry).sum()) for name, entry in mask.items()
    }
    ssa.save(child, path)
    loaded = ssa.load(path, fresh).eval()
    with torch.no_grad():
        outputs = [logits(one) for one in (model.eval(), plain, loaded)]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


EXPERTS = {
    "MixtralForCausalLM": {"num_key_value_heads": 2, "num_local_experts": 4},
    "OlmoeForCausalLM": {"num_key_value_heads": 2, "num_experts": 4, "num_experts_per_tok": 2},
    "GptOssForCausalLM": {
        "num_key_value_heads": 2,
        "head_dim": 8,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}


@pytest.mark.parametrize("kind", EXPERTS)
def test_experts_that_are_raw_parameters_are_said_to_be_left_and_are_selected_by_name(
    kind: str, tmp_path: Path
) -> None:
    # Of each of 2 layers: 4 matrices of attention, 4 experts of 64 x 16 and 16 x 32, a router of 4 x 16, for gpt-oss
    # biases of 4 x 64 and 4 x 16; words twice.
    attention, experts, router, words = 4 * 16 * 16, 4 * (64 * 16 + 16 * 32), 4 * 16, 32 * 16
    biases = 4 * (64 + 16) if kind.startswith("GptOss") else 0
    total = 2 * (attention + experts + router + biases + words)
    model = build(kind, **EXPERTS[kind])
    with pytest.warns(
        UserWarning, match=rf"^{2 * (experts + router) / total:.1%} of all matrix weights are not selected"
    ):
        mask = ssa.prune(model, 0.9)
    assert sum(entry.numel() for entry in mask.values()) == 2 * attention
    report = ssa.sparsity(model)
    assert report.covered == 2 * attention / total
    assert {one.why for name, one in report.left.items() if "experts" in name and "bias" not in name} == {
        "not selected"
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask = ssa.prune(model, 0.9, select=["*.self_attn.*", "*.experts.*_proj"])
    pruned = sum(int((~entry).sum()) for entry in mask.values())
    assert pruned == 2 * (4 * 230 + 3686 + 1843)  # 90% of 256, of 4,096 and of 2,048, each rounded
    check_trains_folds_and_loads(model, mask, build(kind, **EXPERTS[kind]), tmp_path / "child.safetensors")


def test_a_backbone_keeps_no_layer_dense_and_a_classifier_its_last(tmp_path: Path) -> None:
    backbone, classifier = build("BertModel"), build("BertForSequenceClassification")
    assert spared(backbone) == {}
    assert len(prunable(backbone)) == 2 * 6 + 1  # the pooler too
    assert spared(classifier) == {"classifier": "classifier"}
    with warnings.catch_warnings():  # words and positions are no reason to warn
        warnings.simplefilter("error")
        mask = ssa.prune(backbone, 0.9)
    backbone.pooler.requires_grad_(False)  # type: ignore[union-attr]  # which the last hidden state does not need
    check_trains_folds_and_loads(backbone, mask, build("BertModel"), tmp_path / "child.safetensors")


def test_gpt2s_layers_are_pruned_by_default(tmp_path: Path) -> None:
    model = build("GPT2LMHeadModel")
    mask = ssa.prune(model, 0.9)
    layers = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    assert list(mask) == [f"transformer.h.{block}.{layer}.weight" for block in (0, 1) for layer in layers]
    sizes = [round(0.9 * 16 * n) for n in (48, 16, 64, 64)]
    assert [int((~entry).sum()) for entry in mask.values()] == 2 * sizes
    check_trains_folds_and_loads(model, mask, build("GPT2LMHeadModel"), tmp_path / "child.safetensors")


def adapted(kind: str) -> Any:
    model = build(kind, **({"num_key_value_heads": 2} if kind.startswith("Llama") else {}))
    targets = {"LlamaForCausalLM": ["q_proj", "v_proj"], "GPT2LMHeadModel": ["c_attn"]}.get(kind, ["query"])
    task = "SEQ_CLS" if "Classification" in kind else "CAUSAL_LM"
    how = {"fan_in_fan_out": kind.startswith("GPT2"), "init_lora_weights": False, "task_type": task}
    return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=targets, **how))


@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "GPT2LMHeadModel", "BertForSequenceClassification"])
def test_adapters_of_peft_are_left_alone_and_said(kind: str, tmp_path: Path) -> None:
    model = adapted(kind)
    why = spared(model)
    adapters = {name for name, _ in model.named_modules() if name.endswith(("lora_A.default", "lora_B.default"))}
    own = {name for name, one in why.items() if one == "adapter" and "lora_" in name}
    assert own == adapters
    assert [name for name, one in why.items() if one == "classifier"] == [
        "base_model.model.classifier.original_module" if "Bert" in kind else "base_model.model.lm_head"
    ]
    with pytest.warns(UserWarning, match=r"lora_A\.default\.weight \(adapter\)"):
        mask = ssa.prune(model, 0.9)
    assert not any("lora_" in name or "classifier" in name or "lm_head" in name for name in mask)
    check_trains_folds_and_loads(model, mask, adapted(kind), tmp_path / "child.safetensors")


def test_adapters_are_merged_into_the_folded_model() -> None:
    child = ssa.Subnetwork(model := adapted("LlamaForCausalLM"), ssa.prune(model, 0.9), ssa.OneShot())
    merged = child.fold().merge_and_unload().eval()
    with torch.no_grad():
        torch.testing.assert_close(logits(merged), logits(model.eval()), rtol=1e-4, atol=1e-5)


def test_tying_weights_of_a_child_keeps_their_mask_or_is_refused() -> None:
    model: Any = build("LlamaForCausalLM", num_key_value_heads=2, tie_word_embeddings=True)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    child = ssa.Subnetwork(model, ssa.prune(model, 0.5), ssa.OneShot())
    model.tie_weights()  # no masked weight is tied, since the classifier shares the words
    assert model.lm_head.weight is child.weights["model.embed_tokens.weight"]
    child.remove()

    words = {"model.embed_tokens.weight": torch.rand(32, 16) > 0.5}
    child = ssa.Subnetwork(model, words, ssa.OneShot())
    with pytest.raises(AttributeError, match=r"`model\.embed_tokens\.weight` is neither a parameter"):
        model.tie_weights()
    plain = child.fold().eval()
    plain.tie_weights()
    for layer in (model.lm_head, model.model.embed_tokens):
        assert torch.equal(layer.weight == 0, ~words["model.embed_tokens.weight"])
    with torch.no_grad():
        assert torch.equal(logits(model.eval()), logits(plain))
