"""Nothing in the folder of a data set is lost in silence: subsets of any name, sub-folders, links, unused files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from condinst.data.findings import Finding
from condinst.data.formats.convert import Target, convert_data
from condinst.data.formats.splits import name_subsets
from condinst.data.open import find_source, list_splits, open_data
from condinst.errors import DataError

Make = Callable[[Path], None]
WIDTH, HEIGHT = 16, 12
APPLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(50)
NUMBERS = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
NUMBERS[2:6, 2:6], NUMBERS[7:10, 8:14] = 1, 2


def picture(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(path)


def numbers(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(NUMBERS).save(path)


def coco(file: Path, names: Sequence[str], ids: int = 1) -> None:
    """Each picture with one object."""
    file.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT} for i, name in enumerate(names, ids)]
    records = [
        {"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, "bbox": [2, 2, 4, 4], "area": 16,
         "segmentation": [[2, 2, 6, 2, 6, 6, 2, 6]]} for i in range(ids, ids + len(names))
    ]  # fmt: skip
    document = {"annotations": records, "images": images, "categories": [{"id": 1, "name": "cell"}]}
    file.write_text(json.dumps(document))


def labelme(*files: Path) -> None:
    """Each with its picture beside it."""
    shape = {"label": "cell", "points": [[2, 2], [6, 2], [6, 6]], "shape_type": "polygon", "group_id": None}
    for file in files:
        picture(file.with_suffix(".png"))
        document = {"shapes": [shape], "imagePath": f"{file.stem}.png", "imageHeight": HEIGHT, "imageWidth": WIDTH}
        file.write_text(json.dumps(document | {"imageData": None}))


def yolo(*labels: Path) -> None:
    for file in labels:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")


def image(number: int, name: str, subset: str) -> str:
    return (
        f'<image id="{number}" name="{name}" subset="{subset}" width="{WIDTH}" height="{HEIGHT}">'
        '<polygon label="cell" points="2,2;6,2;6,6"/></image>'
    )


def in_coco_files(root: Path) -> None:
    for split in ("train", "val", "extra"):
        picture(root / "images" / f"{split}.png")
        coco(root / f"{split}.json", [f"{split}.png"])


def in_cvats_coco(root: Path) -> None:
    for split in ("Train", "Validation", "extra"):
        picture(root / "images" / split / "a.png")
        coco(root / "annotations" / f"instances_{split}.json", ["a.png"])


def in_coco_folders(root: Path) -> None:
    for split in ("train", "valid", "extra"):
        picture(root / split / "a.png")
        coco(root / split / "_annotations.coco.json", ["a.png"])


def in_labelme_folders(root: Path) -> None:
    labelme(*(root / split / "a.json" for split in ("train", "val", "extra")))


def in_cvat(root: Path) -> None:
    pairs = [("Train", "train"), ("Validation", "val"), ("extra", "extra")]
    picture(*(root / "images" / subset / f"{name}.png" for subset, name in pairs))
    images = "".join(image(number, f"{name}.png", subset) for number, (subset, name) in enumerate(pairs))
    (root / "annotations.xml").write_text(f"<annotations>{images}</annotations>")


def in_label_images(root: Path) -> None:
    for split in ("train", "val", "extra"):
        picture(root / "images" / split / "a.png")
        numbers(root / "labels" / split / "a.png")


def in_mask_folders(root: Path) -> None:
    for split in ("train", "val", "extra"):
        picture(root / "images" / split / "a.png")
        numbers(root / "masks" / split / "a" / "0.png")


def in_data_yaml(root: Path) -> None:
    for split in ("train", "val", "extra"):
        picture(root / "images" / split / "a.png")
        yolo(root / "labels" / split / "a.txt")
    keys = {split: f"images/{split}" for split in ("train", "val", "extra")}
    (root / "data.yaml").write_text(yaml.safe_dump({**keys, "names": ["cell"], "description": "images"}))


def in_voc_lists(root: Path) -> None:
    for split in ("train", "val", "extra"):
        picture(root / "JPEGImages" / f"{split}.jpg")
        numbers(root / "SegmentationObject" / f"{split}.png", root / "SegmentationClass" / f"{split}.png")
        (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(split)
    (root / "ImageSets" / "Segmentation" / "trainval.txt").write_text("train\nval")


WITH_SUBSETS = [
    in_coco_files, in_cvats_coco, in_coco_folders, in_labelme_folders, in_cvat, in_label_images, in_mask_folders,
    in_data_yaml, in_voc_lists,
]  # fmt: skip


@pytest.mark.parametrize("make", WITH_SUBSETS, ids=lambda make: make.__name__)
def test_a_subset_of_any_name_is_kept_and_told(tmp_path: Path, make: Make) -> None:
    root = tmp_path / "set"
    make(root)
    assert list_splits(root) == ("train", "val", "extra")
    for split in ("train", "val", "extra"):
        data = open_data(root, split)
        assert len(data.samples) == 1
        told = [note for note in data.notes if "uses no picture" in note]
        assert told == ([] if split == "extra" else [
            f"{root}: {split} uses no picture of extra; to use one of them, name its file or folder"
        ])  # fmt: skip
        assert not [note for note in data.notes if "left out" in note]
    done = convert_data(root, tmp_path / "out", "coco")
    assert [(part.name, part.pictures) for part in done.written] == [("train", 1), ("val", 1), ("extra", 1)]
    assert list_splits(tmp_path / "out") == ("train", "val", "extra")


@pytest.mark.parametrize("target", ["coco", "yolo", "labelme"])
def test_subsets_without_train_are_kept_by_every_format(tmp_path: Path, target: Target) -> None:
    root = tmp_path / "set"
    for name in ("monday", "tuesday"):
        picture(root / "images" / f"{name}.png")
        coco(root / f"{name}.json", [f"{name}.png"])
    with pytest.raises(DataError, match="has monday, tuesday but no train split; name the file"):
        open_data(root)
    convert_data(root, tmp_path / "out", target)
    again = convert_data(tmp_path / "out", tmp_path / "again", "coco")
    assert sum(part.pictures for part in again.written) == 2


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Train", "valid", "x"], {"train": "Train", "val": "valid", "x": "x"}),
        (["training", "train"], {"train": "train", "training": "training"}),
        (["train", "Train"], {"train": "train", "Train-2": "Train"}),
        (["all", "", "../up", "nämes", "names"], {
            "default": "", "up": "../up", "all_subset": "all", "names_subset": "names", "nämes": "nämes",
        }),
        (["a/b", "a_b"], {"a_b": "a/b", "a_b-2": "a_b"}),
    ],
)  # fmt: skip
def test_names_of_subsets_are_fit_for_files_and_unique(names: list[str], expected: dict[str, str]) -> None:
    assert name_subsets(names) == expected
    assert next(iter(name_subsets(names))) == next(iter(expected))


def test_a_file_of_all_pictures_is_not_written_twice(tmp_path: Path) -> None:
    """But one of the same pictures with other objects is."""
    root = tmp_path / "set"
    in_coco_files(root)
    coco(root / "annotations.json", ["train.png", "val.png"])
    done = convert_data(root, tmp_path / "out", "coco")
    assert [part.name for part in done.written] == ["train", "val", "extra"]
    file = root / "annotations.json"
    assert f"{file}: left out, because train and val hold all of its 2 pictures and their objects" in done.notes
    file.write_text(file.read_text().replace('"cell"', '"nucleus"'))
    done = convert_data(root, tmp_path / "more", "coco")
    assert [(part.name, part.pictures) for part in done.written][-1] == ("extra", 1)
    assert ("annotations_subset", 2, 2) in done.written


def count(root: Path, **splits: Any) -> tuple[list[str], list[tuple[str, str]]]:
    """The notes without the root, and the findings' kinds and files."""
    found: list[Finding] = []
    source = find_source(root)
    read = {name: source.read(name) for name in source.splits or ("train",)}
    notes = source.count_unread(read, report=found.append)
    place = root if root.is_dir() else root.parent
    kinds = [(finding.kind, finding.file.relative_to(place).as_posix()) for finding in found]
    return [note.removeprefix(f"{place}: ") for note in notes], kinds


