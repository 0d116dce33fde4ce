"""A process forked after a prediction with several threads predicts, too; a hang fails by the time limit."""

import multiprocessing
import subprocess
import sys

import pytest

SECONDS = 120
SETUP = """
import multiprocessing, warnings
import numpy as np, torch
from condinst.config import Config
from condinst.errors import UsageError
from condinst.model.condinst import CondInst
from condinst.predictor import Predictor

settings = ["model.backbone.name=mobilenetv2_035", "model.head={convs: 1, channels: 32, prior: 0.4}",
            "model.mask_branch={convs: 1, channels: 16}", "model.fpn_channels=32", "input={shorter: 160, longer: 160}"]
config = Config().with_overrides(["model.classes=[cat]", "detect.max_detections=5", *settings])
torch.manual_seed(0)
model = CondInst(config.model).eval()
picture = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
torch.set_num_threads(4)
predictor = Predictor.from_model(model, config, device="cpu")
before = predictor(picture)
fork = multiprocessing.get_context("fork")

def check(found):
    assert len(found) == len(before) > 0 and torch.allclose(found.boxes.xyxy, before.boxes.xyxy, atol=0.01)
"""
PROGRAM = """
from torch.utils.data import DataLoader, Dataset

def several():
    assert torch.get_num_threads() == 1
    check(predictor(picture))
    check(next(iter(predictor.stream([picture]))))
    check(Predictor.from_model(model, config, device="cpu")(picture))  # made in the process itself
    in_process(lambda: check(predictor(picture)))  # forked again

def refused():
    torch.set_num_threads(4)
    try:
        predictor(picture)
    except UsageError as error:
        assert "one thread" in str(error) and "spawn" in str(error) and "\\n" not in str(error)
        return
    raise AssertionError("not refused")

def in_process(work):
    child = fork.Process(target=work)
    child.start()
    child.join(30)
    child.kill()  # one that hangs
    child.join()
    assert child.exitcode == 0, child.exitcode

class Pictures(Dataset):
    def __len__(self): return 2
    def __getitem__(self, index): return predictor(picture)

in_process(several)
in_process(refused)
for found in DataLoader(Pictures(), batch_size=None, num_workers=1, multiprocessing_context="fork", timeout=30):
    check(found)
assert torch.get_num_threads() == 4  # this process keeps its threads
check(predictor(picture))
"""

pytestmark = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no process forks here")


def test_forked_after_a_prediction_with_several_threads() -> None:
    done = subprocess.run([sys.executable, "-c", SETUP + PROGRAM], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
