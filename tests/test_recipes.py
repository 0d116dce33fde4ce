"""Each shipped recipe can be built, describes itself, and equals the published configuration it names."""

from __future__ import annotations

import ast
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from condinst.config import Config
from condinst.engine.optimizer import lr_factor
from condinst.errors import UsageError
from condinst.methods.choose import build_network
from condinst.model.instance_network import InstanceNetwork
from condinst.recipes import FOLDER, MOST_BASES, load_recipe, recipe_names
from condinst.settings.model import ModelConfig
from condinst.weights.catalogue import ADELAIDET, PROGRAMS, PUBLISHED, Checkpoint
from condinst.weights.outline import count_parameters
from condinst.weights.published import mmdetection
from condinst.weights.published.convert import read_published

KEYS = Path(__file__).parents[2] / "shared" / "reference" / "keys"
DOCUMENT = Path(__file__).parents[1] / "docs" / "how-to" / "published.md"
OTHER_KEYS = KEYS.parent / "mmdetection" / "keys.txt"
MODELS = {checkpoint.recipe: checkpoint for checkpoint in PUBLISHED}
# those of the SOLO family are tested in weights/published/test_solo_file.py
CHECKPOINTS = {name: checkpoint for name, checkpoint in MODELS.items() if re.match("condinst|mmdet|boxinst", name)}
RTMDET = {name: checkpoint for name, checkpoint in MODELS.items() if name.startswith("rtmdet-ins")}
AUTHORS = {name: checkpoint for name, checkpoint in CHECKPOINTS.items() if checkpoint.program == ADELAIDET}
DYNAMIC = ("condinst", "rtmdet-ins")  # methods with a dynamic mask head
OTHERS = sorted(CHECKPOINTS.keys() - AUTHORS.keys())


def on_meta(config: ModelConfig) -> InstanceNetwork:
    """A network that takes no memory."""
    with torch.device("meta"):
        return build_network(config).eval()


def test_names() -> None:
    assert "nuclei" in recipe_names()
    assert recipe_names() == sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", [name for name in recipe_names() if load_recipe(name).model.method in DYNAMIC])
@torch.no_grad()
def test_builds(name: str) -> None:
    """The tensors that the head gives are those that the mask head reads."""
    config = load_recipe(name)
    settings = config.model.model_copy(update={"classes": ("one", "two", "three")})
    output = on_meta(settings)(torch.zeros(1, 3, 64, 64, device="meta"))
    inputs = settings.mask_branch.features + (0 if settings.mask_head.coordinates == "none" else 2)
    widths = [inputs, *[settings.mask_head.width] * (settings.mask_head.depth - 1), 1]
    count = sum(a * b + b for a, b in pairwise(widths))
    levels = 3 if settings.method == "rtmdet-ins" else 5
    if settings.method not in {"condinst", "rtmdet-ins"}:
        return
    assert [level.shape[1] for level in output.head.filters] == [count] * levels
    assert [level.shape[1] for level in output.head.class_logits] == [3] * levels
    assert output.mask_features.shape == (1, settings.mask_branch.features, 8, 8)


@pytest.mark.parametrize("name", recipe_names())
def test_says_what_it_is(name: str) -> None:
    """Data and the command, which names the recipe; and nothing that is the default or its base's anyway."""
    config = load_recipe(name)
    assert f"--recipe {name}" in config.about["command"]
    assert config.about["data"]
    written = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    below = load_recipe(written.pop("base")) if "base" in written else Config()
    assert config.about == written.pop("about")
    if name in MODELS:
        said = {
            key: value for key, value in leaves(written) if dict(leaves(below.model_dump(mode="json")))[key] == value
        }
        assert said == {}


def leaves(values: dict[str, object], place: str = "") -> list[tuple[str, object]]:
    """(section.key, value) of every setting."""
    found = []
    for key, value in values.items():
        found += leaves(value, f"{place}{key}.") if isinstance(value, dict) else [(f"{place}{key}", value)]
    return found


