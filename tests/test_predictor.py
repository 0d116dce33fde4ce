"""The predictor: every kind of source, overrides, batches; a small untrained model."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from condinst.config import Config
from condinst.errors import CondinstError, DataError, UsageError
from condinst.inference.pipeline import Pipeline, Prepared
from condinst.inference.result import Result
from condinst.model.condinst import CondInst
from condinst.predictor import Predictor
from condinst.settings.model import BackboneConfig, HeadConfig, MaskBranchConfig, ModelConfig
from condinst.settings.prediction import DetectConfig, InputConfig
from condinst.sources.expand import Fetch, Source
from condinst.weights.folder import load_model, save_model

SHAPE = (90, 130)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = Config(
        model=ModelConfig(
            classes=("cat", "dog"),
            backbone=BackboneConfig(name="mobilenetv2_035"),
            fpn_channels=32,
            head=HeadConfig(convs=1, channels=64, prior=0.4),
            mask_branch=MaskBranchConfig(convs=1, channels=16),
        ),
        input=InputConfig(shorter=96, longer=160),
        detect=DetectConfig(max_detections=12),
    )
    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    model = CondInst(config.model)
    nn.init.constant_(model.head.distances.bias, 2)  # boxes that show something, whatever the random weights
    save_model(model, config, path)
    return path


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor(folder, device="cpu", conf=None)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)


def alike(one: Result, other: Result) -> bool:
    """A batch may add numbers in another order than a single picture."""
    return len(one) == len(other) > 0 and torch.allclose(one.boxes.xyxy, other.boxes.xyxy, atol=1e-2)


def same(one: Result, other: Result) -> bool:
    return (
        len(one) == len(other) > 0
        and torch.equal(one.boxes.xyxy, other.boxes.xyxy)
        and one.masks.rle == other.masks.rle
        and torch.equal(one.boxes.conf, other.boxes.conf)
    )


def test_all_kinds_of_source(predictor: Predictor, picture: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(picture).save(path)
    expected = predictor(picture)
    assert expected.orig_shape == SHAPE
    assert expected.names == {0: "cat", 1: "dog"}
    assert set(expected.speed) == {"preprocess", "inference", "postprocess"}
    assert expected.path is None
    for source in (path, str(path), path.read_bytes(), Image.fromarray(picture)):
        assert same(predictor(source), expected)
    assert same(predictor.predict(path, max_detections=12), expected)
    from_file = predictor(path)
    assert (from_file.path, from_file.image) == (path, None)
    assert np.array_equal(from_file.plot(), expected.plot())
    assert all(same(one, expected) for one in predictor([picture, path]))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16", "1"])
def test_pillow_images_follow_the_rules_of_files(predictor: Predictor, mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*SHAPE, 3), dtype=np.uint8))
    if mode == "I;16":
        image = Image.fromarray(np.random.default_rng(1).integers(0, 65536, SHAPE, dtype=np.uint16))
    elif mode in ("LA", "P"):
        image = image.convert("L").convert(mode)
    else:
        image = image.convert(mode)
    path = tmp_path / "picture.tif"
    image.save(path)
    assert same(predictor(image), predictor(path))


def test_a_mixed_batch_equals_its_pictures(predictor: Predictor, picture: np.ndarray) -> None:
    sources = [picture, picture[:50, :70], picture[:, :40]]
    for together, source in zip(predictor.predict_batch(sources), sources, strict=True):
        assert together.orig_shape == source.shape[:2]
        assert len(together) > 0
    assert predictor.predict_batch([]) == []


def test_overrides(folder: Path, picture: np.ndarray) -> None:
    everything = Predictor(folder, "cpu", conf=None, max_detections=1000)(picture)
    middle = float(everything.boxes.conf.median())
    some = Predictor(folder, "cpu", conf=middle, max_detections=1000)(picture)
    assert 0 < len(some) < len(everything)
    assert some.boxes.conf.tolist() == [score for score in everything.boxes.conf.tolist() if score >= middle]
    assert 0 < len(Predictor(folder, "cpu", conf=None, max_detections=3)(picture)) <= 3  # some boxes may lie outside
    small = Predictor(folder, "cpu", conf=None, shorter=32, longer=64, nms="matrix")
    assert (small.config.input.shorter, small.config.input.longer, small.config.detect.nms) == (32, 64, "matrix")
    assert small(picture).orig_shape == SHAPE


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"conf": 1.5}, "conf: expected a score from 0 to 1"),
        ({"max_detections": 0}, "max_detections: expected a whole number from 1 on, got 0"),
        ({"shorter": -3}, "shorter: expected a whole number from 1 on, got -3"),
        ({"iou": -1}, "iou: expected a number from 0 to 1, got -1"),
        ({"nms": "soft"}, "nms"),
        ({"device": "toaster"}, "device 'toaster' cannot be used"),
        ({"device": "meta"}, "device 'meta' cannot be used"),  # it has shapes, but no numbers
    ],
)
def test_bad_settings(folder: Path, settings: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Predictor(folder, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "source",
    [np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4), complex), None, 5, {"a": 1}],
)
def test_wrong_types_and_shapes(predictor: Predictor, source: Any) -> None:
    with pytest.raises(UsageError, match="expected") as told:
        predictor(source)
    assert "\n" not in str(told.value)
    with pytest.raises(UsageError, match="expected"):
        predictor([source])


def test_one_picture_gives_a_result_and_many_a_list(predictor: Predictor, picture: np.ndarray, tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        Image.fromarray(picture).save(tmp_path / name)
    expected, paths = predictor(picture), [tmp_path / "a.png", tmp_path / "b.png"]
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    singles = [io.BytesIO(paths[0].read_bytes()), tensor, tensor / 255, bytearray(paths[0].read_bytes())]
    assert all(same(predictor(single), expected) for single in singles)
    with paths[0].open("rb") as file:
        assert same(predictor(file), expected)
    assert same(predictor(lambda: picture), expected)
    many = (tmp_path, str(tmp_path), f"{tmp_path}/*.png", tmp_path / "[ab].png", paths, tuple(paths), iter(paths))
    for source in (*many, [tmp_path], [str(paths[0]), f"{tmp_path}/b*"]):
        found = predictor(source)
        assert isinstance(found, list)
        assert [result.path for result in found] == paths
        assert all(same(result, expected) for result in found)
    for batch in (np.stack([picture] * 2), torch.stack([tensor] * 2)):
        assert [same(result, expected) for result in predictor(batch)] == [True, True]
    assert [result.path for result in predictor.stream(tmp_path)] == paths
    assert len(list(predictor.stream(paths[0]))) == 1
    assert predictor([]) == predictor(()) == []


def test_a_list_may_leave_bad_pictures_out(predictor: Predictor, picture: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.png: no such file"):
        predictor([picture, tmp_path / "missing.png"])
    with pytest.warns(UserWarning, match=r"left out: .*missing\.png: no such file"):
        assert len(predictor([picture, tmp_path / "missing.png"], on_error="skip")) == 1
    told: list[tuple[object, CondinstError]] = []
    sources = [tmp_path, f"{tmp_path}/*.tif", picture]
    assert len(predictor(sources, batch=2, on_error=lambda *what: told.append(what))) == 1
    assert [source for source, _ in told] == [tmp_path, Path(f"{tmp_path}/*.tif")]
    assert "the folder has no pictures" in str(told[0][1])
    assert "the pattern has no pictures" in str(told[1][1])


def test_settings_of_one_call(predictor: Predictor, picture: np.ndarray) -> None:
    """`test_settings_of_one_stream` has the values."""
    for settings in ({"conf": 0.3}, {"max_detections": 3}, {"classes": "dog"}, {"size": 32}, {"size": (96, 160)}):
        expected = next(predictor.stream([picture], **settings))
        assert same(predictor(picture, **settings), expected)
        assert same(predictor([picture], **settings)[0], expected)
    wide = picture.astype(np.uint16) * 16
    assert same(predictor(wide, range=(0, 255 * 16)), predictor(picture))


def test_the_range_of_a_predictor(folder: Path, picture: np.ndarray) -> None:
    predictor = Predictor(folder, "cpu", conf=None, range=(0, 510))
    assert same(predictor(picture.astype(np.uint16) * 2), predictor(picture))
    assert predictor.config.input.range == (0, 510)
    with pytest.raises(UsageError, match="range"):
        predictor(picture, range=(5, 1))


def test_what_is_odd_in_a_picture_is_told(predictor: Predictor, picture: np.ndarray) -> None:
    dark = picture.astype(np.uint16)
    with pytest.warns(
        UserWarning, match=r"array \(90, 130, 3\) uint16: values .* use a small part of the range"
    ) as told:
        result = predictor(dark)
    assert told[0].filename == __file__
    assert len(result.notes) == 1
    with pytest.warns(UserWarning, match="use a small part"):
        assert next(predictor.stream([dark])).notes == result.notes
    assert predictor(picture).notes == ()


def test_results_say_what_they_are_of(predictor: Predictor, picture: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert predictor(picture).name == "array (90, 130, 3) uint8"
    assert predictor(str(tmp_path / "a.png")).name == str(tmp_path / "a.png")
    assert predictor(Image.fromarray(picture)).name == "PIL image"


def test_text_of_a_predictor(folder: Path, predictor: Predictor) -> None:
    assert repr(predictor) == f"Predictor('{folder}', 2 classes: cat, dog, device=cpu, mode=exact)"
    model, config = load_model(folder)
    assert repr(Predictor.from_model(model, config, "cpu")).startswith("Predictor('a model in memory', 2 classes")


def test_a_model_of_a_wrong_type() -> None:
    with pytest.raises(UsageError, match=r"model: expected a name, folder or file, got list"):
        Predictor([])  # type: ignore[arg-type]


def test_bad_pictures(folder: Path, predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("no picture")
    for source in (tmp_path / "words.png", tmp_path / "missing.png", b"", b"\xff\xd8\xff"):
        with pytest.raises(DataError):
            predictor(source)
    with pytest.raises(DataError, match="0×7 pixels"):
        predictor(Image.new("RGB", (0, 7)))
    file = io.BytesIO()
    Image.new("RGB", (50, 50)).save(file, "PNG")
    with pytest.raises(DataError, match="50×50"):
        Predictor(folder, "cpu", max_pixels=2499)(file.getvalue())


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (700, 2)])
def test_extreme_shapes(predictor: Predictor, shape: tuple[int, int]) -> None:
    result = predictor(np.full((*shape, 3), 200, dtype=np.uint8))
    assert result.masks.data.shape == (len(result), *shape)
    assert result.plot(scale=1, legend=False).shape == (*shape, 3)


def test_stream_gives_what_single_calls_give(predictor: Predictor, picture: np.ndarray, tmp_path: Path) -> None:
    """Results and errors in the order of the sources; functions are called for their source."""
    path = tmp_path / "picture.png"
    Image.fromarray(picture).save(path)
    flipped = np.ascontiguousarray(picture[:, ::-1])
    sources: list[Source | Fetch] = [path, tmp_path / "missing.png", picture, lambda: flipped, b"no picture", flipped]
    for batch in (1, 2, 5, 9):
        told: list[tuple[int, object, CondinstError]] = []
        found: list[Result] = []
        for result in predictor.stream(sources, batch, lambda *what: told.append((len(found), *what))):  # noqa: B023
            found.append(result)
        for result, source in zip(found, (picture, picture, flipped, flipped), strict=True):
            assert same(result, predictor(source)) if batch == 1 else alike(result, predictor(source))
        assert found[0].path == path
        assert [(count, source) for count, source, _ in told] == [(1, sources[1]), (3, b"no picture")]
        assert all(isinstance(error, DataError) for _, _, error in told)
        assert "missing.png" in str(told[0][2])


def test_a_stream_raises_after_the_results_before_the_error(predictor: Predictor, picture: np.ndarray) -> None:
    for batch in (1, 2, 3, 4):
        stream = predictor.stream([picture, picture, b"no picture", picture], batch)
        assert all(isinstance(next(stream), Result) for _ in range(2))
        with pytest.raises(DataError, match="not an image"):
            next(stream)


def test_a_stream_that_skips_warns_of_each_source(predictor: Predictor, picture: np.ndarray, tmp_path: Path) -> None:
    sources = [tmp_path / "one.png", picture, tmp_path / "two.png", picture]
    with pytest.warns(UserWarning, match="left out") as told:
        found = list(predictor.stream(sources, 3, on_error="skip"))
    assert len(found) == 2
    assert [str(warning.message).split(": ")[1] for warning in told] == [str(sources[0]), str(sources[2])]
    assert all(warning.filename == __file__ for warning in told)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("the disk is gone"), "the disk is gone"),
        (ValueError(""), "ValueError"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("can't allocate memory: 9 GB"), "not enough memory"),
    ],
)
def test_whatever_a_source_raises_costs_that_source(
    predictor: Predictor,
    picture: np.ndarray,
    error: Exception,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> np.ndarray:
        raise error

    told: list[CondinstError] = []
    assert len(list(predictor.stream([picture, fail, picture], 2, lambda _, error: told.append(error)))) == 2
    monkeypatch.setattr("condinst.sources.read.read_picture", fail)
    path = tmp_path / "a.png"
    path.touch()
    assert len(list(predictor.stream([path, picture], 2, lambda _, error: told.append(error)))) == 1
    assert [isinstance(error, DataError) for error in told] == [True] * 2
    assert str(told[0]) == f"source function: cannot be used ({reason})"
    assert str(told[1]) == f"{path}: cannot be used ({reason})"


@pytest.mark.parametrize("stage", ["prepare", "forward", "assemble"])
def test_a_picture_too_large_for_the_memory_costs_that_picture(
    predictor: Predictor, picture: np.ndarray, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of its batch are seen one by one."""
    original = getattr(Pipeline, stage)

    def limited(pipeline: Pipeline, pictures: Any, *more: Any) -> Any:
        several = pictures.pictures if isinstance(pictures, Prepared) else pictures
        if any(one.array.shape[0] > 400 for one in several):
            raise MemoryError
        return original(pipeline, pictures, *more)

    expected = predictor(picture)
    monkeypatch.setattr(Pipeline, stage, limited)
    told: list[CondinstError] = []
    huge = np.zeros((401, 30, 3), np.uint8)
    found = list(predictor.stream([picture, huge, picture, picture], 3, lambda _, error: told.append(error)))
    assert len(found) == 3
    assert all(alike(result, expected) for result in found)
    assert [str(error).split(";")[0] for error in told] == [
        "array (401, 30, 3) uint8: not enough memory for 30×401 pixels"
    ]


