"""The compiled training step against the plain one, and that it is compiled once."""

from __future__ import annotations

import copy
import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._guards import TracingContext

from ssa.data import splits
from ssa.data.splits import Data
from ssa.errors import UserError
from ssa.method import pruning
from ssa.method.laws import (
    ConstantTemperature,
    DenseThenCut,
    Iterative,
    Law,
    OneShot,
    RandomAnnealing,
    TemperatureAnnealing,
)
from ssa.method.subnetwork import Subnetwork
from ssa.specs.specs import DataSpec, Recipe
from ssa.training import step
from ssa.training.loop import Training
from ssa.training.networks.resnet_small import SmallResNet

RECIPE = Recipe(epochs=10, batch_size=20, lr=0.005, augment="crop-flip", padding=1)  # 5 steps an epoch, 50 in all
SAMPLED: list[Law] = [
    TemperatureAnnealing(epochs=5),
    OneShot(),
    TemperatureAnnealing(epochs=5, scope="all"),
    RandomAnnealing(epochs=5),
    Iterative(epochs=5),
    Iterative(epochs=5, order="reranked"),
    Iterative(epochs=5, order="movement"),
    DenseThenCut(epochs=5),
    ConstantTemperature(epochs=5),
]
EXPECTED = TemperatureAnnealing(epochs=5, expected=True)


@pytest.fixture(scope="module")
def digits() -> Data:
    return splits.load(DataSpec("digits", 100, 50, "parent"), Path("unused"), 0)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing compiled before, nothing left behind."""
    torch._dynamo.reset()
    monkeypatch.setattr(step, "_held", None)
    yield
    torch._dynamo.reset()


class Doubles(nn.Module):
    """A network in float64, where 50 steps do not amplify what compilers round otherwise."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images.double())


def training(
    digits: Data, law: Law, compile: str, recipe: Recipe = RECIPE, seed: int = 0, exact: bool = False, width: int = 8
) -> Training:
    torch.manual_seed(0)
    model: nn.Module = SmallResNet(1, 10, width, 2).to(memory_format=torch.channels_last)
    model = Doubles(model) if exact else model
    return Training(Subnetwork(model, pruning.prune(model, 0.7), law, seed=seed), digits, recipe, seed, compile=compile)


def losses(run: Training) -> list[float]:
    return [run.run_epoch().loss for _ in range(run.recipe.epochs)]


def check_alike(digits: Data, laws: list[Law]) -> None:
    """In float64, after 50 steps both are apart by at most 1e-9 of what they moved; losses, kept in float32, agree."""
    for law in laws:
        plain, fast = (training(digits, law, compile, exact=True) for compile in ("off", "default"))
        start = weights(plain)
        assert losses(fast) == pytest.approx(losses(plain), rel=1e-6)
        assert float((weights(fast) - weights(plain)).norm()) <= 1e-9 * float((weights(plain) - start).norm()), law
        for name, mask in plain.network.mask.items():
            assert torch.equal(mask, fast.network.mask[name])


def weights(run: Training) -> torch.Tensor:
    """All parameters in one tensor."""
    return torch.cat([parameter.detach().flatten() for parameter in run.network.parameters()])


def compile_with(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, mode, dynamic: real(f, backend=backend, dynamic=dynamic))


@pytest.mark.slow
@pytest.mark.usefixtures("fresh")
def test_the_traced_step_trains_as_the_plain_one_under_every_law(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_with(monkeypatch, "aot_eager")
    check_alike(digits, [*SAMPLED, EXPECTED])


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="Inductor needs a C++ compiler")
@pytest.mark.usefixtures("fresh")
def test_the_compiled_step_trains_as_the_plain_one_under_every_law(digits: Data) -> None:
    check_alike(digits, [*SAMPLED, EXPECTED])


def restarted(child: Subnetwork, law: Law, seed: int = 0, width: int = 8) -> Subnetwork:
    """``child`` as another one, in the same module."""
    model = SmallResNet(1, 10, width, 2).to(memory_format=torch.channels_last)
    child.restart(model, pruning.prune(model, 0.7), law, seed=seed)
    return child


