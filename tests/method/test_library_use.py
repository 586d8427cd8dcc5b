"""The library in programs that are not its own: what others' code does with a child, and wrong use in one line."""

from __future__ import annotations

import copy
import dataclasses
import io
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import ssa
from ssa.method import selection
from ssa.method.laws import Iterative, Law, OneShot, RandomAnnealing, TemperatureAnnealing
from ssa.method.masks import Mask
from ssa.method.subnetwork import Subnetwork, within


def mlp(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10)).to(dtype)


def images() -> Tensor:
    return torch.randn(4, 12, generator=torch.Generator().manual_seed(1))


def ease_in_out_back(x: float) -> float:
    """A common easing, which overshoots on both sides."""
    if x < 0.5:
        return (2 * x) ** 2 * (7.19 * x - 2.59) / 2
    return ((2 * x - 2) ** 2 * (3.59 * (x * 2 - 2) + 2.59) + 2) / 2


def child_of(law: Law, sparsity: float = 0.9, **more: Any) -> Subnetwork:
    model = mlp()
    return Subnetwork(model, ssa.prune(model, sparsity), law, **more)


def test_a_state_brings_its_own_sparsity() -> None:
    law = Iterative(epochs=10, order="reranked")
    first, second = child_of(law, 0.9), child_of(law, 0.5)
    first.at(5)
    second.load_state_dict(first.state_dict())
    assert second.keep_pruned(5) == first.keep_pruned(5)
    first.at(6)
    second.at(6)
    assert torch.equal(first.target, second.target)


@pytest.mark.parametrize("other", [{"seed": 1}, {"law": TemperatureAnnealing(epochs=3)}, {"law": OneShot()}])
def test_a_state_of_another_child_is_refused(other: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"law": TemperatureAnnealing(epochs=2), "seed": 0}
    state = child_of(**settings).state_dict()
    child_of(**settings).load_state_dict(state)
    with pytest.raises(RuntimeError, match="saved by a child of another law, seed or mask's names"):
        child_of(**settings | other).load_state_dict(state)


def test_a_refused_state_leaves_the_child_as_it_was() -> None:
    child, other = child_of(OneShot(), 0.5), child_of(OneShot(), 0.9, seed=1)
    before = child.target.clone()
    with pytest.raises(RuntimeError, match="another law, seed"):
        child.load_state_dict(other.state_dict())
    assert torch.equal(child.target, before)


def test_a_state_that_does_not_say_whose_it_is_loads_as_ever() -> None:
    child = child_of(TemperatureAnnealing(epochs=5))
    state = {name: value for name, value in child.state_dict().items() if not name.endswith(".digest")}
    child_of(TemperatureAnnealing(epochs=5.0)).load_state_dict(state)
    child_of(TemperatureAnnealing(epochs=5.0)).load_state_dict(child.state_dict())  # 5 is 5.0


def half(power: float, x: float) -> float:
    return x**power


def test_schedules_that_differ_in_an_argument_are_other_laws() -> None:
    one, two = (child_of(TemperatureAnnealing(epochs=5, schedule=partial(half, power))) for power in (1.0, 2.0))
    with pytest.raises(RuntimeError, match="another law, seed"):
        one.load_state_dict(two.state_dict())


