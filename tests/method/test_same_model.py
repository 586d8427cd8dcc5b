"""The child is the user's own model: what is done to it by itself, by averages, by files and between two passes."""

from __future__ import annotations

import copy
import inspect
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.utils import CheckpointSaver, ModelEmaV2, ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

import ssa
from ssa.method.laws import Iterative, Law, OneShot, RandomAnnealing, TemperatureAnnealing
from ssa.method.masks import Mask
from ssa.method.subnetwork import Subnetwork, within

RERANKED = Iterative(epochs=1, order="reranked")


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10))


def images(size: int = 4) -> Tensor:
    return torch.randn(size, 12, generator=torch.Generator().manual_seed(1))


def child_of(law: Law, model: nn.Module | None = None, **more: Any) -> Subnetwork:
    model = mlp() if model is None else model
    return Subnetwork(model, ssa.prune(model, 0.9), law, **more)


def steps(child: Subnetwork, times: list[float], each: Callable[[], None] = lambda: None) -> None:
    optimizer = torch.optim.SGD(child.parameters(), 0.1, momentum=0.9)
    for t in times:
        child.at(t)
        child.train()(images()).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        each()


def zeros(model: nn.Sequential) -> int:
    return int((model[0].weight == 0).sum())


# --- the model itself -------------------------------------------------------------------------------------------------


def test_the_model_is_the_child_and_remove_gives_it_back_as_it_was() -> None:
    model = mlp()
    parameters, types = list(model.named_parameters()), [type(module) for module in model.modules()]
    mask = ssa.prune(model, 0.9)
    assert [type(module) for module in model.modules()] == types  # pruning changes nothing
    child = Subnetwork(model, mask, OneShot())
    assert zeros(model) == round(0.9 * 12 * 32)
    assert torch.equal(model(images()), child(images()))
    assert {id(weight) for weight in model.parameters()} == {id(weight) for _, weight in parameters}
    assert child.remove() is model
    assert [type(module) for module in model.modules()] == types
    assert [(name, id(weight)) for name, weight in model.named_parameters()] == [(n, id(w)) for n, w in parameters]
    assert list(model.state_dict()) == list(mlp().state_dict())
    model.load_state_dict(mlp().state_dict())
    for use in (lambda: child(images()), lambda: child.at(0), lambda: child.mask, child.fold, child.remove):
        with pytest.raises(RuntimeError, match="has ended"):
            use()


def test_a_child_takes_what_its_model_takes() -> None:
    child = Subnetwork(Experts(), {}, OneShot())
    assert inspect.signature(child.forward) == inspect.signature(Experts().forward)
    assert isinstance(child, ssa.Subnetwork)


def test_a_part_of_the_model_is_masked_too() -> None:
    child = child_of(TemperatureAnnealing(epochs=1)).eval()
    part = child.module[:3]
    assert torch.equal(part(images()), child.fold()[:3](images()))


def test_a_layer_under_two_names_trains() -> None:
    layer = nn.Linear(12, 12)
    model = nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(12, 10))
    own, before = layer.weight, layer.weight.detach().clone()
    child = child_of(RandomAnnealing(epochs=1), model)
    child.eval()(images())
    steps(child, [0.0, 0.5])
    assert not torch.equal(own, before)
    assert child.weights["0.weight"] is own
    assert torch.equal(child.eval()(images()), child.fold().eval()(images()))


def test_tied_weights_are_masked_in_every_use_and_cannot_be_tied_anew() -> None:
    model = nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 2))
    model[1].weight = model[0].weight
    child = child_of(OneShot(), model)
    assert torch.equal(model[0].weight, model[1].weight)
    plain = child.fold()
    assert plain[0].weight is plain[1].weight
    assert zeros(plain) == round(0.9 * 144)
    with pytest.raises(NotImplementedError, match=r"child\.weights"):
        model[1].weight = model[0].weight
    with pytest.raises(KeyError, match="'weight' already exists"):
        model[0].weight = nn.Parameter(torch.zeros(12, 12))


