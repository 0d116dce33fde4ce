"""Which annotation file and image folder the options mean."""

from __future__ import annotations

from pathlib import Path

from condinst.errors import DataError

INSTANCES = "instances_"  # how COCO's own annotation files begin; what follows is their pictures' folder


def locate(data: Path, images: Path | None, split: str) -> tuple[Path, Path]:
    """(annotation file, image folder) of `data`: a COCO file, or a folder that holds one for `split`.

    Without `images`, the folder `images` beside the annotation file or, for annotations/instances_train2017.json in
    COCO's own layout, train2017/. Raises DataError for what does not exist.
    """
    annotations = find_split(data, split) if data.is_dir() else data
    if annotations is None:
        raise DataError(
            f"{data}: holds neither {split}.json nor annotations/{INSTANCES}{split}YEAR.json; "
            "give a COCO JSON file or a folder with one of them"
        )
    if not annotations.is_file():
        raise DataError(f"{annotations}: no such annotation file; give a COCO JSON file or a folder with {split}.json")
    folder = _image_folder(annotations) if images is None else images
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images; give it with --images")
    return annotations, folder


def find_split(folder: Path, split: str) -> Path | None:
    """The annotation file for `split`: <split>.json, else annotations/instances_<split><year>.json; None without one.

    Raises DataError where COCO's files of several years leave a choice.
    """
    own = folder / f"{split}.json"
    if own.is_file():
        return own
    found = sorted((folder / "annotations").glob(f"{INSTANCES}{split}[0-9][0-9][0-9][0-9].json"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{folder}: holds {names}; name one of these files instead of the folder")
    return found[0] if found else None


def _image_folder(annotations: Path) -> Path:
    beside = annotations.parent / "images"
    if beside.is_dir() or not annotations.stem.startswith(INSTANCES):
        return beside
    return annotations.parent.parent / annotations.stem.removeprefix(INSTANCES)
