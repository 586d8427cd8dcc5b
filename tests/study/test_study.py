"""Studies: what they expand to, what they refuse, and ids that must never change."""

from __future__ import annotations

import copy
import dataclasses
import functools
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from studies import change, expand

from ssa.errors import UserError
from ssa.results import aggregate
from ssa.specs import yaml_files
from ssa.specs.specs import SEMANTICS, ChildSpec, DataSpec, MaskSpec, ParentSpec, Recipe
from ssa.study import study
from ssa.study.blocks import ChildSettings
from ssa.study.ensembles import CorruptionSettings, EnsembleSettings
from ssa.study.study import ParentSettings
from ssa.workflow.options import Options
from ssa.workflow.size import in_one_line

PATH = Path("tiny.yaml")
PERMITS = {"duplicates"}  # let something through or not, and are in no id


def test_ids_are_pinned() -> None:
    """An id names a result for good. Where this fails, results would be lost or silently reused: raise SEMANTICS."""
    parent = ParentSpec(DataSpec("cifar10"), "resnet18", (), Recipe(epochs=100, lr_schedule="step-linear"), 0)
    child = ChildSpec(
        parent=parent,
        mask=MaskSpec("random", "connections", "layerwise", "pruned", 98.0, 0),
        start="trained",
        method="temperature",
        law="TemperatureAnnealing",
        law_args=(("epochs", 5.0), ("expected", False), ("schedule", "linear"), ("scope", "pruned"), ("tau", 0.5)),
        pruned_weights="train",
        masked_weights="update",
        rescale=False,
        resample="step",
        batchnorm="running",
        bn_images=2048,
        score_epochs=None,
        recipe=Recipe(epochs=20),
        seed=0,
    )
    assert SEMANTICS == 2
    assert parent.id == "resnet18-cifar10-s0-221708a4ba"
    assert child.id == "random-98-temperature-tau0.5-e5-linear-one-cycle-E20-s0-45ecb9fcfe"


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 3
    return (("other", 1.0),) if isinstance(value, tuple) and value and isinstance(value[0], tuple) else "other"


@pytest.mark.parametrize("path", ["", "mask", "recipe", "parent", "parent.data", "parent.recipe"])
def test_an_id_follows_every_field_of_a_specification(tiny: dict[str, Any], path: str) -> None:
    child = next(one.spec for one in expand(tiny).children if one.spec.method == "temperature")

    def changed(holder: Any, keys: list[str], field: str) -> Any:
        if keys:
            return dataclasses.replace(holder, **{keys[0]: changed(getattr(holder, keys[0]), keys[1:], field)})
        value = getattr(holder, field)
        return dataclasses.replace(holder, **{field: (9,) if field == "score_epochs" else other(value)})

    keys = path.split(".") if path else []
    holder = functools.reduce(getattr, keys, child)
    plain = [one.name for one in dataclasses.fields(holder) if not dataclasses.is_dataclass(getattr(holder, one.name))]
    assert len(plain) >= 5
    for field in plain:
        assert (changed(child, keys, field).id == child.id) is (field in PERMITS), field


def test_what_is_chosen_on_validation_images_needs_some(tiny: dict[str, Any]) -> None:
    next(iter(tiny["datasets"].values()))["validation"] = 0
    expand(copy.deepcopy(tiny))
    for more, named in (
        ({"findings": ["controls", "lengths"]}, "findings: lengths"),
        ({"claims": {"C1": {"tuned": True}}}, "claims.C1.tuned"),
        ({"claims": {"C1": {"exploratory": [{"tuned": True}]}}}, r"claims.C1.exploratory\[0\].tuned"),
    ):
        with pytest.raises(UserError, match=f"{named} chooses on validation images, and parents 'small' have none"):
            expand({**copy.deepcopy(tiny), **more})


