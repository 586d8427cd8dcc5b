"""BatchEnsemble, MIMO and dropout: each does what its paper says, on problems small enough to check by hand."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from studies import expand
from torch import Tensor, nn
from torch.nn import functional

from ssa.data import splits
from ssa.errors import UserError
from ssa.files import read_tensors, write_tensors
from ssa.method.laws import OneShot
from ssa.method.masks import Mask
from ssa.method.subnetwork import Subnetwork
from ssa.process.deadline import Deadline
from ssa.specs.specs import DataSpec, Recipe
from ssa.store.store import Store
from ssa.training import models, rates, step
from ssa.training.loop import Training
from ssa.training.networks import dropout
from ssa.training.networks.batch_ensemble import BatchEnsemble, RankOne
from ssa.training.networks.members import Members
from ssa.training.networks.mimo import Mimo
from ssa.training.networks.resnet_small import SmallResNet
from ssa.workflow import stages

IMAGES = torch.linspace(-1, 1, 2 * 3 * 6 * 6).view(2, 3, 6, 6)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# --- BatchEnsemble -------------------------------------------------------------------------------------------


def test_a_linear_layer_of_two_members_by_hand() -> None:
    layer = nn.Linear(2, 1)
    layer.weight.data, layer.bias.data = torch.tensor([[2.0, 3.0]]), torch.tensor([1.0])
    both = RankOne(layer, 2)
    both.r.data, both.s.data, both.bias.data = (
        torch.tensor([1.0, 1, 1, -1]),
        torch.tensor([1.0, -1]),
        torch.tensor([1.0, 5]),
    )
    # x = (10, 1): member 1 has 23 + 1; member 2 has -(20 - 3) + 5
    assert both(torch.tensor([[10.0, 1], [10, 1]])).tolist() == [[24.0], [-12.0]]


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Linear(6, 5), torch.randn(4, 6)),
        (nn.Linear(6, 5, bias=False), torch.randn(4, 3, 6)),
        (nn.Conv2d(6, 4, 3, padding=1), torch.randn(4, 6, 5, 5)),
        (nn.Conv2d(6, 4, 3, 2, groups=2, bias=False), torch.randn(4, 6, 5, 5)),
    ],
)
def test_each_member_is_a_net_of_the_weight_times_its_outer_product(layer: nn.Module, x: Tensor) -> None:
    plain = [copy.deepcopy(layer) for _ in range(3)]
    ensemble = RankOne(layer, 3)
    for flat in (ensemble.r, ensemble.s, *([ensemble.bias] if ensemble.bias is not None else [])):
        nn.init.normal_(flat)
    for i, member in enumerate(plain):
        r, s = ensemble.r.view(3, -1)[i], ensemble.s.view(3, -1)[i]
        outer = torch.outer(s, r)  # a group's outputs read its own inputs alone
        width = member.weight.shape[1]
        groups = len(r) // width
        rows = [outer[o, (o * groups // len(s)) * width :][:width] for o in range(len(s))]
        member.weight.data *= torch.stack(rows).reshape(len(s), width, *[1] * (member.weight.dim() - 2))
        if ensemble.bias is not None:
            member.bias.data = ensemble.bias.view(3, -1)[i]
    found = ensemble(torch.cat([x] * 3)).unflatten(0, (3, -1))
    assert torch.allclose(found, torch.stack([member(x) for member in plain]), atol=1e-5)


def test_factors_begin_as_random_signs_and_add_few_flat_parameters() -> None:
    plain = net()
    ensemble = BatchEnsemble(copy.deepcopy(plain), 3)
    factors = {name: p for name, p in ensemble.named_parameters() if name.endswith((".r", ".s", ".bias"))}
    # r and s of both layers for 3 members, and a bias for each in place of one
    assert count(ensemble) - count(plain) == 3 * (3 + 4 + 64 + 5) + (3 - 1) * (4 + 5)
    assert {p.dim() for p in factors.values()} == {1}
    signs = torch.cat([p.detach() for name, p in factors.items() if not name.endswith("bias")])
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 0.25


def test_one_member_whose_factors_are_one_is_the_plain_net() -> None:
    plain = net()
    ensemble = BatchEnsemble(copy.deepcopy(plain), 1)
    for module in ensemble.modules():
        if isinstance(module, RankOne):
            nn.init.ones_(module.r)
            nn.init.ones_(module.s)
    # A linear layer may add its bias as it multiplies, which rounds once less.
    torch.testing.assert_close(ensemble(IMAGES), plain(IMAGES), rtol=0, atol=1e-6)
    torch.testing.assert_close(ensemble.eval().member_logits(IMAGES)[0], plain(IMAGES), rtol=0, atol=1e-6)


# --- MIMO ----------------------------------------------------------------------------------------------------


class Echo(nn.Module):
    """Answers with its input, and remembers it: what a member's input was is what its output says."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x.flatten(1)
        return self.seen


