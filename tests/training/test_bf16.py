"""bf16 without bf16 units against exact sums of rounded factors, and against autocast."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from ssa.training import bf16, step
from ssa.training.networks.resnet_small import SmallResNet

ULP = 2.0**-7  # between neighbours of bf16, of the lower one
AUTOCAST = torch.autocast("cpu", torch.bfloat16)
Product = Callable[[Tensor, Tensor, Tensor], Tensor]


@pytest.fixture(autouse=True)
def _rounding() -> Iterator[None]:
    """As on a CPU without bf16 units, also where there are some; then as before."""
    library = bf16.by_rounding()
    yield
    library._destroy()


class _Factors(TorchDispatchMode):
    """What the products within it are really of."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.dtypes.add(args[-1].dtype)
        return func(*args, **(kwargs or {}))


def _nearest(values: Tensor) -> Tensor:
    return values.to(torch.bfloat16).double()


def test_factors_are_rounded_and_sums_are_not_until_their_end() -> None:
    weight = torch.ones(1, 3)
    with AUTOCAST:
        fine = functional.linear(torch.tensor([[1 + 2.0**-9, 0, 0]]), weight)
        ones = functional.linear(torch.tensor([[256.0, 1, 1]]), weight)
        odd = functional.linear(torch.tensor([[256.0, 1, 0]]), weight)
    assert fine.item() == 1  # the factor's neighbours are 1 and 1 + 2^-7
    assert ones.item() == 258  # were each partial sum rounded, 256 + 1 would stay 256
    assert odd.item() == 256  # 257 lies between 256 and 258, and goes to the even one
    assert {fine.dtype, ones.dtype, odd.dtype} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("product", "shapes"),
    [
        (lambda x, w, b: functional.conv2d(x, w, b, padding=1), ((8, 16, 8, 8), (32, 16, 3, 3), (32,))),
        (lambda x, w, b: functional.conv2d(x, w, bias=b, stride=2), ((8, 16, 8, 8), (32, 16, 1, 1), (32,))),
        (functional.linear, ((64, 128), (10, 128), (10,))),
    ],
)
def test_products_and_gradients_are_the_nearest_to_exact_ones(product: Product, shapes: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    factors = [torch.randn(shape) for shape in shapes]
    ours = [factor.clone().requires_grad_() for factor in factors]
    exact = [_nearest(factor).requires_grad_() for factor in factors]
    with AUTOCAST:
        found = product(*ours)
    wanted = product(*exact)
    towards = torch.randn(wanted.shape).to(torch.bfloat16)
    found.backward(towards)
    wanted.backward(towards.double())
    pairs = [(found, wanted), *((a.grad, b.grad) for a, b in zip(ours, exact, strict=True))]
    for got, want in pairs:
        assert got is not None
        assert want is not None
        assert (got.double() != _nearest(want)).double().mean() < 0.01  # sums in fp32 fall to a tie's other side
        assert torch.allclose(got.double(), _nearest(want), rtol=ULP, atol=1e-3 * float(want.detach().abs().max()))
    assert all(factor.grad is not None and factor.grad.dtype == torch.float32 for factor in ours)


@pytest.mark.parametrize(("units", "precision", "ours"), [(False, "bf16", 1), (True, "bf16", 0), (False, "fp32", 0)])
def test_it_is_done_once_if_a_cpu_has_no_units(
    monkeypatch: pytest.MonkeyPatch, units: bool, precision: str, ours: int
) -> None:
    made: list[bool] = []
    monkeypatch.setattr(bf16, "has_units", lambda device: units)
    monkeypatch.setattr(bf16, "by_rounding", lambda: made.append(True))
    bf16.prepare.cache_clear()
    for _ in range(2):
        step.autocast(precision, torch.device("cpu"))
    bf16.prepare.cache_clear()
    assert len(made) == ours


def test_a_network_has_the_loss_and_the_gradients_that_autocast_gives_a_compiled_step() -> None:
    torch.manual_seed(0)
    network = SmallResNet(3, 10, width=8, stages=2)
    images, labels = torch.randn(32, 3, 8, 8), torch.randint(0, 10, (32,))
    losses, gradients = [], []
    for each in (step.loss, torch.compile(step.loss, backend="aot_eager", fullgraph=True)):
        network.zero_grad()
        loss = each(network, images, labels, "bf16")
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    exact = step.loss(network, images, labels, "fp32")
    assert losses[0] == pytest.approx(losses[1], abs=0.02)
    assert losses[0] != float(exact.detach())
    assert functional.cosine_similarity(*gradients, dim=0) > 0.99


def test_what_recomputes_and_what_hides_its_products_is_rounded_too() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 1 + 2.0**-9)
    with AUTOCAST:
        checkpoint(layer, torch.tensor([[1 + 2.0**-9]]), use_reentrant=False).backward(torch.ones(1, 1))
    assert layer.weight.grad is not None
    assert layer.weight.grad.item() == 1
    with AUTOCAST, _Factors() as seen:
        nn.MultiheadAttention(8, 2)(*[torch.randn(3, 1, 8)] * 3, need_weights=False)
    assert seen.dtypes == {torch.float32}


def test_what_autocast_leaves_as_it_is_stays_so() -> None:
    for factor in (1 + 2.0**-20, 1j):
        one = torch.tensor([[factor]], dtype=torch.complex64 if isinstance(factor, complex) else torch.float64)
        with AUTOCAST:
            found = functional.linear(one, torch.ones_like(one))
        assert found.dtype == one.dtype
        assert found.item() == factor
    with torch.autocast("cpu", torch.float16):
        assert functional.linear(torch.ones(1, 1), torch.ones(1, 1)).dtype == torch.float16


def test_what_turns_autocast_off_stays_exact() -> None:
    fine = torch.tensor([[1 + 2.0**-9]])
    with AUTOCAST:
        with torch.autocast("cpu", enabled=False):
            inside = functional.linear(fine, torch.ones(1, 1))
        after = functional.linear(fine, torch.ones(1, 1))
    assert inside.item() == 1 + 2.0**-9
    assert after.item() == 1


def test_an_error_leaves_autocast_as_it_was() -> None:
    with pytest.raises(RuntimeError), AUTOCAST:
        functional.linear(torch.ones(1, 2), torch.ones(1, 3))
    assert not torch.is_autocast_enabled("cpu")
    assert functional.linear(torch.ones(1, 1), torch.ones(1, 1)).dtype == torch.float32
