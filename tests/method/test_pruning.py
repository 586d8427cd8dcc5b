"""Masks: exact counts, decided ties, whole neurons, packing."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ssa.data.batches import Normalise
from ssa.data.splits import Data, Split
from ssa.errors import UserError
from ssa.method import masks, pruning, selection
from ssa.method.masks import Mask
from ssa.runs import masks as masking
from ssa.study import blocks, study
from ssa.training.networks.resnet_small import SmallResNet
from ssa.training.networks.wide_resnet import WideResNet


def net(weights: list[list[float]]) -> nn.Sequential:
    """Two layers, of which the first can be pruned."""
    model = nn.Sequential(OrderedDict(hidden=nn.Linear(len(weights[0]), len(weights)), head=nn.Linear(len(weights), 2)))
    with torch.no_grad():
        model.hidden.weight.copy_(torch.tensor(weights))
    return model


def test_magnitude_removes_the_smallest_and_ties_go_in_order() -> None:
    model = net([[0.5, -0.1, 0.3], [-0.1, 0.1, 0.9]])
    mask = pruning.prune(model, 0.34, "magnitude")  # round(0.34 * 6) = 2 of the three weights of size 0.1
    assert mask["hidden.weight"].tolist() == [[True, False, True], [False, True, True]]
    assert list(mask) == ["hidden.weight"]


@settings(max_examples=50, deadline=None)
@given(
    widths=st.lists(st.integers(1, 20), min_size=2, max_size=5),
    sparsity=st.floats(0, 0.99),
    criterion=st.sampled_from(pruning.CRITERIA),
    seed=st.integers(0, 1000),
)
def test_counts_are_exact_or_the_mask_is_refused(widths: list[int], sparsity: float, criterion: str, seed: int) -> None:
    shapes = list(pairwise(widths))
    model = nn.Sequential(*(nn.Linear(a, b) for a, b in shapes), nn.Linear(widths[-1], 3))
    data = {"example": torch.zeros(1, widths[0]), "batches": [(torch.rand(4, widths[0]), torch.tensor([0, 1, 2, 0]))]}
    if any(round(sparsity * a * b) == a * b for a, b in shapes):
        with pytest.raises(ValueError, match="would leave nothing"):
            pruning.prune(model, sparsity, criterion, seed=seed, **data)
        return
    layerwise = pruning.prune(model, sparsity, criterion, seed=seed, **data)
    assert [int((~m).sum()) for m in layerwise.values()] == [round(sparsity * a * b) for a, b in shapes]


@pytest.mark.parametrize("criterion", pruning.CRITERIA)
@pytest.mark.parametrize("allocation", pruning.ALLOCATIONS)
def test_every_criterion_prunes_neurons_under_every_allocation(criterion: str, allocation: str) -> None:
    torch.manual_seed(0)
    model = SmallResNet(1, 10, 8, 2)
    for weight in selection.prunable(model).values():
        nn.init.normal_(weight)  # of one size in every layer: no layer's neurons are all below the others'
    batches = [(torch.rand(10, 1, 8, 8), torch.arange(10))]
    example = torch.zeros(1, 1, 8, 8)
    mask = pruning.prune(model, 0.1, criterion, "neurons", allocation, example=example, batches=batches)
    leaders = {name: entry for name, entry in mask.items() if name not in mask.tied}
    assert all(entry.shape == (len(entry), 1, 1, 1) for entry in leaders.values())
    assert [len(entry) for entry in leaders.values()] == [8, 8, 8, 16, 16, 16]
    removed = [int((~entry).sum()) for entry in leaders.values()]
    assert removed == [1, 1, 1, 2, 2, 2] if allocation == "layerwise" else sum(removed) == 7


def test_global_magnitude_is_a_full_sort() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 10), nn.Linear(10, 2))
    mask = pruning.prune(model, 0.8, "magnitude", allocation="global")
    scores = torch.cat([p.detach().abs().flatten() for p in selection.prunable(model).values()])
    kept = torch.cat([m.flatten() for m in mask.values()])
    assert int((~kept).sum()) == round(0.8 * 900)
    assert scores[~kept].max() < scores[kept].min()


def test_random_masks_follow_their_seed_and_nothing_else() -> None:
    model = SmallResNet(1, 10, 8, 2)
    first = pruning.prune(model, 0.9, "random", seed=3)
    torch.rand(7)
    assert all(torch.equal(first[n], m) for n, m in pruning.prune(model, 0.9, "random", seed=3).items())
    assert any(not torch.equal(first[n], m) for n, m in pruning.prune(model, 0.9, "random", seed=4).items())


def twins(sparsity: float, **settings: Any) -> tuple[Tensor, Tensor]:
    """All entries of a random mask, and of the anti-random mask of the same seed."""
    model = nn.Sequential(nn.Linear(40, 1000), nn.Linear(1000, 60), nn.Linear(60, 2))
    masks = [pruning.prune(model, sparsity, criterion, seed=5, **settings) for criterion in ("random", "anti-random")]
    first, second = ([m.flatten() for name, m in mask.items() if name not in mask.tied] for mask in masks)
    return torch.cat(first), torch.cat(second)


@pytest.mark.parametrize("settings", [{}, {"allocation": "global"}, {"structure": "neurons"}])
def test_anti_random_masks_keep_what_their_random_twins_prune(settings: dict[str, str]) -> None:
    random, anti = twins(0.5, **settings)  # 100,000 draws of 2^24 values: some are equal, and must not go twice
    assert torch.equal(anti, ~random)
    random, anti = twins(0.8, **settings)
    assert not (random & anti).any()
    random, anti = twins(0.2, **settings)
    assert (random | anti).all()


@pytest.mark.parametrize(("size", "both", "neither"), [(26, 0, 0), (27, 0, 1), (25, 1, 0)])
def test_of_an_odd_number_of_weights_opposite_masks_share_or_miss_one(size: int, both: int, neither: int) -> None:
    model = nn.Sequential(nn.Linear(size, 1), nn.Linear(1, 2))
    random, anti = (pruning.prune(model, 0.5, name, seed=5)["0.weight"] for name in ("random", "anti-random"))
    assert (int((random & anti).sum()), int((~random & ~anti).sum())) == (both, neither)


class InPlace(nn.Module):
    """A layer whose output a residual is added to, in place or not, before BatchNorm reads it."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.stem, self.conv, self.norm = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.alone, self.head, self.in_place = nn.BatchNorm2d(4), nn.Linear(4, 2), in_place

    def forward(self, x: Tensor) -> Tensor:
        x = self.alone(self.stem(x))
        out = self.conv(x)
        if self.in_place:
            out += x
        else:
            out = out + x
        return self.head(self.norm(out).mean((2, 3)))


