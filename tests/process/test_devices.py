"""A GPU that cannot be used is said at once, and what is promised of one that can is set. Needs no GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from ssa.errors import UserError
from ssa.process import devices, gpus


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU of capability 7.0, on paper; what is promised of GPUs is taken back afterwards."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_90"])
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    devices._checked.cache_clear()
    yield
    devices._checked.cache_clear()
    torch.use_deterministic_algorithms(False)
    torch.backends.cuda.enable_cudnn_sdp(True)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_gpu_that_pytorch_cannot_use_is_an_error(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please update it.\nMore")

    monkeypatch.setattr(gpus, "listed", lambda: ["GPU-aa"])
    monkeypatch.setattr(torch.cuda, "init", refuse)
    with pytest.raises(UserError) as failed:
        devices.choose(wanted, "study.yaml")
    assert str(failed.value) == (
        f"study.yaml: the driver lists a GPU (GPU-aa), but PyTorch {torch.__version__} cannot use it (The NVIDIA "
        "driver on your system is too old (found version 11040)); install a newer driver or a PyTorch for it, or set "
        "device: cpu"
    )
    assert devices.choose("cpu", "study.yaml").type == "cpu"


@pytest.mark.usefixtures("no_gpu")
def test_where_there_is_no_gpu_or_none_is_to_be_seen_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "listed", lambda: [])
    assert devices.choose("auto", "study.yaml").type == "cpu"
    with pytest.raises(UserError, match=r"study.yaml: device is cuda, but PyTorch finds no GPU here; set device: auto"):
        devices.choose("cuda", "study.yaml")
    monkeypatch.setattr(gpus, "listed", lambda: ["GPU-aa"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.choose("auto", "study.yaml").type == "cpu"


@pytest.mark.usefixtures("gpu")
def test_a_gpu_without_kernels_is_refused() -> None:
    with pytest.raises(UserError, match=r"Tesla V100 is sm_70, .* has kernels for sm_75, sm_80, sm_90 alone"):
        devices.choose("auto", "study.yaml")
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.usefixtures("gpu")
def test_a_gpu_that_can_be_used_is_made_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert devices.choose("auto", "study.yaml").type == "cuda"
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.backends.cudnn.benchmark
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.parametrize(
    ("capability", "kernels", "runs"),
    [
        ((7, 0), ["sm_75", "sm_80"], False),  # older than any
        ((7, 5), ["sm_75"], True),
        ((8, 9), ["sm_80"], True),  # its own generation, and newer
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80", "sm_86"], False),  # machine code of another generation
        ((9, 0), ["compute_80"], True),  # which the driver compiles
        ((9, 0), ["sm_90a"], True),
        ((12, 1), ["sm_120"], True),
        ((12, 1), ["sm_120a"], False),
        ((7, 0), [], True),  # a PyTorch that does not say
        ((9, 4), ["gfx942"], True),  # nor does AMD's
    ],
)
def test_which_kernels_a_gpu_runs(capability: tuple[int, int], kernels: list[str], runs: bool) -> None:
    assert devices.has_kernels(capability, kernels) == runs
