"""Random small networks, pruned, annealed, folded, saved and loaded: the same bits at the end."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import nn

from ssa.method.laws import (
    ConstantTemperature,
    DenseThenCut,
    Iterative,
    Law,
    OneShot,
    RandomAnnealing,
    TemperatureAnnealing,
)
from ssa.method.pruning import prune
from ssa.method.saving import load, save
from ssa.method.sparsity import sparsity
from ssa.method.subnetwork import Subnetwork

SIDE = 6
NORMS = ("none", "batch", "group")

# Each block: channels out, kernel size, whether the convolution has a bias, and its norm.
convolutions = st.lists(
    st.tuples(st.sampled_from([2, 4, 6]), st.sampled_from([1, 3]), st.booleans(), st.sampled_from(NORMS)), max_size=3
)
hidden = st.lists(st.tuples(st.integers(2, 9), st.booleans(), st.sampled_from(NORMS)), min_size=1, max_size=2)
lengths, schedules = st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from(["linear", "cosine", "exponential"])
laws: st.SearchStrategy[Law] = st.one_of(
    st.just(OneShot()),
    st.builds(Iterative, lengths, schedules, order=st.sampled_from(["random", "magnitude", "reranked", "movement"])),
    st.builds(RandomAnnealing, lengths, schedules, draw=st.sampled_from(["coupled", "independent"])),
    st.builds(
        TemperatureAnnealing, lengths, schedules, st.booleans(), st.floats(0, 1), st.sampled_from(["pruned", "all"])
    ),
    st.builds(DenseThenCut, lengths),
    st.builds(ConstantTemperature, lengths, tau=st.floats(0, 1)),
)
prunings = st.fixed_dictionaries(
    {
        "sparsity": st.floats(0, 0.6),
        "criterion": st.sampled_from(["magnitude", "random", "anti-random", "taylor", "synflow"]),
        "structure": st.sampled_from(["connections", "neurons"]),
        "allocation": st.sampled_from(["layerwise", "global", "erk", "lamp"]),
        "seed": st.integers(0, 9),
    }
)
wrappings = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 9),
        "pruned_weights": st.sampled_from(["train", "freeze", "shuffle"]),
        "masked_weights": st.sampled_from(["update", "freeze"]),
        "rescale": st.booleans(),
    }
)


def norm(kind: str, features: int, flat: bool) -> list[nn.Module]:
    if kind == "group":
        return [nn.GroupNorm(1, features)]
    batch = nn.BatchNorm1d if flat else nn.BatchNorm2d
    return [batch(features)] if kind == "batch" else []


def network(convs: list[tuple[int, int, bool, str]], linears: list[tuple[int, bool, str]], seed: int) -> nn.Sequential:
    """Convolutions of 2 channels of SIDE x SIDE, then linear layers, then the classifier of 3 classes."""
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    features = 2
    for width, kernel, bias, kind in convs:
        parts += [nn.Conv2d(features, width, kernel, padding=kernel // 2, bias=bias), *norm(kind, width, False)]
        parts.append(nn.ReLU())
        features = width
    parts.append(nn.Flatten())
    features *= SIDE * SIDE
    for width, bias, kind in linears:
        parts += [nn.Linear(features, width, bias=bias), *norm(kind, width, True), nn.Tanh()]
        features = width
    return nn.Sequential(*parts, nn.Linear(features, 3))


def bits(module: nn.Module) -> dict[str, bytes]:
    return {name: value.contiguous().numpy().tobytes() for name, value in module.state_dict().items()}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(convolutions, hidden, prunings, laws, wrappings)
def test_what_is_loaded_is_what_was_folded(convs, linears, pruning, law, wrapping) -> None:
    model = network(convs, linears, seed=0)
    generator = torch.Generator().manual_seed(0)
    data = [(torch.randn(4, 2, SIDE, SIDE, generator=generator), torch.tensor([0, 1, 2, 0])) for _ in range(2)]
    try:
        mask = prune(model, **pruning, example=data[0][0], batches=data)
    except ValueError as error:
        if "would leave nothing of" not in str(error):
            raise
        reject()
    child = Subnetwork(model, mask, law, **wrapping)
    optimizer = torch.optim.SGD(child.parameters(), 0.05, momentum=0.9)
    for step, (images, labels) in enumerate(data):
        child.at(step / len(data))
        optimizer.zero_grad()
        nn.functional.cross_entropy(child(images), labels).backward()
        optimizer.step()
    child.at(2.0)
    plain = child.fold()
    with tempfile.TemporaryDirectory() as folder:
        save(child, Path(folder) / "child.safetensors")
        loaded = load(Path(folder) / "child.safetensors", network(convs, linears, seed=1))
    assert bits(loaded) == bits(plain)
    for name, entry in child.mask.items():
        weight = plain.get_parameter(name)
        assert not weight[(~entry).expand_as(weight)].any()
        assert int(entry.sum()) == int(mask[name].sum())
    assert sparsity(child) == sparsity(loaded)
    with torch.no_grad():
        assert torch.equal(child.eval()(images), loaded.eval()(images))
