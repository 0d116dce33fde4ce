"""Keep a step whose loss or gradient is not finite: its pictures, and a JSON file that lists them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from condinst.data.batch import Batch
from condinst.data.sample import Array8
from condinst.engine.run_folder.own_files import NON_FINITE
from condinst.errors import some
from condinst.settings.model import ModelConfig

NAMED = 3  # files in the one line that a user sees


def save_parts(
    folder: Path,
    iteration: int,
    batches: Sequence[Batch],
    losses: Sequence[Mapping[str, Tensor]],
    settings: ModelConfig,
    seed: int,
    process: int,
) -> str:
    """Write pictures and batch.json of this process's share; returns, for an error's line, what they show and where.

    The parts whose own losses are not finite; all where it is only the gradient, or another process's.
    """
    target = folder / NON_FINITE.format(iteration)
    numbers = [{name: float(loss) for name, loss in part.items()} for part in losses]
    bad = [index for index, part in enumerate(numbers) if not all(map(math.isfinite, part.values()))]
    records = []
    files: list[str] = []
    for index in bad or range(len(batches)):
        pictures = _write_pictures(target, batches[index], settings, f"{process}-{index}")
        files += [path.name for paths in batches[index].paths for path in paths]
        records.append({"losses": {name: str(value) for name, value in numbers[index].items()}, "pictures": pictures})
    name = "batch.json" if process == 0 else f"batch-{process}.json"
    document = {"iteration": iteration, "seed": seed, "process": process, "parts": records}
    (target / name).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return f"its pictures, {some(list(dict.fromkeys(files)), NAMED)}, are in {target}"


def _write_pictures(target: Path, batch: Batch, settings: ModelConfig, stem: str) -> list[dict[str, Any]]:
    """One PNG per picture of the batch, as the network saw it, and its record."""
    target.mkdir(parents=True, exist_ok=True)
    records = []
    for number, truth in enumerate(batch.truths):
        name = f"{stem}-{number}.png"
        Image.fromarray(unnormalise(batch, number, settings)).save(target / name)
        records.append(
            {
                "picture": name,
                "files": [str(path) for path in batch.paths[number]],
                "epoch": batch.keys[number][0],
                "index": batch.keys[number][1],
                "boxes": truth.boxes.tolist(),
                "labels": [settings.classes[label] for label in truth.labels.tolist()],
            }
        )
    return records


def unnormalise(batch: Batch, number: int, settings: ModelConfig) -> Array8:
    """(h, w, 3) uint8 RGB of one picture of a batch, without its padding."""
    height, width = batch.images.sizes[number]
    array = batch.images.tensor[number, :, :height, :width].float().permute(1, 2, 0).cpu().numpy()
    pixels = array * np.array(settings.pixel_std) + np.array(settings.pixel_mean)
    ordered = pixels if settings.channel_order == "RGB" else pixels[:, :, ::-1]
    rounded: Array8 = np.nan_to_num(ordered).round().clip(0, 255).astype(np.uint8)
    return rounded