# --- the published recipes


def test_each_published_model_has_its_recipe() -> None:
    assert (len(AUTHORS), len(OTHERS), len(RTMDET)) == (16, 3, 5)
    assert set(CHECKPOINTS) == {name for name in recipe_names() if re.match("condinst|mmdet|boxinst", name)}
    assert set(RTMDET) == {name for name in recipe_names() if name.startswith("rtmdet-ins")}


@pytest.mark.parametrize(("name", "checkpoint"), MODELS.items())
def test_what_is_expected_is_what_was_reported(name: str, checkpoint: Checkpoint) -> None:
    about = load_recipe(name).about
    assert ("expected box AP" in about) == (checkpoint.box_ap is not None)
    if checkpoint.box_ap is not None:
        assert float(about["expected box AP"]) == pytest.approx(checkpoint.box_ap / 100)
    assert float(about["expected mask AP"]) == pytest.approx(checkpoint.mask_ap / 100)
    assert about["reported by"] == f"{PROGRAMS[checkpoint.program]} for {checkpoint.title}, on COCO val2017"
    assert about["command"] == f"condinst train --recipe {name} --data coco/"


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_published_schedule(name: str) -> None:
    """To the iteration."""
    config = load_recipe(name)
    train = config.train
    total, drops = (270_000, [210_000, 250_000]) if "3x" in name else (90_000, [60_000, 80_000])
    factors = {iteration: lr_factor(iteration, train) for drop in drops for iteration in (drop - 1, drop)}
    assert list(factors.values()) == pytest.approx([1, 0.1, 0.1, 0.01])
    assert (lr_factor(0, train), lr_factor(1000, train), lr_factor(total - 1, train)) == pytest.approx((1e-3, 1, 0.01))
    assert (train.optimizer, train.lr, train.momentum, train.weight_decay) == ("sgd", 0.01, 0.9, 1e-4)
    assert (train.iterations, train.batch_size, train.clip_norm, train.ema_decay) == (total, 16, 0, 0)
    words = f"{total} iterations of {train.batch_size} pictures, ÷10 at {drops[0]} and {drops[1]}"
    assert config.about["schedule"] == words


@pytest.mark.parametrize("name", AUTHORS)
def test_published_pictures_and_positives(name: str) -> None:
    config = load_recipe(name)
    assert (config.train.init, config.train.skip_empty) == ("msra", True)
    assert config.train.sync_norms == ("pyramid" if "bifpn" in name else "none")
    assert (config.augment.shorter, config.augment.longer) == ((640, 672, 704, 736, 768, 800), 1333)
    assert (config.augment.flip_horizontal, config.augment.flip_vertical, config.augment.jitter) == (0.5, 0, (1, 1))
    targets = config.targets
    boxinst = ("boxes", "best_per_image", 64)
    expected = boxinst if name.startswith("boxinst") else ("masks", "random", 500)
    assert (targets.supervision, targets.mask_sampling, targets.max_mask_positives) == expected


@cache
def key_list(name: str) -> tuple[tuple[str, tuple[int, ...], str, bool], ...]:
    """Name, shape, number type and whether it learns, of every tensor of a published model."""
    path = KEYS / f"{name}.txt"
    if not path.is_file():
        pytest.skip(f"key list of the published model not at {path}")
    rows = [line.split("\t") for line in path.read_text().splitlines() if line[0] != "#"]
    return tuple((key, ast.literal_eval(shape), kind, learns == "1") for key, shape, kind, _, learns in rows)


def recorded(name: str) -> str:
    """The key list of a recipe's published model; that of one file says MS where the file's name does not."""
    return CHECKPOINTS[name].title.replace("CondInst_R_", "CondInst_MS_R_")


