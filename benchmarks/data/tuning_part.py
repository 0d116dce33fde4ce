"""Set part of a training set apart to choose settings on, so that the held-out pictures choose nothing.

    python -m benchmarks.data.tuning_part datasets/mushrooms runs/tuning/mushrooms --photos 7

Writes OUT/train.json and OUT/val.json from DATA/train.json alone; OUT/images leads to DATA/images. Pictures that one
photo was turned into (Roboflow's names, PHOTO.rf.HASH.jpg) stay together, and of a photo set apart the first one is
measured.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Annotated, Any

import typer

Record = dict[str, Any]


def main(
    data: Annotated[Path, typer.Argument(help="Folder with train.json and images/.")],
    out: Path,
    photos: Annotated[int, typer.Option(min=1, help="How many are set apart.")],
    seed: int = 0,
) -> None:
    """Write the two parts."""
    coco = json.loads((data / "train.json").read_text())
    kept, apart = divide(coco["images"], photos, seed)
    out.mkdir(parents=True, exist_ok=True)
    (out / "images").symlink_to((data / "images").resolve(), target_is_directory=True)
    for name, images in (("train", kept), ("val", apart)):
        ids = {image["id"] for image in images}
        annotations = [one for one in coco["annotations"] if one["image_id"] in ids]
        (out / f"{name}.json").write_text(json.dumps(coco | {"images": images, "annotations": annotations}))
        print(f"{name}: {len(images)} pictures, {len(annotations)} objects")


def photo_of(image: Record) -> str:
    """The photo that a picture was made from."""
    return str(image["file_name"]).split(".rf.")[0]


def divide(images: list[Record], photos: int, seed: int) -> tuple[list[Record], list[Record]]:
    """The pictures of all photos but a random few, and one picture of each of these."""
    names = sorted({photo_of(image) for image in images})
    random.Random(seed).shuffle(names)
    first = {photo_of(image): image for image in reversed(images)}
    apart = set(names[:photos])
    kept = [image for image in images if photo_of(image) not in apart]
    return kept, [image for image in images if photo_of(image) in apart and image is first[photo_of(image)]]


if __name__ == "__main__":
    typer.run(main)