@pytest.mark.parametrize("how", [{"pruned_weights": "freeze"}, {"masked_weights": "freeze"}])
def test_an_optimiser_may_step_within_the_backward_pass(how: dict[str, str]) -> None:
    found = []
    for within_backward in (False, True):
        child = child_of(RandomAnnealing(epochs=2), 0.5, **how)
        each = {weight: torch.optim.SGD([weight], 0.1, weight_decay=0.1) for weight in child.parameters()}

        def step(weight: Tensor, each: Any = each) -> None:
            each[weight].step()
            each[weight].zero_grad()

        for weight in child.parameters() if within_backward else ():
            weight.register_post_accumulate_grad_hook(step)
        for t in (0.0, 0.5, 1.0):
            child.at(t)
            child(images()).square().mean().backward()
            for optimizer in () if within_backward else each.values():
                optimizer.step()
                optimizer.zero_grad()
        child.at(1.5)
        found.append([weight.detach() for weight in child.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_what_must_not_move_is_put_back_with_the_optimisers_step() -> None:
    child = child_of(RandomAnnealing(epochs=2), 0.5, masked_weights="freeze")
    optimizer = torch.optim.SGD(child.parameters(), 0.5, momentum=0.9, weight_decay=0.1)
    for i in range(4):
        child.at(i / 4)
        optimizer.zero_grad()
        child(images()).square().mean().backward()
        before = {name: weight.detach().clone() for name, weight in child.weights.items()}
        shown = child._expand(child.multiplier.bool())
        optimizer.step()
        for name, entry in shown.items():
            assert torch.equal(child.weights[name][~entry], before[name][~entry])
    folded = child.fold()
    child.at(1)
    assert all(torch.equal(a, b) for a, b in zip(folded.parameters(), child.fold().parameters(), strict=True))


@pytest.mark.parametrize("law", [OneShot(), TemperatureAnnealing(epochs=2), Iterative(epochs=2, order="movement")])
def test_a_child_goes_through_a_file_and_trains_on_alike(law: Law) -> None:
    child, file = child_of(law), io.BytesIO()
    child.at(1)
    torch.save(child, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    found = []
    for one in (child, loaded):
        one.at(1.5)
        found.append(one(images()))
    assert torch.equal(*found)


@pytest.mark.parametrize("how", [{"rescale": True}, {"expected": True}, {}])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_the_length_stay_so(how: dict[str, bool], dtype: torch.dtype) -> None:
    model = mlp(dtype)
    law = TemperatureAnnealing(epochs=1, expected=how.get("expected", False))
    child = Subnetwork(model, ssa.prune(model, 0.5), law, rescale=how.get("rescale", False))
    child.at(0.5)
    assert child(images().to(dtype)).dtype == dtype


def test_a_child_that_is_cast_counts_and_draws_as_before() -> None:
    child = child_of(Iterative(epochs=2, order="movement"))
    child.at(0)
    child(images()).square().mean().backward()
    assert child.movement is not None
    before = child.movement.clone()
    child.bfloat16()
    assert torch.equal(child.movement, before)


def test_a_functional_call_takes_the_weights_that_it_is_given() -> None:
    child = child_of(TemperatureAnnealing(epochs=2))
    child.at(0.5)
    doubled = {name: 2 * weight for name, weight in child.named_parameters()}
    expected = copy.deepcopy(child)
    expected.at(0.5)
    with torch.no_grad():
        for weight in expected.parameters():
            weight.mul_(2)
    assert torch.equal(torch.func.functional_call(child, doubled, (images(),)), expected(images()))


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, nn.Sequential, torch.optim.swa_utils.AveragedModel])
def test_a_wrapped_child_reports_and_saves_as_itself(wrap: Any, tmp_path: Path) -> None:
    child = child_of(TemperatureAnnealing(epochs=2))
    around = wrap(child)
    assert ssa.sparsity(around) == ssa.sparsity(child)
    ssa.save(around, tmp_path / "child.safetensors")
    loaded = ssa.load(tmp_path / "child.safetensors", mlp())
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), child.fold().parameters(), strict=True))


def test_several_children_in_one_model_are_not_taken_for_one() -> None:
    both = nn.ModuleList([child_of(OneShot()), child_of(OneShot())])
    with pytest.raises(ValueError, match="holds more than one subnetwork's weights"):
        ssa.sparsity(both)
    assert within(mlp()) is None


def test_weights_beside_a_child_are_not_lost_in_silence(tmp_path: Path) -> None:
    model = nn.Sequential(child_of(OneShot()), nn.Linear(10, 2))
    with pytest.raises(ValueError, match="holds more than one subnetwork's weights"):
        ssa.save(model, tmp_path / "child.safetensors")


def test_the_report_of_a_child_takes_a_selection() -> None:
    child = child_of(OneShot())
    assert [row.name for row in ssa.sparsity(child, select="2").rows] == ["2.weight"]


@dataclasses.dataclass(slots=True)
class Output:
    """An output that a model may return and that PyTorch does not look into."""

    logits: Tensor