@cache
def published_model(rows: tuple[tuple[str, tuple[int, ...], str, bool], ...]) -> ModelConfig:
    state: dict[str, Tensor] = {
        key: torch.zeros((), dtype=getattr(torch, kind)).expand(shape) for key, shape, kind, _ in rows
    }
    return read_published(state, "recorded").config.model


@pytest.mark.parametrize("name", AUTHORS)
def test_published_architecture(name: str) -> None:
    """Every setting that the published tensors, and the program they come from, tell of."""
    published = published_model(key_list(recorded(name)))
    own = load_recipe(name).model.model_copy(update={"classes": published.classes})
    assert own == published


@pytest.mark.parametrize("name", OTHERS)
def test_mmdetections_pictures_positives_and_rules(name: str) -> None:
    config = load_recipe(name)
    assert (config.train.init, config.train.skip_empty, config.train.sync_norms) == ("imagenet", True, "none")
    assert config.augment == Config().augment
    targets = config.targets
    drawn = (targets.supervision, targets.mask_sampling, targets.max_mask_positives)
    boxinst = ("boxes", "best_per_image", 64)  # its topk_masks_per_img
    assert drawn == (boxinst if "boxinst" in name else ("masks", "random_per_image", 300))
    assert (config.detect, config.loss) == (mmdetection.SETTINGS.detect, mmdetection.SETTINGS.loss)


@pytest.mark.parametrize("name", OTHERS)
def test_mmdetections_architecture(name: str) -> None:
    """Its CondInst by its key list; BoxInst has 16 features, a head of width 16, and the layers its name says."""
    if not OTHER_KEYS.is_file():
        pytest.skip(f"key list of mmdetection not at {OTHER_KEYS}")
    rows = [line.split("\t") for line in OTHER_KEYS.read_text().splitlines() if line[0] != "#"]
    published = published_model(tuple((key, ast.literal_eval(shape), kind, True) for key, shape, kind, *_ in rows))
    expected = Config(model=published).with_overrides(
        [f"model.backbone.name=resnet{name.split('-')[2].removeprefix('r')}"]
        + (["model.mask_branch.features=16", "model.mask_head.width=16"] if "boxinst" in name else [])
    )
    assert load_recipe(name).model.model_copy(update={"classes": published.classes}) == expected.model


@pytest.mark.parametrize("name", AUTHORS)
def test_published_numbers_learn(name: str) -> None:
    """As many as in the original with its stem, first stage and norms of the backbone fixed."""
    published = sum(torch.Size(shape).numel() for _, shape, _, learns in key_list(recorded(name)) if learns)
    settings = load_recipe(name).model.model_copy(update={"classes": tuple(map(str, range(80)))})
    assert sum(p.numel() for p in on_meta(settings).parameters() if p.requires_grad) == published


@pytest.mark.parametrize("name", RTMDET)
def test_published_schedule_of_rtmdet_ins(name: str) -> None:
    """With 24 iterations in an epoch: the warm-up, the last constant iteration, the middle of the cosine, the end."""
    train = load_recipe(name).train.model_copy(update={"iterations": 300 * 24})
    assert (train.epochs, train.batch_size, train.warmup_iterations) == (300, 256, 1000)
    factors = [lr_factor(iteration, train) for iteration in (0, 999, 1000, 150 * 24, 225 * 24)]
    assert factors == pytest.approx([1e-5, 1, 1, 1, 0.05 + 0.95 / 2], rel=2e-3)
    assert lr_factor(300 * 24 - 1, train) == pytest.approx(0.05, rel=1e-3)
    assert (train.optimizer, train.lr, train.weight_decay) == ("adamw", 0.002 if name.endswith("x") else 0.004, 0.05)
    assert (train.ema_decay, train.ema_warmup, train.clip_norm) == (0.9998, 2000, 0)
    assert (train.init, train.skip_empty, train.sync_norms) == ("none", True, "all")