def test_a_model_that_enlarges_pictures_beyond_the_memory(
    predictor: Predictor, folder: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings of a stranger's model must not end the machine; a stream goes on after the picture."""
    monkeypatch.setattr("condinst.inference.pipeline.free_memory", lambda: 4 * 2**30)
    words = r"not enough memory for 130×90 pixels, reduced to 16384×\d+ for the network; lower input.shorter"
    with pytest.raises(DataError, match=words) as caught:
        predictor(picture, size=(16384, 16384))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="not enough memory for 200 pictures together"):
        Predictor(folder, "cpu", shorter=512, longer=512).predict_batch([picture] * 200)
    told: list[CondinstError] = []
    small = np.zeros((9, 9, 3), np.uint8)
    assert list(predictor.stream([picture], 1, lambda _, error: told.append(error), size=(16384, 16384))) == []
    assert len(told) == 1
    assert predictor(small).orig_shape == (9, 9)


def test_sources_that_break_off_give_their_results_first(predictor: Predictor, picture: np.ndarray) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield picture
        yield picture
        raise OSError("the camera is gone")

    for batch in (1, 2, 3):
        stream = predictor.stream(broken(), batch, on_error="skip")
        assert all(isinstance(next(stream), Result) for _ in range(2))
        with pytest.raises(OSError, match="the camera is gone"):
            next(stream)