class Experts(nn.Module):
    """Weights of three linear layers in one raw parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.Parameter(torch.randn(3, 12, 12) / 4)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.einsum("bi,eoi->bo", x, self.experts))


class Recurrent(nn.Module):
    """An LSTM over twelve steps of one feature."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 8, batch_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.unsqueeze(-1))[0][:, -1])


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(12, 4, 24, 0.0, batch_first=True)
    return nn.Sequential(nn.Unflatten(1, (1, 12)), nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(12, 10))


@pytest.mark.parametrize("make", [Experts, Recurrent, encoder])
def test_weights_that_no_layer_calls_are_masked(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = make()
    names = [name for name, weight in model.named_parameters() if weight.dim() > 1 and "head" not in name]
    mask = {name: torch.rand(model.get_parameter(name).shape) < 0.5 for name in names}
    child = Subnetwork(model, mask, TemperatureAnnealing(epochs=1))
    steps(child, [0.0, 0.5, 1.0])
    with torch.no_grad():
        assert torch.equal(child.eval()(images()), child.fold().eval()(images()))


class Caching(nn.Module):
    """Keeps what its layers computed last, as models do whose losses need it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(12, 8), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        self.features = [self.first(x)]
        return self.head(self.features[0])


@pytest.mark.parametrize("make", [Recurrent, Caching])
def test_a_child_is_folded_and_copied_straight_after_a_step(make: Callable[[], nn.Module]) -> None:
    model = make()
    names = [name for name, weight in model.named_parameters() if weight.dim() > 1 and "head" not in name]
    child = Subnetwork(model, {name: model.get_parameter(name) > 0 for name in names}, TemperatureAnnealing(epochs=1))
    steps(child, [0.0, 0.5])
    copies = [child.fold(), copy.deepcopy(child)]
    if make is Recurrent:
        copies.append(copy.deepcopy(model))
    with torch.no_grad():
        expected = model.eval()(images())
        assert all(torch.equal(one.eval()(images()), expected) for one in copies)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("settings", [{}, {"rescale": True}])
def test_what_is_not_finite_does_not_count_where_it_is_pruned(value: float, settings: dict[str, Any]) -> None:
    child = child_of(OneShot(), **settings)
    entry = child.mask["0.weight"]
    with torch.no_grad():
        child.weights["0.weight"][~entry] = value
    for training in (False, True):
        output = child.train(training)(images())
        assert output.isfinite().all()
        torch.testing.assert_close(output, child.fold().train(training)(images()), rtol=0, atol=0)
    output.sum().backward()
    gradient = child.weights["0.weight"].grad
    assert gradient is not None
    assert not gradient[~entry].any()
    assert gradient.isfinite().all()


def test_going_back_in_time_is_refused_where_the_mask_was_ranked_anew() -> None:
    for law in (RERANKED, TemperatureAnnealing(epochs=1)):
        child = child_of(law)
        child.at(0.5)
        child.at(0.5)
        if law.ranking:
            with pytest.raises(ValueError, match=r"at\(0.25\) goes back from 0.5"):
                child.at(0.25)
        else:
            child.at(0.25)


# --- between two passes -----------------------------------------------------------------------------------------------


class Checkpointed(nn.Module):
    """Computes its middle again in the backward pass, or all of itself."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.first, self.last = nn.Linear(12, 16), nn.Linear(16, 10)
        self.middle = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        x = self.middle(x) if self.reentrant is None else checkpoint(self.middle, x, use_reentrant=self.reentrant)
        return self.last(torch.tanh(x))


def middle(reentrant: bool | None) -> Subnetwork:
    torch.manual_seed(0)
    model = Checkpointed(reentrant)
    child = Subnetwork(model, ssa.prune(model, 0.5, select="middle.*"), RandomAnnealing(epochs=2))
    child.at(0.5)
    return child


@pytest.mark.parametrize("reentrant", [None, False, True])
@pytest.mark.parametrize("between", [lambda child: child.at(0.75), lambda child: child.module.eval()])
def test_another_mask_between_two_passes_is_an_error(between: Any, reentrant: bool | None) -> None:
    child = middle(reentrant)
    loss = child(images()).square().mean()
    between(child)
    with pytest.raises(RuntimeError, match="between a forward pass and its backward pass"):
        loss.backward()


@pytest.mark.parametrize("reentrant", [None, False, True])
def test_one_loss_of_two_masks_is_an_error(reentrant: bool | None) -> None:
    child = middle(reentrant)
    loss = child(images()).square().mean()
    child.at(0.75)
    loss = loss + child(images()).square().mean()
    with pytest.raises(RuntimeError, match="between a forward pass and its backward pass"):
        loss.backward()


@pytest.mark.parametrize("reentrant", [None, False, True])
def test_evaluations_and_steps_between_passes_do_no_harm(reentrant: bool | None) -> None:
    plain, child = middle(None), middle(reentrant)
    for each in (plain, child):
        optimizer = torch.optim.SGD(each.parameters(), 0.1)
        for t in (0.5, 0.75, 1.0):
            each.at(t)
            with torch.no_grad():
                each(images())
            loss = each(images()).square().mean()
            with torch.no_grad():
                each.eval()(images())
            each.train()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    for one, two in zip(plain.weights.values(), child.weights.values(), strict=True):
        assert torch.equal(one, two)


def test_a_forgotten_at_is_noticed_where_the_model_is_called_by_itself() -> None:
    child = child_of(TemperatureAnnealing(epochs=1))
    assert child.module[0].weight.shape == (32, 12)  # who only reads does nothing wrong
    with pytest.raises(RuntimeError, match="before the first training step"):
        child.module(images()).sum().backward()
    steps(child, [0.0])
    with pytest.raises(RuntimeError, match=r"updated since at\(0\)"):
        child.module(images()).sum().backward()


# --- files and copies -------------------------------------------------------------------------------------------------


def test_a_plain_model_takes_the_child_from_its_state_or_refuses_it() -> None:
    child = child_of(TemperatureAnnealing(epochs=1))
    steps(child, [0.0, 0.5])
    for state in (child.module.state_dict(), {k.removeprefix("module."): v for k, v in child.state_dict().items()}):
        plain = mlp(1)
        plain.load_state_dict(state, strict=False)
        assert torch.equal(plain(images()), child.fold()(images()))
        with pytest.raises(RuntimeError, match="Unexpected key"):
            mlp(1).load_state_dict(state)


def test_a_child_takes_a_plain_state() -> None:
    child, parent = child_of(OneShot()), mlp(1)
    child.module.load_state_dict(parent.state_dict())
    assert all(torch.equal(weight, parent.get_parameter(name)) for name, weight in child.weights.items())


def test_timms_saver_saves_the_child(tmp_path: Path) -> None:
    child = child_of(OneShot())
    saver = CheckpointSaver(child, torch.optim.SGD(child.parameters(), 0.1), checkpoint_dir=str(tmp_path))
    saver.save_checkpoint(0, metric=1.0)
    saved = torch.load(tmp_path / "last.pth.tar", weights_only=False)["state_dict"]
    plain, again = mlp(1), child_of(OneShot(), mlp(1))
    plain.load_state_dict(saved, strict=False)
    again.module.load_state_dict(saved)
    assert torch.equal(plain(images()), child(images()))
    assert torch.equal(again(images()), child(images()))


def test_the_module_alone_is_no_file_of_pytorchs() -> None:
    with pytest.raises(RuntimeError, match="Serialization of parametrized modules"):
        torch.save(child_of(OneShot()).module, io.BytesIO())


def test_a_copy_of_the_module_has_a_handle_of_its_own() -> None:
    child = child_of(TemperatureAnnealing(epochs=1))
    twin = copy.deepcopy(child.module)
    own = within(twin)
    assert own is not None
    assert own is not child
    assert own.module is twin
    own.at(0.5)
    assert child.time is None
    assert ssa.sparsity(twin) == ssa.sparsity(child)
    own.remove()
    assert zeros(child.module) == round(0.9 * 12 * 32)  # the class of its layers is the twin's too
    assert zeros(twin) == 0


# --- averages ---------------------------------------------------------------------------------------------------------


def by_hand(child: nn.Module) -> tuple[nn.Module, Callable[[nn.Module], None]]:
    average = copy.deepcopy(child)

    def update(child: nn.Module) -> None:
        for own, weight in zip(average.parameters(), child.parameters(), strict=True):
            own.data.mul_(0.9).add_(weight.data, alpha=0.1)

    return average, update


def timms(kind: Any, decay: float) -> Any:
    def make(child: nn.Module) -> tuple[nn.Module, Callable[[nn.Module], None]]:
        average = kind(child, decay=decay)
        return average.module, average.update

    return make


def pytorchs(**how: Any) -> Any:
    def make(child: nn.Module) -> tuple[nn.Module, Callable[[nn.Module], None]]:
        average = AveragedModel(child, **how)
        return average.module, average.update_parameters

    return make


AVERAGES = {
    "by hand": by_hand,
    "timm 2": timms(ModelEmaV2, 0.99),
    "timm 2, slow": timms(ModelEmaV2, 0.9999),
    "timm 3": timms(ModelEmaV3, 0.9),
    "swa": pytorchs(),
    "swa with buffers": pytorchs(use_buffers=True),
    "ema with buffers": pytorchs(use_buffers=True, multi_avg_fn=get_ema_multi_avg_fn(0.7)),
}
averaged = pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES)


