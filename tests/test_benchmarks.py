"""``make bench``: what it measures adds up, what misses a target is said, and a whole run writes one file."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY
from studies import expand
from torch.autograd import DeviceType
from torch.autograd.profiler_util import Interval

from benchmarks import __main__ as bench
from benchmarks import epochs, estimate, job, plain, profiling, scaling
from benchmarks.epochs import Case
from ssa.data import splits
from ssa.errors import UserError
from ssa.method.masks import Mask
from ssa.process import devices
from ssa.specs.specs import Recipe
from ssa.training import scoring
from ssa.training.loop import Training
from ssa.workflow import stages

CASE = Case("resnet-small", 8, 16)


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(epochs.OPTIONS, "resnet-small", {"width": 4, "stages": 1})


def test_every_law_is_measured_in_every_round() -> None:
    found = epochs.by_law(CASE, "fp32", 2)
    assert {name: len(seconds) for name, seconds in found.items()} == {"one-shot": 2, "temperature": 2, "random": 2}
    assert min(min(seconds) for seconds in found.values()) > 0


def test_ours_and_the_plain_way_train_on_the_device_that_studies_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what that sets: cuDNN's algorithms are deterministic, and not chosen by measuring, for both or for none."""
    asked: list[str] = []

    def choose(wanted: str, where: str) -> torch.device:
        asked.append(wanted)
        return torch.device("cpu")

    monkeypatch.setattr(devices, "choose", choose)
    epochs.ours(CASE, epochs.LAWS["one-shot"], "fp32")
    count = len(asked)
    images = plain.Images(np.zeros((8, 32, 32, 3), dtype=np.uint8), [0] * 8, None)
    plain.Plain(CASE.model(), Mask({}), images, CASE.recipe("fp32"), 0)
    assert 0 < count < len(asked)
    assert set(asked) == {"auto"}


def test_the_profile_adds_up_and_finds_the_convolutions_and_the_sampling() -> None:
    shares = profiling.shares(CASE, "fp32")
    assert list(shares) == list(profiling.KINDS)
    assert sum(shares.values()) == pytest.approx(1)
    wanted = ("sampling the mask", "batches, crops, normalisation", "optimiser", "convolutions and matrix products")
    assert min(shares[kind] for kind in wanted) > 0


def test_kernels_of_a_cuda_graph_are_told_apart_by_name_and_by_the_scope_around_them() -> None:
    """A scope of 10 us with a kernel of 2 in it, an optimiser's of 3, and in graphs 8, 4, 2 and 1 us."""
    events = [
        *(kernel("ssa: at", 0, 10), kernel("distribution_elementwise", 4, 6)),
        *(kernel("Optimizer.step#SGD.step", 20, 30), kernel("multi_tensor_apply", 20, 23)),
        *(kernel("sm90_xmma_fprop_implicit_gemm", 40, 48), kernel("triton_red_fused__native_batch_norm_mul_1", 50, 54)),
        *(kernel("triton_poi_fused_convolution_mul_2", 60, 62), kernel("triton_poi_fused_relu_3", 70, 71)),
    ]
    shares = {kind: 20 * share for kind, share in profiling._by_kind(events).items() if share}
    assert shares == pytest.approx(
        {
            "sampling the mask": 2,
            "optimiser": 3,
            "convolutions and matrix products": 8,
            "batch normalisation": 4,
            "weights times mask, forwards and back": 2,
            "other operations and Python": 1,
        }
    )


def kernel(name: str, start: int, end: int) -> SimpleNamespace:
    return SimpleNamespace(name=name, device_type=DeviceType.CUDA, time_range=Interval(start, end))


def test_multiply_accumulates_by_hand() -> None:
    """A 3x3 stem, a block of two 3x3 convolutions, all 4 channels on 32x32 pixels, and a classifier of 10."""
    assert epochs.macs(CASE) == 32 * 32 * 9 * (3 * 4 + 2 * 4 * 4) + 4 * 10


def test_an_estimated_step_by_hand() -> None:
    """300e9 FLOPs at 1e15 x 0.3 a second are 1 ms, 2e9 bytes at 2e12 x 0.5 are 2 ms, and 500 kernels are 1 ms."""
    assumed = estimate.Assumed(
        **{"teraflops": 1000, "reached": 0.3, "gigabytes": 2000, "streamed": 0.5, "passes": 4, "kernel": 2e-6},
        **{"launch": 1e-5, "step": 1e-3, "beside": 20},
    )
    one = estimate.Network(flops=1e9, bytes=5e6, kernels=500)
    assert estimate.seconds_of_step(one, 100, assumed) == pytest.approx((4e-3, 1.2e-3))
    training, _ = estimate.seconds_of_run(one, Recipe(epochs=2, batch_size=100), 1000, 0, assumed)
    assert training == pytest.approx(2 * 10 * 4e-3)
    assert estimate.seconds_of_step(one, 100, assumed.cautious()) == pytest.approx((7e-3, 2.4e-3))


def test_a_study_is_estimated_part_by_part() -> None:
    study = expand(copy.deepcopy(TINY) | {"datasets": {"digits": {"source": "cifar10"}}})
    found = estimate.parts(study, [], [0], estimate.Assumed())
    assert list(found) == [
        *("starting", "small: compiling", "small: 1 parents", "small: children, training", "small: children, scoring")
    ]
    assert min(found.values()) > 0


