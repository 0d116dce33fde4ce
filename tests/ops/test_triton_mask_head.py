"""The CUDA kernel of the dynamic mask head against the plain operations in float64.

Without a GPU Triton's interpreter runs it. That must be chosen before Triton is imported, so it runs this file as a
program of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from condinst.ops import dynamic_mask_head as head
from condinst.structures import FilterLayout

ON_DEVICE = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
IMAGES = (2, 0, 2)


class Case(NamedTuple):
    """height, width: of the mask features. images: of each instance, of three."""

    height: int = 3
    width: int = 5
    depth: int = 3
    channels: int = 8
    features: int = 8
    coordinates: head.Coordinates = "relative"
    stride: int = 4
    dtype: torch.dtype = torch.float32
    images: tuple[int, ...] = IMAGES

    @property
    def layout(self) -> FilterLayout:
        return FilterLayout(self.features, 0 if self.coordinates == "none" else 2, self.depth, self.channels)


SMALL = Case(channels=2, features=3)
CASES = [
    Case(),
    *(SMALL._replace(depth=depth, stride=stride) for depth, stride in product((1, 2, 3, 4), (8, 4, 2))),
    *(SMALL._replace(coordinates=kind, features=0 if kind == "only" else 1) for kind in ("absolute", "none", "only")),
    Case(channels=16, features=16, depth=2),
    SMALL._replace(channels=3, features=5),
    *(SMALL._replace(dtype=dtype) for dtype in (torch.float16, torch.bfloat16)),
    *(Case(17, 40, 1, 1, 1, "relative", stride) for stride in (8, 4, 2)),  # several tiles, the last ones partial
    *(Case(16, 32, 1, 1, 1, "absolute", stride) for stride in (8, 4, 2)),  # a whole tile without neighbours
    *(Case(15, 31, 1, 1, 1, "none", stride) for stride in (4, 2)),  # a whole tile with them
    Case(1, 1, 1, 1, 1, stride=2),
    Case(images=()),
]


def arguments(case: Case, device: str) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    count, size = len(case.images), torch.tensor([8.0 * case.width, 8.0 * case.height])
    floats = (
        torch.randn(3, case.features, case.height, case.width),
        torch.randn(count, case.layout.count),
        torch.rand(count, 2) * size,
        torch.tensor([64.0, 128, 256])[:count],
    )
    features, filters, locations, scales = (t.to(device, case.dtype) for t in floats)
    return features, filters, torch.tensor(case.images, dtype=torch.int64, device=device), locations, scales


def check(case: Case, device: str) -> None:
    """The error is that of float32 sums and of writing the result down."""
    from condinst.ops.triton_mask_head import fused_mask_head

    given = arguments(case, device)
    rest = (case.layout, case.coordinates, case.stride)
    found = fused_mask_head(*given, *rest)
    precise = [t.double() if t.is_floating_point() else t for t in (t.cpu() for t in given)]
    exact = head.dynamic_mask_head(*precise, *rest)
    assert found.dtype == case.dtype
    assert found.shape == exact.shape == (len(case.images), *(8 * n // case.stride for n in (case.height, case.width)))
    cut_off = case.dtype == torch.bfloat16 and device == "cpu"  # the interpreter does not round to the nearest
    rounding = torch.finfo(case.dtype).eps / (1 if cut_off else 2)
    allowed = 1.01 * rounding * exact.abs() + 1e-6 * max(exact.abs().max().item(), 1) if len(exact) else exact
    assert ((found.cpu().double() - exact).abs() <= allowed).all(), case


def check_first_tile(case: Case) -> None:
    """A tile writes only what it decides: on a GPU nothing says that its neighbours come later and put it right."""
    from condinst.ops import triton_mask_head

    kernel = triton_mask_head._draw_tile

    class Alone:
        def __getitem__(self, grid: tuple[int, int]) -> Callable[..., None]:
            def start(*given: Any, **settings: Any) -> None:
                given[kernel.arg_names.index("logits")].fill_(torch.nan)
                kernel[(grid[0], 1)](*given, **settings)

            return start

    given = arguments(case, "cpu")
    exact = head.dynamic_mask_head(*given, case.layout, case.coordinates, case.stride)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_mask_head, "_draw_tile", Alone())
        found = triton_mask_head.fused_mask_head(*given, case.layout, case.coordinates, case.stride)
    written = ~found.isnan()
    assert 0.2 < written.float().mean() < 0.8
    assert torch.allclose(found[written], exact[written], atol=1e-5)


def test_in_the_interpreter() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout == f"{len(CASES)} cases\n"


class Launch:
    """Stands in for the kernel and notes what it is started with."""

    given: tuple[Any, ...] = ()
    settings: dict[str, Any] = {}  # noqa: RUF012

    def __getitem__(self, grid: tuple[int, int]) -> Callable[..., None]:
        return self.note

    def note(self, *given: Any, **settings: Any) -> None:
        self.given, self.settings = given, settings


@pytest.mark.parametrize("capability", [75, 90])
@pytest.mark.parametrize("case", [SMALL, Case()], ids=["small", "published"])
def test_compiles_for_gpus(capability: int, case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """To machine code: Triton's compiler needs no GPU for that, and takes less of Python than its interpreter."""
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from condinst.ops import triton_mask_head

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel, launch = triton_mask_head._draw_tile, Launch()
    monkeypatch.setattr(triton_mask_head, "_draw_tile", launch)
    triton_mask_head.fused_mask_head(*arguments(case, "cpu"), case.layout, case.coordinates, case.stride)
    options = {name: launch.settings.pop(name) for name in ("num_warps", "enable_fp_fusion")}
    types = {torch.float32: "*fp32", torch.int64: "*i64"}
    kinds = [types[each.dtype] if isinstance(each, Tensor) else "i32" for each in launch.given]
    kinds += ["constexpr"] * len(launch.settings)
    source = ASTSource(kernel, dict(zip(kernel.arg_names, kinds, strict=True)), launch.settings)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert len(made.asm["cubin"]) > 1000


