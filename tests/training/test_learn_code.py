"""The mask code of a training set, and its file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from condinst.data.open import open_data
from condinst.data.sample import Instance, Polygons, RunLengths, Sample
from condinst.errors import DataError, ModelError, UsageError
from condinst.ops.mask_code import decode_logits, encode, soft_logits
from condinst.training.boxed import learn_code as module
from condinst.training.boxed.code_file import code_for, pack_code, read_code
from condinst.training.boxed.learn_code import learn_code, square_of, squares_of
from tests.parity.boxed.formula import FOLDERS, MATRIX, REFERENCE, SKIP

FACADE = Path(__file__).parent.parent / "data" / "facade"


def ellipses(count: int, side: int = 10) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] + 0.5
    found = []
    for _ in range(count):
        cx, cy, a, b = random.uniform(0.3, 0.7, 4) * side
        found.append((((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1) | (random.random() < 0.02))
    return found


def test_the_code_is_the_principal_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """As NumPy's singular values of the centred logits give them, in whatever batches they are summed."""
    monkeypatch.setattr(module, "MOST_HELD", 0)
    squares = ellipses(400)
    learned = learn_code(squares, 12, seed=7)
    assert (learned.masks, learned.held) == (400, 0)
    masks = torch.from_numpy(np.stack(squares)).flatten(1)
    logits = soft_logits(masks, torch.rand(masks.shape, generator=torch.Generator().manual_seed(7))).double().numpy()
    centred = logits - logits.mean(axis=0)
    _, values, rows = np.linalg.svd(centred, full_matrices=False)
    variances = values**2 / 399
    np.testing.assert_allclose(learned.code.means, logits.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(learned.code.variances, variances[:12], rtol=1e-5)
    np.testing.assert_allclose(learned.ratio, variances[:12] / variances.sum(), rtol=1e-4)
    cosines = np.abs((learned.code.components.numpy() * rows[:12]).sum(axis=1))
    np.testing.assert_allclose(cosines, 1, atol=1e-3)
    largest = learned.code.components.abs().argmax(dim=1, keepdim=True)
    assert (learned.code.components.gather(1, largest) > 0).all()


def test_batches_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    squares = ellipses(300)
    one, again, other = (learn_code(iter(squares), 10, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.code, again.code, strict=True))
    assert one.iou == again.iou
    assert not torch.equal(one.code.means, other.code.means)
    assert (one.masks, one.held) == (270, 30)
    assert 0.8 < one.iou <= 1
    wanted = {100: 0.0, 2: one.iou}
    assert learn_code(squares, 2).iou < wanted[2]
    monkeypatch.setattr(module, "MOST_HELD", 5)
    assert learn_code(squares, 10).held == 5


def test_too_few_masks() -> None:
    with pytest.raises(DataError, match="a code of 60 numbers needs more than 61 masks with as many cells, got 45"):
        learn_code(ellipses(50), 60)
    with pytest.raises(DataError, match="got 0; give more data"):
        learn_code([], 1)


def test_real_masks() -> None:
    """Polygons, run lengths, crowds and boxes without a mask."""
    data = open_data(FACADE, "train")
    squares = list(squares_of(data, 28))
    assert len(squares) > 100
    learned = learn_code(squares, 20)
    assert learned.iou > 0.9
    box = (10.0, 20.0, 30.0, 40.0)
    sample = Sample(Path("x"), 0, 100, 100, ())
    whole = RunLengths.of(np.ones((20, 20), dtype=np.bool_), 10, 20)
    corners = np.array([[10.0, 20], [30, 20], [30, 40], [10, 40]])
    for shape in (whole, Polygons((corners,))):
        square = square_of(Instance(0, box, shape, False, 1), sample, 28)
        assert square is not None
        assert square.all()
    assert square_of(Instance(0, box, None, False, 1), sample, 28) is None
    half = Polygons((np.array([[10.0, 20], [30, 20], [10, 40]]),))
    square = square_of(Instance(0, box, half, False, 1), sample, 28)
    assert square is not None
    assert 0.45 < square.mean() < 0.55
    assert square[0].sum() > square[-1].sum()


@SKIP
def test_squares_of_polygons_are_the_published_ones() -> None:
    records = json.loads((REFERENCE / "training" / "train.json").read_text())["_batch"]
    arrays = np.load(FOLDERS["BlendMask"] / "train_BlendMask_R50.npz")
    indices = arrays["gt_mask56#gt_inds"]
    theirs = np.unpackbits(arrays["gt_mask56"].reshape(len(indices), -1), axis=1)[:, :3136].reshape(-1, 56, 56)
    things = [(record, thing) for record in records for thing in record["objects"]]
    for index, expected in zip(indices.tolist(), theirs, strict=True):
        record, thing = things[index]
        parts = tuple(np.array(part).reshape(-1, 2) for part in thing["polygons"])
        corners = np.concatenate(parts)
        box = tuple(np.float32([*corners.min(0), *corners.max(0)]).tolist())
        instance = Instance(0, box, Polygons(parts), False, 1)
        square = square_of(instance, Sample(Path("x"), 0, record["W"], record["H"], ()), 56)
        assert np.array_equal(square, expected.astype(bool))


def test_file(tmp_path: Path) -> None:
    learned = learn_code(ellipses(100), 6)
    path = tmp_path / "code.npz"
    path.write_bytes(pack_code(learned.code, learned.ratio))
    assert pack_code(learned.code, learned.ratio) == path.read_bytes()
    assert all(torch.equal(a, b) for a, b in zip(read_code(path), learned.code, strict=True))
    assert np.load(path)["components_c"].shape == (1, 6, 100)
    assert all(torch.equal(a, b) for a, b in zip(code_for(path, 6, 10), learned.code, strict=True))
    with pytest.raises(UsageError, match=r"codes of 6 numbers for 10×10 masks; the model has model\.meinst\.code=60"):
        code_for(path, 60, 28)


@SKIP
def test_the_published_layout_is_read() -> None:
    code = read_code(MATRIX)
    assert [tuple(part.shape) for part in code] == [(60, 784), (60,), (784,)]
    masks = torch.from_numpy(np.stack(list(squares_of(open_data(FACADE, "train"), 28)))).flatten(1)
    uniform = torch.rand(masks.shape, generator=torch.Generator().manual_seed(0))
    drawn = decode_logits(encode(soft_logits(masks, uniform), code), code) >= 0
    assert ((drawn & masks).sum(dim=1) / (drawn | masks).sum(dim=1)).mean() > 0.95


def test_files_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "code.npz"
    good = {"components_c": np.eye(4)[None], "explained_variance_c": np.ones((1, 4)), "mean_c": np.zeros((1, 4))}
    cases: list[tuple[dict[str, np.ndarray], str]] = [
        ({"mean_c": np.zeros((1, 4))}, "no array components_c"),
        (good | {"mean_c": np.zeros((1, 5))}, "not those of a mask code: components_c"),
        (good | {"components_c": np.eye(4)[:, :3][None], "mean_c": np.zeros((1, 3))}, "not those of a mask code"),
        (good | {"mean_c": np.array([[np.nan] * 4])}, "NaN, infinity or a variance"),
        (good | {"explained_variance_c": np.zeros((1, 4))}, "NaN, infinity or a variance"),
        (good | {"components_c": np.array([None])}, "not readable as arrays"),
    ]
    for arrays, words in cases:
        np.savez(path, **arrays)
        with pytest.raises(ModelError, match=words) as caught:
            read_code(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ModelError, match="Git LFS pointer"):
        read_code(path)
    with pytest.raises(ModelError, match="not readable as arrays"):
        read_code(tmp_path / "absent.npz")