def test_what_no_subset_uses_is_counted(tmp_path: Path) -> None:
    in_coco_files(tmp_path)
    picture(tmp_path / "images" / "more" / "b.png", tmp_path / "c.jpg")
    (tmp_path / "raw.DNG").write_bytes(b"x")
    yolo(tmp_path / "labels" / "a.TXT")
    picture(tmp_path / "old" / "d.png")
    coco(tmp_path / "old" / "d.json", ["d.png"])
    (tmp_path / "images.zip").write_bytes(b"x")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    for name in ("LICENSE.txt", "settings.json", "classes.txt"):  # no annotations
        (tmp_path / name).write_text("1 cell" if name.endswith("txt") else "{}")
    notes, kinds = count(tmp_path)
    assert notes == [
        "left out 4 pictures that no annotation names (1 in images/more, 1 in old, 2 in the folder itself)",
        "left out 2 annotation files that belong to no picture or subset read here (labels/a.TXT, old/d.json)",
        "left out 1 archives; unpack them if they belong to the data set (images.zip)",
        "left out 1 broken links (gone)",
    ]
    assert set(kinds) == {
        ("unlisted-picture", "."), ("unlisted-picture", "images/more"), ("unlisted-picture", "old"),
        ("unread-annotations", "labels"), ("unread-annotations", "old"), ("packed-archive", "images.zip"),
        ("broken-link", "gone"),
    }  # fmt: skip
    assert [note for note in open_data(tmp_path, "val").notes if "left out" in note] == [
        f"{tmp_path}: {note}" for note in notes
    ]