def test_training_outputs_are_in_the_order_of_the_batch_though_each_member_saw_its_own() -> None:
    images = torch.arange(16.0).view(8, 2, 1, 1)  # image i is (2 i, 2 i + 1)
    echo = Echo()
    torch.manual_seed(1)
    outputs = Mimo(echo, 3)(images)
    assert torch.equal(outputs, images.flatten(1)[:, None].expand(8, 3, 2))
    orders = [echo.seen[:, 2 * member].div(2).int().tolist() for member in range(3)]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert len({tuple(order) for order in [*orders, list(range(8))]}) == 4  # three orders, none the batch's own


def test_repetitions_show_each_member_the_batch_several_times() -> None:
    images = torch.arange(5.0).view(5, 1, 1, 1)
    outputs = Mimo(Echo(), 2, batch_repetitions=3)(images)
    assert outputs.shape == (15, 2, 1)
    assert torch.equal(outputs[:, 0, 0], torch.arange(5.0).repeat(3))
    assert torch.equal(outputs[:, 0], outputs[:, 1])


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("lenet-s", "network.0", "network.11"),
        ("resnet18", "network.conv1", "network.fc"),
        ("resnet-small", "network.stem.0", "network.head"),
        ("vit", "network.patch_embed.proj", "network.head"),
    ],
)
def test_the_first_and_the_last_layer_are_as_wide_as_there_are_members(name: str, first: str, last: str) -> None:
    plain, mimo = (models.build(name, options, 3, 10, 32, 0) for options in ({}, {"mimo": 4}))
    assert mimo.get_submodule(first).in_channels == 12
    assert mimo.get_submodule(last).out_features == 40
    inside = [
        p.shape for key, p in plain.named_parameters() if f"network.{key.rpartition('.')[0]}" not in (first, last)
    ]
    same = [p.shape for key, p in mimo.named_parameters() if key.rpartition(".")[0] not in (first, last)]
    assert inside == same


def test_one_forward_pass_gives_all_members_predictions() -> None:
    mimo = models.build("lenet-s", {"mimo": 3}, 3, 10, 32, 0).eval()
    calls = []
    mimo.network.register_forward_hook(lambda *_: calls.append(1))
    logits = mimo.member_logits(torch.randn(4, 3, 32, 32))
    assert (logits.shape, len(calls)) == ((3, 4, 10), 1)
    assert not torch.allclose(logits[0], logits[1])