@pytest.mark.parametrize("in_place", [False, True])
def test_batchnorm_that_reads_a_residual_too_is_not_tied(in_place: bool) -> None:
    mask = pruning.prune(InPlace(in_place), 0.5, structure="neurons", example=torch.zeros(1, 1, 2, 2))
    tied = {"stem.bias": "stem.weight", "alone.weight": "stem.weight", "alone.bias": "stem.weight"}
    assert mask.tied == {**tied, "conv.bias": "conv.weight"}


class Attention(nn.Module):
    """Attention between two linear layers."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **options)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x)
        return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))


@pytest.mark.parametrize("criterion", pruning.CRITERIA)
def test_the_projections_of_attention_are_pruned(criterion: str) -> None:
    torch.manual_seed(0)
    batches = [(torch.rand(4, 5, 6), torch.tensor([0, 1, 2, 0]))]
    mask = pruning.prune(Attention(), 0.5, criterion, example=torch.zeros(1, 5, 6), batches=batches)
    assert {name: int(entry.sum()) for name, entry in mask.items()} == {
        "embed.weight": 24,
        "attention.in_proj_weight": 96,
        "attention.out_proj.weight": 32,
    }


def test_separate_projections_are_pruned_too() -> None:
    names = list(selection.prunable(Attention(kdim=8, vdim=8), "attention"))
    assert names == ["attention.in_proj_weight"]  # as wide as the queries: one parameter
    separate = Attention(kdim=4, vdim=4)
    names = [f"attention.{key}_proj_weight" for key in "qkv"]
    assert list(selection.prunable(separate, "attention")) == names
    with pytest.raises(ValueError, match="cannot prune 'attention': its projections share one bias"):
        pruning.prune(separate, 0.5, structure="neurons")
    assert not pruning.prune(Attention(kdim=4, vdim=4, bias=False), 0.5, structure="neurons", select="attention").tied


def test_pruned_rows_of_attention_take_their_bias_with_them() -> None:
    model = Attention()
    mask = pruning.prune(model, 0.75, "random", structure="neurons")
    assert mask["attention.in_proj_weight"].shape == (24, 1)
    assert mask.tied["attention.in_proj_bias"] == "attention.in_proj_weight"
    nn.init.ones_(model.attention.in_proj_bias)
    masks.apply(model, mask)
    assert int(model.attention.in_proj_bias.sum()) == 6
    assert int(model.attention.in_proj_weight.any(1).sum()) == 6


@pytest.mark.parametrize(
    ("select", "layers"),
    [
        (None, ["embed", "attention.in_proj_", "attention.out_proj"]),
        ("head", ["head"]),
        ("*e*d", ["embed", "head"]),
        (["head", "attention.*"], ["attention.out_proj", "head"]),
        (("embed", "head"), ["embed", "head"]),
        (nn.MultiheadAttention, ["attention.in_proj_"]),
        ((nn.Linear, nn.Conv2d), ["embed", "attention.out_proj", "head"]),
        (lambda name, layer: layer.in_features == 6 if isinstance(layer, nn.Linear) else False, ["embed"]),
    ],
)
def test_layers_are_selected_by_type_pattern_or_predicate(select: selection.Select | None, layers: list[str]) -> None:
    expected = [f"{layer}weight" if layer.endswith("_") else f"{layer}.weight" for layer in layers]
    assert list(selection.prunable(Attention(), select)) == expected


def test_a_selection_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"select: 'Head' matches no layer; layers are 'embed', 'attention', .*'head'"):
        selection.prunable(Attention(), "Head")
    with pytest.raises(ValueError, match="the last layer, the classifier, is left out; layers are ''"):
        selection.prunable(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="layers are missing"):
        selection.prunable(nn.ReLU())


def test_neurons_take_their_bias_and_their_own_batchnorm_with_them() -> None:
    model = SmallResNet(1, 10, 8, 2)
    mask = pruning.prune(model, 0.5, "magnitude", "neurons", example=torch.zeros(1, 1, 8, 8))
    assert mask["stem.0.weight"].shape == (8, 1, 1, 1)
    assert mask.tied["stem.1.bias"] == mask.tied["stem.1.weight"] == "stem.0.weight"
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("1.bias"):
                p.fill_(3.0)  # a shift that would show where a filter is only half gone
    masks.apply(model, mask)
    out = model.stem.eval()(torch.rand(4, 1, 8, 8))
    gone = ~mask["stem.0.weight"].flatten()
    assert int(gone.sum()) == 4
    assert torch.equal(out[:, gone], torch.zeros_like(out[:, gone]))
    assert (out[:, ~gone].abs().sum((0, 2, 3)) > 0).all()


def test_batchnorm_after_a_sum_is_nobodys() -> None:
    model = WideResNet(3, 10, 10, 1)
    mask = pruning.prune(model, 0.5, "magnitude", "neurons", example=torch.zeros(1, 3, 8, 8))
    assert mask.tied["stages.0.norm2.weight"] == "stages.0.conv1.weight"
    assert not any(name.startswith("norm") for name in mask.tied)  # reads conv2 plus the shortcut


def test_neurons_need_an_example_where_there_is_batchnorm() -> None:
    with pytest.raises(ValueError, match="needs example="):
        pruning.prune(SmallResNet(1, 10, 8, 2), 0.5, structure="neurons")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity is 1.0; allowed: a fraction in \[0, 1\)"),
        ({"criterion": "best"}, "criterion is 'best'; allowed: random, anti-random, magnitude, taylor, synflow"),
        ({"structure": "blocks"}, "allowed: connections, neurons"),
        ({"allocation": "x"}, "allowed: layerwise, global, erk, lamp"),
    ],
)
def test_wrong_use_says_what_is_allowed(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pruning.prune(net([[1.0, 2.0]]), **{"sparsity": 0.5, **change})  # type: ignore[arg-type]


def test_a_mask_that_does_not_fit_is_named() -> None:
    model = net([[1.0, 2.0]])
    with pytest.raises(KeyError, match=r"nothing\.weight"):
        masks.check(model, {"nothing.weight": torch.ones(1, 2, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"shape \(2, 2\); expected \(1, 2\)"):
        masks.check(model, {"hidden.weight": torch.ones(2, 2, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"expected torch\.bool"):
        masks.check(model, {"hidden.weight": torch.ones(1, 2)})


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_packing_returns_every_bit(bits: list[bool]) -> None:
    mask = torch.tensor(bits)
    packed = masks.pack(mask)
    assert packed.numel() == -(-len(bits) // 8)
    assert torch.equal(masks.unpack(packed, mask.shape), mask)


def test_a_parents_masks_come_back_from_their_file(tmp_path: Path, tiny: dict[str, object]) -> None:
    plan = study.expand(tiny, Path("tiny.yaml"))
    parent = next(iter(plan.all_parents().values()))
    model = SmallResNet(1, 10, 8, 2)
    specs = plan.masks_of(parent.id)
    written = {
        specs[0].id: pruning.prune(model, 0.5, structure="neurons", example=torch.zeros(1, 1, 8, 8)),
        specs[1].id: Mask({}),
    }
    masking.write(tmp_path / "masks", parent, written)
    read = masking.read(tmp_path / "masks", parent, specs[:2])
    assert read.keys() == written.keys()
    for mask_id, mask in written.items():
        assert read[mask_id].tied == mask.tied
        assert read[mask_id].keys() == mask.keys()
        assert all(torch.equal(read[mask_id][name], entry) for name, entry in mask.items())
    with pytest.raises(UserError, match="has no mask"):
        masking.read(tmp_path / "masks", parent, specs)


# --- the pipeline -----------------------------------------------------------------------------------------------


def expand(tiny: dict[str, Any], **block: Any) -> list[blocks.Child]:
    """The pruned children of one parent."""
    tiny["parents"]["small"]["seeds"] = [0]
    tiny["blocks"] = [{"name": "main", "parents": "small", "method": "one-shot", "sparsity": 50, **block}]
    return list(study.expand(tiny, Path("tiny.yaml")).children)


def some_data(count: int) -> Data:
    """Images whose pixels are all their own number; labels likewise."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    split = Split(images, torch.arange(count))
    return Data(split, split, split, 10, (0.0,), (1 / 255,))


