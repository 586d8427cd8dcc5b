"""Ensembles: their members are listed, resumable and checked; their scores and budgets can be computed again."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, TINY

from ssa.errors import UserError
from ssa.files import read_tensors, write_tensors
from ssa.method import laws
from ssa.method.masks import Mask
from ssa.method.pruning import partition, prunable, prune
from ssa.method.subnetwork import Subnetwork
from ssa.process.deadline import Deadline
from ssa.report.record import Record
from ssa.results import aggregate, recorded
from ssa.results.aggregate_ensembles import TABLES
from ssa.runs import ensemble, ensemble_cost, parent
from ssa.runs import masks as masking
from ssa.seeds import derive
from ssa.specs.specs import EnsembleSpec
from ssa.store.store import Store
from ssa.study import study
from ssa.tracking.layers import ParentMasks
from ssa.tracking.runs import of_ensemble
from ssa.training import models, scoring
from ssa.training.loop import Training
from ssa.workflow import stages, status

CPU = torch.device("cpu")
ENTRIES: list[dict[str, Any]] = [
    {
        "name": "pairs",
        "method": "prune-and-tune",
        "parents": "small",
        "members": 4,
        "masks": "anti-random",
        "epochs": 1,
    },
    {
        **{"name": "pairs, annealed", "method": "prune-and-tune", "parents": "small", "members": 4},
        **{"masks": "anti-random", "tuning": "temperature", "tau": 0.5, "anneal_epochs": 0.5, "epochs": 1},
    },
    {
        **{"name": "parts", "method": "prune-and-tune", "parents": "small", "members": 4, "masks": "partition"},
        **{"sparsity": 75, "epochs": 1},
    },
    {"name": "neurons", "method": "prune-and-tune", "parents": "small", "members": 2, "structure": "neurons"},
    {"name": "dense", "method": "dense-children", "parents": "small", "members": 2, "epochs": 1},
    {"name": "three", "method": "independent", "parents": "small", "members": 3},
]

PEERS: dict[str, tuple[dict[str, Any], dict[str, Any], int, int]] = {
    # the parent's settings, the ensemble's, members, forward passes
    "bagged": ({"dataset": "bags"}, {"method": "independent", "members": 2}, 2, 2),
    "mc-dropout": ({"options": {"dropout_everywhere": 0.2}}, {"method": "mc-dropout", "samples": 5}, 5, 5),
    "snapshot": ({"lr_schedule": "cosine-cycles", "cycle_epochs": 2}, {"method": "snapshot"}, 3, 3),
    "fge": (
        {"lr_schedule": "fge", "cycles_from": 2, "cycle_epochs": 2, "cycle_high_lr": 0.1, "cycle_low_lr": 0.01},
        {"method": "fge"},
        3,
        3,
    ),
    "batch-ensemble": ({"options": {"batch_ensemble": 3}, "decay": "weights"}, {"method": "batch-ensemble"}, 3, 3),
    "mimo": ({"options": {"mimo": 3, "batch_repetitions": 2}}, {"method": "mimo"}, 3, 1),
}


def raw_study(tmp_path: Path, *entries: dict[str, Any]) -> dict[str, Any]:
    raw = {**copy.deepcopy(TINY), "ensembles": list(entries), "data_root": str(tmp_path / "data")}
    raw["parents"]["small"]["seeds"] = [0]
    raw["blocks"] = raw["blocks"][:1]
    return raw


def expand(raw: dict[str, Any]) -> study.Study:
    return study.expand(raw, Path("tiny.yaml"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[study.Study, Store]:
    folder = tmp_path_factory.mktemp("results")
    raw = {**raw_study(folder, *ENTRIES), "corruptions": {"set": "digits-6", "images": 40}}
    store = Store(folder)
    assert stages.run(expand(raw), store, None, Deadline()) == 0
    return expand(raw), store


def named(plan: study.Study, name: str) -> EnsembleSpec:
    return next(one.spec for one in plan.ensembles if one.name == name)


def masks_of(plan: study.Study, store: Store, name: str) -> list[dict[str, torch.Tensor]]:
    spec = named(plan, name)
    content = parent.content_of(spec.parents[0], plan.data_root, CPU)
    network = parent.load(store, spec.parents[0], content)
    return [masking.make(network, child.mask, spec.seed, content) for child in spec.children]


def test_opposite_masks_and_parts_share_no_weight_and_leave_none_out(made: tuple[study.Study, Store]) -> None:
    pairs, parts = (masks_of(*made, name) for name in ("pairs", "parts"))
    for a, b in ((0, 1), (2, 3)):
        for name in pairs[a]:
            assert torch.equal(pairs[a][name], ~pairs[b][name])
    assert any(not torch.equal(pairs[0][name], pairs[2][name]) for name in pairs[0])
    for name in parts[0]:
        assert (sum(mask[name].int() for mask in parts) == 1).all()
        sizes = [int(mask[name].sum()) for mask in parts]
        assert max(sizes) - min(sizes) <= 1


def test_a_partition_of_an_uneven_tensor_by_hand() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(5, 1), torch.nn.Linear(1, 2))
    masks = [partition(model, 3, part, seed=1) for part in range(3)]
    assert [int(mask["0.weight"].sum()) for mask in masks] == [1, 2, 2]
    assert (sum(mask["0.weight"].int() for mask in masks) == 1).all()
    with pytest.raises(ValueError, match="has 5 to share among 6"):
        partition(model, 6, 0)
    with pytest.raises(ValueError, match="allowed: 0 to 2"):
        partition(model, 3, 3)


def test_members_have_batches_of_their_own_and_pairs_one_mask_seed(made: tuple[study.Study, Store]) -> None:
    children = named(made[0], "pairs").children
    assert [child.seed for child in children] == [0, 1, 2, 3]
    assert [(child.mask.criterion, child.mask.seed) for child in children] == [
        *(("random", 0), ("anti-random", 0), ("random", 1), ("anti-random", 1)),
    ]


def test_independent_members_are_other_networks_on_the_same_split(made: tuple[study.Study, Store]) -> None:
    plan, store = made
    spec = named(plan, "three")
    assert [one.seed for one in spec.parents] == [0, 1000, 2000]
    contents = [parent.content_of(one, plan.data_root, CPU) for one in spec.parents]
    assert all(torch.equal(contents[0].test.images, other.test.images) for other in contents)
    weights = [next(parent.load(store, one, contents[0]).parameters()) for one in spec.parents]
    assert not torch.equal(weights[0], weights[1])


def test_every_score_is_computed_again_from_the_file_of_logits(made: tuple[study.Study, Store]) -> None:
    plan, store = made
    for one in plan.ensembles:
        tensors, metadata = read_tensors(store.ensemble_logits(one.spec.id))
        assert metadata["id"] == one.spec.id
        assert tensors["test"].dtype == torch.float16
        assert tensors["test"].shape == (len(one.spec.members), len(tensors["test_labels"]), 10)
        recorded = store.read_ensemble(one.spec)["result"]
        again = ensemble.scores_of(tensors)
        assert all(again[key] == recorded[key] for key in ("conventions", "scaled", "member_accuracy", "sizes"))


def test_member_order_does_not_matter(made: tuple[study.Study, Store]) -> None:
    plan, store = made
    tensors, _ = read_tensors(store.ensemble_logits(named(plan, "pairs").id))
    turned = {**tensors, "test": tensors["test"].flip(0), "validation": tensors["validation"].flip(0)}
    one, other = (ensemble.scores_of(found)["conventions"]["probabilities"] for found in (tensors, turned))
    assert one == pytest.approx(other)


def test_the_budget_adds_up_from_the_recorded_epochs(made: tuple[study.Study, Store]) -> None:
    plan, store = made
    wanted = {
        "pairs": 2 + 4,
        "pairs, annealed": 2 + 4,
        "parts": 2 + 4,
        "neurons": 2 + 2 * 2,
        "dense": 2 + 2,
        "three": 6,
    }
    for one in plan.ensembles:
        cost = store.read_ensemble(one.spec)["result"]["cost"]
        trained = [store.read_child(child)["history"][-1]["epoch"] for child in one.spec.children]
        trained += [store.read_parent(trunk)["spec"]["recipe"]["epochs"] for trunk in one.spec.parents]
        assert cost["epochs"] == sum(trained) == wanted[one.name]
        assert cost["epochs"] == sum(run["epochs"] for run in cost["runs"].values())
        assert set(cost["runs"]) == {run.id for run in (*one.spec.parents, *one.spec.children)}


@pytest.mark.parametrize(
    ("config", "budgets"),
    [
        ("budget16", {}),
        ("reduced", {}),
        ("demo", {}),
        (
            "budget200",
            {
                **{"Deep ensemble (4)": 800, "BatchEnsemble (4)": 250, "MIMO (3)": 250, "PAT (4, partition)": 180},
                **{"PAT (8, AR)": 220, "PAT (8, AR) + SSA": 220},
            },
        ),
    ],
)
def test_every_method_of_the_studies_has_the_budget_that_they_say(config: str, budgets: dict[str, int]) -> None:
    common = {"budget16": 16, "reduced": 80, "demo": 128, "budget200": 200}[config]
    for one in study.load(ROOT / "config" / f"{config}.yaml").ensembles:
        trunks, children = (sum(run.recipe.epochs for run in runs) for runs in (one.spec.parents, one.spec.children))
        assert trunks + children == budgets.get(one.name, common), one.name
        if one.name == "PAT (6, AR)":  # published: 0.85 of the single network's FLOPs, those of zeros left out
            kept = {1 - child.mask.sparsity / 100 for child in one.spec.children}
            assert kept == {0.5}
            assert (trunks + 0.5 * children) / common == 0.85


def test_masked_operations_are_dense_ones_times_density(made: tuple[study.Study, Store]) -> None:
    plan, store = made
    costs = {one.name: store.read_ensemble(one.spec)["result"]["cost"] for one in plan.ensembles}
    epoch = costs["three"]["dense_flops"] / 6
    assert costs["pairs"]["dense_flops"] == pytest.approx(6 * epoch)
    assert costs["pairs"]["masked_flops"] == pytest.approx((2 + 4 * 0.5) * epoch)
    # tau (1 - t / e) at 0, 0.05, ..., 0.45 epochs has the mean 0.275, over half of the only epoch.
    assert costs["pairs, annealed"]["masked_flops"] == pytest.approx((2 + 4 * (1 - 0.5 * (1 - 0.1375))) * epoch)
    assert costs["dense"]["masked_flops"] == costs["dense"]["dense_flops"] == pytest.approx(4 * epoch)
    assert costs["pairs"]["forward_passes"] == 4
    assert costs["pairs"]["inference_masked_flops"] == pytest.approx(costs["pairs"]["inference_flops"] / 2)


@pytest.mark.parametrize(
    ("law", "annealing"),
    # One of two epochs anneals, at progress 0, 0.05, ..., 0.95 with mean 0.475; then half of the weights are left.
    [
        (laws.TemperatureAnnealing(epochs=1, tau=0.5), 0.5 + 0.5 * 0.2625),
        (laws.TemperatureAnnealing(epochs=1, tau=0.5, scope="all"), 0.5),
        # u is uniform over all weights: half of them are at work at first, as in the end
        (laws.RandomAnnealing(epochs=1), 0.5),
        (laws.TemperatureAnnealing(epochs=1, tau=0.5, expected=True), 1.0),  # made smaller, not left out
        (laws.Iterative(epochs=1, order="reranked"), 1 - 0.5 * 0.475),
        (laws.DenseThenCut(epochs=1), 1.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("structure", ["connections", "neurons"])
def test_the_density_in_training_counts_all_weights_that_are_at_work(
    law: laws.Law, annealing: float, structure: str
) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(100, 100), torch.nn.ReLU(), torch.nn.Linear(100, 2))
    mask = prune(model, 0.5, "random", structure, example=torch.zeros(1, 100))
    density = ensemble_cost.density_in_training(Subnetwork(model, mask, law), 2, 0.5)
    # The mean of u varies by 0.003 over 10,000 weights, by 0.03 over 100 neurons: four of these are allowed.
    allowed = 0.0 if not isinstance(law, laws.RandomAnnealing) else 0.006 if structure == "connections" else 0.06
    assert density == pytest.approx((annealing + 0.5) / 2, abs=allowed + 1e-6)


def test_operations_of_a_network_by_hand() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, bias=False), torch.nn.Flatten(), torch.nn.Linear(18, 5))
    assert ensemble_cost.forward_flops(model, torch.Size((1, 5, 5))) == 2 * (2 * 9 * 9 + 18 * 5)
    lenet = models.build("lenet-l", {}, 3, 10, 32, 0)
    macs = 28 * 28 * 64 * 75 + 10 * 10 * 128 * 1600 + 3200 * 1024 + 1024 * 512 + 512 * 10
    assert ensemble_cost.forward_flops(lenet, torch.Size((3, 32, 32))) == 2 * macs


def test_the_tables_of_a_study_with_ensembles(made: tuple[study.Study, Store]) -> None:
    plan, store = made
    aggregate.aggregate(plan, store)
    tables = {
        name: pd.read_csv(store.study_folder("tiny") / f"{name}.csv")
        for name in ("ensembles", "ensemble_sizes", "ensemble_bins", "corruptions", "parents")
    }
    rows = tables["ensembles"].set_index("ensemble")
    assert list(rows.index) == [entry["name"] for entry in ENTRIES]
    assert rows.loc["three", ["masks", "tuning", "accuracy_parent"]].isna().all()
    assert rows.loc["pairs", "tuning"] == "one-shot"
    assert rows.loc["neurons", "structure"] == "neurons"
    assert (rows.corrupted_label == "generated").all()
    assert rows.loc["pairs", "member_accuracy"] > 0
    sizes = tables["ensemble_sizes"]
    whole = sizes[(sizes.ensemble_id == rows.loc["pairs", "ensemble_id"]) & (sizes["size"] == 4)]
    assert list(whole.accuracy) == [rows.loc["pairs", "accuracy"], rows.loc["pairs", "accuracy_logits"]]
    bins = tables["ensemble_bins"]
    clean = bins[(bins.set == "clean") & (bins.convention == "probabilities")].groupby("ensemble_id")
    tested = 1797 - 100
    assert (clean["count"].sum() == tested).all()
    assert clean.correct.sum()[rows.loc["three", "ensemble_id"]] == round(rows.loc["three", "accuracy"] * tested / 100)
    gap = clean.apply(lambda part: (part.confidence - part.correct).abs().sum() / tested, include_groups=False)
    assert 100 * gap[rows.loc["pairs", "ensemble_id"]] == pytest.approx(rows.loc["pairs", "ece"])
    each = tables["corruptions"]
    mean = each[each.convention == "probabilities"].groupby("ensemble_id").accuracy.mean()
    assert mean[rows.loc["pairs", "ensemble_id"]] == pytest.approx(rows.loc["pairs", "corrupted_accuracy"])
    assert set(tables["parents"].parent_seed) == {0, 1000, 2000}


def test_an_ensemble_cut_short_goes_on_with_the_members_that_it_has(tmp_path: Path) -> None:
    plan, store = expand(raw_study(tmp_path, ENTRIES[0])), Store(tmp_path / "results")
    spec = plan.ensembles[0].spec

    class AfterTwo(Deadline):
        def passed(self, needed: float = 0.0) -> bool:
            return len(store.recorded_children(spec.parents[0].id)) >= 2

    assert not stages.train_ensemble(plan, store, spec.id, AfterTwo())
    first = store.member(spec.children[0])
    assert first.exists()
    assert not store.ensemble_record(spec.id).exists()
    assert stages.train_ensemble(plan, store, spec.id)
    assert len(store.recorded_children(spec.parents[0].id)) == 4
    assert not first.exists()
    again = Store(tmp_path / "undisturbed")
    assert stages.train_ensemble(plan, again, spec.id)
    assert again.read_ensemble(spec)["result"]["conventions"] == store.read_ensemble(spec)["result"]["conventions"]


def test_a_member_of_two_ensembles_is_trained_and_counted_once_and_kept_for_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = ({**ENTRIES[0], "name": name, "members": members} for name, members in (("few", 2), ("many", 4)))
    plan, store = expand(raw_study(tmp_path, few, many)), Store(tmp_path / "results")
    first, second = (one.spec for one in plan.ensembles)
    shared = store.member(first.children[1])
    assert status.read(plan, store).epochs_left == study.total_epochs(plan)
    assert first.children == second.children[:2]
    assert stages.train_ensemble(plan, store, first.id)
    assert shared.exists()
    assert stages.train_ensemble(plan, store, second.id)
    assert not list(shared.parent.iterdir())
    lines = [
        line
        for path in store.records(first.parents[0].id).folder.glob("*.jsonl")
        for line in path.open(encoding="utf-8")
    ]
    assert len(lines) == 4
    assert stages.run(plan, store, None, Deadline()) == 0  # the study's own children
    spent: list[float] = []
    monkeypatch.setattr(aggregate._Making, "add", lambda self, record, seconds: spent.append(seconds))
    monkeypatch.setattr(aggregate._Making, "summary", lambda self: {})
    aggregate.collect(plan, store)
    trained = [run["seconds"] for run in store.read_ensemble(second)["result"]["cost"]["runs"].values()]
    trained += [store.read_child(child.spec)["result"]["train_seconds"] for child in plan.children]
    assert sum(spent) == pytest.approx(sum(trained))


def test_of_members_too_is_logged_what_follows_from_their_masks(made: tuple[study.Study, Store]) -> None:
    plan, store = made
    spec = named(plan, "pairs, annealed")
    layers = ParentMasks(plan, store, spec.parents[0].id)
    for child, mask in zip(spec.children, masks_of(plan, store, "pairs, annealed"), strict=True):
        derived = layers.derive(child)
        pruned = {f"sparsity/{name}": 100 * float((~entry).float().mean()) for name, entry in mask.items()}
        assert derived.summary == pytest.approx(pruned)
        assert derived.histograms[0]["keep_probability/pruned"].sum() > 0


def test_a_missing_or_foreign_member_is_refused(tmp_path: Path, made: tuple[study.Study, Store]) -> None:
    plan, store = made
    spec = named(plan, "pairs")
    content = parent.content_of(spec.parents[0], plan.data_root, CPU)
    network = parent.load(store, spec.parents[0], content)
    environment = ensemble.Environment(Store(tmp_path), plan.data_root, CPU)
    with pytest.raises(UserError, match=r"weights\.safetensors cannot be read"):
        ensemble.train(environment, spec, {}, Deadline())
    write_tensors(environment.store.weights(spec.parents[0].id), network.state_dict(), {"id": spec.parents[0].id})
    write_tensors(environment.store.member(spec.children[0]), network.state_dict(), {"id": spec.children[1].id})
    environment.store.record_child(spec.children[0], {"result": {}, "made": {}})
    with pytest.raises(UserError, match=r"\.safetensors holds another network"):
        ensemble.train(environment, spec, {}, Deadline())


@pytest.mark.parametrize("batchnorm", ["running", "reestimated"])
def test_a_member_answers_as_its_child_was_scored(tmp_path: Path, batchnorm: str) -> None:
    raw = raw_study(tmp_path, {**ENTRIES[1], "members": 2})
    raw["children"]["batchnorm"] = batchnorm
    plan, store = expand(raw), Store(tmp_path / "results")
    spec = plan.ensembles[0].spec
    assert stages.train_ensemble(plan, store, spec.id)
    records = [store.read_child(child) for child in spec.children]
    children = [record["result"] for record in records]
    assert all(child["accuracy"] != child["accuracy_bn"] for child in children) == (batchnorm == "running")
    curves = [record["history"][-1]["validation_accuracy"] for record in records]  # of re-estimated statistics
    assert batchnorm == "running" or [child["validation_accuracy"] for child in children] == curves
    result = store.read_ensemble(spec)["result"]
    assert result["member_nll"] == pytest.approx([child["nll"] for child in children], abs=1e-3)  # kept as fp16


@pytest.mark.parametrize("name", ["snapshot", "fge"])
def test_members_along_a_schedule_are_the_weights_after_their_epochs(tmp_path: Path, name: str) -> None:
    settings, entry, _, _ = PEERS[name]
    raw = raw_study(tmp_path, {"name": name, "parents": "small", **entry})
    raw["parents"]["small"] |= {**settings, "epochs": 6}
    plan, store = expand(raw), Store(tmp_path / "results")
    spec = plan.ensembles[0].spec
    assert stages.train_ensemble(plan, store, spec.id)
    kept = read_tensors(store.ensemble_logits(spec.id))[0]["test"].float()
    content = parent.content_of(spec.parents[0], plan.data_root, CPU)
    network = parent.untrained(spec.parents[0], content)
    wrapped = Subnetwork(network, Mask({}), laws.OneShot())
    training = Training(wrapped, content, spec.parents[0].recipe, derive("parent", spec.seed))
    found = []
    for epoch in range(1, 7):
        training.run_epoch()
        if epoch in {"snapshot": (2, 4, 6), "fge": (2, 3, 5)}[name]:
            found.append(scoring.logits(network, content.test, content))
    assert torch.allclose(kept, torch.stack(found), atol=0.01, rtol=0.001)
    assert not torch.allclose(kept[0], kept[2], atol=0.01, rtol=0.001)


def test_members_that_rewind_find_the_weights_that_they_go_back_to(tmp_path: Path) -> None:
    plan = expand(raw_study(tmp_path, {**ENTRIES[0], "members": 2, "tuning": "weight-rewinding"}))
    store, spec = Store(tmp_path / "results"), plan.ensembles[0].spec
    assert plan.start_epochs_of(spec.parents[0].id) == {1}
    assert stages.train_ensemble(plan, store, spec.id)


@pytest.mark.parametrize("lost", ["weights", "record"])
def test_a_member_that_lost_its_weights_or_its_record_is_trained_again(tmp_path: Path, lost: str) -> None:
    plan, store = expand(raw_study(tmp_path, {**ENTRIES[0], "members": 2})), Store(tmp_path / "results")
    spec = plan.ensembles[0].spec

    class AfterOne(Deadline):
        def passed(self, needed: float = 0.0) -> bool:
            return len(store.recorded_children(spec.parents[0].id)) >= 1

    assert not stages.train_ensemble(plan, store, spec.id, AfterOne())
    if lost == "weights":
        store.member(spec.children[0]).write_bytes(b"cut off")
    else:
        shutil.rmtree(store.records(spec.parents[0].id).folder)
    store = Store(store.root)
    assert stages.train_ensemble(plan, store, spec.id)
    assert store.recorded_children(spec.parents[0].id) == {child.id for child in spec.children}


def test_a_finished_ensemble_is_not_made_again(made: tuple[study.Study, Store]) -> None:
    plan, store = made
    path = store.ensemble_record(named(plan, "pairs").id)
    before = path.stat().st_mtime_ns
    assert stages.train_ensemble(plan, store, named(plan, "pairs").id)
    assert path.stat().st_mtime_ns == before
    path.write_bytes(path.read_bytes().replace(b"prune", b"prone", 1))
    with pytest.raises(UserError, match="is damaged"):
        stages.train_ensemble(plan, store, named(plan, "pairs").id)
    path.unlink()
    assert stages.train_ensemble(plan, store, named(plan, "pairs").id)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": "prune-and-tine"}, "ensembles\\[0\\].method: 'prune-and-tine' is not allowed"),
        ({"parents": "large"}, "parents: 'large' is not allowed; allowed: small"),
        ({"masks": "partition"}, "sparsity: 50 is not allowed; allowed: 75"),
        ({"epocs": 3}, "unknown key 'epocs'; did you mean 'epochs'"),
        ({"criterion": "magnitude"}, "unknown key 'criterion'"),
        ({"tuning": "warm"}, "method: 'warm' is not allowed"),
        ({"method": "independent"}, "unknown key 'masks'"),
        ({"members": 0}, "members: 0 is not allowed; allowed: int, at least 1"),
        ({"masks": "partition", "members": 3, "sparsity": 70}, "sparsity: 70 is not allowed; allowed: 66.67"),
        ({"lr": [0.1, 0.2]}, "lr: \\[0.1, 0.2\\] is not allowed; allowed: one value"),
    ],
)
def test_a_mistake_in_an_entry_is_one_clear_line(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        expand(raw_study(tmp_path, {**ENTRIES[0], **change}))
    assert "\n" not in str(error.value)


def test_corrupted_images_of_another_data_set_are_refused_before_training(tmp_path: Path) -> None:
    raw = {**raw_study(tmp_path, ENTRIES[0]), "corruptions": {"set": "all-19"}}
    with pytest.raises(UserError, match=r"corruptions\.set: 'all-19' is not allowed; allowed for digits: digits-6$"):
        expand(raw)


def test_names_and_ensembles_are_there_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name: 'pairs' is there twice"):
        expand(raw_study(tmp_path, ENTRIES[0], ENTRIES[0]))
    with pytest.raises(UserError, match="the same ensemble as 'pairs'"):
        expand(raw_study(tmp_path, ENTRIES[0], {**ENTRIES[0], "name": "again"}))


def test_peers_need_a_parent_of_their_kind(tmp_path: Path) -> None:
    for method, says in (
        ("snapshot", "lr_schedule: cosine-cycles"),
        ("mc-dropout", "model_options with dropout"),
        ("mimo", "model_options with mimo"),
    ):
        entry = {"name": "x", "method": method, "parents": "small", **({"samples": 3} if "mc" in method else {})}
        with pytest.raises(UserError, match=says):
            expand(raw_study(tmp_path, entry))
    with pytest.raises(UserError, match="samples: 1 is not allowed; allowed: int, at least 2"):
        expand(raw_study(tmp_path, {"name": "x", "method": "mc-dropout", "parents": "small"}))


def test_ids_of_ensembles_depend_on_all_that_decides_them(tmp_path: Path) -> None:
    base = raw_study(tmp_path, ENTRIES[0])
    ids = {expand(base).ensembles[0].spec.id}
    for change in ({"members": 2}, {"masks": "random"}, {"tuning": "temperature"}, {"epochs": 2}):
        ids.add(expand(raw_study(tmp_path, {**ENTRIES[0], **change})).ensembles[0].spec.id)
    ids.add(expand({**base, "corruptions": {"set": "digits-6"}}).ensembles[0].spec.id)
    assert len(ids) == 6
    assert expand(raw_study(tmp_path, {**ENTRIES[0], "name": "other"})).ensembles[0].spec.id in ids


def test_prunable_weights_are_what_a_partition_covers() -> None:
    model = models.build("lenet-s", {}, 3, 10, 32, 0)
    assert set(partition(model, 2, 0)) == set(prunable(model))


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_trained_by_the_engine_and_scored_as_an_ensemble(tmp_path: Path, name: str) -> None:
    settings, entry, members, passes = PEERS[name]
    raw = copy.deepcopy(TINY)
    raw["datasets"]["bags"] = {"source": "digits", "train": 60, "validation": 40, "bag": 0.9}
    base = {**raw["parents"]["small"], "seeds": [0], "epochs": 6}
    options = {**base["model_options"], **settings.get("options", {})}
    changed = {key: value for key, value in settings.items() if key != "options"}
    raw["parents"]["peer"] = {**base, **changed, "model_options": options}
    raw["ensembles"] = [{"name": name, "parents": "peer", **entry}]
    plan, store = study.expand(raw, Path("tiny.yaml")), Store(tmp_path)
    assert stages.run(plan, store, None, Deadline(), ["peer"]) == 0
    result = store.read_ensemble(plan.ensembles[0].spec)["result"]
    assert result["members"] == members
    assert result["cost"]["forward_passes"] == passes
    trained = [store.read_parent(one)["spec"]["recipe"]["epochs"] for one in plan.ensembles[0].spec.parents]
    assert result["cost"]["epochs"] == sum(trained) == 6 * (2 if name == "bagged" else 1)
    # Two bags of nine tenths of 60 images; two repetitions of MIMO's batch; else as often as a prediction asks.
    shown = {"bagged": 2 * 54, "mimo": 2 * 60}.get(name, 60)
    trunk = plan.ensembles[0].spec.parents[0]
    network = parent.untrained(trunk, parent.content_of(trunk, plan.data_root, CPU))
    once = ensemble_cost.forward_flops(network, torch.Size((1, 8, 8)))
    assert result["cost"]["dense_flops"] == pytest.approx(ensemble_cost.PASSES * 6 * shown * once)
    assert result["diversity"]["disagreement"] > 0
    assert all(result["member_finite"])


def test_an_ensemble_is_a_run_in_wandb_with_its_settings_and_scores(made: tuple[study.Study, Store]) -> None:
    plan, store = made
    one = next(one for one in plan.ensembles if one.name == "pairs, annealed")
    run = of_ensemble(plan, one, store.read_ensemble(one.spec))
    assert (run.name, run.job_type, run.group) == (one.spec.id, "ensemble", "resnet-small-digits/pairs, annealed")
    assert run.tags == ("tiny", "digits", "resnet-small", "prune-and-tune", "temperature")
    assert run.config["masks"] == "anti-random"
    assert run.config["tau"] == 0.5
    assert run.config["spec"]["members"][0]["run"] == one.spec.members[0].run.id
    assert (
        run.summary["accuracy"] == store.read_ensemble(one.spec)["result"]["conventions"]["probabilities"]["accuracy"]
    )
    assert {"masked_flops", "disagreement", "corrupted_nll", "device"} <= set(run.summary)
    assert not set(run.config) & set(run.summary)
    assert (run.config["lr_schedule"], run.step) == (one.spec.children[0].recipe.lr_schedule, "size")
    assert [row["size"] for row in run.history] == list(range(1, run.config["members"] + 1))
    assert run.history[-1]["accuracy"] == run.summary["accuracy"]


def test_ensembles_are_recorded_added_once_and_withdrawn(tmp_path: Path) -> None:
    raw, folder = raw_study(tmp_path, ENTRIES[0]), tmp_path / "recorded"
    raw["parents"]["small"]["seeds"] = [0, 1]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    plan, store = study.load(path), Store(tmp_path / "results")
    assert stages.run(plan, store, [0], Deadline()) == 0
    store.ensemble_record(plan.ensembles[0].spec.id).rename(tmp_path / "aside.json")
    assert recorded.add(plan, store, folder, "by hand") == (1, 0, 0)
    (tmp_path / "aside.json").rename(store.ensemble_record(plan.ensembles[0].spec.id))
    table = (folder / "parents.csv").read_text(encoding="utf-8")
    other = pd.read_csv(folder / "parents.csv").assign(nll=lambda rows: rows.nll * 1.001)
    other.to_csv(folder / "parents.csv", index=False)  # as if another machine had trained the parent
    with pytest.raises(UserError, match=r"is another network than the one recorded in .*/recorded"):
        recorded.add(plan, store, folder, "its ensemble, elsewhere")
    (folder / "parents.csv").write_text(table, encoding="utf-8")
    assert recorded.add(plan, store, folder, "its ensemble, later") == (0, 1, 0)
    assert stages.run(plan, store, [1], Deadline()) == 0
    assert recorded.add(plan, store, folder, "the other") == (1, 1, 0)
    assert recorded.add(plan, store, folder, "again") == (0, 0, 0)
    rows = pd.read_csv(folder / "ensembles.csv")
    aggregate.aggregate(plan, store)
    pd.testing.assert_frame_equal(rows, pd.read_csv(store.study_folder("tiny") / "ensembles.csv"))
    recorded.withdraw(folder, [plan.ensembles[0].spec.parents[0].id], "a wrong seed")
    assert list(pd.read_csv(folder / "ensembles.csv").seed) == [1]
    assert list(pd.read_csv(folder / "withdrawn_ensembles.csv").reason) == ["a wrong seed"]
    assert recorded.add(plan, store, folder, "again") == (0, 0, 0)


def test_a_record_whose_last_ensemble_was_withdrawn_has_no_tables_of_ensembles(tmp_path: Path) -> None:
    raw, folder = raw_study(tmp_path, ENTRIES[0]), tmp_path / "recorded"
    raw["parents"]["small"]["seeds"] = [0, 1]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    plan, store = study.load(tmp_path / "tiny.yaml"), Store(tmp_path / "results")
    assert stages.run(plan, store, [0, 1], Deadline()) == 0
    first, second = plan.ensembles
    store.ensemble_record(second.spec.id).unlink()
    assert recorded.add(plan, store, folder, "all but an ensemble") == (2, 1, 0)
    assert Record(folder).ensembles is not None
    recorded.withdraw(folder, [first.spec.parents[0].id], "a wrong seed")
    assert Record(folder).ensembles is None
    assert not [name for name in TABLES if (folder / f"{name}.csv").exists()]
    assert json.loads((folder / "study.json").read_text(encoding="utf-8"))["counts"]["ensembles"] == 0


def test_what_is_added_without_ensembles_leaves_the_recorded_ones_and_none_is_added_to_what_was_withdrawn(
    tmp_path: Path,
) -> None:
    raw, folder = raw_study(tmp_path, ENTRIES[0]), tmp_path / "recorded"
    raw["parents"]["small"]["seeds"] = [0, 1]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    plan, store = study.load(tmp_path / "tiny.yaml"), Store(tmp_path / "results")
    assert stages.run(plan, store, [0, 1], Deadline()) == 0
    late = store.ensemble_record(plan.ensembles[1].spec.id)
    late.rename(tmp_path / "aside.json")
    assert stages.run(plan, store, [0], Deadline()) == 0
    second = store.parent_record(plan.ensembles[1].spec.parents[0].id)
    second.rename(tmp_path / "second.json")
    assert recorded.add(plan, store, folder, "the first") == (1, 1, 0)
    (tmp_path / "second.json").rename(second)
    assert recorded.add(plan, store, folder, "the second, without its ensemble") == (1, 0, 0)
    assert json.loads((folder / "study.json").read_text(encoding="utf-8"))["counts"]["ensembles"] == 1
    recorded.withdraw(folder, [second.parent.name], "a wrong seed")
    (tmp_path / "aside.json").rename(late)
    assert recorded.add(plan, store, folder, "its ensemble") == (0, 0, 0)
