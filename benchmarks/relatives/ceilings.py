"""What masks inside boxes can reach at best: the truth, drawn as the squares of BlendMask and MEInst.

    python -m benchmarks.relatives.ceilings

A perfect detector knows every box. It draws each true mask as a square of 28×28 or 56×56 cells that fills the box, or
as the mask that MEInst's code of 60 numbers stands for. The code is learned from the training masks. The scores are the
best that a network with such masks can reach. Writes benchmarks/results/square-ceilings.json and the page.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from benchmarks.facts import RESULTS, ROOT, Facts, run_command
from benchmarks.relatives.contest import DATA
from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData, Sample
from condinst.evaluation.analysis import examine
from condinst.evaluation.cases import truth_of
from condinst.files import replace_file
from condinst.inference.instances.masks import Masks
from condinst.inference.paste import paste
from condinst.inference.result import Result
from condinst.ops.mask_code import decode_logits, encode, soft_logits
from condinst.structures import MaskCode
from condinst.training.boxed.learn_code import learn_code, square_of, squares_of

FILE = RESULTS / "square-ceilings.json"
NUMBERS = 60
KINDS = {"28×28 cells": 28, "56×56 cells": 56, f"28×28 cells from {NUMBERS} numbers": 28}


class Ceiling(Facts):
    """The best scores of a kind of mask on a data set."""

    data: str
    kind: str
    mask: float
    mask75: float
    large: float
    boundary: float


class Ceilings(Facts):
    """What the JSON file holds."""

    command: str
    rows: tuple[Ceiling, ...]


class Squares:
    """Answers with the annotations, their masks drawn as squares. code: or as masks of this code."""

    def __init__(self, data: AnnotatedData, side: int, code: MaskCode | None, limit: int) -> None:
        self.config = Config.from_dict({"detect": {"max_detections": limit}})
        self.samples = {sample.path: sample for sample in data.samples}
        self.classes, self.side, self.code = data.classes, side, code

    @property
    def names(self) -> dict[int, str]:
        return dict(enumerate(self.classes))

    def __call__(self, source: Path) -> Result:
        sample = self.samples[source]
        truth = truth_of(sample, self.classes)
        if not len(truth):
            return truth
        boxes = truth.boxes.xyxy.clone()
        boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 0.1)  # a line has no area to fill
        masks = paste(self._values(sample), boxes, truth.orig_shape, 0.5)
        return replace(truth, masks=Masks(tuple(masks), truth.orig_shape))

    def _values(self, sample: Sample) -> Tensor:
        """(K, side, side) float32: the probabilities that a perfect network draws."""
        squares = [square_of(one, sample, self.side) for one in sample.instances if not one.crowd]
        drawn = torch.stack([torch.from_numpy(square) for square in squares if square is not None])
        if self.code is None:
            return drawn.float()
        flat = drawn.flatten(1)
        logits = soft_logits(flat, torch.full(flat.shape, 0.5))
        return decode_logits(encode(logits, self.code), self.code).sigmoid().view_as(drawn)


def main(
    datasets: Annotated[Path, typer.Option(help="Folder of the data sets.")] = Path("datasets"),
    out: Annotated[Path, typer.Option(help="The JSON file.")] = FILE,
) -> None:
    """Measure and write."""
    from benchmarks.relatives.page import write_page
    from benchmarks.relatives.record import FOLDER

    rows = [row for name in DATA for row in ceilings(name, datasets / name)]
    found = Ceilings(command="python -m benchmarks.relatives.ceilings", rows=tuple(rows))
    replace_file(out, (found.model_dump_json(indent=1) + "\n").encode())
    if out == FILE:
        write_page(FOLDER, ROOT)


def ceilings(name: str, folder: Path) -> list[Ceiling]:
    """The rows of a data set."""
    held_out = read_coco(folder / "val.json", folder / "images")
    code = learn_code(squares_of(read_coco(folder / "train.json", folder / "images"), 28), NUMBERS).code
    limit, rows = DATA[name].limit, []
    for kind, side in KINDS.items():
        drawn = Squares(held_out, side, code if "from" in kind else None, limit)
        scores, analysis = examine(held_out, drawn, limit)
        boundary = -1 if analysis.boundary is None else analysis.boundary.AP
        rows.append(
            Ceiling(
                data=name,
                kind=kind,
                mask=scores.segm.AP,
                mask75=scores.segm.AP75,
                large=scores.segm.APl,
                boundary=boundary,
            )
        )
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    run_command(main)
