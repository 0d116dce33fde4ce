"""First weights without a network: given up soon, in one line that says what to do."""

from __future__ import annotations

import time
from typing import cast

import pytest
from accelerate import Accelerator

from condinst.engine import build
from condinst.engine.build import _unreachable, build_model
from condinst.errors import ModelError
from condinst.recipes import load_recipe


class Session:
    """Answers by `head`."""

    def __init__(self, seconds: float, error: Exception | None = None) -> None:
        self.seconds, self.error = seconds, error

    def head(self, address: str, timeout: float) -> None:
        assert address.endswith("resolve/main/config.json")
        assert timeout == build.SECONDS
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    ("session", "reason"),
    [
        (Session(0), ""),
        (Session(5), "no answer in 0.2 seconds"),
        (Session(0, OSError("Name or service not known. More words")), "Name or service not known"),
    ],
)
def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, session: Session, reason: str) -> None:
    monkeypatch.setattr(build, "SECONDS", 0.2)
    monkeypatch.setattr(build, "get_session", lambda: session)
    monkeypatch.setattr(build, "try_to_load_from_cache", lambda *_: None)
    started = time.monotonic()
    assert _unreachable("resnet50") == reason
    assert time.monotonic() - started < 2


def test_weights_that_are_here_need_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "try_to_load_from_cache", lambda *_: "/somewhere/model.safetensors")
    monkeypatch.setattr(build, "get_session", lambda: Session(0, OSError("asked")))
    assert _unreachable("resnet50") == ""


def test_a_backbone_without_such_weights_asks_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm has a model of this name, too, with another network's weights."""
    monkeypatch.setattr(build, "get_session", lambda: pytest.fail("asked"))
    config = load_recipe("rtmdet-ins-tiny").with_overrides(["train.init=imagenet"])
    with pytest.raises(
        ModelError, match=r"'cspnext_tiny': condinst downloads no ImageNet .* set train\.init to a file"
    ):
        build_model(config, cast(Accelerator, None))
