"""Saving and loading a model: what comes back equals what went in, and every broken file is named."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from condinst.config import Config
from condinst.errors import CondinstError, ModelError
from condinst.model.condinst import CondInst
from condinst.weights.card import make_card
from condinst.weights.catalogue import CATALOGUE
from condinst.weights.fetch import torch_cache
from condinst.weights.folder import load_model, read_model, save_model
from condinst.weights.names import resolve, shipped_names
from condinst.weights.published import mmdetection


@pytest.fixture(scope="module")
def config() -> Config:
    return Config.from_dict(
        {
            "model": {
                "classes": ["cell", "fibre"],
                "backbone": {"name": "mobilenetv2_050"},
                "fpn_channels": 32,
                "head": {"convs": 1, "channels": 64},
                "mask_branch": {"convs": 1, "channels": 16},
            },
            "input": {"shorter": 64, "longer": 96},
        }
    )


@pytest.fixture(scope="module")
def model(config: Config) -> CondInst:
    torch.manual_seed(0)
    return CondInst(config.model)


@pytest.fixture
def folder(model: CondInst, config: Config, tmp_path: Path) -> Path:
    save_model(model, config, tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors")


def failure(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip_is_exact_from_folder_and_file(model: CondInst, config: Config, folder: Path) -> None:
    for source in (folder, str(folder), folder / "model.safetensors"):
        loaded, settings = load_model(source)
        assert settings == config
        assert not loaded.training
        states = loaded.state_dict()
        assert all(torch.equal(states[name], tensor) for name, tensor in model.state_dict().items())
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "model.safetensors"]


def test_half_precision_rounds_matrices_and_keeps_vectors(model: CondInst, config: Config, tmp_path: Path) -> None:
    save_model(model, config, tmp_path, half=True)
    loaded = load_model(tmp_path)[0].state_dict()
    for name, tensor in model.state_dict().items():
        expected = tensor.half().float() if tensor.ndim > 1 else tensor
        assert torch.equal(loaded[name], expected), name
        assert loaded[name].dtype == tensor.dtype, name


def test_saving_over_a_model_replaces_it(model: CondInst, config: Config, folder: Path) -> None:
    other = config.with_overrides(["detect.nms_threshold=0.5"])
    save_model(model, other, folder)
    assert load_model(folder)[1] == other


def test_a_diverged_model_does_not_replace_a_good_one(config: Config, folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    broken = CondInst(config.model)
    with torch.no_grad():
        broken.head.scales[0] = float("nan")
    with pytest.raises(ModelError, match=r"head\.scales"):
        save_model(broken, config, folder)
    assert (folder / "model.safetensors").read_bytes() == before


def test_unwritable_folder(model: CondInst, config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CondinstError, match="cannot be written") as caught:
        save_model(model, config, tmp_path / "file" / "below")
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml", "README.md"])
def test_a_failure_leaves_the_old_files(name: str, model: CondInst, config: Config, folder: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(CondinstError, match=f"cannot be written .{name} is a folder"):
        save_model(model, config.with_overrides(["detect.nms_threshold=0.5"]), folder, half=True, card=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_full_disk_leaves_the_old_files(
    model: CondInst, config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write = Path.write_bytes

    def fail(path: Path, content: bytes) -> int:
        if len(content) > 100_000:
            write(path, content[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(CondinstError, match="No space left"):
        save_model(model, config.with_overrides(["detect.nms_threshold=0.5"]), folder, half=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "override",
    ["model.head.channels=4096", "model.backbone.name=resnet101", "model.mask_head.width=256"],
)
def test_settings_too_large_for_the_tensors(override: str, folder: Path, config: Config) -> None:
    """Refused by names and shapes, before a network of that size is made."""
    (folder / "config.yaml").write_text(config.with_overrides([override]).to_yaml())
    text = failure(folder)
    assert "does not fit its config.yaml" in text
    with pytest.raises(ModelError, match="does not fit its"):
        read_model(folder)


def test_weights_of_another_method(folder: Path, config: Config) -> None:
    tensors = load_file(folder / "model.safetensors")
    other = {name.replace("head.centerness.", "head.controller_tower."): tensor for name, tensor in tensors.items()}
    rewrite(folder, other)
    assert "the tensors are those of an RTMDet-Ins, the settings are for a CondInst;" in failure(folder)


def test_a_published_name_with_a_file_of_another_method(tmp_path: Path, written: Any, monkeypatch: Any) -> None:
    checkpoint = CATALOGUE["mmdetection/rtmdet-ins_s_8xb32-300e_coco"]
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch_cache().mkdir(parents=True)
    torch.save(written(mmdetection.LAYOUT), torch_cache() / checkpoint.file)
    with pytest.raises(ModelError, match="the file holds a CondInst, rtmdet-ins-s is an RTMDet-Ins") as caught:
        load_model("rtmdet-ins-s")
    assert "\n" not in str(caught.value)


def test_settings_of_no_network(folder: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(_: object) -> CondInst:
        raise RuntimeError("too large\nby far")

    monkeypatch.setattr("condinst.weights.tensors.build_network", build)
    assert "model.safetensors: no network can be built from its settings (too large)" in failure(folder)


def test_tensors_that_are_no_real_numbers(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    rewrite(folder, tensors | {"head.scales": torch.zeros(5, dtype=torch.complex64)})
    assert "not real numbers or integers: head.scales;" in failure(folder)


def test_missing_extra_and_misshaped_tensors_are_counted_and_named(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["head.scales"]
    tensors["head.intruder"] = torch.zeros(1)
    tensors["head.controller.bias"] = torch.zeros(7)
    rewrite(folder, tensors)
    message = failure(folder)
    assert "missing tensors (1): head.scales" in message
    assert "unknown tensors (1): head.intruder" in message
    assert "head.controller.bias is [7], expected [169]" in message


def test_of_many_missing_tensors_the_first_are_named_and_the_rest_counted(folder: Path, model: CondInst) -> None:
    names = list(model.state_dict())
    rewrite(folder, {"nothing": torch.zeros(1)})
    message = failure(folder)
    assert f"missing tensors ({len(names)}): {', '.join(names[:10])}, … ({len(names) - 10} more)" in message


def test_weights_of_another_configuration(folder: Path, config: Config) -> None:
    (folder / "config.yaml").write_text(config.with_overrides(["model.classes=[a, b, c]"]).to_yaml())
    assert "head.class_logits.weight is [2, 64, 3, 3], expected [3, 64, 3, 3]" in failure(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_weights(folder: Path, value: float) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["head.scales"][2] = value
    rewrite(folder, tensors)
    assert "head.scales" in failure(folder)


@pytest.mark.parametrize("keep", [4, 1000])
def test_truncated_weights(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "damaged or not a safetensors file" in failure(folder)


def test_random_bytes_as_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 500)
    assert "damaged" in failure(folder)


def test_missing_and_invalid_settings(folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text("model: {classes: [a], colour: red}")
    assert "model.colour" in failure(folder)
    path.write_text("[")
    assert "not valid YAML" in failure(folder)
    path.unlink()
    assert "needs its config.yaml" in failure(folder)


def test_folder_without_weights_and_file_of_another_kind(tmp_path: Path) -> None:
    assert "holds no model.safetensors" in failure(tmp_path)
    (tmp_path / "model.pth").write_bytes(b"x")
    assert ".pth" in failure(tmp_path / "model.pth")


@pytest.mark.parametrize("name", ["x" * 5000, "/" + "x/" * 5000, "a\0b", "new\nline"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(ModelError, match="no such shipped or published model, folder or file") as caught:
        resolve(name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_an_empty_name() -> None:
    with pytest.raises(ModelError, match="name is empty"):
        resolve("")


def test_names_find_the_shipped_model_first_and_suggest_the_nearest(folder: Path, tmp_path: Path) -> None:
    zoo = tmp_path / "zoo"
    shutil.copytree(folder, zoo / "nuclei")
    shutil.copytree(folder, zoo / "facade")
    (zoo / "half_copied").mkdir()
    assert shipped_names(zoo) == ("facade", "nuclei")
    assert resolve("nuclei", zoo) == zoo / "nuclei" / "model.safetensors"
    with pytest.raises(ModelError, match="did you mean 'nuclei'"):
        resolve("nucleii", zoo)
    with pytest.raises(ModelError, match=r"shipped models: facade, nuclei; .* lists the \d+ published ones"):
        resolve("zzz", zoo)
    with pytest.raises(ModelError, match="ships no models"):
        resolve("zzz", tmp_path / "nowhere")


def test_a_card_on_request(model: CondInst, config: Config, tmp_path: Path) -> None:
    save_model(model, config, tmp_path, card=True)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == make_card(config)
    assert load_model(tmp_path)[1] == config