def test_a_job_trains_its_parent_then_its_children_and_says_where_the_time_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, name in ((Training, "run_epoch"), (scoring, "logits"), (scoring, "update_bn"), (splits, "_cifar")):
        monkeypatch.setattr(place, name, getattr(place, name))  # which puts back what a job replaces
    job.run(str(tmp_path), "resnet-small", 1, 0, 60)
    found = job.run(str(tmp_path), "resnet-small", 1, 2, 60)
    assert len(list((tmp_path / "children").rglob("*.jsonl"))) == 1
    assert min(found["training"], found["scoring"]) > 0
    assert found["memory"] > 0.05


@pytest.mark.slow
def test_children_at_once_and_the_plain_way_are_measured() -> None:
    together = epochs.at_once(CASE, "fp32", (1, 2), 2)
    assert {count: len(found) for count, found in together.items()} == {1: 2, 2: 2}
    fast, slow = epochs.against_plain(CASE, "fp32", 2, (0, 1))
    assert len(fast) == len(slow[0]) == len(slow[1]) == 2
    assert min(*fast, *slow[0], *slow[1]) > 0


@pytest.mark.slow
def test_aggregation_is_measured_on_as_many_rows_as_asked() -> None:
    seconds, gigabytes = scaling.aggregation(400)
    assert seconds > 0
    assert 0.01 < gigabytes < 2


def parts(value: float) -> dict[str, object]:
    def rows(quick: bool) -> Iterator[bench.Row]:
        yield bench.Row("cost", "net", "x", **bench.one(value), **bench.at_most(1.05, value))

    return {"one": rows, "two": rows}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.setattr(bench, "HERE", tmp_path)
    threads = torch.get_num_threads()

    def main(value: float, *options: str) -> int:
        monkeypatch.setattr(bench, "PARTS", parts(value))
        monkeypatch.setattr(sys, "argv", ["benchmarks", *options])
        return bench.main()

    yield main
    torch.set_num_threads(threads)


def test_what_does_not_fit_into_memory_is_left_out_and_the_rest_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    def measure(case: Case) -> Iterator[bench.Row]:
        yield bench.Row("first", case.network, "s", **bench.one(1.0))
        if case.network == "large":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 90.00 GiB.\nMore")
        yield bench.Row("second", case.network, "s", **bench.one(2.0))

    rows = list(bench.each([Case("large", 1, 1), Case("small", 1, 1)], measure))
    assert [(row.network, row.measure) for row in rows] == [("large", "first"), ("small", "first"), ("small", "second")]
    assert capsys.readouterr().err == "large is left out: CUDA out of memory. Tried to allocate 90.00 GiB.\n"


def test_a_job_without_room_is_left_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its process has waited for the GPU alone, then says what its user can do."""

    def scarce(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nMore")

    def shares(*_: object) -> None:
        job.within_memory(stages.with_room, scarce, "child-1")

    monkeypatch.setattr(job, "shares", shares)
    assert list(bench.job_rows(quick=False)) == []
    assert capsys.readouterr().err.splitlines()[-1] == "resnet-small is left out: CUDA out of memory."
    with pytest.raises(UserError, match="another reason"):
        job.within_memory(refused)
    assert type(pickle.loads(pickle.dumps(torch.OutOfMemoryError("much")))) is torch.OutOfMemoryError  # to its parent


def refused() -> None:
    raise UserError("another reason")


def test_each_number_is_written_as_soon_as_it_is_measured(
    run: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that stops in its middle has left the rows before."""

    def stops(quick: bool) -> Iterator[bench.Row]:
        yield from parts(1.0)["one"](quick)  # type: ignore[operator]
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "PARTS", {"one": stops})
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    with pytest.raises(KeyboardInterrupt):
        bench.main()
    (file,) = tmp_path.iterdir()
    assert len(json.loads(file.read_text(encoding="utf-8"))["parts"]["one"]["rows"]) == 1


def test_a_missed_target_is_an_exit_code_and_a_word(run: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(run)
    assert run(1.05, "--quick", "--only", "one") == 0
    assert "cost | net | 1.05 | x | 1 | at most 1.05 | met\n0 of 1 targets missed" in capsys.readouterr().out
    assert run(1.06, "--quick", "--only", "one") == 1
    assert "at most 1.05 | MISSED\n1 of 1 targets missed" in capsys.readouterr().out


def test_parts_are_written_to_the_devices_file_and_a_quick_run_writes_none(run: object, tmp_path: Path) -> None:
    assert callable(run)
    run(1.0, "--quick")
    assert not list(tmp_path.iterdir())
    run(1.0)
    run(1.06, "--only", "one")
    (file,) = tmp_path.iterdir()
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["cores"] >= 1
    assert list(found["parts"]) == ["one", "two"]
    assert [found["parts"][part]["rows"][0]["met"] for part in ("one", "two")] == [False, True]
    assert found["parts"]["one"]["load"] >= 0
    assert found["parts"]["one"]["versions"]["torch"] == torch.__version__.split("+")[0]