@pytest.mark.parametrize("name", RTMDET)
def test_published_settings_of_rtmdet_ins(name: str) -> None:
    config = load_recipe(name)
    assert (config.input.shorter, config.input.longer, config.input.letterbox) == (640, 640, True)
    assert (config.model.pad_value, config.model.channel_order, config.model.backbone.norm) == (114, "BGR", "batch")
    assert (config.model.head.prior, config.model.head.distance_prior) == (0.01, 1)
    detect = config.detect
    assert (detect.score_threshold, detect.nms_threshold, detect.max_detections) == (0.05, 0.6, 100)
    assert (detect.candidates_per_level, detect.exchange_scales, detect.score_root) == (1000, True, False)
    loss = config.loss
    assert (loss.classification_weight, loss.box_weight, loss.mask_weight) == (1, 2, 2)
    locations = sum((640 // stride) ** 2 for stride in config.model.geometry.strides)
    assert config.targets.max_mask_positives >= config.train.batch_size * locations


def test_the_table_of_rtmdet_ins_in_the_documentation() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(rtmdet-ins-\w+)` \| (\S+) \| (\S+) \| ([\d.]+) million \| `(\S+)` \|", text, re.MULTILINE)
    expected = []
    for name, checkpoint in RTMDET.items():
        settings = load_recipe(name).model.model_copy(update={"classes": tuple(map(str, range(80)))})
        scores = f"{checkpoint.box_ap / 100:.3f}", f"{checkpoint.mask_ap / 100:.3f}"
        expected.append((name, *scores, f"{count_parameters(settings)['total'] / 1e6:.1f}", checkpoint.file))
    assert rows == expected


def test_the_table_of_the_documentation() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d ]+ \| [\d.]+ \| [\d.]+) \|$", text, re.MULTILINE)
    expected = {}
    for name in CHECKPOINTS:
        config = load_recipe(name)
        scores = config.about["expected box AP"], config.about["expected mask AP"]
        expected[name] = f"{config.train.iterations:,}".replace(",", " ") + f" | {scores[0]} | {scores[1]}"
    assert dict(rows) == expected


# --- files of one's own


def test_a_file_is_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("train: {iterations: 3}\n")
    assert load_recipe(str(path)).train.iterations == 3
    bare = tmp_path / "recipe"
    bare.write_text("train: {iterations: 4}\n")
    assert load_recipe(str(bare)).train.iterations == 4


def test_a_folder_named_like_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data for `nuclei` often lies in a folder `nuclei`."""
    (tmp_path / "nuclei").mkdir()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_recipe("nuclei") == Config.from_yaml(FOLDER / "nuclei.yaml")
    with pytest.raises(UsageError, match="recipe 'other': no such name or file"):
        load_recipe("other")


def test_a_base_and_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections are merged, lists replaced, words about the base left behind; a relative path starts at the file."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "lower.yaml").write_text(
        "about: {box AP: '1'}\ntrain: {lr: 0.5, seed: 1}\naugment: {shorter: [1, 2]}\nmodel: {classes: [a]}\n"
    )
    (tmp_path / "deep" / "middle.yaml").write_text(
        "base: ../lower.yaml\nabout: {x: y}\ntrain: {seed: 2}\naugment: {shorter: [3]}\n"
    )
    (tmp_path / "upper.yaml").write_text("base: deep/middle.yaml\ntrain: {workers: 7}\nmodel: {head: {convs: 1}}\n")
    monkeypatch.chdir(tmp_path / "deep")
    config = load_recipe("../upper.yaml")
    expected = ["train.lr=0.5", "train.seed=2", "train.workers=7", "augment.shorter=[3]", "model.classes=[a]"]
    assert config == Config().with_overrides([*expected, "model.head.convs=1"])
    assert load_recipe("middle.yaml").about == {"x": "y"}
    assert "base" not in yaml.safe_load(config.to_yaml())
    (tmp_path / "mine.yaml").write_text("base: condinst-r50-1x\ntrain: {seed: 3}\n")
    published = load_recipe("condinst-r50-1x").model_copy(update={"about": {}})
    assert load_recipe("../mine.yaml") == published.with_overrides(["train.seed=3"])


def test_bases_that_cannot_be(tmp_path: Path) -> None:
    def told(text: str) -> str:
        (tmp_path / "one.yaml").write_text(text)
        with pytest.raises(UsageError) as caught:
            load_recipe(str(tmp_path / "one.yaml"))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    (tmp_path / "two.yaml").write_text("base: one.yaml\n")
    assert f"{tmp_path / 'two.yaml'}: its base 'one.yaml' is based on this recipe" in told("base: two.yaml\n")
    assert "its base './one.yaml' is based on this recipe" in told("base: ./one.yaml\n")
    assert "recipe 'condinst-r50': no such name or file; did you mean 'condinst-r50-" in told("base: condinst-r50\n")
    assert "absent.yaml: cannot be read" in told("base: absent.yaml\n")
    assert "base must be the name or file of a recipe, got ['nuclei']" in told("base: [nuclei]\n")
    assert f"{tmp_path / 'one.yaml'}: train: " in told("base: nuclei\ntrain: 1\n")


def test_a_long_chain_of_bases(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"{number}.yaml").write_text(f"base: {number + 1}.yaml\n")
    (tmp_path / f"{MOST_BASES}.yaml").write_text("train: {seed: 7}\n")
    assert load_recipe(str(tmp_path / "0.yaml")).train.seed == 7
    (tmp_path / f"{MOST_BASES}.yaml").write_text(f"base: {MOST_BASES + 1}.yaml\n")
    with pytest.raises(UsageError, match=f"a chain of more than {MOST_BASES} bases; merge some"):
        load_recipe(str(tmp_path / "0.yaml"))


@pytest.mark.parametrize("base", ["a\\0.yaml", "a\\eb.yaml", "\\ud800.yaml", "n" * 5000, "n" * 5000 + ".yaml"])
def test_bases_that_are_no_names(base: str, tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(f'base: "{base}"\n')
    with pytest.raises(
        UsageError, match=r"base must be|no such name|cannot be read|invalid Unicode|half of a character"
    ) as caught:
        load_recipe(str(path))
    assert str(caught.value).isprintable()


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="recipe 'nuclie': no such name or file; did you mean 'nuclei'"):
        load_recipe("nuclie")
    with pytest.raises(UsageError, match=r"there are: .*nuclei"):
        load_recipe("zzzz")
    with pytest.raises(UsageError, match="cannot be read"):
        load_recipe(str(tmp_path / "absent.yaml"))


@pytest.mark.parametrize("size", ["tiny", "s", "m", "l", "x"])
def test_the_published_augmentation_of_rtmdet(size: str) -> None:
    """mmdetection's pipelines: all sizes alike but for these numbers, and the last 20 of 300 epochs plain."""
    augment = load_recipe(f"rtmdet-ins-{size}").augment
    assert (augment.shorter, augment.longer, augment.crop, augment.min_side) == ((640,), 640, 640, 1)
    assert (augment.mosaic, augment.mosaic_kind, augment.hsv) == (1, "canvas", (5, 30, 30))
    assert augment.jitter == ((0.5, 2) if size in ("tiny", "s") else (0.1, 2))
    assert (augment.mixup, augment.cache) == ((0.5, 20) if size == "tiny" else (1, 40))
    assert round((1 - augment.plain_part) * 300) == 280


def test_the_small_recipes_are_equally_large() -> None:
    """At most 8 MB in half precision."""
    sizes = []
    for name in ("small", "small-rtm"):
        settings = load_recipe(name).model
        with torch.device("meta"):
            sizes.append(sum(tensor.numel() * 2 for tensor in build_network(settings).state_dict().values()))
    assert max(sizes) < 8e6
    assert 0.9 < sizes[0] / sizes[1] < 1.1
