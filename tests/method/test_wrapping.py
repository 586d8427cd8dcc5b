"""Things that PyTorch users do to modules, done to a Subnetwork over models that it has never seen."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

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


class Attention(nn.Module):
    """Two attentions, one with a joint projection and one with separate ones, which never call their submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.MultiheadAttention(16, 4, batch_first=True)
        self.cross = nn.MultiheadAttention(16, 4, kdim=8, vdim=8, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.own(x, x, x, need_weights=False)[0]
        return self.head((x + self.cross(x, x[..., :8], x[..., 8:], need_weights=False)[0]).mean(1))


class Shared(nn.Module):
    """One weight in two layers, and one layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 12, bias=False), nn.Linear(12, 12)
        self.second.weight = self.first.weight
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(torch.relu(self.second(torch.relu(self.first(x))))))


class Checkpointed(nn.Module):
    """An MLP whose middle may be computed again in the backward pass."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.stem = nn.Linear(12, 16)
        self.middle = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        x = self.middle(x) if self.reentrant is None else checkpoint(self.middle, x, use_reentrant=self.reentrant)
        return self.head(torch.tanh(x))


def timm_model(name: str, **options: int) -> nn.Module:
    import timm  # not at the top: the processes of the distributed test need not wait for it

    return timm.create_model(name, num_classes=10, **options)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10))


def vit() -> nn.Module:
    return timm_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, embed_dim=48, num_heads=3)


def conv1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 4, 3), nn.Flatten(), nn.Linear(16, 10)
    )


def conv3d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 2, 3), nn.Flatten(), nn.Linear(16, 10)
    )