class Outer:
    """Another, that holds the first."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.itself = self  # objects may know each other in circles


class Checkpointed(nn.Module):
    """Its middle is computed again in the backward pass, if ``again``."""

    def __init__(self, again: bool) -> None:
        super().__init__()
        self.again, self.first, self.last = again, nn.Linear(12, 16), nn.Linear(16, 10)
        self.middle = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16))

    def forward(self, x: Tensor) -> Outer:
        hidden = torch.tanh(self.first(x))
        hidden = checkpoint(self.middle, hidden, use_reentrant=False) if self.again else self.middle(hidden)
        return Outer(Output(self.last(hidden)))


def gradients(again: bool, use: Any) -> list[Tensor]:
    torch.manual_seed(0)
    model = Checkpointed(again)
    child = Subnetwork(model, ssa.prune(model, 0.8), RandomAnnealing(epochs=2))
    child.at(0.5)
    use(child, child(images()).output.logits.square().mean())
    return [weight.grad for weight in model.parameters() if weight.grad is not None]


def once(_: Subnetwork, loss: Tensor) -> None:
    loss.backward()


def twice_after_evaluation(child: Subnetwork, loss: Tensor) -> None:
    loss.backward(retain_graph=True)
    with torch.no_grad():
        child.eval()(images())
    child.train()
    loss.backward()


@pytest.mark.parametrize("use", [once, twice_after_evaluation])
def test_checkpointing_is_masked_whatever_the_output_is(use: Any) -> None:
    plain, again = (gradients(how, use) for how in (False, True))
    assert len(plain) == len(again) == 8
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b)


class Shared(nn.Module):
    """Two convolutions read by one BatchNorm, and one read by two."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = (nn.Conv2d(3, 4, 1) for _ in range(3))
        self.common, self.left, self.right = (nn.BatchNorm2d(4) for _ in range(3))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.three(x)
        parts = self.common(self.one(x)) + self.common(self.two(x)) + self.left(three) + self.right(three)
        return self.head(parts.mean((2, 3)))


def test_every_batchnorm_of_a_neuron_goes_with_it_unless_others_need_it() -> None:
    mask = ssa.prune(Shared(), 0.5, structure="neurons", example=torch.zeros(1, 3, 2, 2))
    tied = {name: of for name, of in mask.tied.items() if name.startswith(("common", "left", "right"))}
    assert tied == {f"{side}.{part}": "three.weight" for side in ("left", "right") for part in ("weight", "bias")}


@pytest.mark.parametrize("name", ["levit_128s", "efficientformer_l1", "resnet18", "vit_tiny_patch16_224"])
def test_the_classifiers_of_timm_models_are_left_alone(name: str) -> None:
    model = timm.create_model(name)
    heads = model.get_classifier()
    heads = heads if isinstance(heads, (tuple, list)) else [heads]
    last = {id(weight) for head in heads for weight in head.parameters()}
    chosen = {id(weight) for weight in selection.prunable(model).values()}
    assert last
    assert not chosen & last


def test_all_of_a_headless_model_may_be_pruned() -> None:
    model = timm.create_model("resnet18", num_classes=0)
    assert len(selection.prunable(model)) == sum(weight.dim() == 4 for weight in model.parameters())


def test_a_weight_that_the_classifier_shares_is_left_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
    model[2].weight = model[0].weight
    assert list(selection.prunable(model)) == ["1.weight"]


def test_copies_and_unions_of_a_mask_know_what_goes_together() -> None:
    mask = ssa.prune(Shared(), 0.5, structure="neurons", example=torch.zeros(1, 3, 2, 2))
    for made in (mask.copy(), mask | {}):
        assert isinstance(made, Mask)
        assert made.tied == mask.tied
    assert isinstance({} | mask, Mask)
    assert ({} | mask).tied == mask.tied
    name, of = next(iter(mask.tied.items()))
    untied = mask | {name: ~mask[name]}
    assert name not in untied.tied
    assert of in untied
    other = Mask({})
    other |= mask
    assert other.tied == mask.tied


def test_a_union_keeps_ties_only_where_they_hold() -> None:
    model = mlp()
    neurons, others = (ssa.prune(model, 0.5, structure="neurons", seed=seed) for seed in (1, 2))
    name, of = next(iter(neurons.tied.items()))
    entry = others[of]
    joined = neurons | {of: entry}
    assert torch.equal(joined[name], entry.flatten())
    connections = ssa.prune(model, 0.5)
    plain = neurons | connections
    assert not plain.tied
    assert plain.keys() == connections.keys()
    neurons |= connections
    assert neurons.keys() == connections.keys()
    Subnetwork(model, plain, OneShot())(images())
    torn = Mask({of: connections[of], name: entry.flatten()}, {name: of})
    with pytest.raises(ValueError, match=f"mask of '{name}' is tied to that of '{of}', which does not go by whole"):
        Subnetwork(mlp(), torn, OneShot())