def test_each_output_learns_to_read_its_own_input() -> None:
    """A linear MIMO net on a linear problem: after training, an output depends on its member's input alone."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(400, 4, 1, 1, generator=generator)
    labels = images.flatten(1).argmax(1)
    torch.manual_seed(0)
    mimo = Mimo(nn.Sequential(nn.Flatten(), nn.Linear(8, 8)), 2)
    optimizer = torch.optim.Adam(mimo.parameters(), 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        step.cross_entropy(mimo(images), labels).backward()
        optimizer.step()
    weight = mimo.network[1].weight.detach().abs().view(2, 4, 2, 4).sum((1, 3))  # outputs of member x inputs of member
    assert float(weight[0, 0]) > 10 * float(weight[0, 1])
    assert float(weight[1, 1]) > 10 * float(weight[1, 0])
    logits = mimo.eval().member_logits(images)
    assert all((member.argmax(1) == labels).float().mean() > 0.9 for member in logits)
    assert not torch.allclose(logits[0], logits[1])


# --- what they share -----------------------------------------------------------------------------------------


def test_the_prediction_is_the_logarithm_of_the_mean_probability() -> None:
    class Fixed(Members):
        def member_logits(self, images: Tensor) -> Tensor:
            return torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]).log()

    prediction = Fixed(2).eval()(IMAGES)
    assert prediction.exp().tolist() == [pytest.approx([0.7, 0.3])]


LABELS = torch.tensor([0, 1])
ROWS = torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1], [0.6, 0.4]]).log()


def test_the_loss_of_a_tiled_batch_is_the_mean_over_rows() -> None:
    by_hand = -(math.log(0.5) + math.log(0.8) + math.log(0.9) + math.log(0.4)) / 4
    assert step.cross_entropy(ROWS, LABELS).item() == pytest.approx(by_hand)


def test_the_loss_of_heads_is_summed_over_them_and_the_mean_over_images() -> None:
    heads = ROWS.view(2, 2, 2)  # image 0: rows 0 and 1, image 1: rows 2 and 3
    by_hand = -(math.log(0.5) + math.log(0.2) + math.log(0.1) + math.log(0.4)) / 2
    assert step.cross_entropy(heads, LABELS).item() == pytest.approx(by_hand)
    repeated = torch.cat([heads, heads])
    assert step.cross_entropy(repeated, LABELS).item() == pytest.approx(by_hand)


def test_the_loss_of_an_ordinary_network_is_torchs() -> None:
    assert torch.equal(step.cross_entropy(ROWS[:2], LABELS), functional.cross_entropy(ROWS[:2], LABELS))


# --- dropout -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layers"),
    [("lenet-s", 4), ("lenet-l", 4), ("resnet18", 20), ("resnet-small", 9)],
    # LeNet: 2 convolutions and 2 hidden linear layers. ResNet-18: 17 convolutions and 3 in shortcuts.
    # The small net: the stem, 2 for each of 3 blocks, 2 shortcuts.
)
def test_dropout_follows_every_layer_but_the_last(name: str, layers: int) -> None:
    plain, dropped = (models.build(name, options, 3, 10, 32, 0) for options in ({}, {"dropout_everywhere": 0.5}))
    found = [m for m in dropped.modules() if isinstance(m, nn.Dropout)]
    assert [m.p for m in found] == [0.5] * layers
    assert all(torch.equal(p, q) for p, q in zip(plain.parameters(), dropped.parameters(), strict=True))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(plain.eval()(images), dropped.eval()(images))


def test_samples_differ_while_eval_does_not_and_batchnorm_stays_in_eval() -> None:
    model = models.build("resnet-small", {"dropout_everywhere": 0.5}, 3, 10, 32, 0).eval()
    images = torch.randn(4, 3, 32, 32)
    before, running = model(images), copy.deepcopy(model.state_dict())
    with dropout.sampling(model):
        model.eval()  # as scoring does
        samples = [model(images) for _ in range(2)]
        assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert not torch.equal(samples[0], samples[1])
    assert torch.equal(model(images), before)
    assert all(torch.equal(value, running[key]) for key, value in model.state_dict().items())
    assert not any(m.training for m in model.modules())


def test_sampling_a_net_without_dropout_is_refused() -> None:
    with pytest.raises(UserError, match="set dropout_everywhere"), dropout.sampling(SmallResNet(1, 10)):
        pass


# --- as models of a study ------------------------------------------------------------------------------------

PEERS: list[dict[str, Any]] = [
    {"batch_ensemble": 3},
    {"mimo": 3},
    {"mimo": 2, "batch_repetitions": 2},
    {"dropout_everywhere": 0.2},
    {"dropout_everywhere": 0.2, "batch_ensemble": 2},
]


@pytest.mark.parametrize("options", PEERS, ids=str)
@pytest.mark.parametrize("name", ["lenet-s", "resnet18-maxpool", "vit", "timm/resnet10t"])
def test_every_model_can_be_made_into_each(name: str, options: dict[str, Any]) -> None:
    small = {"vit": {"depth": 1, "width": 32, "heads": 2}}.get(name, {})
    model = models.build(name, {**small, **options}, 3, 10, 32, 0)
    images, labels = torch.randn(2, 3, 32, 32), torch.tensor([1, 2])
    loss = step.loss(model, images, labels, "fp32")
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert 1 < loss.item() / (options.get("mimo") or 1) < 10
    assert model.eval()(images).shape == (2, 10)


@pytest.mark.parametrize("options", PEERS, ids=str)
def test_the_seed_decides_the_weights_and_they_survive_copies_and_files(
    options: dict[str, Any], tmp_path: Path
) -> None:
    first, again, other = (models.build("resnet-small", options, 1, 10, 8, seed).eval() for seed in (0, 0, 1))
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(first(images), again(images))
    assert torch.equal(first(images), copy.deepcopy(first)(images))
    assert not torch.equal(first(images), other(images))
    write_tensors(tmp_path / "x.safetensors", first.state_dict(), {})
    other.load_state_dict(read_tensors(tmp_path / "x.safetensors")[0])
    assert torch.equal(first(images), other(images))
    last = first.to(memory_format=torch.channels_last)
    assert torch.allclose(last(images.to(memory_format=torch.channels_last)), other(images), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_ensemble": 0}, "batch_ensemble: 0 is not allowed; allowed: int or null, at least 1"),
        ({"mimo": 2.5}, "mimo: 2.5 is not allowed"),
        ({"dropout_everywhere": 1}, "dropout_everywhere: 1 is not allowed; allowed: float or null in [0, 1)"),
        ({"mimo": 2, "batch_ensemble": 2}, "batch_ensemble and mimo exclude each other; name one"),
        ({"batch_repetitions": 4}, "batch_repetitions: not allowed without mimo"),
    ],
)
def test_wrong_options_are_refused_when_the_study_is_read(
    tiny: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    tiny["parents"]["small"]["model_options"] = options
    with pytest.raises(UserError) as caught:
        expand(tiny)
    assert "tiny.yaml: parents.small.model_options" in str(caught.value)
    assert message in str(caught.value)
    with pytest.raises(UserError, match="model lenet-s"):
        models.build("lenet-s", options, 3, 10, 32, 0)


def test_estimates_count_every_pass_of_a_batch() -> None:
    costs = [models.mega_macs("lenet-l", o) for o in ({}, {"batch_ensemble": 4}, {"mimo": 3}, PEERS[2])]
    assert costs == [28, 112, 28, 56]
    assert models.mega_macs("resnet-small", {"batch_ensemble": 4}) is None


def started(options: dict[str, Any], compile: str = "off") -> Training:
    digits = splits.load(DataSpec("digits", 100, 50, "parent"), Path("unused"), 0)
    model = models.build("resnet-small", {"width": 4, "stages": 1, **options}, 1, 10, 8, 0)
    network = Subnetwork(model.to(memory_format=torch.channels_last), Mask({}), OneShot())
    recipe = Recipe(epochs=2, batch_size=20, augment="none", lr_schedule="cosine-cycles", cycle_epochs=1)
    return Training(network, digits, recipe, 0, compile=compile)


@pytest.mark.parametrize("options", PEERS, ids=str)
def test_training_goes_on_bit_for_bit_after_an_interruption(options: dict[str, Any]) -> None:
    whole, first, second = (started(options) for _ in range(3))
    losses = [whole.run_epoch().loss for _ in range(2)]
    assert first.run_epoch().loss == losses[0]
    second.resume(1, first.state())
    assert second.run_epoch().loss == losses[1]


@pytest.mark.parametrize("options", PEERS[:3], ids=str)
def test_the_traced_step_trains_as_the_plain_one(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr(step, "_held", None)
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, mode, dynamic: real(f, backend="aot_eager", dynamic=dynamic))
    plain, fast = (started(options, compile) for compile in ("off", "default"))
    for _ in range(2):
        assert fast.run_epoch().loss == pytest.approx(plain.run_epoch().loss, rel=1e-3)
    torch._dynamo.reset()


def test_members_and_heads_come_apart_and_learn() -> None:
    digits = splits.load(DataSpec("digits", 900, 50, "parent"), Path("unused"), 0)
    for options in ({"batch_ensemble": 2}, {"mimo": 2}):
        model = models.build("resnet-small", {"width": 8, "stages": 2, **options}, 1, 10, 8, 0)
        recipe = Recipe(epochs=8, batch_size=50, lr=0.01, optimizer="adam", augment="none", decay="weights")
        run = Training(Subnetwork(model, Mask({}), OneShot()), digits, recipe, 0)
        for _ in range(recipe.epochs):
            run.run_epoch()
        images = run.batches.normalise(digits.test.images.permute(0, 2, 3, 1))
        with torch.no_grad():
            logits = model.eval().member_logits(images)
            together = model(images)
        accuracies = [float((member.argmax(1) == digits.test.labels).float().mean()) for member in logits]
        assert min(accuracies) > 0.8
        assert float((logits[0].argmax(1) != logits[1].argmax(1)).float().mean()) > 0.001
        probabilities = logits.softmax(2).mean(0)
        assert torch.allclose(together.exp(), probabilities, atol=1e-5)


def test_each_peer_trains_through_a_study(tiny: dict[str, Any], tmp_path: Path) -> None:
    base = {**tiny["parents"].pop("small"), "seeds": [0]}
    net = base["model_options"]
    tiny["datasets"]["bag"] = {**tiny["datasets"]["digits"], "bag": 0.9}
    cycles = {"cycle_epochs": 2, "cycles_from": 1, "cycle_high_lr": 0.05, "cycle_low_lr": 0.0005}
    tiny["parents"] = {
        "bagged": {**base, "dataset": "bag"},
        "dropout": {**base, "model_options": {**net, "dropout_everywhere": 0.1}},
        "snapshot": {**base, "lr_schedule": "cosine-cycles", "cycle_epochs": 1},
        "fge": {**base, "lr_schedule": "fge", **cycles},
        "batch-ensemble": {**base, "model_options": {**net, "batch_ensemble": 2}},
        "mimo": {**base, "model_options": {**net, "mimo": 2}},
    }
    tiny["blocks"] = [{"name": "dense", "parents": "dropout", "method": "dense"}]
    plan, store = expand(tiny), Store(tmp_path)
    for parent_id, spec in plan.all_parents().items():
        assert stages.train_parent(plan, store, parent_id, Deadline())
        result = store.read_parent(spec)["result"]
        assert 0 <= result["accuracy"] <= 100
        assert math.isfinite(result["nll"])
    assert {name: rates.snapshot_epochs(specs[0].recipe) for name, specs in plan.parents.items()} == {
        **dict.fromkeys(plan.parents, ()),
        "snapshot": (1, 2),
        "fge": (1, 2),
    }
