"""What goes wrong in the middle of a run: gradients that are not finite, a full disk, two processes and one log."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from condinst.engine import checkpoint
from condinst.engine.checkpoint import save_checkpoint
from condinst.engine.fit import fit
from condinst.engine.stop import list_checkpoints
from condinst.errors import CondinstError
from condinst.settings.training import TrainConfig


class Spoilt(torch.autograd.Function):
    """Passes its input on, and no finite gradient back."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * torch.nan


def batches(start: int) -> Iterator[list[int]]:
    yield from ([iteration] for iteration in range(start, 6))


def settings(**changes: Any) -> TrainConfig:
    return TrainConfig.model_validate({"iterations": 6, "batch_size": 2, "checkpoint_every": 1, **changes})


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_a_gradient_that_is_not_finite_ends_the_run(tmp_path: Path, clip_norm: float) -> None:
    """The loss is still finite then, the weights no more: they must not replace the last good checkpoint."""

    def losses(model: nn.Module, batch: int, _: torch.Generator, __: int) -> Mapping[str, Tensor]:
        loss = model(torch.ones(2, 3)).square().mean()
        return {"square": cast(Tensor, Spoilt.apply(loss)) if batch == 3 else loss}  # type: ignore[no-untyped-call]

    with pytest.raises(CondinstError, match="iteration 4: grad_norm not finite"):
        fit(nn.Linear(3, 1), losses, batches, settings(clip_norm=clip_norm), tmp_path, Accelerator(cpu=True))
    (kept,) = list_checkpoints(tmp_path)
    assert kept.name == "checkpoint-00000003"


def test_a_full_disk_is_one_line_and_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 1, {"model": nn.Linear(2, 2)}, {})

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(CondinstError, match=r"checkpoint-00000002: cannot be written .*No space left") as caught:
        save_checkpoint(tmp_path, 2, {"model": nn.Linear(2, 2)}, {})
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("; free some space and --resume")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001"]
    with pytest.raises(CondinstError, match="free some space and start again"):
        save_checkpoint(tmp_path / "new", 2, {"model": nn.Linear(2, 2)}, {})


def test_only_the_main_process_touches_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log.csv").write_text("iteration\n3\n")
    monkeypatch.setattr(Accelerator, "is_main_process", property(lambda _: False))

    def losses(model: nn.Module, _: int, __: torch.Generator, ___: int) -> Mapping[str, Tensor]:
        return {"square": model(torch.ones(2, 3)).square().mean()}

    fit(nn.Linear(3, 1), losses, batches, settings(), tmp_path, Accelerator(cpu=True))
    assert (tmp_path / "log.csv").read_text() == "iteration\n3\n"
    assert not list_checkpoints(tmp_path)