def test_a_study_offers_every_criterion_and_allocation(tiny: dict[str, Any]) -> None:
    children = expand(tiny, criterion=list(pruning.CRITERIA), allocation=list(pruning.ALLOCATIONS), seed=3)
    assert len(children) == 20
    found = {(c.spec.mask.criterion, c.spec.mask.seed, c.spec.mask.score_images) for c in children}
    expected = {("random", 3, 0), ("anti-random", 3, 0), ("magnitude", 0, 0), ("taylor", 0, 2048), ("synflow", 0, 0)}
    assert found == expected
    with pytest.raises(UserError, match=r"allocation: 'lmap' is not allowed; allowed: layerwise, global, erk, lamp"):
        expand(tiny, allocation="lmap")


def test_score_images_change_the_ids_of_masks_that_look_at_images_alone(tiny: dict[str, Any]) -> None:
    few, many = (
        {c.spec.mask.criterion: c.spec.id for c in expand(tiny, criterion=list(pruning.CRITERIA), score_images=count)}
        for count in (100, 200)
    )
    assert [criterion for criterion in few if few[criterion] != many[criterion]] == ["taylor"]


def test_iterative_pruning_of_every_criterion_has_its_order(tiny: dict[str, Any]) -> None:
    children = expand(tiny, criterion=list(pruning.CRITERIA), method="iterative")
    assert {c.spec.mask.criterion: dict(c.spec.law_args)["order"] for c in children} == {
        "random": "random",
        "anti-random": "random",
        "magnitude": "reranked",
        "taylor": "magnitude",
        "synflow": "magnitude",
    }