def left_out(root: Path) -> list[str]:
    return [note.removeprefix("left out ") for note in count(root)[0]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.json", b""),
        ("broken.json", b'{"images": [{"id": 1, "file_na'),
        ("via.json", b'{"a.png1": {"regions": [{"shape_attributes": {}}]}}'),
        ("supervisely.json", b'{"size": {"height": 12}, "objects": []}'),
        ("wide.json", json.dumps({"images": [], "annotations": []}).encode("utf-16")),
        ("empty.xml", b""),
        ("late.xml", b"<?xml version='1.0'?><!--" + b"-" * 9000 + b"--><annotations></annotations>"),
        ("scope.xml", b"<Annotations><Annotation/></Annotations>"),
        ("marked.txt", b"\xef\xbb\xbf0 0.1 0.1 0.5 0.1 0.5 0.5\n"),
        ("wide.txt", "0 0.1 0.1 0.5 0.1 0.5 0.5\n".encode("utf-16")),
        ("comma.txt", b"0 0,1 0,1 0,5 0,1 0,5 0,5\n"),
        ("list.txt", b"0,0.1,0.1,0.5,0.1,0.5,0.5\n"),
    ],
)
def test_an_annotation_file_that_no_reader_reads_is_counted(tmp_path: Path, name: str, content: bytes) -> None:
    in_data_yaml(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert left_out(tmp_path) == [f"1 annotation files that belong to no picture or subset read here ({name})"]


@pytest.mark.parametrize("name", ["settings.json", "README", "LICENSE.txt", "notes.md", "prepare.py", "labels.cache"])
def test_documents_are_not_counted(tmp_path: Path, name: str) -> None:
    in_data_yaml(tmp_path)
    (tmp_path / name).write_text("{}")
    assert count(tmp_path) == ([], [])


def test_files_of_other_kinds_are_counted_by_ending(tmp_path: Path) -> None:
    in_data_yaml(tmp_path)
    for name in ("a.csv", "b.CSV", "a_seg.npy", "film.mp4", "scan", "images/cells.czi", "x.tar.zst", "x.7z.001"):
        (tmp_path / name).write_bytes(b"x")
    assert left_out(tmp_path) == [
        "1 pictures that no annotation names (images/cells.czi)",
        "2 archives; unpack them if they belong to the data set (x.7z.001, x.tar.zst)",
        "5 files of kinds that condinst does not read: 2 .csv, 1 .npy, 1 .mp4, 1 without ending "
        "(5 in the folder itself)",
    ]
    assert {kind for kind, _ in count(tmp_path)[1]} == {"unlisted-picture", "packed-archive", "unread-file"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_pipes_and_devices_are_counted_and_not_opened(tmp_path: Path) -> None:
    labelme(tmp_path / "a.json")
    os.mkfifo(tmp_path / "b.png")
    os.mkfifo(tmp_path / "b.json")
    (tmp_path / "c.json").symlink_to("/dev/zero")
    assert left_out(tmp_path) == ["3 pipes, sockets or devices (b.json, b.png, c.json)"]
    assert count(tmp_path)[1] == [("unread-file", name) for name in ("b.json", "b.png", "c.json")]


def test_a_file_that_is_named_counts_the_pictures_beside_its_own(tmp_path: Path) -> None:
    in_coco_files(tmp_path)
    assert count(tmp_path / "train.json") == ([], [])
    picture(tmp_path / "images" / "b.png")
    assert count(tmp_path / "train.json")[0] == ["left out 1 pictures that no annotation names (images/b.png)"]


def test_a_data_yaml_that_is_named_counts_its_folder_and_that_of_its_path(tmp_path: Path) -> None:
    in_data_yaml(tmp_path / "set")
    picture(tmp_path / "set" / "images" / "new" / "b.png")
    expected = ["left out 1 pictures that no annotation names (images/new/b.png)"]
    assert count(tmp_path / "set" / "data.yaml")[0] == expected
    document = yaml.safe_load((tmp_path / "set" / "data.yaml").read_text())
    (tmp_path / "set" / "data.yaml").unlink()
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "my.yaml").write_text(yaml.safe_dump({"path": "../set", **document}))
    (note,) = count(tmp_path / "conf" / "my.yaml")[0]
    assert note.startswith("left out 1 pictures")
    assert note.endswith("set/images/new/b.png)")


def test_a_closed_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_coco_files(tmp_path)
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="closed: the folder cannot be read; check its permissions"):
        open_data(tmp_path)


