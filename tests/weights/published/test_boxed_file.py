"""The published BlendMask and MEInst: their tensors, recipes and names, and what is refused."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from condinst.config import Config
from condinst.engine.optimizer import lr_factor
from condinst.errors import ModelError
from condinst.methods.choose import build_network
from condinst.recipes import FOLDER, load_recipe, recipe_names
from condinst.weights.catalogue import PUBLISHED, Checkpoint
from condinst.weights.folder import load_model, read_model, save_model
from condinst.weights.names import resolve
from condinst.weights.outline import count_parameters, expected_config
from condinst.weights.published.convert import read_published
from tests.parity.boxed.formula import FOLDERS, SKIP, state_of
from tests.test_recipes import leaves

SPEC = Path(__file__).parents[4] / "shared" / "spec" / "blendmask_meinst.md"
CHECKPOINTS = {one.recipe: one for one in PUBLISHED if re.match("BlendMask|MEInst", one.title)}
# recipe → (method, key list of the published configuration)
LISTS = {
    "blendmask-r50-1x": ("BlendMask", "R_50_1x"),
    "blendmask-550-r50-3x": ("BlendMask", "550_R_50_3x"),
    "blendmask-rt-r50-4x-syncbn-shtw": ("BlendMask", "RT_R_50_4x_syncbn_shtw"),
    "blendmask-rt-r50-4x-bn-head-syncbn-shtw": ("BlendMask", "RT_R_50_4x_bn-head_syncbn_shtw"),
    "blendmask-dla-34-syncbn-4x": ("BlendMask", "DLA_34_syncbn_4x"),
    "meinst-r50-1x-none": ("MEInst", "MEInst_R_50_1x_none"),
    "meinst-r50-1x": ("MEInst", "MEInst_R_50_1x"),
}
# recipe → iterations, drops of the learning rate
SCHEDULES = {
    "1x": (90_000, (60_000, 80_000)),
    "3x": (270_000, (210_000, 250_000)),
    "4x": (360_000, (300_000, 340_000)),
    "5x": (400_000, (280_000, 360_000)),
    "meinst-3x": (270_000, (180_000, 240_000)),
}


def state_like(method: str) -> dict[str, Tensor]:
    """The tensors of a published model."""
    name = {"BlendMask": "R_50_1x", "MEInst": "MEInst_R_50_1x"}[method]
    return dict(state_of(method, name))


def test_each_published_model_has_its_recipe() -> None:
    assert len(CHECKPOINTS) == 12
    assert set(CHECKPOINTS) == {name for name in recipe_names() if re.match("blendmask|meinst", name)}


@pytest.mark.skipif(not SPEC.is_file(), reason=f"the specification is not at {SPEC}")
@pytest.mark.parametrize("checkpoint", CHECKPOINTS.values(), ids=str)
def test_reported_accuracy_is_the_specifications(checkpoint: Checkpoint) -> None:
    text = SPEC.read_text()
    aps = f"{checkpoint.box_ap}/{checkpoint.mask_ap}"
    if checkpoint.title.startswith("BlendMask"):
        assert f"{checkpoint.file} {aps}" in text
    else:
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {checkpoint.title} |")]
        assert f"| {aps} |" in row
    assert checkpoint.address == f"https://huggingface.co/ZjuCv/AdelaiDet/resolve/main/{checkpoint.file}"
    assert "non-commercial" in checkpoint.about["licence"]


@SKIP
@pytest.mark.parametrize("recipe", LISTS)
def test_published_architecture(recipe: str) -> None:
    """Every setting that the published tensors tell of is the recipe's, and as many numbers learn."""
    published = read_published(state_of(*LISTS[recipe]), recipe).config
    own = load_recipe(recipe).model.model_copy(update={"classes": published.model.classes})
    assert own == published.model
    assert expected_config(CHECKPOINTS[recipe]).model == published.model
    method, name = LISTS[recipe]
    rows = [line.split("\t") for line in (FOLDERS[method] / "keys" / f"{name}.txt").read_text().splitlines()]
    unused = ("backbone.bottom_up.level3.project.", "backbone.bottom_up.level4.project.")
    learns = [row for row in rows if row[-1] == "1" and not row[0].startswith(unused)]
    with torch.device("meta"):
        network = build_network(own)
    numbers = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert numbers == sum(math.prod(ast.literal_eval(row[1])) for row in learns)
    assert count_parameters(own)["total"] >= numbers


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_recipe(name: str) -> None:
    """Scores, command and schedule to the iteration, and nothing that is the base's anyway."""
    config, checkpoint = load_recipe(name), CHECKPOINTS[name]
    assert config.about["reported by"].startswith(f"AdelaiDet for {checkpoint.title}, ")
    assert checkpoint.box_ap is not None
    assert float(config.about["expected box AP"]) == pytest.approx(checkpoint.box_ap / 100)
    assert float(config.about["expected mask AP"]) == pytest.approx(checkpoint.mask_ap / 100)
    length = next(part for part in name.split("-") if re.fullmatch(r"\dx", part))
    total, drops = SCHEDULES["meinst-3x" if name.startswith("meinst") and length == "3x" else length]
    train = config.train
    assert (train.iterations, train.batch_size, train.optimizer, train.lr) == (total, 16, "sgd", 0.01)
    factors = [lr_factor(iteration, train) for drop in drops for iteration in (drop - 1, drop)]
    assert factors == pytest.approx([1, 0.1, 0.1, 0.01])
    warm = [lr_factor(iteration, train) for iteration in (0, 499, 500, 1000)]
    constant = name in {"meinst-r50-1x", "meinst-r50-1x-none"}
    assert warm == pytest.approx([1 / 3, 1 / 3, 1, 1] if constant else [1e-3, 0.5, 0.5, 1], rel=2e-3)
    assert config.about["schedule"] == f"{total} iterations of 16 pictures, ÷10 at {drops[0]} and {drops[1]}"
    assert config.loss.semantic_weight == (0.3 if name.startswith("blendmask") else 1)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_recipe_says_nothing_twice(name: str) -> None:
    written = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    below = load_recipe(written.pop("base")) if "base" in written else Config()
    written.pop("about")
    inherited = dict(leaves(below.model_dump(mode="json")))
    assert {key for key, value in leaves(written) if inherited[key] == value} == set()