Model = tuple[Callable[[], nn.Module], tuple[int, ...]]
SMALL: dict[str, Model] = {
    "mlp": (mlp, (12,)),
    "attention": (Attention, (5, 16)),
    "shared": (Shared, (12,)),
    "conv1d": (conv1d, (3, 8)),
    "conv3d": (conv3d, (1, 6, 6, 6)),
}
MODELS: dict[str, Model] = {
    "resnet18": (lambda: timm_model("resnet18"), (3, 32, 32)),
    "vit": (vit, (3, 32, 32)),
    "convnext": (lambda: timm_model("convnext_atto"), (3, 32, 32)),
    **SMALL,
}
everywhere = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def made(model: Model, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return model[0]()


def wrapped(module: nn.Module, law: Law | None = None, seed: int = 0) -> Subnetwork:
    return Subnetwork(module, pruning.prune(module, 0.8), law or RandomAnnealing(epochs=2), seed=seed)


def batches(shape: tuple[int, ...], steps: int = 2, size: int = 4) -> Iterator[tuple[float, Tensor, Tensor]]:
    """The time of each step over one and a half epochs, its inputs and its labels."""
    generator = torch.Generator().manual_seed(3)
    for step in range(steps):
        labels = torch.randint(0, 10, (size,), generator=generator)
        yield 1.5 * step / steps, torch.randn(size, *shape, generator=generator), labels


def train(
    child: Subnetwork,
    shape: tuple[int, ...],
    optimizer: torch.optim.Optimizer | None = None,
    forward: Callable[[Tensor], Tensor] | None = None,
    steps: int = 2,
) -> None:
    optimizer = optimizer or torch.optim.SGD(child.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    for t, x, y in batches(shape, steps):
        child.at(t)
        optimizer.zero_grad()
        functional.cross_entropy((forward or child)(x), y).backward()
        optimizer.step()


def equal(first: nn.Module, second: nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: weight.grad for name, weight in module.named_parameters() if weight.grad is not None}


def assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6, msg=name)


def loss_of(child: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    _, x, y = next(batches(shape))
    return functional.cross_entropy(child(x), y)


@everywhere
def test_trained_it_evaluates_as_its_fold(model: Model) -> None:
    before = made(model)
    child = wrapped(copy.deepcopy(before))
    train(child, model[1])
    assert not equal(child.fold(), before)
    plain, (_, x, _) = child.fold().eval(), next(batches(model[1]))
    assert [type(m) for m in plain.modules()] == [type(m) for m in before.modules()]
    for name, entry in child.mask.items():
        assert int((plain.get_parameter(name) == 0).sum()) == round(0.8 * entry.numel())
    with torch.no_grad():
        assert torch.equal(child.eval()(x), plain(x))


@everywhere
def test_its_state_goes_into_a_fresh_one_that_trains_on_alike(model: Model) -> None:
    child, fresh = wrapped(made(model)), wrapped(made(model, seed=1))
    train(child, model[1])
    _, x, _ = next(batches(model[1]))
    assert not torch.equal(fresh.eval()(x), child.eval()(x))
    fresh.load_state_dict(child.state_dict())
    assert torch.equal(fresh.eval()(x), child.eval()(x))
    for each in (child, fresh):
        train(each.train(), model[1])
    assert equal(fresh, child)


@everywhere
def test_a_deep_copy_is_independent_and_trains_alike(model: Model) -> None:
    child = wrapped(made(model))
    train(child, model[1])
    twin, kept = copy.deepcopy(child), copy.deepcopy(child.state_dict())
    assert not {p.data_ptr() for p in twin.parameters()} & {p.data_ptr() for p in child.parameters()}
    train(twin, model[1])
    assert all(torch.equal(value, kept[name]) for name, value in child.state_dict().items())
    train(child, model[1])
    assert equal(twin, child)


def test_a_forgotten_at_is_noticed_in_a_deep_copy() -> None:
    child = wrapped(mlp())
    child.at(0.5)
    twin = copy.deepcopy(child)
    optimizer = torch.optim.SGD(twin.parameters(), 0.1)
    loss_of(twin, (12,)).backward()
    optimizer.step()
    loss_of(child, (12,))  # its own weights have not moved
    with pytest.raises(RuntimeError, match=r"have been updated since at\(0.5\)"):
        loss_of(twin, (12,))


@everywhere
def test_it_moves_between_devices_and_types(model: Model) -> None:
    child = wrapped(made(model))
    train(child, model[1])
    _, x, _ = next(batches(model[1]))
    outputs = child.eval()(x)
    assert torch.equal(child.to("cpu")(x), outputs)
    assert copy.deepcopy(child).to("meta")(x.to("meta")).shape == outputs.shape
    double = copy.deepcopy(child).double()
    assert torch.equal(double(x.double()), double.fold()(x.double()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("how", [{"pruned_weights": "freeze"}, {"masked_weights": "freeze"}], ids=str)
def test_it_trains_on_after_a_move_to_the_gpu(how: dict[str, str]) -> None:
    module = mlp()
    child = Subnetwork(module, pruning.prune(module, 0.8), RandomAnnealing(epochs=2), **how).cuda()
    train(child, (12,), forward=lambda x: child(x.cuda()).cpu())
    x = torch.randn(4, 12).cuda()
    assert torch.equal(child.eval()(x), child.fold().eval()(x))


@pytest.mark.parametrize("assign", [False, True])
def test_loaded_state_counts_in_training_too(assign: bool) -> None:
    child, fresh = wrapped(mlp(), OneShot()), wrapped(mlp(), OneShot())
    fresh.load_state_dict(child.state_dict(), assign=assign)
    _, x, _ = next(batches((12,)))
    assert torch.equal(fresh(x), child(x))


COMPILED: list[Law] = [
    OneShot(),
    *(Iterative(epochs=1, order=order) for order in ("random", "reranked", "movement")),
    RandomAnnealing(epochs=1),
    TemperatureAnnealing(epochs=1, scope="all", schedule="cosine"),
    TemperatureAnnealing(epochs=1, expected=True),
    DenseThenCut(epochs=1),
    ConstantTemperature(epochs=1),
]


@pytest.mark.parametrize("rescale", [False, True], ids=["plain", "rescaled"])
@pytest.mark.parametrize("law", COMPILED, ids=str)
def test_compiled_it_trains_alike_and_never_compiles_again(law: Law, rescale: bool) -> None:
    children = []
    for compiled in (False, True):
        torch.manual_seed(0)
        module = mlp()
        child = Subnetwork(module, pruning.prune(module, 0.8), law, rescale=rescale)
        torch._dynamo.reset()
        forward = torch.compile(child, backend="aot_eager") if compiled else child
        optimizer = torch.optim.SGD(child.parameters(), 0.05)
        for step, (t, x, y) in enumerate(batches((12,), steps=6)):  # the last two steps are exact
            with torch.compiler.set_stance("fail_on_recompile" if compiled and step else "default"):
                child.at(t)
                functional.cross_entropy(forward(x), y).backward()
                optimizer.step()
                optimizer.zero_grad()
        children.append(child)
    for one, two in zip(children[0].parameters(), children[1].parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@everywhere
def test_compiled_models_take_new_laws_and_seeds_without_compiling_again(model: Model) -> None:
    torch._dynamo.reset()
    child = wrapped(made(model), TemperatureAnnealing(epochs=2))
    forward = torch.compile(child, backend="eager")
    child.at(0.0)
    loss_of(forward, model[1]).backward()
    with torch.compiler.set_stance("fail_on_recompile"):
        for seed, law in enumerate([TemperatureAnnealing(tau=0.9, epochs=2), TemperatureAnnealing(epochs=3)]):
            child.law, child.seed = law, seed
            child.at(0.5)
            child.zero_grad()
            loss_of(forward, model[1]).backward()
            found = gradients(child)
            child.zero_grad()
            with torch.compiler.set_stance("force_eager"):
                loss_of(child, model[1]).backward()
            assert_same_gradients(found, gradients(child))


def test_under_autocast_the_mask_multiplies_before_the_cast() -> None:
    module = nn.Linear(1, 1, bias=False)
    weight = module.weight
    nn.init.constant_(module.weight, 1 + 2**-8)  # bfloat16 rounds it to 1: 0.75 times that would be 0.75
    law = TemperatureAnnealing(tau=0.75, epochs=1, expected=True)
    child = Subnetwork(module, {"weight": torch.tensor([[False]])}, law)
    child.at(0.0)
    with torch.autocast("cpu", torch.bfloat16):
        output = child(torch.ones(1, 1))
    assert output.dtype == torch.bfloat16
    assert output.item() == 193 * 2**-8  # 0.75 * (1 + 2**-8) = 192.75 * 2**-8, rounded to a multiple of 2**-8
    output.backward()
    assert weight.grad is not None
    assert (weight.grad.dtype, weight.grad.item()) == (torch.float32, 0.75)


@everywhere
def test_under_autocast_it_evaluates_as_its_fold(model: Model) -> None:
    child = wrapped(made(model))
    _, x, _ = next(batches(model[1]))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.equal(child.eval()(x), child.fold().eval()(x))


def distributed(rank: int, store: str) -> None:
    """One of two processes: half of each batch, checked against one process that sees all of it."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for law in (RandomAnnealing(epochs=1), Iterative(epochs=1, order="reranked")):
        torch.manual_seed(0)
        child = wrapped(mlp(), law)
        alone = copy.deepcopy(child)
        torch.manual_seed(rank)  # the processes' own streams differ
        parallel = nn.parallel.DistributedDataParallel(child)
        optimizers = [torch.optim.SGD(each.parameters(), 0.1, momentum=0.9) for each in (child, alone)]
        for t, x, y in batches((12,), steps=4, size=8):
            for each, forward, part in ((child, parallel, slice(4 * rank, 4 * rank + 4)), (alone, alone, slice(None))):
                each.at(t)
                each.zero_grad()
                functional.cross_entropy(forward(x[part]), y[part]).backward()
            masks = [torch.empty_like(child.multiplier, dtype=torch.uint8) for _ in range(2)]
            torch.distributed.all_gather(masks, child.multiplier.to(torch.uint8))
            assert torch.equal(masks[0], masks[1])
            assert torch.equal(child.multiplier, alone.multiplier)
            assert_same_gradients(gradients(child), gradients(alone))
            for optimizer in optimizers:
                optimizer.step()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_share_a_mask_and_average_to_the_gradient_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(distributed, (str(tmp_path / "store"),), nprocs=2)


@everywhere
def test_optimizers_built_before_and_after_wrapping_train_alike(model: Model) -> None:
    children = []
    for before in (True, False):
        module = made(model)
        early = torch.optim.AdamW(module.parameters(), 1e-3)
        child = wrapped(module)
        train(child, model[1], early if before else torch.optim.AdamW(child.parameters(), 1e-3))
        children.append(child)
    assert equal(*children)


@everywhere
def test_siblings_of_copies_leave_the_parent_alone(model: Model) -> None:
    parent = made(model)
    before = copy.deepcopy(parent.state_dict())
    siblings = [wrapped(copy.deepcopy(parent), seed=seed) for seed in (0, 1)]
    for sibling in siblings:
        train(sibling, model[1])
    assert not equal(*siblings)
    assert all(torch.equal(value, before[name]) for name, value in parent.state_dict().items())


def test_passes_between_two_calls_of_at_accumulate_under_one_mask() -> None:
    child = wrapped(mlp())
    child.at(0.5)
    (_, x, y), drawn = next(batches((12,), size=8)), child.multiplier.clone()
    functional.cross_entropy(child(x), y).backward()
    whole = gradients(child)
    child.zero_grad()
    for part in (slice(0, 4), slice(4, 8)):
        (functional.cross_entropy(child(x[part]), y[part]) / 2).backward()
    assert_same_gradients(gradients(child), whole)
    assert torch.equal(child.multiplier, drawn)
    child.at(0.6)
    assert not torch.equal(child.multiplier, drawn)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("outer", [False, True], ids=["inside", "inside and around"])
def test_checkpointing_computes_again_under_the_same_mask(outer: bool, reentrant: bool) -> None:
    found = []
    for how in (None, reentrant):
        torch.manual_seed(0)
        child = wrapped(Checkpointed(how), TemperatureAnnealing(epochs=2))
        own = dict(child.named_parameters())
        child.at(0.5)
        around = partial(checkpoint, child, use_reentrant=False) if outer and how is not None else child
        loss_of(around, (12,)).backward()
        found.append(gradients(child))
        assert all(child.get_parameter(name) is weight for name, weight in own.items())
    assert_same_gradients(*found)


def test_a_second_backward_pass_of_a_checkpointed_graph_is_masked_too() -> None:
    torch.manual_seed(0)
    child = wrapped(Checkpointed(False))
    child.at(0.5)
    loss = loss_of(child, (12,))
    loss.backward(retain_graph=True)
    once = gradients(child)
    child.zero_grad()
    loss.backward()
    assert_same_gradients(gradients(child), once)


def test_timm_models_may_checkpoint() -> None:
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        child = wrapped(vit())
        child.module.set_grad_checkpointing(checkpointing)
        child.at(0.5)
        loss_of(child, (3, 32, 32)).backward()
        found.append(gradients(child))
    assert_same_gradients(*found)


def test_after_a_backward_pass_that_failed_training_goes_on() -> None:
    torch.manual_seed(0)
    child = wrapped(Checkpointed(False))
    expected, own = copy.deepcopy(child), dict(child.named_parameters())

    def fail(_: Tensor) -> None:
        raise ArithmeticError("as if out of memory")

    child.at(0.0)
    hook = child.weights["stem.weight"].register_hook(fail)
    with pytest.raises(ArithmeticError):
        loss_of(child, (12,)).backward()
    hook.remove()
    assert all(child.get_parameter(name) is weight for name, weight in own.items())
    child.zero_grad()
    train(child, (12,))
    train(expected, (12,))
    assert equal(child, expected)


@pytest.mark.parametrize("how", [{"pruned_weights": "freeze"}, {"masked_weights": "freeze"}], ids=str)
def test_an_interrupted_child_that_holds_weights_goes_on_bit_for_bit(how: dict[str, str]) -> None:
    ended = []
    for interrupted in (False, True):
        torch.manual_seed(0)
        module = mlp()
        mask = pruning.prune(module, 0.8)
        fresh = copy.deepcopy(module)
        child = Subnetwork(module, mask, RandomAnnealing(epochs=2), **how)
        fresh = Subnetwork(fresh, mask, RandomAnnealing(epochs=2), **how)
        optimizer = torch.optim.SGD(child.parameters(), 0.05, momentum=0.9)
        train(child, (12,), optimizer)
        if interrupted:
            fresh.load_state_dict(child.state_dict())
            second = torch.optim.SGD(fresh.parameters(), 0.05, momentum=0.9)
            second.load_state_dict(optimizer.state_dict())
            child, optimizer = fresh, second
        train(child, (12,), optimizer)
        child.at(2.0)
        ended.append(child)
    assert equal(*ended)


def test_a_second_child_of_one_module_is_refused() -> None:
    module = mlp()
    child = wrapped(module)
    for again in (module, child, nn.Sequential(module)):
        with pytest.raises(ValueError, match=r"masks would multiply: end that with its remove\(\)"):
            Subnetwork(again, {}, OneShot())
    wrapped(child.remove())
