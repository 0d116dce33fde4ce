"""The PyTorch program for one size: it runs without condinst and answers as the model."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from condinst.config import Config
from condinst.export.compare import prepare
from condinst.inference.detect import detect
from condinst.inference.logits import mask_logits
from condinst.inference.network import make_network
from condinst.model.condinst import CondInst
from condinst.sources.read import read_source
from tests.export.conftest import draw, export

SECONDS = 120
HEIGHT, WIDTH = 64, 96
ALONE = """
import sys
import zipfile
sys.modules |= dict.fromkeys(("condinst", "torchvision", "timm"))  # an import of these fails
import numpy, torch
program = torch.export.load(sys.argv[1]).module()
images = torch.from_numpy(numpy.load(sys.argv[2]))
numpy.savez(sys.argv[3], *(output.detach().numpy() for image in images for output in program(image[None])))
"""


@pytest.fixture(scope="module")
def program(model_folder: Path, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("torch") / "out"
    done = export(model_folder, out, pictures, "--format", "torch", "--fixed", f"{HEIGHT}x{WIDTH}")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.yaml", "model.pt2"]
    assert "| `mask_logits` | (1, 20, 8, 12) float32 |" in (out / "README.md").read_text()
    return out / "model.pt2"


@pytest.fixture(scope="module")
def images(config: Config) -> Tensor:
    """Three pictures of one size, and one that is all of one colour."""
    arrays = [*(draw(HEIGHT, WIDTH, seed) for seed in range(3)), np.full((HEIGHT, WIDTH, 3), 128, np.uint8)]
    return prepare([read_source(array) for array in arrays], config, (HEIGHT, WIDTH)).tensor


def test_the_same_instances_without_condinst(
    program: Path, images: Tensor, model: CondInst, config: Config, tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", images.numpy())
    command = [sys.executable, "-I", "-c", ALONE, str(program), str(tmp_path / "images.npy"), str(tmp_path / "out.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    outputs = list(np.load(tmp_path / "out.npz").values())
    network = make_network(model, "exact", torch.device("cpu"), 32)
    for index in range(len(images)):
        with torch.inference_mode():
            output = network(images[index : index + 1])
            (wanted,) = detect(output, config.model, config.detect)
            masks = torch.cat(list(mask_logits(output.mask_features[0], wanted, config.model))).numpy()
        boxes, scores, labels, counts, logits = outputs[5 * index : 5 * index + 5]
        count = len(wanted.scores)
        assert counts.tolist() == [count]
        assert count > 5
        assert labels[0, :count].tolist() == wanted.labels.tolist()
        np.testing.assert_allclose(boxes[0, :count], wanted.boxes, rtol=0, atol=1e-3)
        np.testing.assert_allclose(scores[0, :count], wanted.scores, rtol=0, atol=1e-4)
        assert (labels[0, count:] == -1).all()
        assert np.abs(masks[(logits[0, :count] > 0) != (masks > 0)]).max(initial=0) < 1e-3


def test_the_notes_are_in_the_file(program: Path) -> None:
    notes: dict[str, str] = dict.fromkeys(("condinst_program", "model", "weights"), "")
    torch.export.load(program, extra_files=notes)
    assert notes["condinst_program"] == "1"
    assert len(notes["model"]) == 16
    assert len(notes["weights"]) == 32


def test_the_file_does_not_tell_where_the_code_lies(program: Path) -> None:
    with zipfile.ZipFile(program) as archive:
        for name in archive.namelist():
            assert str(Path(__file__).parents[3]).encode() not in archive.read(name), name
            assert b"site-packages" not in archive.read(name), name


def test_it_fits_the_size_only(program: Path, run: Callable[..., object]) -> None:
    loaded = torch.export.load(program).module()
    with pytest.raises((RuntimeError, AssertionError)):
        loaded(torch.zeros(1, 3, HEIGHT, WIDTH + 32))
