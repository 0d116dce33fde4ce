"""Run the network in PyTorch in one of three modes: exact (float32), fast (half precision) or compiled."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from condinst.errors import UsageError
from condinst.inference.forks import expect_forks
from condinst.model.backbones.deformable import DeformableConv
from condinst.model.meinst import CodeTable
from condinst.model.prediction.controller import take_controller
from condinst.model.prediction.cpu_layers import OneDnnConv, WideConv, arrange_for_cpu
from condinst.model.prediction.fold import fold_norms
from condinst.model.prediction.join_heads import join_heads
from condinst.structures import Controller, LevelControllers, NetworkOutput

TorchMode = Literal["exact", "fast", "compiled"]
Mode = Literal["exact", "fast", "compiled", "openvino", "int8"]  # the last two run an exported program
MODES: tuple[str, ...] = get_args(Mode)
TORCH_MODES: tuple[str, ...] = get_args(TorchMode)
COMPILED_DIVISOR = 128  # each input size is compiled separately, so padding to this number keeps sizes few


class Network(NamedTuple):
    """A model that is ready to predict. divisor: the sides of its input are multiples of this number of pixels.

    module: the network in PyTorch, or None for an exported program. controller: what the module leaves to `detect`.
    """

    module: nn.Module | None
    forward: Callable[[Tensor], NetworkOutput]
    dtype: torch.dtype
    divisor: int
    controller: Controller | LevelControllers | None = None

    def __call__(self, images: Tensor) -> NetworkOutput:
        """Run the network on images (N, 3, H, W) float32, normalised and padded, on the device of the module.

        Raises UsageError if torch.compile fails.
        """
        ready = images.to(dtype=self.dtype, memory_format=torch.channels_last)
        with _full_precision(images.device):
            try:
                output = self.forward(ready)
            except torch._dynamo.exc.TorchDynamoException as error:
                reason = str(error).strip().splitlines()[0]
                raise UsageError(f"mode 'compiled' does not work here ({reason:.150}); use mode 'fast'") from None
        return output if self.controller is None else output._replace(controller=self.controller)


def make_network(model: nn.Module, mode: str, device: torch.device, divisor: int) -> Network:
    """Make a copy of `model` for prediction on `device`. `model` itself does not change.

    mode: "exact" computes in float32. "fast" computes in bfloat16 or float16 if the hardware supports it, otherwise in
    float32. "compiled" is "fast" with torch.compile, which takes about a minute for each new input size. All modes fold
    batch norms and use the channels-last memory format. divisor: the sides of the input are multiples of this number. 1
    means that the input is not padded, in no mode.
    Raises UsageError for another mode.
    """
    if mode not in TORCH_MODES:
        raise UsageError(f"mode '{mode}': expected one of {', '.join(TORCH_MODES)} for a model in PyTorch")
    expect_forks()
    dtype = torch.float32 if mode == "exact" else half_type(device)
    module = fold_norms(model).requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    controller = take_controller(module)
    join_heads(module)
    if mode != "compiled" and device.type == "cpu":
        module = arrange_for_cpu(module)
    if dtype != torch.float32:
        _narrow(module, dtype)
    if mode != "compiled":
        return Network(module, module, dtype, divisor, controller)
    options: dict[str, str | int | bool | Callable[..., object]] = {}
    if device.type == "cpu":
        options["freezing"] = True  # turns weights into constants in the best layout for the hardware
    forward = torch.compile(module, dynamic=False, options=options)
    return Network(module, forward, dtype, max(divisor, COMPILED_DIVISOR) if divisor > 1 else 1, controller)


class Wide(nn.Module):
    """A float32 layer between layers in half precision."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.layer(images.float())
        return answer.to(images.dtype)


def _narrow(module: nn.Module, dtype: torch.dtype) -> None:
    """Convert all layers to `dtype`, except deformable convolutions, which need float32, and depthwise convolutions.

    The mask code of MEInst keeps float32, too.

    A depthwise convolution costs little time, and it sums few values, so rounding errors do not average out. The
    nuclei model loses 0.5 points of box AP with half precision in these layers, and 0.1 points with float32 in them.
    """
    wide = [name for name, part in module.named_modules() if _stays_wide(part)]
    layers = {name: module.get_submodule(name) for name in wide}
    for name in wide:
        module.set_submodule(name, nn.Identity())
    module.to(dtype)
    for name, layer in layers.items():
        module.set_submodule(name, _widened(layer))


def _widened(layer: nn.Module) -> nn.Module:
    if isinstance(layer, CodeTable):  # it reads no maps
        return layer
    return WideConv(layer) if isinstance(layer, OneDnnConv) else Wide(layer)


def _stays_wide(part: nn.Module) -> bool:
    return isinstance(part, DeformableConv | CodeTable) or (
        isinstance(part, nn.Conv2d | OneDnnConv) and part.groups > 1
    )


def half_type(device: torch.device) -> torch.dtype:
    """The 16-bit dtype that `device` computes in fast, or float32 if there is none."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "mps":
        return torch.float16
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def _full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Switch TF32 off. By default, CUDA convolutions round float32 to 19 bits."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