@averaged
@pytest.mark.parametrize("law", [OneShot(), RandomAnnealing(epochs=1), Iterative(epochs=1)], ids=str)
def test_an_average_has_the_childs_mask_and_its_state_loads(law: Law, average: Any) -> None:
    child = child_of(law)
    mean, update = average(child)
    steps(child, [0.0, 0.5, 1.0], lambda: update(child))
    own = within(mean)
    assert own is not None
    for name, entry in child.mask.items():
        assert torch.equal(own.mask[name], entry)
        assert torch.equal(own.fold().get_parameter(name) == 0, ~entry)
    fresh = child_of(law)
    fresh.load_state_dict(own.state_dict())
    assert torch.equal(fresh.eval()(images()), own.eval()(images()))


@averaged
def test_an_average_of_a_mask_that_is_ranked_anew_is_refused_until_it_stands(average: Any) -> None:
    child = child_of(RERANKED)
    mean, update = average(child)

    def use() -> None:
        steps(child, [0.0, 0.5, 1.0], lambda: update(child))
        with torch.no_grad():
            mean.eval()(images())

    with pytest.raises(RuntimeError, match="begin averages when the annealing is over, at t = 1"):
        use()
    child = child_of(RERANKED)
    steps(child, [0.0, 0.5, 1.0])
    mean, update = average(child)
    steps(child, [1.0, 1.5], lambda: update(child))
    assert all(torch.equal(within(mean).mask[name], entry) for name, entry in child.mask.items())


