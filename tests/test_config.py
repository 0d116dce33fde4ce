"""Settings: defaults as published, YAML there and back, overrides, one clear line for a bad key."""

import math
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from condinst.config import Config
from condinst.errors import UsageError


def test_published_defaults() -> None:
    config = Config()
    assert config.model.size_ranges == ((-1, 64), (64, 128), (128, 256), (256, 512), (512, math.inf))
    assert config.model.coordinate_scales == (64, 128, 256, 512, 1024)
    assert (config.input.shorter, config.input.longer) == (800, 1333)
    detect = config.detect
    assert (detect.score_threshold, detect.candidates_per_level, detect.max_detections) == (0.05, 1000, 100)
    assert (detect.nms, detect.nms_threshold, detect.mask_threshold) == ("box", 0.6, 0.5)
    assert (config.targets.center_radius, config.targets.max_mask_positives) == (1.5, 500)
    assert (config.targets.supervision, config.targets.mask_sampling) == ("masks", "random")
    boxes = config.box_supervision
    assert (boxes.similarity, boxes.dilation, boxes.bottom_pixels, boxes.warmup_iterations) == (0.3, 2, 10, 10_000)
    loss = config.loss
    assert (loss.classification, loss.box, loss.quality, loss.mask) == ("focal", "giou", "centerness", "dice")
    train = config.train
    assert (train.optimizer, train.lr, train.batch_size, train.iterations) == ("sgd", 0.01, 16, 90_000)
    assert [round(m * train.iterations) for m in train.milestones] == [60_000, 80_000]
    assert config.augment.shorter == tuple(range(640, 801, 32))


def test_yaml_there_and_back(tmp_path: Path) -> None:
    """Every setting is written, infinity and names beyond ASCII included."""
    config = Config.from_dict(
        {
            "about": {"source": "gemessen ∓ 2 px"},
            "model": {"classes": ["Häuser", "on", "3"], "mask_head": {"depth": 1, "coordinates": "none"}},
            "train": {"lr": 1e-5, "milestones": [0.5]},
        }
    )
    text = config.to_yaml()
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    again = Config.from_yaml(path)
    assert again == config
    assert again.to_yaml() == text
    assert again.model.size_ranges[-1][1] == math.inf
    assert again.model.classes == ("Häuser", "on", "3")
    assert set(yaml.safe_load(text)) == set(Config.model_fields)
    assert set(yaml.safe_load(text)["train"]) == set(type(config.train).model_fields)


def test_nothing_changes_after_creation() -> None:
    with pytest.raises(ValidationError):
        Config().train.lr = 1  # type: ignore[misc]


def test_overrides() -> None:
    config = Config().with_overrides(
        [
            "train.lr=0.5",
            "model.classes=[cat, dog]",
            "model.mask_head.coordinates=none",
            "augment.turns=true",
            " detect.nms = matrix",
            "model.size_ranges=[[-1, 32], [32, 64], [64, 128], [128, 256], [256, .inf]]",
            "train.lr=0.25",
        ]
    )
    assert config.train.lr == 0.25
    assert config.model.classes == ("cat", "dog")
    assert config.model.mask_head.coordinates == "none"
    assert config.augment.turns
    assert config.detect.nms == "matrix"
    assert config.model.size_ranges[-1] == (256, math.inf)
    assert Config().with_overrides([]) == Config()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train.lr", "'train.lr': expected key=value"),
        ("train.lrr=1", "'train.lrr': there is no setting 'lrr'; did you mean 'lr'?"),
        ("trein.lr=1", "there is no setting 'trein'; did you mean 'train'?"),
        ("lr=1", "there is no setting 'lr'; known here: about, augment"),
        ("train.lr.x=1", "there is no setting 'x'; known here: nothing"),
        ("=1", "there is no setting ''"),
        ("train.lr=[", "the value is not valid YAML"),
        ("train.seed=-1", "train.seed: Input should be greater than or equal to 0"),
        ("augment.shorter=[]", "augment.shorter: .*at least 1 item"),
        ("train.lr=0", "train.lr: Input should be greater than 0, got 0"),
        ("train.lr=fast", "train.lr: .*got 'fast'"),
        ("train.iterations=1.5", "train.iterations: .*got 1.5"),
        ("train.milestones=0.5", "train.milestones"),
        ("loss.box=diou", "loss.box: .*'giou', 'plain_giou', 'iou' or 'smooth_l1'.*got 'diou'"),
        ("model.mask_head.mask_out_stride=3", "mask_out_stride"),
        ("model.mask_head.depth=0", "depth"),
        ("detect.score_threshold=1.1", "score_threshold"),
        ("augment.jitter=[2, 1]", "jitter must be 0 < low ≤ high"),
        ("model.coordinate_scales=[1, 2]", "five entries"),
        ("model.classes=[a, a]", "classes holds a name twice"),
        ("train=1", "train: "),
        ("train.lr=", "train.lr: .*got None"),
    ],
)
def test_bad_overrides(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        Config().with_overrides([text])
    assert "\n" not in str(caught.value)


def test_boxes_alone_and_the_semantic_head() -> None:
    """It learns from masks, which that supervision ignores."""
    boxes = Config().with_overrides(["targets.supervision=boxes"])
    with pytest.raises(UsageError, match=r"targets\.supervision is boxes and model\.semantic is true"):
        boxes.with_overrides(["model.semantic=true"])


def test_precision_no_is_a_word(tmp_path: Path) -> None:
    """YAML reads a bare `no` as false, on the command line and in a recipe."""
    bf16 = Config().with_overrides(["train.precision=bf16"])
    assert bf16.with_overrides(["train.precision=no"]).train.precision == "no"
    path = tmp_path / "recipe.yaml"
    path.write_text("train: {precision: no}\n")
    assert Config.from_yaml(path).train.precision == "no"
    with pytest.raises(UsageError, match=r"train\.precision"):
        bf16.with_overrides(["train.precision=yes"])


def test_nothing_to_draw_a_mask_from() -> None:
    with pytest.raises(UsageError, match=r"model\.mask_branch\.features"):
        Config().with_overrides(["model.mask_branch.features=0"])


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    cases = {
        "train: {lr: 1\n": "not valid YAML",
        "- train\n": "expected a mapping of settings, got list",
        "": "expected a mapping of settings, got NoneType",
        "train: {speed: 3}\n": "train.speed: Extra inputs are not permitted, got 3",
        "train: {lr: -1, iterations: 0}\n": r"train\.\w+: .* \(and 1 more\)",
        "model: [1]\n": "model: ",
    }
    for text, words in cases.items():
        path.write_text(text)
        with pytest.raises(UsageError, match=words) as caught:
            Config.from_yaml(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    path.write_bytes(b"\xff\xfe\x00train")
    with pytest.raises(UsageError, match="not valid YAML"):
        Config.from_yaml(path)
    with pytest.raises(UsageError, match="cannot be read"):
        Config.from_yaml(tmp_path / "absent.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        Config.from_yaml(tmp_path)