def test_pages_of_a_stack_are_counted(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    page = Image.new("RGB", (WIDTH, HEIGHT))
    for name in ("a.tif", "b.png"):
        other = Image.new("RGB", (WIDTH, HEIGHT), "red")
        page.save(tmp_path / "images" / name, save_all=True, append_images=[other, page])
    picture(tmp_path / "images" / "c.png")
    coco(tmp_path / "annotations.json", ["a.tif", "b.png", "c.png"])
    (note,) = open_data(tmp_path).notes
    assert note.endswith("2 picture files hold several pages (a.tif has 3); only the first of each is read")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a"])
def test_pages_are_counted_by_content_whatever_the_ending(tmp_path: Path, name: str) -> None:
    (tmp_path / "images").mkdir()
    page = Image.new("RGB", (WIDTH, HEIGHT))
    page.save(tmp_path / "images" / name, "MPO", save_all=True, append_images=[page])
    coco(tmp_path / "annotations.json", [name])
    (note,) = open_data(tmp_path).notes
    assert note.endswith(f"1 picture files hold several pages ({name} has 2); only the first of each is read")


def test_two_pictures_of_one_name_share_a_label_file(tmp_path: Path) -> None:
    for kind in ("yolo", "numbers"):
        picture(tmp_path / kind / "images" / "a.png", tmp_path / kind / "images" / "a.jpg")
    yolo(tmp_path / "yolo" / "labels" / "a.txt")
    (tmp_path / "yolo" / "data.yaml").write_text("train: images\nnames: [cell]")
    numbers(tmp_path / "numbers" / "labels" / "a.png")
    for kind in ("yolo", "numbers"):
        found: list[Finding] = []
        data = open_data(tmp_path / kind, report=found.append)
        assert [finding.kind for finding in found] == ["shared-labels"]
        assert "1 pictures share their label file with another picture of the same name" in data.notes[0]


def nested_label_images(root: Path) -> None:
    for name in ("a", "p2/b", "p2/deep/c"):
        picture(root / "images" / f"{name}.png")
        numbers(root / "labels" / f"{name}_mask.png")


def nested_masks(root: Path) -> None:
    for name in ("a", "p2/b", "p2/deep/c"):
        picture(root / "images" / f"{name}.png")
        numbers(root / "masks" / name / "0.png")


def nested_yolo(root: Path) -> None:
    for name in ("a", "p2/b", "p2/deep/c"):
        picture(root / "images" / f"{name}.png")
        yolo(root / "labels" / f"{name}.txt")
    (root / "data.yaml").write_text("train: images\nnames: [cell]")


def nested_labelme(root: Path) -> None:
    labelme(*(root / f"{name}.json" for name in ("a", "p2/b", "p2/deep/c")))


def nested_voc(root: Path) -> None:
    for name in ("a", "p2/b", "p2/deep/c"):
        picture(root / "JPEGImages" / f"{name}.jpg")
        numbers(root / "SegmentationObject" / f"{name}.png", root / "SegmentationClass" / f"{name}.png")


def own_folders(root: Path) -> None:
    for name in "abc":
        picture(root / name / "images" / f"{name}.png")
        numbers(root / name / "masks" / "0.png")


NESTED = [nested_label_images, nested_masks, nested_yolo, nested_labelme, nested_voc, own_folders]


@pytest.mark.parametrize("make", NESTED, ids=lambda make: make.__name__)
def test_sub_folders_links_system_files_and_capital_letters(tmp_path: Path, make: Make) -> None:
    """Each changes nothing of what is read."""
    make(tmp_path / "set")
    assert [path.stem for path in paths(tmp_path / "set")] == ["a", "b", "c"]
    for file in [path for path in (tmp_path / "set").rglob("*") if path.is_file()]:
        file.with_name(f"._{file.name}").write_bytes(APPLE)
        (file.parent / "Thumbs.db").write_bytes(b"x")
        (file.parent / "@eaDir").mkdir(exist_ok=True)
        shutil.copy(file, file.parent / "@eaDir")
    shutil.copytree(tmp_path / "set", tmp_path / "set" / "__MACOSX")
    assert [path.stem for path in paths(tmp_path / "set")] == ["a", "b", "c"]
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in (tmp_path / "set").iterdir():
        (linked / path.name).symlink_to(path)
    folder = next(path for path in (tmp_path / "set").iterdir() if path.is_dir() and path.name[0] not in "_@")
    (folder / "loop").symlink_to(linked)
    assert [path.stem for path in paths(linked)] == ["a", "b", "c"]


def paths(root: Path) -> list[Path]:
    data = open_data(root)
    assert not [note for note in data.notes if "pictures" in note or "files" in note]
    assert all(sample.instances for sample in data.samples)
    return [sample.path for sample in data.samples]


@pytest.mark.parametrize(
    "make", [nested_label_images, nested_masks, nested_yolo, own_folders], ids=lambda it: it.__name__
)
def test_names_in_capital_letters(tmp_path: Path, make: Make) -> None:
    make(tmp_path / "set")
    for path in sorted((tmp_path / "set").rglob("*"), key=lambda path: -len(path.parts)):
        if path.name in ("images", "labels", "masks") or path.suffix in (".txt", ".yaml"):
            path.rename(path.with_name(path.name.upper()))
    assert [path.stem for path in paths(tmp_path / "set")] == ["a", "b", "c"]


def test_a_json_or_xml_in_capital_letters(tmp_path: Path) -> None:
    in_coco_files(tmp_path / "coco")
    for file in (tmp_path / "coco").glob("*.json"):
        file.rename(file.with_name(file.name.upper()))
    (tmp_path / "coco" / "images").rename(tmp_path / "coco" / "Images")
    assert list_splits(tmp_path / "coco") == ("train", "val", "EXTRA")
    in_cvat(tmp_path / "cvat")
    (tmp_path / "cvat" / "annotations.xml").rename(tmp_path / "cvat" / "ANNOTATIONS.XML")
    (tmp_path / "cvat" / "images").rename(tmp_path / "cvat" / "IMAGES")
    assert len(open_data(tmp_path / "cvat").samples) == 1
    labelme(tmp_path / "labelme" / "a.json")
    (tmp_path / "labelme" / "a.json").rename(tmp_path / "labelme" / "A.JSON")
    assert len(open_data(tmp_path / "labelme").samples) == 1


def test_a_large_coco_file_of_any_name_is_known(tmp_path: Path) -> None:
    """70 MB of annotations before the pictures and the classes."""
    picture(tmp_path / "images" / "a.png")
    coco(tmp_path / "export.json", ["a.png"])
    content = (tmp_path / "export.json").read_text()
    with (tmp_path / "export.json").open("w") as file:
        file.write(content.replace('"annotations": [', '"annotations": [' + " " * 70_000_000, 1))
    assert list_splits(tmp_path) == ()
    assert len(open_data(tmp_path).samples) == 1


def test_a_name_with_a_null_byte_is_no_file(tmp_path: Path) -> None:
    coco(tmp_path / "train.json", ["a.png"])
    picture(tmp_path / "images" / "a.png", tmp_path / "images" / "b.png")
    coco(tmp_path / "val.json", ["b\0.png"], ids=5)
    assert any("1 pictures that no annotation names" in note for note in open_data(tmp_path).notes)