@SKIP
@pytest.mark.parametrize("recipe", ["blendmask-r50-1x", "meinst-r50-1x"])
def test_a_file_becomes_a_model_folder(recipe: str, tmp_path: Path) -> None:
    """By the same tensors under our names; the file of another method is refused in one line."""
    method, name = LISTS[recipe]
    torch.save({"model": state_of(method, name)}, tmp_path / "file.pth")
    model, config = load_model(tmp_path / "file.pth")
    save_model(model, config, tmp_path / "folder")
    again, _ = load_model(tmp_path / "folder")
    for (key, one), (_, other) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(one, other), key
    other = "meinst" if config.model.method == "blendmask" else "blendmask"
    (tmp_path / "folder" / "config.yaml").write_text(load_recipe(f"{other}-r50-1x").to_yaml())
    with pytest.raises(ModelError, match="the tensors are those of a") as caught:
        load_model(tmp_path / "folder")
    assert "\n" not in str(caught.value)


@SKIP
@pytest.mark.parametrize(("checkpoint", "method"), [("blendmask-r50-1x", "MEInst"), ("meinst-r50-1x", "BlendMask")])
def test_a_published_name_with_the_file_of_another_method(
    checkpoint: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is saved by hand under the name that the error message gives is found, and checked."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("CONDINST_OFFLINE", "1")
    place = resolve(checkpoint)
    assert isinstance(place, Checkpoint)
    with pytest.raises(ModelError, match=r"or download it by hand and save it as \S+\.pth$") as caught:
        read_model(checkpoint)
    by_hand = Path(str(caught.value).rpartition(" ")[2])
    assert by_hand == tmp_path / "checkpoints" / f"{place.title}.pth"
    by_hand.parent.mkdir()
    torch.save({"model": state_like(method)}, by_hand)
    with pytest.raises(ModelError, match=rf"the file holds an? {method}, {checkpoint} is an? \w+; fetch it again"):
        read_model(checkpoint)


@SKIP
def test_panoptic_and_incomplete_files_are_refused() -> None:
    state = state_like("BlendMask")
    with pytest.raises(ModelError, match=r"x: a panoptic BlendMask, by its tensor sem_seg_head\.p2\.0\.weight"):
        read_published(state | {"sem_seg_head.p2.0.weight": torch.zeros(1)}, "x")
    for name in ("basis_module.tower.5.weight", "top_layer.weight", "basis_module.tower.0.0.weight"):
        with pytest.raises(ModelError, match="x: "):
            read_published({key: value for key, value in state.items() if key != name}, "x")
    with pytest.raises(ModelError, match="x: missing tensors"):
        read_published({key: value for key, value in state_like("MEInst").items() if ".means" not in key}, "x")
