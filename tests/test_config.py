"""Settings: published defaults, YAML round trip, overrides, and a one-line message for a bad key."""

import math
import time
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from condinst.config import Config
from condinst.errors import UsageError, one_line
from condinst.safe_yaml import LARGEST_FILE


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
        ("lr=1", "there is no setting 'lr'; did you mean train.lr?"),
        ("train.lr.x=1", "there is no setting 'x'; known here: nothing"),
        ("=1", "there is no setting ''"),
        ("train.lr=[", "the value is not valid YAML"),
        ("train.seed=-1", "train.seed: Input should be greater than or equal to 0"),
        ("augment.shorter=[]", "augment.shorter: .*at least 1 item"),
        ("train.lr=0", "train.lr: Input should be greater than 0, got 0"),
        ("train.lr=fast", "train.lr: .*got 'fast'"),
        ("train.iterations=1.5", "train.iterations: .*got 1.5"),
        ("train.milestones=0.5", "train.milestones"),
        ("loss.box=diou", "loss.box: .*'giou', 'plain_giou', 'clamped_giou', 'iou' or 'smooth_l1'.*got 'diou'"),
        ("model.mask_head.mask_out_stride=3", "mask_out_stride"),
        ("model.mask_head.depth=0", "depth"),
        ("detect.score_threshold=1.1", "score_threshold"),
        ("augment.jitter=[2, 1]", "jitter must be 0 < low ≤ high"),
        ("model.coordinate_scales=[1, 2]", "5 size_ranges and 5 coordinate_scales, got 5 and 2"),
        ("model.classes=[a, a]", "classes holds a name twice"),
        ("train=1", "train: "),
        ("train.lr=", "train.lr: .*got None"),
        ("train.lr=2024-13-45", "train.lr: .*got '2024-13-45'"),
        ("train.lr=[1", "'train.lr=.1': the value is not valid YAML .*did not find"),
        ("train.lr=[&a 1, *a]", "the value is not valid YAML"),
        ("train.lr=.inf", "train.lr: .*finite number, got inf"),
        ("loss.mask_weight=.nan", "loss.mask_weight: .*finite number, got nan"),
        ("augment.jitter=[1, .inf]", "augment.jitter.1: .*finite number"),
        ("model.pixel_mean=[.nan, 1, 1]", "model.pixel_mean.0: .*finite number"),
        ("model.pixel_std=[1, 0, 1]", "model.pixel_std.1: .*greater than 0"),
        ("model.coordinate_scales=[1, 2, 3, 4, .inf]", "coordinate_scales.4: .*finite number"),
        (
            "model.size_ranges=[[-1, .nan], [1, 2], [2, 3], [3, 4], [4, .inf]]",
            "size_ranges must be pairs of low < high",
        ),
        ("model.size_divisor=48", "size_divisor: .*multiple of 32"),
        ("model.fpn_channels=4097", "fpn_channels: .*less than or equal to 4096"),
        ("model.head.channels=4097", "channels: .*less than or equal to 4096"),
        ("model.mask_branch.channels=4097", "channels: .*less than or equal to 4096"),
        ("model.mask_branch.features=1025", "features: .*less than or equal to 1024"),
        ("model.bifpn_repeats=65", "bifpn_repeats: .*less than or equal to 64"),
        ("model.head.convs=65", "convs: .*less than or equal to 64"),
        ("model.mask_branch.convs=65", "convs: .*less than or equal to 64"),
        ("model.mask_head.depth=17", "depth: .*less than or equal to 16"),
        ("model.mask_head.width=257", "width: .*less than or equal to 256"),
        ("model.size_divisor=544", "size_divisor: .*less than or equal to 512"),
        (f"model.backbone.name={'x' * 201}", "name: .*at most 200 characters"),
        ("model.backbone.deformable_interval=1025", "deformable_interval: .*less than or equal to 1024"),
        ("model.backbone.frozen_stages=65", "frozen_stages: .*less than or equal to 64"),
        (f"model.classes=[{'x' * 1001}]", "classes.0: .*at most 1000 characters"),
        ("detect.candidates_per_level=100001", "candidates_per_level: .*less than or equal to 100000"),
        ("detect.max_detections=25001", "max_detections: .*less than or equal to 25000"),
        ("input.shorter=16385", "shorter: .*less than or equal to 16384"),
        ("input.longer=16385", "longer: .*less than or equal to 16384"),
        ("augment.shorter=[16385]", "shorter.0: .*less than or equal to 16384"),
        (f"augment.shorter={[640] * 1001}", "shorter: .*at most 1000 items"),
        ("augment.longer=16385", "longer: .*less than or equal to 16384"),
        ("augment.crop=16385", "crop: .*less than or equal to 16384"),
        ("augment.jitter=[1, 65]", "jitter.1: .*less than or equal to 64"),
        ("box_supervision.dilation=257", "dilation: .*less than or equal to 256"),
        ("train.batch_size=16385", "batch_size: .*less than or equal to 16384"),
        ("train.accumulate=65537", "accumulate: .*less than or equal to 65536"),
        ("train.workers=257", "workers: .*less than or equal to 256"),
        (f"train.milestones={[0.5] * 1001}", "milestones: .*at most 1000 items"),
        (f"about={{a: {'x' * 100_001}}}", "about.a: .*at most 100000 characters"),
        ("train.seed=4294967296", "seed: .*less than or equal to 4294967295"),
    ],
)
def test_bad_overrides(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        Config().with_overrides([text])
    assert "\n" not in str(caught.value)


def test_too_many_classes() -> None:
    with pytest.raises(UsageError, match=r"model\.classes: .*at most 20000 items"):
        Config.from_dict({"model": {"classes": [f"c{number}" for number in range(20_001)]}})


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
        "- train\n": "holds a list, not settings",
        "": "is empty, not settings",
        "train: {speed: 3}\n": "train.speed: Extra inputs are not permitted, got 3",
        "train: {lr: -1, iterations: 0}\n": r"train\.\w+: .* \(and 1 more\)",
        "model: [1]\n": "model: expected settings as 'key: value' lines below it, got",
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


ALIASES = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 11))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x" * (LARGEST_FILE + 1), "not valid YAML .larger than 1 MB"),
        (ALIASES, "not valid YAML .line 2: aliases, .* are not read"),
        ("about: {x: &x [*x]}", "not valid YAML .line 1: aliases, .* are not read"),
        ("[" * 2000, "not valid YAML .line 1: nested too deeply"),
        ("train: {seed: " + "1" * 300_000 + "}", "not valid YAML .line 1: a number of more than 100 digits"),
        ("train: {seed: " + "1:" * 300_000 + "1}", r"train\.seed: .*got '1:1:1"),  # to base 60 it would take minutes,
        ("train: {lr: 2024-13-45}", r"train\.lr: .*got '2024-13-45'"),
        ("train: {lr: !!bool z}", "not valid YAML"),
        ("train: {lr: !!int ''}", "not valid YAML"),
        ("train: {lr: !!timestamp z}", "not valid YAML"),
        ("about: {x: [" + "[1], " * 1000 + "]}", r"about\.x: .*, got \[\[1\], \[1\]"),
        ("about: {x: [" + "y" * 1000 + "]}", r"about\.x: .*, got \['yyy"),
        ('"a\\nb\\e[31m": 1', r"a b\\x1b\[31m: Extra inputs"),
        ("? " + "k" * 100_000 + "\n: 1", "kkk: Extra inputs"),
        ("a: 1\na: 2", "line 2: the key 'a' stands twice"),
        (
            f"model: {{classes: {list(range(20_001))}}}".replace("[", "['").replace(", ", "','").replace("]", "']"),
            "20000",
        ),
    ],
    ids=lambda text: text[:20],
)
def test_hostile_files(text: str, words: str, tmp_path: Path) -> None:
    """One short line, and soon."""
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    start = time.process_time()
    with pytest.raises(UsageError, match=words) as caught:
        Config.from_yaml(path)
    assert time.process_time() - start < 5
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < len(str(path)) + 500
    assert str(caught.value).isprintable()


def test_the_limits_are_within() -> None:
    """What is as large as allowed is taken."""
    config = Config().with_overrides(
        ["model.fpn_channels=4096", "model.head.convs=64", "model.mask_head.depth=16", "model.size_divisor=64"]
    )
    assert (config.model.fpn_channels, config.model.head.convs, config.model.mask_head.depth) == (4096, 64, 16)


def test_one_line() -> None:
    assert one_line("Häuser ∓ 2 px, 図") == "Häuser ∓ 2 px, 図"
    assert one_line("a\nb\tc\r\u2028d\xa0e") == "a b c  d e"
    assert one_line("\x1b[31m\x07\x9b\u202e\ud800") == r"\x1b[31m\x07\x9b\u202e\ud800"