def test_masks_that_are_handed_out_stay_as_they_are() -> None:
    child = child_of(Iterative(epochs=4, order="reranked"))
    with torch.no_grad():
        child.weights["0.weight"].normal_()
    masks = [child.mask, child.sample(torch.Generator())]
    before = [mask["0.weight"].clone() for mask in masks]
    child.at(3)
    masks[0]["0.weight"].fill_(True)
    assert not torch.equal(child.mask["0.weight"], before[0])
    assert ssa.sparsity(child).sparsity == pytest.approx(0.9, abs=0.01)
    assert torch.equal(masks[1]["0.weight"], before[1])


def test_another_seed_of_a_step_leaves_a_regenerated_order_as_it_is() -> None:
    child = child_of(Iterative(epochs=4, order="random"), regenerate=True)
    child.at(2)
    shown = child._expand(child.multiplier.bool())["0.weight"]
    for seed in (child.seed, 99):
        assert torch.equal(child.as_used(2, seed).get_parameter("0.weight") != 0, shown)


def test_files_may_be_read_by_whom_the_user_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        ssa.save(child_of(OneShot()), tmp_path / "child.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "child.safetensors").stat().st_mode & 0o777 == 0o640


class Wrong(Law):
    """A law whose ``answer`` is no pair of probabilities."""

    answer: Any = (1.0, 2.0)

    def anneal(self, a: float, mask: Tensor, state: Tensor | None) -> Any:
        return self.answer


class Single(Wrong):
    """Returns one number."""

    answer = 0.5


class Unknown(Wrong):
    """Returns NaN for pruned weights."""

    answer = (1.0, torch.tensor(float("nan")))


def with_meta() -> None:
    with torch.device("meta"):
        ssa.prune(mlp(), 0.5)


def weight_norm() -> None:
    ssa.prune(nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2)), 0.5)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: ssa.prune(mlp(), "0.9"), ValueError, r"sparsity is '0.9'; allowed: a fraction in \[0, 1\)"),
        (lambda: ssa.prune(mlp(), 0.5, select=["0", "typo"]), ValueError, "'typo' matches no layer; layers are '0'"),
        (lambda: ssa.prune(mlp(), 0.5, select=["0", print]), TypeError, "is neither a type nor a pattern"),
        (lambda: ssa.prune(child_of(OneShot()), 0.5), ValueError, r"prune child\.fold\(\)"),
        (with_meta, ValueError, "on the meta device"),
        (weight_norm, ValueError, "remove that first"),
        (lambda: child_of(TemperatureAnnealing), TypeError, "it is an instance such as"),
        (lambda: child_of("temperature"), TypeError, "law is 'temperature'"),
        (lambda: Subnetwork(mlp(), None, OneShot()), TypeError, "mask is None; it maps names"),
        (lambda: Subnetwork(nn.ReLU(), {}, OneShot()), ValueError, "ReLU has no parameters"),
        (lambda: child_of(TemperatureAnnealing(tau=0.5)), ValueError, "anneals for 0 epochs"),
        (lambda: TemperatureAnnealing(epochs="5"), ValueError, "epochs is '5'; it is a length"),
        (lambda: TemperatureAnnealing(epochs=5, tau=None), ValueError, "tau is None; it is a probability"),
        (lambda: TemperatureAnnealing(epochs=5, schedule=lambda x: 1 - x), ValueError, "goes from 1 to 0"),
        (lambda: TemperatureAnnealing(epochs=5, schedule=lambda x: 2 * x), ValueError, "goes from 0 to 2"),
        (
            lambda: TemperatureAnnealing(epochs=5, schedule=ease_in_out_back),
            ValueError,
            "is -.* at 0.01; allowed: 0 to 1",
        ),
        (lambda: child_of(Wrong(epochs=2)), ValueError, r"Wrong.anneal\(\) at a = 0 gave 2 to 2; probabilities are in"),
        (lambda: child_of(Single(epochs=2)), TypeError, "returned float; it returns a pair"),
        (lambda: child_of(Unknown(epochs=2)), ValueError, "gave nan to nan"),
        (
            lambda: child_of(Iterative(epochs=2, order="reranked"), pruned_weights="freeze"),
            ValueError,
            "chooses the pruned weights anew",
        ),
        (lambda: ssa.save(mlp(), "child.safetensors"), ValueError, "Sequential is no subnetwork"),
    ],
)
def test_wrong_use_is_one_line_that_names_the_thing(wrong: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)
