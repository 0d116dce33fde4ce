"""How the network is run: exactly, in half precision, or compiled. The modes differ in nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from condinst.errors import UsageError
from condinst.model.cpu_layers import OneDnnConv, WideConv, arrange_for_cpu
from condinst.model.deformable import DeformableConv
from condinst.model.fold import fold_norms
from condinst.structures import NetworkOutput

Mode = Literal["exact", "fast", "compiled"]
MODES: tuple[str, ...] = get_args(Mode)
COMPILED_DIVISOR = 128  # compiled code is made for one input size: pad to few different ones


class Network(NamedTuple):
    """A model made ready to predict with. divisor: of the padded input's sides."""

    module: nn.Module
    forward: Callable[[Tensor], NetworkOutput]
    dtype: torch.dtype
    divisor: int

    def __call__(self, images: Tensor) -> NetworkOutput:
        """(N, 3, H, W) float32, normalised and padded to `divisor`, on the module's device.

        Raises UsageError where the code cannot be compiled.
        """
        ready = images.to(dtype=self.dtype, memory_format=torch.channels_last)
        with _full_precision(images.device):
            try:
                return self.forward(ready)
            except torch._dynamo.exc.TorchDynamoException as error:
                reason = str(error).strip().splitlines()[0]
                raise UsageError(f"mode 'compiled' cannot be had here ({reason:.150}); take mode 'fast'") from None


def make_network(model: nn.Module, mode: str, device: torch.device, divisor: int) -> Network:
    """A copy of `model` on `device` for prediction in `mode`; `model` itself stays as it is.

    "exact": float32. "fast": bfloat16 or float16 where the hardware computes in it, else float32. "compiled": as fast,
    and compiled by torch.compile for each input size it meets, which takes about a minute the first time. In all of
    them batch norms are folded and memory is channels-last. Raises UsageError for another mode.
    """
    if mode not in MODES:
        raise UsageError(f"mode '{mode}': expected one of {', '.join(MODES)}")
    dtype = torch.float32 if mode == "exact" else half_type(device)
    module = fold_norms(model).requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if mode != "compiled" and device.type == "cpu":
        module = arrange_for_cpu(module)
    if dtype != torch.float32:
        _narrow(module, dtype)
    if mode != "compiled":
        return Network(module, module, dtype, divisor)
    options: dict[str, str | int | bool | Callable[..., object]] = {}
    if device.type == "cpu":
        options["freezing"] = True  # weights become constants, laid out for the hardware
    forward = torch.compile(module, dynamic=False, options=options)
    return Network(module, forward, dtype, max(divisor, COMPILED_DIVISOR))


class Wide(nn.Module):
    """A layer in float32 between neighbours in half precision."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.layer(images.float())
        return answer.to(images.dtype)


def _narrow(module: nn.Module, dtype: torch.dtype) -> None:
    """Every layer to `dtype` but deformable convolutions, which are made for float32 only, and depthwise ones.

    Those cost little, and few numbers average out their rounding: on the nuclei model that is the difference between
    0.5 and 0.1 points of box AP.
    """
    wide = [name for name, part in module.named_modules() if _stays_wide(part)]
    layers = {name: module.get_submodule(name) for name in wide}
    for name in wide:
        module.set_submodule(name, nn.Identity())
    module.to(dtype)
    for name, layer in layers.items():
        module.set_submodule(name, WideConv(layer) if isinstance(layer, OneDnnConv) else Wide(layer))


def _stays_wide(part: nn.Module) -> bool:
    return isinstance(part, DeformableConv) or (isinstance(part, nn.Conv2d | OneDnnConv) and part.groups > 1)


def half_type(device: torch.device) -> torch.dtype:
    """The 16-bit type that `device` computes in at speed; float32 if it has none."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "mps":
        return torch.float16
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def _full_precision(device: torch.device) -> AbstractContextManager[None]:
    """By default CUDA's convolutions round float32 to 19 bits."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
