"""The published models: every name of the list, what it means, and that what is said of a file fits the file."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from condinst.errors import ModelError
from condinst.model.condinst import CondInst
from condinst.recipes import recipe_names
from condinst.weights.catalogue import BY_FILE, CATALOGUE, PUBLISHED, Checkpoint, find_checkpoint, nearest
from condinst.weights.names import ZOO, Repository, resolve, shown_name
from condinst.weights.outline import count_parameters, expected_config
from condinst.weights.published.convert import read_published
from tests.parity.rtmdet_formula import read_keys

SHARED = Path(__file__).parents[3] / "shared"
KEYS, SPEC, RTMDET_SPEC = (
    SHARED / "reference" / "keys",
    SHARED / "spec" / "condinst.md",
    SHARED / "spec" / "rtmdet_ins.md",
)
RTMDET_KEYS = SHARED / "reference" / "rtmdet_ins"
SHORT = {f"rtmdet-ins-{size}": size for size in ("tiny", "s", "m", "l", "x")}
# bytes of the files on the hub, as its listing gives them
SIZES = {
    "CondInst_MS_R_50_1x": 136956635,
    "CondInst_MS_R_50_3x_sem": 138774419,
    "CondInst_MS_R_101_3x": 213189324,
    "CondInst_MS_R_101_3x_sem": 215007108,
    "CondInst_MS_R_50_BiFPN_3x_sem": 157197133,
    "CondInst_MS_R_101_BiFPN_3x": 232057773,
    "CondInst_R_101_BiFPN_3x_sem": 233433188,
    "BoxInst_MS_R_50_1x": 137550843,
    "BoxInst_MS_R_101_1x": 213783532,
    "BoxInst_MS_R_101_BiFPN_3x": 232430797,
    "BoxInst_MS_R_101_BiFPN_dcni3_3x": 240162094,
}
EXTRA = (150, 250)  # bytes of a file for each tensor beside its numbers: its record's head and its name


def test_every_published_name_is_there() -> None:
    first = [
        checkpoint.program for checkpoint in PUBLISHED if re.match("(condinst|boxinst)_", checkpoint.title.lower())
    ]
    assert (first.count("adelaidet"), first.count("mmdetection")) == (16, 3)
    families = [checkpoint.recipe for checkpoint in PUBLISHED if checkpoint.alias]
    assert [sum(bool(re.match(name, recipe)) for recipe in families) for name in ("rtmdet-ins", "(.*-)?solo")] == [
        5,
        13,
    ]
    assert sum(bool(re.match("blendmask|meinst", recipe)) for recipe in families) == 12
    assert len(CATALOGUE) == len(BY_FILE) == len(PUBLISHED)


@pytest.mark.skipif(not SPEC.is_file(), reason=f"the specification is not at {SPEC}")
def test_reported_accuracy_is_the_specifications() -> None:
    text = SPEC.read_text().split("## 5.")[1].split("## 6.")[0]
    for checkpoint in PUBLISHED:
        if checkpoint.alias:
            continue  # not a CondInst
        if checkpoint.program == "mmdetection":
            assert f"`{checkpoint.file}` {checkpoint.box_ap}/{checkpoint.mask_ap}" in text
            assert checkpoint.file.endswith(f"-{checkpoint.sha256}.pth")
            continue
        family = text.split("tianzhi/AdelaiDet-BoxInst")[checkpoint.title.startswith("BoxInst")]
        short = re.sub(r"^\w+?Inst_(MS_)?", "", checkpoint.title)
        assert re.search(rf"[ _]{short}( \([^)]*\))? {checkpoint.box_ap}/{checkpoint.mask_ap}", family), short


@pytest.mark.skipif(not RTMDET_SPEC.is_file(), reason=f"the specification is not at {RTMDET_SPEC}")
@pytest.mark.parametrize(("name", "size"), SHORT.items())
def test_rtmdet_ins_is_the_specifications(name: str, size: str) -> None:
    text = RTMDET_SPEC.read_text().split("## 12.")[1].split("## 13.")[0]
    (row,) = re.findall(rf"^\| {size} \| (\S+) \| (\S+) \| (\S+) \|", text, re.MULTILINE)
    checkpoint = find_checkpoint(name)
    assert checkpoint is not None
    assert row == (checkpoint.file[len(checkpoint.title) + 1 : -4], str(checkpoint.box_ap), str(checkpoint.mask_ap))
    assert checkpoint.file.endswith(f"-{checkpoint.sha256}.pth")
    assert f"{checkpoint.title.replace(f'_{size}_', '_' + ('x' if size == 'x' else '{tiny,s,m,l}') + '_')}`" in text


@pytest.mark.parametrize(("name", "size"), SHORT.items())
def test_names_and_places_of_rtmdet_ins(name: str, size: str) -> None:
    checkpoint = find_checkpoint(name)
    batch = "8xb16" if size == "x" else "8xb32"
    assert checkpoint == CATALOGUE[f"mmdetection/rtmdet-ins_{size}_{batch}-300e_coco"]
    assert (checkpoint.short, checkpoint.recipe, checkpoint.about["licence"]) == (name, name, "Apache-2.0")
    first, mirror = checkpoint.copies
    assert first == checkpoint
    assert mirror.address == "https://huggingface.co/LibreYOLO/{0}/resolve/main/{0}.pt".format(
        f"LibreRTMDet{size[0]}-seg"
    )
    assert (mirror.on_hub, mirror.sha256, mirror.copies) == (True, "", (mirror,))
    assert checkpoint.copy_of(mirror.file) == mirror
    assert checkpoint.copy_of("another.pth") == checkpoint
    assert checkpoint.about["mirror"] == mirror.address
    assert mirror.about == {key: value for key, value in checkpoint.about.items() if key != "mirror"} | {
        "source": mirror.address
    }


@pytest.mark.skipif(not RTMDET_KEYS.is_dir(), reason=f"key lists of the published models not at {RTMDET_KEYS}")
@pytest.mark.parametrize(("name", "size"), SHORT.items())
def test_the_expected_settings_of_rtmdet_ins_are_those_read_off_the_file(name: str, size: str) -> None:
    checkpoint = find_checkpoint(name)
    assert checkpoint is not None
    expected = expected_config(checkpoint)
    state = {key.name: torch.zeros(()).expand(key.shape) for key in read_keys(RTMDET_KEYS)[size]}
    found = read_published(state, name).config
    assert expected.model_copy(update={"about": found.about}) == found
    assert set(found.about) <= set(expected.about)


def test_checksums_are_hexadecimal_and_differ() -> None:
    known = [checkpoint.sha256 for checkpoint in PUBLISHED if checkpoint.sha256]
    assert all(re.fullmatch("[0-9a-f]{64}|[0-9a-f]{8}", sha256) for sha256 in known)
    assert len(set(known)) == len(known)


def test_addresses() -> None:
    for checkpoint in PUBLISHED:
        assert checkpoint.address.startswith("https://")
        assert checkpoint.address.endswith(f"/{checkpoint.file}")
        assert checkpoint.on_hub == (checkpoint.program == "adelaidet")
        assert checkpoint.title.removeprefix("BlendMask_") in checkpoint.file
    assert CATALOGUE["adelaidet/CondInst_MS_R_50_3x"].address == (
        "https://huggingface.co/tianzhi/AdelaiDet-CondInst/resolve/main/CondInst_MS_R_50_3x.pth"
    )


@pytest.mark.parametrize("checkpoint", PUBLISHED, ids=lambda checkpoint: checkpoint.title)
def test_the_recipe_exists(checkpoint: Checkpoint) -> None:
    assert checkpoint.recipe in recipe_names()


@pytest.mark.parametrize("title", SIZES)
def test_the_expected_architecture_has_the_size_of_the_file(title: str) -> None:
    with torch.device("meta"):
        state = CondInst(expected_config(CATALOGUE[f"adelaidet/{title}"]).model).state_dict()
    numbers = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    assert EXTRA[0] < (SIZES[title] - numbers) / len(state) < EXTRA[1]


def recorded(name: str) -> dict[str, Tensor]:
    rows = [line.split("\t") for line in (KEYS / f"{name}.txt").read_text().splitlines() if line[0] != "#"]
    return {key: torch.zeros(()).expand(ast.literal_eval(shape)) for key, shape, *_ in rows}


@pytest.mark.skipif(not KEYS.is_dir(), reason=f"key lists of the published models not at {KEYS}")
@pytest.mark.parametrize(
    "title",
    ["CondInst_MS_R_50_3x_sem", "CondInst_MS_R_101_BiFPN_3x", "BoxInst_MS_R_50_1x", "BoxInst_MS_R_101_BiFPN_dcni3_3x"],
)
def test_the_expected_settings_are_those_read_off_the_file(title: str) -> None:
    expected = expected_config(CATALOGUE[f"adelaidet/{title}"])
    found = read_published(recorded(title), title).config
    assert expected.model == found.model
    assert expected.detect == found.detect
    assert set(found.about) <= set(expected.about)
    boxes = ("boxes", "best_per_image", 64)
    drawn = (expected.targets.supervision, expected.targets.mask_sampling, expected.targets.max_mask_positives)
    assert (drawn == boxes) == title.startswith("BoxInst")


def test_mmdetections_expected_settings() -> None:
    condinst, small, large = (
        expected_config(checkpoint) for checkpoint in PUBLISHED if not checkpoint.on_hub and not checkpoint.alias
    )
    assert [config.model.backbone.name for config in (condinst, small, large)] == ["resnet50", "resnet50", "resnet101"]
    assert [config.model.mask_head.width for config in (condinst, small, large)] == [8, 16, 16]
    assert not condinst.detect.score_root
    filters = [config.model for config in (condinst, small)]
    heads = [count_parameters(model)["head"] for model in filters]
    assert heads[1] - heads[0] == (593 - 169) * (256 * 9 + 1)


def test_names_in_any_capitals() -> None:
    assert resolve("AdelaiDet/condinst_ms_r_50_3X") == CATALOGUE["adelaidet/CondInst_MS_R_50_3x"]


def test_the_one_whose_file_is_called_otherwise() -> None:
    by_table, by_file = (f"adelaidet/CondInst_{short}_101_BiFPN_3x_sem" for short in ("MS_R", "R"))
    assert find_checkpoint(by_table) == find_checkpoint(by_file) == CATALOGUE[by_file]


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("adelaidet/CondInst_MS_R_50_3", "adelaidet/CondInst_MS_R_50_3x"),
        ("CondInst_MS_R_101_3x_sem", "adelaidet/CondInst_MS_R_101_3x_sem"),
        ("mmdetection/boxinst_r50_fpn_ms-90k", "mmdetection/boxinst_r50_fpn_ms-90k_coco"),
        ("rtmdet-ins_s", "rtmdet-ins-s"),
    ],
)
def test_a_typo_is_answered_by_the_nearest_name(typo: str, meant: str) -> None:
    assert nearest(typo) == meant
    with pytest.raises(ModelError, match=re.escape(f"did you mean '{meant}'?")):
        resolve(typo)


def test_what_may_be_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve("me/my-model_1.0") == Repository("me/my-model_1.0")
    for other in ("me/model.pth", "./me/model", "../me/model", "/me/model", "me/model/", "a/b/c", Path("me/model")):
        with pytest.raises(ModelError, match="no such shipped or published model"):
            resolve(other)
    (tmp_path / "me" / "model").mkdir(parents=True)
    with pytest.raises(ModelError, match=r"holds no model\.safetensors"):
        resolve("me/model")


def test_a_published_name_goes_before_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "adelaidet/CondInst_MS_R_50_1x"
    folder = tmp_path / name
    folder.mkdir(parents=True)
    (folder / "model.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    assert resolve(name) == CATALOGUE[name]
    assert resolve(f"./{name}") == Path(name) / "model.safetensors"
    assert resolve(folder) == folder / "model.safetensors"


def test_parameters_are_counted_by_part() -> None:
    """The head by hand: two towers of four 3×3 convolutions with norms, 80 + 4 + 1 + 169 outputs, five scales."""
    counts = count_parameters(expected_config(CATALOGUE["adelaidet/CondInst_MS_R_50_1x"]).model)
    conv = 256 * 256 * 9 + 256
    assert counts["head"] == 8 * (conv + 2 * 256) + (80 + 4 + 1 + 169) * (256 * 9 + 1) + 5
    total = counts.pop("total")
    assert total == sum(counts.values())
    assert math.isclose(counts["backbone"], 23.5e6, rel_tol=0.01)  # ResNet-50 without its classifier


def test_a_shipped_model_is_shown_by_its_name(tmp_path: Path) -> None:
    """What a run records of its first weights holds no path of this machine if the model is shipped."""
    assert shown_name(ZOO / "nuclei" / "model.safetensors") == "nuclei"
    assert shown_name(tmp_path / "nuclei" / "model.safetensors") == str(tmp_path / "nuclei" / "model.safetensors")