@pytest.mark.usefixtures("fresh")
def test_one_compilation_serves_laws_seeds_and_rates(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_with(monkeypatch, "eager")
    torch.manual_seed(0)
    parent = SmallResNet(1, 10, 8, 2).to(memory_format=torch.channels_last)
    mask, other_mask = (pruning.prune(parent, sparsity) for sparsity in (0.7, 0.9))
    first = training(digits, SAMPLED[0], "default")
    first.run_epoch()
    child = first.network
    places = {name: weight.data_ptr() for name, weight in child.weights.items()}, child.multiplier.data_ptr()
    other = Recipe(epochs=2, batch_size=20, lr=0.5, lr_schedule="constant", augment="crop-flip", padding=1)
    with torch.compiler.set_stance("fail_on_recompile"):
        for seed, law in enumerate(SAMPLED):
            for recipe, entries in ((RECIPE, mask), (other, other_mask)):
                child.restart(parent, entries, law, seed=seed)
                Training(child, digits, recipe, seed, compile="default").run_epoch()
    assert places == ({name: weight.data_ptr() for name, weight in child.weights.items()}, child.multiplier.data_ptr())


@pytest.mark.parametrize("structure", ["connections", "neurons"])
@pytest.mark.parametrize("law", [*SAMPLED, EXPECTED], ids=str)
def test_a_child_in_the_module_of_another_is_a_child_of_its_own(digits: Data, law: Law, structure: str) -> None:
    torch.manual_seed(0)
    parent = SmallResNet(1, 10, 8, 2).to(memory_format=torch.channels_last)
    masks = [pruning.prune(parent, s, structure=structure, example=torch.zeros(1, 1, 8, 8)) for s in (0.5, 0.7)]
    before = TemperatureAnnealing(epochs=5, expected=True) if law.expected else RandomAnnealing(epochs=5)
    reused = Subnetwork(copy.deepcopy(parent), masks[0], before, seed=9, masked_weights="freeze")
    Training(reused, digits, RECIPE, 0).run_epoch()
    reused.restart(parent, masks[1], law, seed=1)
    own = Subnetwork(copy.deepcopy(parent), masks[1], law, seed=1)
    for child in (reused, own):
        Training(child, digits, RECIPE, 0).run_epoch()
    one, two = own.state_dict(), reused.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.usefixtures("fresh")
def test_a_short_batch_is_not_compiled(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(step, "compiled", lambda mode, kind, layers: refuse)
    short = training(digits, OneShot(), "default", Recipe(epochs=1, batch_size=101, augment="none"))
    short.run_epoch()
    assert (short.compile, short.ran) == ("default", "off")  # which its record says
    with pytest.raises(AssertionError, match="compiled"):
        training(digits, OneShot(), "default", Recipe(epochs=1, batch_size=100, augment="none")).run_epoch()


@pytest.mark.usefixtures("fresh")
def test_a_failing_compiler_is_named_with_the_way_out(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: object, inputs: object) -> None:
        raise OSError("no compiler here")

    real = torch.compile
    monkeypatch.setattr(torch, "compile", functools.partial(lambda f, mode, dynamic: real(f, backend=broken)))
    with pytest.raises(UserError, match=r"could not be compiled .*no compiler here.*set compile: 'off'"):
        training(digits, OneShot(), "default").run_epoch()


@pytest.mark.slow
@pytest.mark.usefixtures("fresh")
def test_each_kind_of_network_is_compiled_once_for_each_type_of_mask(
    digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve kinds pass Dynamo's limit of eight variants, after which it would run the step as it is written."""
    compile_with(monkeypatch, "eager")
    counted = torch._dynamo.utils.counters["stats"]
    for width in range(8, 20):
        before, kept = counted["unique_graphs"], {}
        for law, variants in ((OneShot(), 1), (SAMPLED[0], 1), (EXPECTED, 2), (SAMPLED[3], 2)):
            child = kept.get(law.expected)
            if child is None:
                child = kept[law.expected] = training(digits, law, "default", width=width).network
            run = Training(restarted(child, law, width=width), digits, RECIPE, 0, compile="default")
            run.run_epoch()
            assert run.ran == "default"
            assert counted["unique_graphs"] - before == variants


@pytest.mark.slow
@pytest.mark.usefixtures("fresh")
def test_a_module_of_its_own_for_each_child_is_compiled_each_time(
    digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a job for each of ten parents: slow, but never beyond the limit."""
    compile_with(monkeypatch, "eager")
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for seed in range(10):
        run = training(digits, OneShot(), "default", seed=seed)
        run.run_epoch()
        assert run.ran == "default"
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - before == 10


@pytest.mark.usefixtures("fresh")
def test_a_step_that_changes_from_one_to_the_next_is_an_error(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_with(monkeypatch, "eager")
    run = training(digits, OneShot(), "default")
    (images, labels), *_ = run.batches.epoch(0, 0)
    fast = step.compiled("default", "one kind", "one module")
    for size in range(1, 9):
        fast(run.network, images[:size], labels[:size], "fp32")
    with pytest.raises(UserError, match="compiled for something else each time: more than 8 variants"):
        fast(run.network, images[:9], labels[:9], "fp32")


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("structure", ["connections", "neurons"])
@pytest.mark.parametrize("law", [*SAMPLED, EXPECTED, TemperatureAnnealing(epochs=5, tau=0.3)], ids=str)
def test_what_cuda_graphs_take_for_fixed_stays_where_it_is(
    digits: Data, monkeypatch: pytest.MonkeyPatch, law: Law, structure: str
) -> None:
    """Else each step would record new graphs: of the weights, the mask and all else that is no batch."""
    seen: list[dict[str, int]] = []

    def forward(graph: torch.fx.GraphModule, inputs: object) -> Any:
        fixed = TracingContext.get().fw_metadata.static_input_indices
        names = [node.name for node in graph.graph.nodes if node.op == "placeholder"]

        def call(given: list[object]) -> object:
            tensors = ((names[i], given[i]) for i in fixed)
            seen.append({name: value.data_ptr() for name, value in tensors if isinstance(value, torch.Tensor)})
            return graph(*given)

        call._boxed_call = True  # type: ignore[attr-defined]
        return call

    real, backend = (
        torch.compile,
        aot_autograd(fw_compiler=forward, bw_compiler=lambda graph, _: make_boxed_func(graph.forward)),
    )
    monkeypatch.setattr(torch, "compile", lambda f, mode, dynamic: real(f, backend=backend, dynamic=dynamic))
    model = SmallResNet(1, 10, 8, 2).to(memory_format=torch.channels_last)
    mask = pruning.prune(model, 0.7, structure=structure, example=digits.train.images[:8].float())
    child = Subnetwork(copy.deepcopy(model), mask, law)
    for _ in range(2):  # two children of one module
        run = Training(child, digits, RECIPE, 0, compile="default")
        for _ in range(2):
            run.run_epoch()
        child.restart(model, mask, law)
    assert len(seen) == 20
    assert len(seen[0]) > 10
    assert all(step == seen[0] for step in seen)


def test_without_a_compiler_auto_says_so_once_and_does_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(step, "find_spec", lambda name: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    step._can_compile.cache_clear()
    cuda = torch.device("cuda")
    assert [step.resolve_compile("auto", cuda) for _ in range(2)] == ["off", "off"]
    said = "training steps are not compiled, and take longer: a C compiler (gcc or clang) is missing here\n"
    assert capsys.readouterr().err == said
    assert step.resolve_compile("reduce-overhead", cuda) == "reduce-overhead"  # asked for by name
    (tmp_path / "gcc").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "gcc").chmod(0o755)
    step._can_compile.cache_clear()
    monkeypatch.setattr(step.sysconfig, "get_path", lambda name: str(tmp_path))
    assert step.resolve_compile("auto", cuda) == "off"
    assert "Python.h (python3-dev) is missing here" in capsys.readouterr().err
    (tmp_path / "Python.h").touch()
    step._can_compile.cache_clear()
    assert step.resolve_compile("auto", cuda) == "reduce-overhead"
    step._can_compile.cache_clear()


def test_on_a_cpu_nothing_is_compiled_unless_asked_for() -> None:
    cpu = torch.device("cpu")
    assert [step.resolve_compile(mode, cpu) for mode in ("auto", "off", "default")] == ["off", "off", "default"]
    with pytest.raises(ValueError, match="allowed: auto, off, default, reduce-overhead"):
        step.resolve_compile("fast", cpu)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_on_a_gpu_the_compiled_step_trains_as_the_plain_one(digits: Data, mode: str) -> None:
    content = digits.to(torch.device("cuda"))
    for law in SAMPLED:
        runs = [training(content, law, compile) for compile in ("off", mode)]
        for run in runs:
            run.network.cuda()
        one, two = (losses(run) for run in runs)
        assert two == pytest.approx(one, rel=2e-2)  # the GPU's sums have no fixed order


def test_the_loss_is_cross_entropy_by_hand() -> None:
    network = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(network.weight)
    found = step.loss(network, torch.ones(3, 1), torch.tensor([0, 1, 1]), "fp32")
    assert found.item() == pytest.approx(0.6931472)