def test_kernel_is_used_only_for_supported_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors on a GPU of a size that fits, of a type it knows, and no gradient asked for."""

    def fused(case: Case = SMALL, dtype: torch.dtype = torch.float32, device: str = "cuda") -> bool:
        with FakeTensorMode():
            floats = [torch.empty(2, 3, dtype=dtype, device=device, requires_grad=True) for _ in range(4)]
            return head._can_be_fused((floats[0], floats[1], floats[2], floats[3]), case.layout)

    assert not fused()  # autograd is on
    with torch.no_grad():
        assert fused()
        assert fused(Case(channels=16, features=16, depth=4), torch.bfloat16)
        assert not fused(device="cpu")
        assert not fused(dtype=torch.float64)
        assert not fused(Case(depth=5))
        assert not fused(Case(channels=32))
        assert not fused(Case(features=32))
        monkeypatch.setattr(head, "find_spec", lambda name: None)
        assert not fused()


@pytest.mark.parametrize("builds", [False, True])
def test_fallback(builds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel may draw is left to it, but where Triton cannot build it the plain operations draw."""
    triton_mask_head = pytest.importorskip("condinst.ops.triton_mask_head", reason="Triton is not installed")
    monkeypatch.setattr(head, "_can_be_fused", lambda inputs, layout: True)
    monkeypatch.setattr(triton_mask_head, "can_build", lambda device: builds)
    monkeypatch.setattr(triton_mask_head, "fused_mask_head", lambda *given: torch.tensor(len(given)))
    logits = head.dynamic_mask_head(*arguments(SMALL, "cpu"), SMALL.layout, SMALL.coordinates, SMALL.stride)
    assert logits.shape == (() if builds else (3, 6, 10))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_can_be_built() -> None:
    triton_mask_head = pytest.importorskip("condinst.ops.triton_mask_head", reason="Triton is not installed")
    with pytest.warns(UserWarning, match="slower PyTorch operations"):
        assert not triton_mask_head.can_build.__wrapped__(torch.device("cuda", 0))


def test_importing_the_package_does_not_import_triton() -> None:
    code = "import sys, condinst.ops.dynamic_mask_head; sys.exit('condinst.ops.triton_mask_head' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@ON_DEVICE
def test_on_the_device() -> None:
    for case in [*CASES, Case(100, 168), Case(80, 80, stride=2, dtype=torch.float16)]:
        check(case, "cuda")


@ON_DEVICE
@pytest.mark.parametrize("wanted", [False, True])
def test_who_draws_on_the_device(wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel without gradients, plain operations with them; both as on the CPU."""
    from condinst.ops import triton_mask_head

    drawn: list[int] = []
    fused = triton_mask_head.fused_mask_head
    monkeypatch.setattr(triton_mask_head, "fused_mask_head", lambda *given: drawn.append(1) or fused(*given))
    results = []
    for device in ("cpu", "cuda"):
        features, filters, *others = arguments(Case(30, 40), device)
        filters.requires_grad_(wanted)
        logits = head.dynamic_mask_head(features, filters, *others, FilterLayout(), "relative", 4)
        if wanted:
            logits.square().mean().backward()
        results.append((logits.detach().cpu(), filters.grad.cpu() if filters.grad is not None else None))
    assert len(drawn) == (not wanted)
    for mine, theirs in zip(*results, strict=True):
        if mine is not None:
            assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-4 * mine.abs().max())


if __name__ == "__main__":
    for each in CASES:
        check(each, "cpu")
    for factor in (2, 4):
        check_first_tile(Case(17, 40, 1, 1, 1, stride=8 // factor))
    print(len(CASES), "cases")