def test_settings_of_one_stream(predictor: Predictor, picture: np.ndarray) -> None:
    """They hold for that stream alone, and choose among what a call without them gives."""
    everything = predictor(picture)

    def first(**settings: Any) -> Result:
        return next(predictor.stream([picture], **settings))

    scores = everything.boxes.conf.tolist()
    middle = sorted(scores)[len(scores) // 2]
    assert first(conf=middle).boxes.conf.tolist() == [score for score in scores if score >= middle]
    assert 0 < len(first(max_detections=3)) <= 3
    dogs = first(classes="dog")
    assert set(dogs.boxes.cls.tolist()) == {1}
    assert len(dogs) >= int((everything.boxes.cls == 1).sum())  # cats took places among the best 12
    assert same(first(classes=["cat", 1]), everything)
    assert same(first(classes=[1]), dogs)
    assert len(first(classes=[])) == 0
    assert not same(first(size=32), everything)
    for size in ((96, 160), [96, 160], np.int64(96)):
        assert same(first(size=size), everything)
    assert len(first(iou=0)) < len(first(iou=1))
    assert same(predictor(picture), everything)


def test_an_unknown_setting_names_the_known_ones(predictor: Predictor, picture: np.ndarray) -> None:
    for call in (predictor, predictor.stream):
        with pytest.raises(
            TypeError, match=r"unexpected keyword argument 'imgsz'; a call takes conf, iou, .* size, range"
        ):
            call([picture], imgsz=320)
    with pytest.raises(TypeError, match="unexpected keyword argument 'imgsz'"):
        predictor(picture, imgsz=320)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"on_error": "ignore"}, "on_error: expected 'raise', 'skip' or a function"),
        ({"on_error": None}, "on_error: expected 'raise', 'skip' or a function"),
        ({"conf": 2}, "conf: expected a score from 0 to 1, got 2"),
        ({"conf": "high"}, "conf: expected a score from 0 to 1, got 'high'"),
        ({"max_detections": 0}, "max_detections"),
        ({"max_detections": 2.5}, "max_detections: expected a whole number from 1 on, got 2.5"),
        ({"max_detections": True}, "max_detections: expected a whole number from 1 on, got True"),
        ({"iou": 1.5}, "iou: expected a number from 0 to 1, got 1.5"),
        ({"size": -1}, "size: expected the shorter side in pixels, or .shorter, longer., got -1"),
        ({"size": 320.5}, "size: expected the shorter side"),
        ({"size": "320"}, "size: expected the shorter side"),
        ({"size": (160, 96)}, r"size: expected the shorter side .* got \(160, 96\)"),
        ({"size": (96, 160, 3)}, "size: expected the shorter side"),
        ({"size": ()}, "size: expected the shorter side"),
        ({"classes": "horse"}, "classes: there is no class 'horse'; the classes are cat, dog"),
        ({"classes": [0, 7]}, "classes: there is no class 7"),
    ],
)
def test_bad_settings_of_a_stream_are_told_at_once(
    predictor: Predictor, picture: np.ndarray, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        predictor.stream([picture], **settings)


def test_stream_is_lazy(predictor: Predictor, picture: np.ndarray) -> None:
    """Only a few pictures are held at a time, and the first result does not wait for the last source."""
    taken = []

    def endless() -> Iterator[np.ndarray]:
        while True:
            taken.append(1)
            yield picture

    stream = predictor.stream(endless())
    for _ in range(3):
        assert isinstance(next(stream), Result)
    assert len(taken) <= 8
    stream.close()
    assert list(predictor.stream([])) == []


def test_a_bad_setting_stops_the_stream(predictor: Predictor, picture: np.ndarray) -> None:
    """A wrong type is the caller's mistake, not a picture that cannot be used."""
    stream = predictor.stream([picture, picture.astype(np.int64)])
    with pytest.raises(UsageError, match="int64 does not state a range"):
        list(stream)


def test_a_predictor_keeps_its_own_copy(folder: Path, picture: np.ndarray) -> None:
    """The module it was made from may go on training."""
    model, config = load_model(folder)
    predictor = Predictor.from_model(model, config, "cpu")
    before = predictor(picture)
    model.train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert same(predictor(picture), before)
    assert model.training
