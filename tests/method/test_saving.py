"""Saved subnetworks: small, exact, and refused where damaged or another's; sparsity reports; ONNX."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from ssa.files import write_tensors
from ssa.method.laws import Iterative, OneShot, TemperatureAnnealing
from ssa.method.masks import Mask
from ssa.method.pruning import prune
from ssa.method.saving import load, save
from ssa.method.sparsity import Report, Row, sparsity
from ssa.method.subnetwork import Subnetwork
from ssa.training.models import build


def net(seed: int = 0, width: int = 8) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 6, 3, bias=False), nn.BatchNorm2d(6),
        nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 5),
    )  # fmt: skip


def trained(structure: str = "connections", fraction: float = 0.6) -> Subnetwork:
    model = net()
    mask = prune(model, fraction, structure=structure, example=torch.zeros(1, 3, 8, 8))
    child = Subnetwork(model, mask, Iterative(epochs=1, order="reranked"))
    optimizer = torch.optim.SGD(child.parameters(), 0.1)
    for t in (0.0, 0.5, 1.0):
        child.at(t)
        optimizer.zero_grad()
        child(torch.randn(4, 3, 8, 8)).square().mean().backward()
        optimizer.step()
    return child


def same(first: nn.Module, second: nn.Module) -> bool:
    """Equal bit for bit, the signs of zeros included."""
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(
        torch.equal(one[name].reshape(-1).view(torch.uint8), two[name].reshape(-1).view(torch.uint8)) for name in one
    )


@pytest.mark.parametrize("structure", ["connections", "neurons"])
def test_a_saved_child_loads_as_its_fold(structure: str, tmp_path: Path) -> None:
    child = trained(structure)
    save(child, tmp_path / "child.safetensors")
    model = net(seed=1)
    assert not same(model, child.fold())
    assert load(tmp_path / "child.safetensors", model) is model
    assert same(model, child.fold())


def test_the_file_of_a_resnet18_at_95_is_an_eleventh_of_the_dense_one(tmp_path: Path) -> None:
    model = build("resnet18", {}, 3, 10, 32, seed=0)
    child = Subnetwork(model, prune(model, 0.95), OneShot())
    save(child, tmp_path / "child.safetensors")
    write_tensors(tmp_path / "dense.safetensors", model.state_dict(), {})
    dense = (tmp_path / "dense.safetensors").stat().st_size
    assert dense > 4 * sum(p.numel() for p in model.parameters())
    assert 11 * (tmp_path / "child.safetensors").stat().st_size <= dense
    assert same(load(tmp_path / "child.safetensors", build("resnet18", {}, 3, 10, 32, seed=1)), child.fold())


def test_types_and_memory_formats_stay(tmp_path: Path) -> None:
    model = net().to(torch.bfloat16).to(memory_format=torch.channels_last)
    child = Subnetwork(model, prune(model, 0.6), OneShot())
    save(child, str(tmp_path / "child.safetensors"))
    loaded = load(str(tmp_path / "child.safetensors"), net(1).to(torch.bfloat16).to(memory_format=torch.channels_last))
    assert same(loaded, child.fold())
    assert loaded[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_an_empty_mask_is_the_dense_model(tmp_path: Path) -> None:
    child = Subnetwork(net(), Mask({}), OneShot())
    save(child, tmp_path / "child.safetensors")
    assert same(load(tmp_path / "child.safetensors", net(1)), net())


def refusal(path: Path, model: nn.Module) -> str:
    """The message with which loading ``path`` is refused, after checking that ``model`` stayed as it was."""
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match=str(path)) as caught:
        load(path, model)
    assert same(model, before)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_any_flipped_bit_and_any_truncation_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    whole, path = tmp_path / "whole.safetensors", tmp_path / "damaged.safetensors"
    save(Subnetwork(copy.deepcopy(model), prune(model, 0.5), OneShot()), whole)
    data = whole.read_bytes()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"damage|not written"):
            load(path, model)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="damage"):
            load(path, model)
    load(whole, model)


def test_what_another_model_or_program_wrote_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "child.safetensors"
    save(trained(), path)
    assert "'0.weight' has shape" in refusal(path, net(width=9))
    assert "'7.bias' is in only one of the two" in refusal(path, net()[:7])
    assert "'8.bias' is in only one of the two" in refusal(path, nn.Sequential(*net(), nn.Linear(5, 5)))
    assert "another shape or type" in refusal(path, net().double())
    narrow = net()
    narrow[7] = nn.Linear(6 * 16, 4)
    assert "'7.weight' has another shape" in refusal(path, narrow)
    save(trained("neurons"), path)
    wide = net()
    wide[0] = nn.Conv2d(4, 8, 3)
    assert "'0.weight' has another shape" in refusal(path, wide)
    write_tensors(path, net().state_dict(), {})
    assert "was not written by ssa.save" in refusal(path, net())
    path.write_text("no tensors", encoding="utf-8")
    assert "no safetensors file" in refusal(path, net())


def test_exchanged_arguments_and_missing_files_are_named_in_one_line(tmp_path: Path) -> None:
    path, model = tmp_path / "child.safetensors", net()
    for wrong in (path, tmp_path):
        with pytest.raises(FileNotFoundError, match=f"^{wrong} is no file; name one that ssa.save wrote$"):
            load(wrong, model)
    save(trained(), path)
    with pytest.raises(TypeError, match=r"^a \w*Path is no model; .* ssa\.load\(path, model\)$"):
        load(model, path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^a \w*Path is no model; .* ssa\.save\(child, path\)$"):
        save(path, trained())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^a NoneType is no path of a file; .* ssa\.load\(path, model\)$"):
        load(None, model)  # type: ignore[arg-type]


def test_a_failed_save_leaves_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child, path = trained(), tmp_path / "child.safetensors"
    save(child, path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        save(child, path)
    assert path.read_bytes() == before


def test_state_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> str:
            return "more"

    model = nn.Sequential(nn.Linear(3, 4), Extra(4, 2))
    child = Subnetwork(model, prune(model, 0.5), OneShot())
    with pytest.raises(ValueError, match=r"'1\._extra_state' of the module's state is no tensor"):
        save(child, tmp_path / "child.safetensors")


def test_the_report_counts_zeros_of_a_model_and_the_mask_of_a_child() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 2))
    assert sparsity(model) == Report((Row("0.weight", 12, 0), Row("1.weight", 20, 0)))
    child = Subnetwork(model, prune(model, 0.75), TemperatureAnnealing(epochs=1))
    report = sparsity(child)  # round(0.75 * 12) + round(0.75 * 20) = 9 + 15 of 32
    assert report == Report((Row("0.weight", 12, 9), Row("1.weight", 20, 15)))
    assert report == sparsity(child.fold())
    assert (report.overall, report.sparsity) == (Row("all", 32, 24), 0.75)
    assert report.rows[0].sparsity == 0.75
    assert sparsity(child.fold(), select="2") == Report((Row("2.weight", 10, 0),))
    assert sparsity(Subnetwork(child.remove(), Mask({}), OneShot())).sparsity == 0
    assert str(report).splitlines() == [
        "weight          total        zeros  sparsity",
        "0.weight           12            9    75.00%",
        "1.weight           20           15    75.00%",
        "all                32           24    75.00%",
        "23.81% of all matrix weights are not selected: 2.weight (classifier)",  # 10 of 42
    ]


def test_a_pruned_neuron_counts_with_its_whole_row_and_without_its_batchnorm() -> None:
    model = net()
    child = Subnetwork(model, prune(model, 0.5, structure="neurons", example=torch.zeros(1, 3, 8, 8)), OneShot())
    assert sparsity(child) == Report((Row("0.weight", 8 * 27, 4 * 27), Row("3.weight", 6 * 72, 3 * 72)))
    assert sparsity(child) == sparsity(child.fold())


def test_the_folded_model_runs_in_onnxruntime(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install onnx onnxruntime onnxscript")
    pytest.importorskip("onnxscript", reason="needs onnxscript: pip install onnx onnxruntime onnxscript")
    child = trained()
    plain, images, path = child.fold().eval(), torch.randn(4, 3, 8, 8), tmp_path / "child.onnx"
    torch.onnx.export(plain, (images,), path, dynamo=True, verbose=False)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        assert (torch.from_numpy(outputs) - child.eval()(images)).abs().max() <= 1e-5
