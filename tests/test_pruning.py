"""Masks: exact counts, decided ties, whole neurons, packing."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ssa import masking, masks, pruning, study
from ssa.errors import UserError
from ssa.masks import Mask
from ssa.networks.resnet_small import SmallResNet
from ssa.networks.wide_resnet import WideResNet


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
    shapes=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=4),
    sparsity=st.floats(0, 0.99),
    criterion=st.sampled_from(pruning.CRITERIA),
    seed=st.integers(0, 1000),
)
def test_counts_are_exact_or_the_mask_is_refused(
    shapes: list[tuple[int, int]], sparsity: float, criterion: str, seed: int
) -> None:
    model = nn.Sequential(*(nn.Linear(a, b) for a, b in shapes), nn.Linear(1, 1))
    if any(round(sparsity * a * b) == a * b for a, b in shapes):
        with pytest.raises(ValueError, match="would leave nothing"):
            pruning.prune(model, sparsity, criterion, seed=seed)
        return
    layerwise = pruning.prune(model, sparsity, criterion, seed=seed)
    assert [int((~m).sum()) for m in layerwise.values()] == [round(sparsity * a * b) for a, b in shapes]


def test_global_magnitude_is_a_full_sort() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 10), nn.Linear(10, 2))
    mask = pruning.prune(model, 0.8, "magnitude", allocation="global")
    scores = torch.cat([p.detach().abs().flatten() for p in pruning.prunable(model).values()])
    kept = torch.cat([m.flatten() for m in mask.values()])
    assert int((~kept).sum()) == round(0.8 * 900)
    assert scores[~kept].max() < scores[kept].min()


def test_random_masks_follow_their_seed_and_nothing_else() -> None:
    model = SmallResNet(1, 10, 8, 2)
    first = pruning.prune(model, 0.9, "random", seed=3)
    torch.rand(7)
    assert all(torch.equal(first[n], m) for n, m in pruning.prune(model, 0.9, "random", seed=3).items())
    assert any(not torch.equal(first[n], m) for n, m in pruning.prune(model, 0.9, "random", seed=4).items())


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
        ({"criterion": "best"}, "criterion is 'best'; allowed: random, magnitude"),
        ({"structure": "blocks"}, "allowed: connections, neurons"),
        ({"allocation": "x"}, "allowed: layerwise, global"),
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
    packed = masking.pack(mask)
    assert packed.numel() == -(-len(bits) // 8)
    assert torch.equal(masking.unpack(packed, mask.shape), mask)


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