def test_a_copy_that_is_trained_or_stays_is_no_average() -> None:
    child = child_of(RERANKED)
    steps(child, [0.0, 0.5])
    best, twin = copy.deepcopy(child), copy.deepcopy(child)
    assert torch.equal(best.eval()(images()), child.eval()(images()))
    steps(twin, [0.75])
    twin.eval()(images())
    best.load_state_dict(twin.state_dict())
    assert torch.equal(best(images()), twin(images()))


# --- movement ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [False, True])
def test_movement_does_not_depend_on_a_scalers_scale(fused: bool) -> None:
    found = []
    for scale in (None, 1.0, 1024.0, 2.0**30):
        child = child_of(Iterative(epochs=1, order="movement"))
        optimizer = torch.optim.SGD(child.parameters(), 0.1, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        for t in (0.0, 0.25):
            child.at(t)
            scaler.scale(child(images()).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        found.append(child.movement)
    assert found[0].any()
    assert all(torch.equal(found[0], other) for other in found)  # scales are powers of two


@pytest.mark.parametrize("fused", [False, True])
def test_a_skipped_step_counts_nothing(fused: bool) -> None:
    child = child_of(Iterative(epochs=1, order="movement"))
    optimizer = torch.optim.SGD(child.parameters(), 0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    child.at(0.0)
    scaler.scale(child(images()).square().mean() * 1e38).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**29
    assert not child.movement.any()


# --- one order --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "law", [TemperatureAnnealing(epochs=1), RandomAnnealing(epochs=1), Iterative(epochs=1)], ids=str
)
@pytest.mark.parametrize("how", [{}, {"pruned_weights": "shuffle"}])
def test_sampling_does_not_depend_on_the_masks_order(law: Law, how: dict[str, str]) -> None:
    model = mlp()
    mask = ssa.prune(model, 0.5, structure="neurons")
    back = Mask(dict(reversed(mask.items())), dict(reversed(mask.tied.items())))
    children = [Subnetwork(copy.deepcopy(model), one, law, seed=3, **how) for one in (mask, back)]
    for child in children:
        steps(child, [0.0, 0.5])
    for name, weight in children[0].weights.items():
        assert torch.equal(weight, children[1].weights[name])


# --- several processes ------------------------------------------------------------------------------------------------


SHARED = [
    *((law, {}) for law in (OneShot(), RandomAnnealing(epochs=1), Iterative(epochs=1))),
    (TemperatureAnnealing(epochs=1, expected=True), {}),
    (TemperatureAnnealing(epochs=1), {"rescale": True}),
]
WHOLE = [(RERANKED, {}), *((OneShot(), {how: "freeze"}) for how in ("pruned_weights", "masked_weights"))]


def distributed(rank: int, store: str) -> None:
    """One of two processes: FSDP by layers and DDP against one process that sees the whole batch; then refusals."""
    from torch.distributed.fsdp import fully_shard

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for shard in ("layers", "root", None):
        for law, how in SHARED if shard else SHARED + WHOLE:
            _trains_as_one(rank, shard, child_of(law, **how))
    for law, how in WHOLE:
        whole = child_of(law, **how)
        fully_shard(whole.module)
        for use in (lambda child=whole: child.at(0.0), lambda child=whole: child(images())):
            with pytest.raises(RuntimeError, match="must see them whole: train without FSDP"):
                use()
    with pytest.raises(ValueError, match="sharded already: make the child first"):
        Subnetwork(fully_shard(mlp()), {}, OneShot())
    with pytest.raises(RuntimeError, match="re-rank by magnitude"):
        child_of(Iterative(epochs=1, order="movement"))
    with pytest.raises(ValueError, match="ranks differ in seed, law, mask"):
        child_of(TemperatureAnnealing(epochs=1), seed=rank)
    torch.distributed.destroy_process_group()


def _trains_as_one(rank: int, shard: str | None, child: Subnetwork) -> None:
    """Four steps, each process on half of every batch; ``shard``: FSDP by layers, at the root only, or None for DDP."""
    from torch.distributed.fsdp import fully_shard

    alone = copy.deepcopy(child)
    parallel: nn.Module = child
    if shard is None:
        parallel = nn.parallel.DistributedDataParallel(child)
    for layer in child.module if shard == "layers" else ():
        if isinstance(layer, nn.Linear):
            fully_shard(layer)
    if shard is not None:
        fully_shard(child.module)
    optimizers = [torch.optim.SGD(each.parameters(), 0.1, momentum=0.9) for each in (child, alone)]
    for t in (0.0, 0.25, 0.5, 1.0):
        for each, forward, part in ((child, parallel, slice(4 * rank, 4 * rank + 4)), (alone, alone, slice(None))):
            each.at(t)
            each.zero_grad()
            functional.mse_loss(forward(images(8)[part]), torch.ones(8, 10)[part]).backward()
        for optimizer in optimizers:
            optimizer.step()
    for name, weight in child.weights.items():
        whole = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
        torch.testing.assert_close(whole, alone.weights[name], rtol=1e-5, atol=1e-6)
    if shard is not None:
        with pytest.raises(RuntimeError, match="the weights are sharded"):
            child.fold()


@pytest.mark.slow
def test_processes_train_as_one_whether_sharded_or_not(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(distributed, (str(tmp_path / "store"),), nprocs=2)
