"""Build a data set of the documentation from a copy of the place where it is published.

    git clone https://github.com/tomsains/SegMush
    python -m benchmarks.data.build mushrooms SegMush datasets/mushrooms

Writes OUT/train.json, OUT/val.json and OUT/images. `docs/how-to/data-sets.md` says where each set is published. The
files in `benchmarks/data/parts` say which pictures belong to which part, so that everyone measures on the same ones.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from PIL import Image
from pycocotools import mask as codec
from pydantic import BaseModel, ConfigDict

from benchmarks.facts import run_command
from condinst.errors import DataError, UsageError

Record = dict[str, Any]
EXPORT = "_annotations.coco.json"  # what Roboflow calls the file in each part of an export
PARTS = Path(__file__).parent / "parts"
FOLDERS = {"mushrooms": "data", "strawberry": "data", "potholes": "data", "facade": "", "nuclei": "stage1_train"}
SIDES = {"facade": 640}  # pixels that pictures are scaled to; the others stay as they are


class Found(NamedTuple):
    """A picture of the source and its objects as (class, polygons or RLE)."""

    path: Path
    objects: list[tuple[str, Any]]


class Division(BaseModel):
    """Which pictures are in which part, and the classes in their order."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    classes: tuple[str, ...]
    train: tuple[str, ...]
    val: tuple[str, ...]


def main(
    name: Annotated[str, typer.Argument(help="mushrooms, strawberry, potholes, facade or nuclei.")],
    source: Annotated[Path, typer.Argument(help="The copy of the repository.")],
    out: Annotated[Path, typer.Argument(help="A new folder.")],
) -> None:
    """Write the two parts of the set."""
    if name not in FOLDERS:
        raise UsageError(f"{name}: no such set; known are {', '.join(FOLDERS)}")
    if out.exists():
        raise UsageError(f"{out}: exists already; name a new folder")
    division = Division.model_validate_json((PARTS / f"{name}.json").read_bytes())
    pictures = nuclei(source / FOLDERS[name]) if name == "nuclei" else roboflow(source / FOLDERS[name])
    missing = sorted({*division.train, *division.val} - pictures.keys())
    if missing:
        raise DataError(f"{source}: {len(missing)} pictures of {name} are not there, {missing[0]} for one")
    write(division, pictures, out, SIDES.get(name, 0))


def roboflow(folder: Path) -> dict[str, Found]:
    """The pictures that Roboflow exported as COCO JSON, by name, from all parts of the export."""
    files = sorted(folder.glob(f"**/{EXPORT}"))
    if not files:
        raise DataError(f"{folder}: no {EXPORT} below it; give the folder of the cloned repository")
    found: dict[str, Found] = {}
    for file in files:
        content = json.loads(file.read_text(encoding="utf-8"))
        names = {each["id"]: each["name"] for each in content["categories"]}
        of_picture: dict[int, list[tuple[str, Any]]] = {}
        for each in content["annotations"]:
            of_picture.setdefault(each["image_id"], []).append((names[each["category_id"]], each["segmentation"]))
        for image in content["images"]:
            found[image["file_name"]] = Found(file.parent / image["file_name"], of_picture.get(image["id"], []))
    return found


def nuclei(folder: Path) -> dict[str, Found]:
    """The 2018 Data Science Bowl: a folder for each picture with a PNG for each nucleus."""
    folders = sorted(path for path in folder.glob("*") if (path / "masks").is_dir())
    if not folders:
        raise DataError(f"{folder}: no folders with masks/; give the folder of the cloned repository")
    found: dict[str, Found] = {}
    for each in folders:
        (picture,) = (each / "images").glob("*.png")
        masks = [("nucleus", mask_rle(path)) for path in sorted((each / "masks").glob("*.png"))]
        found[f"{each.name[:16]}.png"] = Found(picture, masks)
    return found


def mask_rle(path: Path) -> Record:
    """A mask picture as run lengths."""
    with Image.open(path) as picture:
        return _text(codec.encode(np.asfortranarray(np.asarray(picture.convert("L")) > 0, dtype=np.uint8)))


def _text(rle: Record) -> Record:
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def write(division: Division, pictures: Mapping[str, Found], out: Path, side: int) -> None:
    """Annotation files and pictures; nothing is left where something goes wrong."""
    (out / "images").mkdir(parents=True)
    try:
        for part, names in (("train", division.train), ("val", division.val)):
            made = document({name: pictures[name] for name in names}, division.classes, out / "images", side)
            (out / f"{part}.json").write_text(json.dumps(made))
            print(f"{part}: {len(made['images'])} pictures, {len(made['annotations']):,} objects")
    except BaseException:
        shutil.rmtree(out)
        raise


def document(pictures: Mapping[str, Found], classes: tuple[str, ...], images: Path, side: int) -> Record:
    """COCO's document of one part; its pictures are copied."""
    records: list[Record] = []
    objects: list[Record] = []
    for number, (name, found) in enumerate(pictures.items(), start=1):
        width, height, scale = copy_picture(found.path, images / name, side)
        records.append({"id": number, "file_name": name, "width": width, "height": height})
        for label, shape in found.objects:
            made = annotation(scaled(shape, scale), height, width) if label in classes else None
            if made is not None:
                more = {"id": len(objects) + 1, "image_id": number, "category_id": classes.index(label) + 1}
                objects.append(more | made)
    categories = [{"id": at, "name": name} for at, name in enumerate(classes, start=1)]
    return {"images": records, "annotations": objects, "categories": categories}


def copy_picture(path: Path, target: Path, side: int) -> tuple[int, int, float]:
    """Width, height and the factor of scaling. PNG pictures lose their alpha channel and nothing else."""
    with Image.open(path) as picture:
        if side and picture.width != side:
            scale = side / picture.width
            smaller = picture.convert("RGB").resize((side, round(picture.height * scale)), Image.Resampling.LANCZOS)
            smaller.save(target, "JPEG", quality=90)
            return *smaller.size, scale
        if path.suffix == ".png":
            rgb = picture.convert("RGB")
            red, green, blue = rgb.split()
            grey = red.tobytes() == green.tobytes() == blue.tobytes()
            (red if grey else rgb).save(target)
        else:
            shutil.copyfile(path, target)
        return *picture.size, 1.0


def scaled(shape: Any, scale: float) -> Any:
    """Polygons times `scale`, rounded to hundredths; run lengths as they are."""
    if isinstance(shape, dict):
        return shape
    return [[round(value * scale, 2) for value in ring] for ring in shape if len(ring) >= 6]


def annotation(shape: Any, height: int, width: int) -> Record | None:
    """A record with box and area computed from the mask; None where the mask is empty."""
    if not shape:
        return None
    rle = shape if isinstance(shape, dict) else codec.merge(codec.frPyObjects(shape, height, width))
    area = int(codec.area(rle))
    box = [float(value) for value in codec.toBbox(rle)]
    return {"iscrowd": 0, "area": area, "bbox": box, "segmentation": shape} if area else None


if __name__ == "__main__":
    run_command(main)