def test_an_id_follows_every_setting_but_the_methods_name(tiny: dict[str, Any]) -> None:
    base = {child.spec.id for child in expand(copy.deepcopy(tiny)).children}
    changes: list[tuple[str, str, Any]] = [
        ("children", "lr", 0.2),
        ("children", "cycle_momentum", False),
        ("children", "masked_weights", "freeze"),
        ("children", "bn_images", 61),
        ("parents", "weight_decay", 0.0),
        ("datasets", "validation", 41),
    ]
    for section, key, value in changes:
        raw = copy.deepcopy(tiny)
        target = raw[section] if section == "children" else next(iter(raw[section].values()))
        target[key] = value
        assert not base & {child.spec.id for child in expand(raw).children}, key
    renamed = copy.deepcopy(tiny)
    renamed["methods"] = {"mine": {"law": "TemperatureAnnealing"}}
    renamed["blocks"][1]["method"] = ["one-shot", "mine"]
    hashes = {child.spec.id[-10:] for child in expand(renamed).children}
    assert hashes == {child_id[-10:] for child_id in base}


def test_a_grid_is_its_product_and_settings_that_do_not_matter_collapse(tiny: dict[str, Any]) -> None:
    tiny["blocks"][1] |= {"tau": [0.3, 0.5], "method": ["one-shot", "temperature"], "sparsity": [50, 80]}
    plan = expand(tiny)
    # per parent: 1 dense, 2 one-shot, 2 x 2 temperature
    assert len(plan.children) == 2 * (1 + 2 + 4)
    assert [child.reference for child in plan.children if child.spec.method == "temperature"].count(
        True
    ) == 0  # e = E/2
    tiny["children"]["anneal_epochs"] = 0.5
    plan = expand(tiny)
    assert [child.reference for child in plan.children if child.spec.method == "temperature"].count(True) == 4


def test_exclude_takes_combinations_out(tiny: dict[str, Any]) -> None:
    tiny["blocks"][1] |= {"tau": [0.3, 0.5], "method": "temperature", "exclude": [{"tau": 0.3, "sparsity": 50}]}
    assert len(expand(tiny).children) == 2 * (1 + 3)


def test_iterative_reranks_magnitude_masks_and_its_control_keeps_them(tiny: dict[str, Any]) -> None:
    tiny["blocks"][1] |= {"method": ["iterative", "iterative-fixed"], "criterion": ["random", "magnitude"]}
    tiny["blocks"][1]["exclude"] = [{"method": "iterative-fixed", "criterion": "random"}]
    orders = {(c.spec.method, c.spec.mask.criterion): dict(c.spec.law_args)["order"] for c in expand(tiny).children[2:]}
    assert orders == {
        ("iterative", "random"): "random",
        ("iterative", "magnitude"): "reranked",
        ("iterative-fixed", "magnitude"): "magnitude",
    }


def test_children_inherit_their_parents_way_of_training(tiny: dict[str, Any]) -> None:
    child = expand(tiny).children[0].spec
    assert (child.recipe.batch_size, child.recipe.augment) == (30, "none")
    assert (child.recipe.lr_schedule, child.recipe.lr) == ("one-cycle", 0.1)


ENSEMBLE = {"name": "pair", "method": "prune-and-tune", "parents": "small", "members": 2}