def test_no_criterion_at_a_sparsity_is_refused_in_one_line(tiny: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="'none' is not allowed at sparsity 50; allowed: random, anti-random"):
        expand(tiny, criterion="none", method="iterative")


def test_criteria_look_at_evenly_spaced_training_images_in_order() -> None:
    content = some_data(10)
    ((images, labels),) = masking.score_batches(content, 4)
    assert labels.tolist() == [0, 2, 5, 7]
    assert images[:, 0, 3, 3].tolist() == pytest.approx([0, 2, 5, 7])  # not augmented, and divided by a std of 1/255
    assert torch.equal(images, Normalise(content, content.train)(content.train.images[labels].permute(0, 2, 3, 1)))
    assert [len(labels) for _, labels in masking.score_batches(some_data(200), 999)] == [200]
    assert list(masking.score_batches(content, 0)) == []


def test_masks_of_a_study_are_those_of_the_library(tiny: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model, content = SmallResNet(1, 10, 8, 2), some_data(10)
    made = {
        c.spec.mask.criterion: masking.make(model, c.spec.mask, 0, content)
        for c in expand(tiny, criterion=list(pruning.CRITERIA), allocation="global", score_images=4)
    }
    batches = list(masking.score_batches(content, 4))
    for criterion in ("magnitude", "taylor", "synflow"):
        example = torch.zeros(1, 1, 8, 8)
        mask = pruning.prune(model, 0.5, criterion, allocation="global", example=example, batches=batches)
        assert all(torch.equal(made[criterion][name], entry) for name, entry in mask.items())
    assert all(torch.equal(made["anti-random"][name], ~entry) for name, entry in made["random"].items())


def test_a_dense_stem_is_kept_with_the_classifier(tiny: dict[str, Any]) -> None:
    model = SmallResNet(1, 10, 8, 2)
    (child,) = expand(tiny, stem="dense")
    everything = list(selection.layers(model))
    mask = masking.make(model, child.spec.mask, 0, some_data(10))
    assert list(mask) == [f"{name}.weight" for name in everything[1:-1]]
    assert everything[0] == "stem.0"
