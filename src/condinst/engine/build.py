"""Build the network for training and describe its initial weights."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator

import timm
import torch
from accelerate import Accelerator
from huggingface_hub import constants, get_session, try_to_load_from_cache
from timm.layers.norm_act import convert_sync_batchnorm

from condinst.config import Config
from condinst.engine.shared_norm import share_norms
from condinst.engine.wide_convs import widen_strided_depthwise
from condinst.errors import ModelError, UsageError, first_line
from condinst.methods.choose import build_network
from condinst.model.backbones.backbone import check_pretrained
from condinst.model.instance_network import InstanceNetwork
from condinst.weights.backbone import IMAGENET, differences, load_first_weights
from condinst.weights.folder import Stored
from condinst.weights.transfer import fill_from

SECONDS = 10  # to wait for the server of the weights
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # timm's file names on the hub
# a start that needs no network
OFFLINE = "without a network, start from a shipped model: --from nuclei"


def build_model(
    config: Config, accelerator: Accelerator, start: Stored | None = None
) -> tuple[InstanceNetwork, list[str]]:
    """Return the network, the same in every process, and lines about its initial weights.

    start: a model to take the initial weights from. Raises ModelError for weights that cannot be loaded or do not fit.
    """
    torch.manual_seed(config.train.seed)
    if start is None:
        model = _build(config)
        load_first_weights(model.backbone.body, config.train.init, config.model.backbone.name)
        lines = list(_remarks(model, config))
    else:
        model = build_network(config.model)
        try:
            lines = [f"from {start.path}: {fill_from(model, start.tensors, start.config.model.classes)}"]
        except ModelError as error:
            raise ModelError(f"{start.path}: {error}") from None
    model.set_recompute(config.train.recompute)
    synchronise_norms(model, config.train.sync_norms, accelerator)
    if accelerator.device.type == "cpu" and config.train.precision == "bf16":
        widen_strided_depthwise(model)
    return model.to(memory_format=torch.channels_last) if config.train.channels_last else model, lines


def _build(config: Config) -> InstanceNetwork:
    if config.train.init != IMAGENET:
        return build_network(config.model)
    with torch.device("meta"):  # finds errors in the settings before any download
        build_network(config.model)
    name = config.model.backbone.name
    check_pretrained(name)
    reason = _unreachable(name)
    if reason:
        raise ModelError(f"the ImageNet weights of {name} cannot be fetched ({reason:.150}); {OFFLINE}")
    print(f"loading the ImageNet weights of {name}; the first use downloads them", file=sys.stderr)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs each of its ten attempts
    try:
        return build_network(config.model, pretrained=True)
    except Exception as error:  # the errors of the hub's client differ between versions
        reason = first_line(error).partition(". ")[0]
        raise ModelError(f"the ImageNet weights of {name} cannot be fetched ({reason:.150}); {OFFLINE}") from error


def _unreachable(name: str) -> str:
    """Return why the server with the backbone's ImageNet weights does not answer.

    The text is empty if the server answers or the weights are on this machine. timm and the hub's client would try for
    minutes.
    """
    settings = timm.get_pretrained_cfg(name)
    repository = getattr(settings, "hf_hub_id", None)
    if not repository or any(isinstance(try_to_load_from_cache(repository, file), str) for file in WEIGHTS):
        return ""
    found: list[str] = []

    def ask() -> None:
        try:
            get_session().head(f"{constants.ENDPOINT}/{repository}/resolve/main/config.json", timeout=SECONDS)
            found.append("")
        except Exception as error:  # the errors of the client differ between versions
            found.append(first_line(error).partition(". ")[0])

    thread = threading.Thread(target=ask, daemon=True)  # a DNS look-up has no time limit
    thread.start()
    thread.join(SECONDS)
    return found[0] if found else f"no answer in {SECONDS} seconds"


def synchronise_norms(model: InstanceNetwork, which: str, accelerator: Accelerator) -> None:
    """Make batch norms share their statistics over processes. Raises UsageError for norms that cannot."""
    if which == "none" or accelerator.num_processes == 1:
        return
    part = model.fpn if which == "pyramid" else model
    if accelerator.device.type != "cpu":
        convert_sync_batchnorm(part)  # type: ignore[no-untyped-call]  # timm's function handles timm's norms
        return
    others = share_norms(part)
    if others:
        raise UsageError(
            f"train.sync_norms={which}: {others[0]} is shared on GPUs only; set model.backbone.norm=affine or "
            "train.sync_norms=none"
        )


def _remarks(model: InstanceNetwork, config: Config) -> Iterator[str]:
    init, name = config.train.init, config.model.backbone.name
    yield f"backbone {name}, " + (f"licence {model.backbone.licence}" if init == IMAGENET else f"first weights: {init}")
    differing = differences(config.model, init, model.backbone.body)
    if differing:
        yield f"note: the weights of train.init={init} were trained with {' '.join(differing)}"