def long_law(raw: dict[str, Any]) -> None:
    raw["methods"] = {"mine": {"law": "TemperatureAnnealing", "args": {"epochs": 3}}}
    raw["blocks"][1]["method"] = "mine"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (change("blocks.1.sparsty", 50), "tiny.yaml: blocks[1]: unknown key 'sparsty'; did you mean 'sparsity'?"),
        (change("childen", {}), "tiny.yaml: unknown key 'childen'; did you mean 'children'?"),
        (change("parents.small.epoch", 3), "parents.small: unknown key 'epoch'; did you mean 'epochs'?"),
        (change("blocks.1.method", "ssa"), "blocks[1].method: 'ssa' is not allowed; allowed: dense, one-shot"),
        (change("blocks.1.sparsity", 100), "blocks[1].sparsity: 100 is not allowed; allowed: float in [0, 100)"),
        (change("blocks.1.sparsity", [50, -1]), "blocks[1].sparsity: -1 is not allowed"),
        (change("blocks.1.sparsity", "half"), "blocks[1].sparsity: 'half' is not allowed"),
        (change("blocks.1.anneal_epochs", 3), "blocks[1].anneal_epochs: 3 is not allowed; allowed: at most epochs, 2"),
        (change("blocks.1.sparsity", [50, 50]), "blocks[1].sparsity: [50, 50] names a value twice, a duplicate child"),
        (
            change("children.lr_schedule", "rewound"),
            "epochs: 2 is not allowed; allowed: fewer than the 2 epochs of the parent",
        ),
        (change("blocks.1.criterion", "none"), "blocks[1].criterion: 'none' is not allowed at sparsity 50"),
        (change("blocks.1.tau", 1.5), "blocks[1].tau: 1.5 is not allowed; allowed: float in [0, 1]"),
        (change("blocks.1.parents", "large"), "blocks[1].parents: 'large' is not allowed; allowed: small"),
        (change("children.epochs", 2.5), "children.epochs: 2.5 is not allowed; allowed: int, at least 1"),
        (change("children.epochs", True), "children.epochs: True is not allowed"),
        (
            change("parents.small.model", "resnet19"),
            "parents.small.model: 'resnet19' is not allowed; allowed: resnet-small",
        ),
        (change("parents.small.dataset", "mnist"), "parents.small.dataset: 'mnist' is not allowed; allowed: digits"),
        (change("parents.small.seeds", [1, 1]), "parents.small.seeds: [1, 1] is not allowed"),
        (change("parents.small.optimizer", "sdg"), "parents.small.optimizer: 'sdg' is not allowed; allowed: sgd, adam"),
        (change("datasets.digits.source", "svhn"), "datasets.digits.source: 'svhn' is not allowed; allowed: digits"),
        (change("provenance", {"tau": "me"}), "provenance.tau: 'me' is not allowed; allowed: paper, summary"),
        (change("provenance", {"tua": "paper"}), "provenance: unknown key 'tua'; did you mean 'tau'?"),
        (change("datasets", ["digits"]), "datasets: ['digits'] is not allowed; allowed: a mapping"),
        (change("datasets.digits", "digits"), "datasets.digits: 'digits' is not allowed; allowed: a mapping of source"),
        (change("parents.small", "resnet"), "parents.small: 'resnet' is not allowed; allowed: a mapping with dataset"),
        (change("parents.small.model_options", 8), "parents.small.model_options: 8 is not allowed; allowed: a mapping"),
        (change("children", ["lr"]), "children: ['lr'] is not allowed; allowed: a mapping"),
        (change("blocks", {"name": "main"}), "blocks: {'name': 'main'} is not allowed; allowed: a list"),
        (change("blocks.1.exclude", {"tau": 0.5}), "exclude: {'tau': 0.5} is not allowed; allowed: a list of mappings"),
        (change("blocks.1.exclude", ["tau"]), "exclude[0]: 'tau' is not allowed; allowed: a mapping of settings"),
        (change("methods", {"mine": None}), "methods.mine: None is not allowed; allowed: a mapping with law"),
        (change("methods", ["mine"]), "methods: ['mine'] is not allowed; allowed: a mapping"),
        (change("ensembles", 5), "ensembles: 5 is not allowed; allowed: a list"),
        (change("findings", "rates"), "findings: 'rates' is not allowed; allowed: a list, each once"),
        (change("device", "gpu"), "device: 'gpu' is not allowed; allowed: auto, cpu, cuda"),
        (change("name", "a/b"), "name: 'a/b' is not allowed"),
        (change("name", 61 * "a"), "is not allowed; allowed: letters, digits, - and _, at most 60"),
        (change("name", "members"), "name: 'members' is not allowed: results/members holds those of all studies"),
        (change("children_per_job", 0), "children_per_job: 0 is not allowed"),
        (change("claims", {"C99": {}}), "C99"),
        (change("methods", {"mine": {"law": "no.such.Law"}}), "methods.mine.law: law 'no.such.Law' cannot be imported"),
        (change("methods", {"mine": {"lwa": "OneShot"}}), "methods.mine: unknown key 'lwa'; did you mean 'law'?"),
        (change("methods", {"mine": {"law": 3}}), "methods.mine.law: missing; allowed: the name of a law"),
        (
            change("methods", {"mine": {"law": "..x.Law"}}),
            "methods.mine.law: law '..x.Law' cannot be imported: TypeError",
        ),
        (change("methods", {"mine": {"law": "Law"}}), "methods.mine.law: law 'Law' has no anneal() of its own"),
        (change("methods", {"mine": {"law": "OneShot", "args": [1]}}), "methods.mine.args: [1] is not allowed"),
        (change("methods", {"mine": {"law": "OneShot", "switches": 1}}), "methods.mine.switches: 1 is not allowed"),
        (
            change("methods", {"../mine": {"law": "OneShot"}}),
            "methods: '../mine' is not allowed as a name; allowed: text",
        ),
        (change("methods", {7: {"law": "OneShot"}}), "methods: 7 is not allowed as a name"),
        (change("datasets.5", {"source": "digits"}), "datasets: 5 is not allowed as a name"),
        (change("parents", {None: {}}), "parents: None is not allowed as a name"),
        (change("blocks.1.name", None), "blocks[1].name: None is not allowed as a name"),
        (change("methods", {"None": {"law": "OneShot"}}), "methods: 'None' is not allowed as a name; a table with it"),
        (change("blocks.1.name", "n/a"), "blocks[1].name: 'n/a' is not allowed as a name; a table with it"),
        (change("blocks.1.exclude", [{"lr": 0.1}]), "blocks[1].exclude[0]: unknown key 'lr'; allowed: "),
        (change("blocks.1.parent_seeds", []), "blocks[1].parent_seeds: None is not allowed; allowed: 0"),
        (change("blocks.1.parent_seeds", [[0]]), "blocks[1].parent_seeds: [0] is not allowed; allowed: 0"),
        (change("children.score_epochs", [-3, 1]), "children.score_epochs: [-3, 1] is not allowed"),
        (change("parents.small.seeds", [-1, 0]), "parents.small.seeds: [-1, 0] is not allowed"),
        (change("claims", {"confidence": 0.97, "looks": [0]}), "claims.looks: [0] is not allowed"),
        (change("claims", {"C1": {"baselines": None}}), "claims.C1.baselines: None is not allowed; allowed: a list"),
        (change("claims", {"C5": {"quoted": {}}}), "claims.C5.quoted: {} is not allowed; allowed: a mapping from"),
        (change("claims", {"C5": {"quoted": None}}), "claims.C5.quoted: None is not allowed; allowed: a mapping from"),
        (change("ensembles", [ENSEMBLE | {"seed": 5}]), "ensembles[0]: unknown key 'seed'; each member has its own"),
        (
            change("parents.small.model_options", {"width": date(2024, 1, 1)}),
            "model_options.width: datetime.date(2024, 1, 1) is not allowed; allowed: a value or",
        ),
        (change("blocks.1.name", 80), "blocks[1].name: 80 is not allowed as a name"),
        (change("blocks.1.name", "two\nlines"), "blocks[1].name: 'two\\nlines' is not allowed as a name"),
        (change("ensembles", [ENSEMBLE | {"name": "a\nb"}]), "ensembles[0].name: 'a\\nb' is not allowed as a name"),
        (change("ensembles", [ENSEMBLE | {"name": 3}]), "ensembles[0].name: 3 is not allowed"),
        (change("parents.small.model_options", {4: 2}), "model_options: 4 is not allowed as a name"),
        (change("title", 2026), "title: 2026 is not allowed; allowed: text"),
        (change("data_root", 5), "data_root: 5 is not allowed; allowed: text"),
        (change("demonstration", "yes"), "demonstration: 'yes' is not allowed; allowed: true or false"),
        (change("deviations", [{"of": "kind"}]), "deviations[0]: {'of': 'kind'} is not allowed; allowed: text"),
        (change("wandb", {"entity": "a\nb"}), "wandb.entity: 'a\\nb' is not allowed as a name"),
        (change("wandb", {"project": "a\nb"}), "wandb.project: 'a\\nb' is not allowed"),
        (change("blocks.1.sparsity", [50, 0.8]), "blocks[1].sparsity: 0.8 is below one percent; did you mean 80?"),
        (
            change("ensembles", [ENSEMBLE | {"sparsity": 0.5}]),
            "ensembles[0].sparsity: 0.5 is below one percent; did you mean 50?",
        ),
        (change("claims", {"C1": {"sparsities": [0.95]}}), "claims.C1.sparsities: [0.95] is not allowed"),
        (change("methods", {"one-shot": {"law": "OneShot"}}), "methods.one-shot: the method is known already"),
        (long_law, "methods.mine.args.epochs: 3 is not allowed; allowed: at most epochs, 2"),
        (
            change("parents.small.lr_schedule", "rewound"),
            "parents.small.lr_schedule: 'rewound' is not allowed; a parent",
        ),
        (
            change("parents.small.model_options", {"width": {}}),
            "model_options.width: {} is not allowed",
        ),
        (change("blocks.1.parents", {}), "blocks[1].parents: {} is not allowed; allowed: small"),
        (change("findings", [[1]]), "findings: [1] is not allowed; allowed: a list, each once"),
        (
            lambda raw: raw["blocks"].append({**raw["blocks"][1], "name": "again"}),
            "blocks[2]: duplicate child random-50",
        ),
        (
            change("blocks.1.masked_weights", ["update", "freeze"]),
            "differ only in settings that the tables do not show",
        ),
        (
            change("blocks.1.augment", ["autoaugment", "crop-flip"]),
            "differ only in settings that the tables do not show",
        ),
        (lambda raw: raw.pop("blocks"), "blocks: missing"),
        (lambda raw: raw["children"].pop("epochs"), "blocks[0].epochs: missing"),
    ],
)
def test_bad_studies_are_refused_in_one_line(tiny: dict[str, Any], broken: Any, message: str) -> None:
    broken(tiny)
    with pytest.raises(UserError) as caught:
        expand(tiny)
    assert message in str(caught.value)
    assert str(caught.value).startswith("tiny.yaml")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"study .*none.yaml does not exist"):
        study.load(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("name: [unclosed", encoding="utf-8")
    with pytest.raises(UserError, match=r"bad.yaml: not valid YAML"):
        study.load(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"bad.yaml: not valid YAML"):
        study.load(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_text("name: a\nblocks: []\nblocks: []", encoding="utf-8")
    with pytest.raises(UserError, match=r"bad.yaml: not valid YAML: key 'blocks' stands twice .* line 3"):
        study.load(tmp_path / "bad.yaml")


def test_what_is_left_empty_is_as_if_it_were_not_there(tiny: dict[str, Any]) -> None:
    tiny |= {"data_root": None, "title": None, "question": None}
    assert expand(tiny).data_root == Path("data")
    assert {aggregate.resolved(expand(tiny), {})[key] for key in ("title", "question", "regime")} == {""}
    assert "demonstration" not in aggregate.resolved(expand(tiny), {})
    assert aggregate.resolved(expand({**tiny, "demonstration": True}), {})["demonstration"] is True


def test_words_and_numbers_are_read_as_they_are_meant(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(
        "a: off\nb: no\nc: true\nd: 1e-3\ne: -2.5e4\nf: .5\ng: 12\nh: {<<: &x {i: 1}, i: 2}\nj: 1.2.3\n"
        "k: 010\nl: 1:30\nm: 1_0\nn: -3\no: 0x1F\np: [0, 1:20]",
        encoding="utf-8",
    )
    assert yaml_files.load(path) == {
        **{"a": "off", "b": "no", "c": True, "d": 0.001, "e": -25000.0, "f": 0.5, "g": 12, "h": {"i": 2}, "j": "1.2.3"},
        **{"k": "010", "l": "1:30", "m": "1_0", "n": -3, "o": "0x1F", "p": [0, "1:20"]},  # not 8, 90, 10, 31 and 80
    }
    for shipped in (ROOT / "config").glob("*.yaml"):  # as any other reader of YAML reads them
        assert yaml_files.load(shipped) == yaml.safe_load(shipped.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_that_ships_is_valid_and_says_its_size(path: Path) -> None:
    loaded = study.load(path)
    assert f"study {path.stem}: {len(loaded.all_parents())} parents" in in_one_line(loaded, 2)
    assert len({child.spec.id for child in loaded.children}) == len(loaded.children)


def test_reading_a_study_needs_neither_torch_nor_snakemake_nor_wandb() -> None:
    code = (
        "import sys; from pathlib import Path; from ssa.study import study; from ssa.workflow import size;"
        f"size.in_one_line(study.load(Path({str(ROOT / 'config' / 'demo.yaml')!r})), 2);"
        "bad = {'torch', 'snakemake', 'wandb', 'timm', 'matplotlib', 'scipy'} & set(sys.modules); assert not bad, bad;"
        # Records are read beside training, by the process that logs them to W&B among others.
        "import ssa.results.aggregate, ssa.tracking.tracker; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.slow
def test_the_package_imports_without_snakemake_and_wandb() -> None:
    code = (
        "import sys; sys.modules['snakemake'] = sys.modules['wandb'] = None;"
        "import pkgutil, importlib, ssa;"
        "[importlib.import_module(m.name) for m in pkgutil.walk_packages(ssa.__path__, 'ssa.') if 'main' not in m.name]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_study_files_are_plain_yaml(tiny: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny), encoding="utf-8")
    assert [child.spec.id for child in study.load(path).children] == [child.spec.id for child in expand(tiny).children]


def test_a_timm_models_id_is_one_folders_name() -> None:
    parent = ParentSpec(DataSpec("cifar10"), "timm/resnet18", (), Recipe(epochs=1), 0)
    assert parent.id.startswith("timm-resnet18-cifar10-s0-")


def test_networks_that_are_others_now_have_other_ids_and_all_others_keep_theirs() -> None:
    """An id hashes a network's name; what was trained as the name's first version is not taken for its second."""
    for name, version in (("resnet18", 2), ("resnet18-maxpool", 2), ("wrn-28-10", 2), ("vit", 1), ("lenet-l", 1)):
        spec = ParentSpec(DataSpec("cifar10"), name, (), Recipe(epochs=1), 0)
        raw = {"name": "own", "datasets": {"c": {"source": "cifar10"}}, "parents": {}, "blocks": [{}]}
        raw["parents"] = {"p": {"dataset": "c", "model": name, "seeds": [0], "epochs": 1}}
        raw["blocks"] = [{"name": "b", "parents": "p", "method": "dense", "epochs": 1}]
        (now,) = study.expand(raw, Path("own.yaml")).parents["p"]
        assert now.model_version == version
        assert (now.id == spec.id) == (version == 1)


def test_a_block_may_be_for_some_of_its_parents(tiny: dict[str, Any]) -> None:
    tiny["blocks"][1]["parent_seeds"] = [1]
    by_seed = {child.spec.parent.seed for child in expand(tiny).children if child.block == "main"}
    assert by_seed == {1}
    tiny["blocks"][1]["parent_seeds"] = [7]
    with pytest.raises(UserError, match=r"blocks\[1\].parent_seeds: 7 is not allowed; allowed: 0, 1"):
        expand(tiny)


@pytest.mark.parametrize(
    "kind", [DataSpec, Recipe, ParentSettings, ChildSettings, EnsembleSettings, CorruptionSettings, Options]
)
def test_every_setting_of_the_documentation_has_a_meaning(kind: type) -> None:
    assert [field.name for field in dataclasses.fields(kind) if not field.metadata["meaning"]] == []
