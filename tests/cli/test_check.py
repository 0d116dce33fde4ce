"""`condinst data check`: each fault is found, named once and refused by `train` and `val`; a repaired copy is sound."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as oracle
from pycocotools.coco import COCO
from typer.testing import Result

from condinst.data.open import open_data
from condinst.engine.planning.plan import suit_data
from condinst.engine.planning.statistics import measure_data
from condinst.recipes import load_recipe

DATA = Path(__file__).parent.parent / "data"
SHARED = Path(__file__).parents[3] / "shared" / "data"
Run = Callable[..., Result]
Document = dict[str, Any]
Spoil = Callable[[Path, Document], None]

WIDTH, HEIGHT = 96, 64
RECIPE = {
    "model": {
        "backbone": {"name": "mobilenetv2_050", "frozen_stages": 0},
        "fpn_channels": 32,
        "head": {"convs": 1, "channels": 64},
        "mask_branch": {"convs": 1, "channels": 16},
    },
    "input": {"shorter": 64, "longer": 96},
    "augment": {"shorter": [64], "longer": 96},
    "train": {"init": "none", "iterations": 2, "batch_size": 2, "workers": 0, "warmup_iterations": 0},
}


def scene(seed: int) -> Image.Image:
    """A picture like no other: soft random colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def rle(x0: int, y0: int, x1: int, y1: int) -> dict[str, Any]:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    mask[y0:y1, x0:x1] = 1
    packed = oracle.encode(mask)
    return {"size": [HEIGHT, WIDTH], "counts": packed["counts"].decode()}


def document(first_picture: int) -> Document:
    """Three pictures with a polygon and a mask each."""
    numbers = range(first_picture, first_picture + 3)
    annotations: list[Document] = []
    for number in numbers:
        polygon = [[10, 10, 40, 10, 40, 50, 10, 50]]
        common = {"image_id": number, "category_id": 1, "iscrowd": 0}
        annotations += [
            {"id": 2 * number, "bbox": [10, 10, 30, 40], "segmentation": polygon, "area": 1200, **common},
            {"id": 2 * number + 1, "bbox": [50, 20, 32, 30], "segmentation": rle(50, 20, 82, 50), **common},
        ]
    return {
        "images": [{"id": n, "file_name": f"{n} ü.png", "width": WIDTH, "height": HEIGHT} for n in numbers],
        "categories": [{"id": 1, "name": "nœud 结"}],
        "annotations": annotations,
    }


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("a clean set")
    (root / "images").mkdir()
    for first, split in ((1, "train"), (4, "val")):
        (root / f"{split}.json").write_text(json.dumps(document(first)))
        for number in range(first, first + 3):
            scene(number).save(root / "images" / f"{number} ü.png")
    (root / "LICENSE.txt").write_text("CC0")
    return root


@pytest.fixture
def copy(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "a set"))


def spoil_train(root: Path, spoil: Spoil) -> None:
    content = json.loads((root / "train.json").read_text())
    spoil(root, content)
    (root / "train.json").write_text(json.dumps(content))


def checked(run: Run, *words: object) -> tuple[int, Document]:
    outcome = run("data", "check", *words, "--json")
    assert outcome.stderr == ""
    return outcome.exit_code, json.loads(outcome.stdout)


def kinds(result: Document, *severities: str) -> set[str]:
    return {it["kind"] for it in result["findings"] if it["severity"] in (severities or ("error",))}


def put(*path: Any, to: Any) -> Spoil:
    def spoil(_: Path, content: Document) -> None:
        place: Any = content
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return spoil


def repeat(key: str, **changes: Any) -> Spoil:
    return lambda _, content: content[key].append(content[key][0] | changes)


def box_alone(box: list[float]) -> Spoil:
    """The first object has this box and no mask."""
    return lambda _, content: content["annotations"][0].update(bbox=box, segmentation=[])


def write(name: str, content: bytes) -> Spoil:
    return lambda root, _: (root / "images" / name).write_bytes(content) and None


def cut_short(root: Path, _: Document) -> None:
    file = root / "images" / "1 ü.png"
    file.write_bytes(file.read_bytes()[:-2000])


def lose(root: Path, _: Document) -> None:
    (root / "images" / "1 ü.png").unlink()


def turn(root: Path, content: Document) -> None:
    """The record keeps the stored size, the file says that it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(1).save(root / "images" / "1 ü.jpg", exif=exif, quality=95)
    content["images"][0]["file_name"] = "1 ü.jpg"


def empty(_: Path, content: Document) -> None:
    content["annotations"].clear()


def no_pictures(_: Path, content: Document) -> None:
    content["annotations"].clear()
    content["images"].clear()


POLYGON = ("annotations", 0, "segmentation")
REFUSED: list[tuple[str, Spoil]] = [
    ("missing-picture", lose),
    ("unreadable-picture", write("1 ü.png", b"no picture")),
    ("unreadable-picture", write("1 ü.png", b"")),
    ("damaged-picture", cut_short),
    ("wrong-size", put("images", 0, "width", to=90)),
    ("exif-rotated", turn),
    ("outside", box_alone([200, 10, 30, 40])),
    ("outside", put(*POLYGON, to=[[500, 500, 600, 500, 600, 600]])),
    ("duplicate-id", repeat("annotations", bbox=[5, 5, 9, 9], segmentation=rle(5, 5, 14, 14))),
    ("duplicate-id", repeat("images", file_name="2 ü.png")),
    ("duplicate-class", repeat("categories", id=9)),
    ("unknown-category", put("annotations", 0, "category_id", to=0)),
    ("unknown-picture", put("annotations", 0, "image_id", to=77)),
    ("bad-record", put("annotations", 0, to=5)),
    ("bad-record", put("annotations", 0, "iscrowd", to="no")),
    ("bad-box", box_alone([1, 2, 3])),
    ("bad-box", box_alone([10, 10, float("nan"), 40])),
    ("bad-box", box_alone([10, 10, -30, 40])),
    ("bad-mask", put(*POLYGON, to=[[1, 1, 2, 2]])),
    ("bad-mask", put(*POLYGON, to=[[1, 1, 2, 2, "3", 3]])),
    ("bad-mask", put("annotations", 1, "segmentation", "counts", to="zz")),
    ("mask-size", put("annotations", 1, "segmentation", "size", to=[WIDTH, HEIGHT])),
    ("no-classes", put("categories", to=[])),
    ("bad-file", put("annotations", to={})),
    ("no-objects", empty),
    ("no-pictures", no_pictures),
]


@pytest.mark.parametrize(("kind", "spoil"), REFUSED, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(REFUSED)])
def test_each_error_is_found_and_refused(
    run: Run, copy: Path, tmp_path: Path, model_folder: Path, kind: str, spoil: Spoil
) -> None:
    spoil_train(copy, spoil)
    code, result = checked(run, copy)
    assert code == 3
    assert kind in kinds(result), result["findings"]
    assert kinds(result) <= {kind, "no-pictures"}, result["findings"]
    (found, *_) = [it for it in result["findings"] if it["kind"] == kind]
    assert found["message"]
    assert found["remedy"]
    assert "\n" not in found["message"] + found["remedy"]
    assert not Path(found["file"]).is_absolute()

    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    outcome = run("train", "--data", copy, "--recipe", recipe, "--out", tmp_path / "run")
    assert outcome.exit_code == 3, outcome.output
    assert len([line for line in outcome.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in outcome.output
    if kind in {"no-objects", "no-pictures"}:
        return  # `val` measures what there is
    outcome = run("val", "--data", copy / "train.json", "--model", model_folder)
    assert outcome.exit_code == 3, outcome.output
    assert outcome.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in outcome.output


def swap_split(root: Path, _: Document) -> None:
    shutil.copy(root / "images" / "1 ü.png", root / "images" / "4 ü.png")


def other_class(root: Path, _: Document) -> None:
    file = root / "val.json"
    content = json.loads(file.read_text())
    content["categories"].append({"id": 2, "name": "other"})
    content["annotations"][0]["category_id"] = 2
    file.write_text(json.dumps(content))


def corners_as_box(_: Path, content: Document) -> None:
    content["annotations"][1]["bbox"] = [50, 20, 82, 50]


def near_copy(root: Path, _: Document) -> None:
    turned = scene(2).transpose(Image.Transpose.ROTATE_90).resize((128, 192)).point(lambda value: value * 0.8)
    turned.convert("RGB").save(root / "images" / "5 ü.png", "JPEG", quality=60)
    file = root / "val.json"
    content = json.loads(file.read_text())
    content["images"][1] |= {"width": 128, "height": 192}
    content["annotations"] = [it for it in content["annotations"] if it["image_id"] != 5]
    file.write_text(json.dumps(content))


def another_class(root: Path, content: Document) -> None:
    content["categories"].append({"id": 2, "name": "other"})
    content["annotations"].append(content["annotations"][0] | {"id": 99, "category_id": 2})


def cropped_copy(root: Path, _: Document) -> None:
    """Perhaps another picture of the same."""
    cut = scene(2).crop((3, 2, WIDTH - 1, HEIGHT - 1)).resize((WIDTH, HEIGHT))
    cut.save(root / "images" / "5 ü.png")


TOLERATED: list[tuple[str, str, Spoil]] = [
    ("error", "both-splits", swap_split),
    ("error", "unknown-class", other_class),
    ("warning", "box-mismatch", put("annotations", 0, "bbox", to=[10, 10, 10, 10])),
    ("warning", "box-mismatch", corners_as_box),
    ("warning", "box-mismatch", put("annotations", 0, "bbox", to=[10, 10, 30, 34])),
    ("warning", "box-mismatch", put("annotations", 0, "bbox", to=[200, 10, 30, 40])),
    ("warning", "box-mismatch", put("annotations", 0, "bbox", to="wide")),
    ("warning", "wrong-size", put("images", 0, "width", to="wide")),
    ("warning", "class-spelling", repeat("categories", id=4, name="Nœud\u00a0结")),
    ("warning", "hole-as-ring", put(*POLYGON, to=[[10, 10, 40, 10, 40, 50, 10, 50], [20, 20, 30, 20, 30, 30, 20, 30]])),
    ("error", "both-splits", near_copy),
    ("warning", "both-splits", cropped_copy),
    ("warning", "outside", put(*POLYGON, to=[[-9, 10, 40, 10, 40, 50, -9, 50]])),
    ("warning", "zero-area", put(*POLYGON, to=[[10, 10, 40, 10, 20, 10]])),
    ("warning", "zero-area", box_alone([10, 10, 0, 40])),
    ("warning", "self-intersecting", put(*POLYGON, to=[[10, 10, 40, 50, 40, 10, 10, 50]])),
    ("warning", "duplicate-instance", repeat("annotations", id=99, bbox=[10, 10, 30, 39])),
    ("warning", "two-classes", another_class),
    ("warning", "unused-category", repeat("categories", id=4, name="nothing")),
    ("warning", "blank-picture", lambda root, _: Image.new("RGB", (WIDTH, HEIGHT)).save(root / "images" / "1 ü.png")),
    ("warning", "listed-twice", repeat("images", id=50)),
    ("info", "empty-picture", lambda _, content: content["annotations"].__delitem__(slice(0, 2))),
    ("info", "area-mismatch", put("annotations", 0, "area", to=9)),
    ("info", "federated", put("images", 0, "neg_category_ids", to=[1])),
    ("info", "mixed-supervision", put(*POLYGON, to=[])),
    ("info", "unlisted-picture", write("7.png", b"")),
    ("info", "few-objects", lambda _, __: None),
]


@pytest.mark.parametrize(
    ("severity", "kind", "spoil"), TOLERATED, ids=[f"{kind}-{i}" for i, (_, kind, _) in enumerate(TOLERATED)]
)
def test_what_reading_lets_through_is_found(run: Run, copy: Path, severity: str, kind: str, spoil: Spoil) -> None:
    spoil_train(copy, spoil)
    code, result = checked(run, copy)
    assert kind in kinds(result, severity), result["findings"]
    assert kinds(result) <= ({kind} if severity == "error" else set()), result["findings"]
    assert code == (3 if severity == "error" else 0)


def test_a_clean_set(run: Run, clean: Path) -> None:
    code, result = checked(run, clean)
    assert code == 0
    assert kinds(result, "error", "warning") == set(), result["findings"]
    assert (result["pictures"], result["instances"]) == (6, 12)
    assert result["classes"] == {"nœud 结": 12}
    assert result["splits"]["val"] == {"pictures": 3, "instances": 6, "classes": {"nœud 结": 6}}
    assert sum(result["levels"].values()) == 12
    table = run("data", "check", clean)
    assert table.exit_code == 0
    assert "ready to train" in table.stdout
    assert run("data", "check", clean / "train.json").exit_code == 0


@pytest.mark.parametrize("content", [b"", b"\x00\xff\x89PNG", b"[]", b"{}"])
def test_a_file_that_is_no_annotation(run: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "train.json").write_bytes(content)
    code, result = checked(run, tmp_path)
    assert code == 3
    assert kinds(result) <= {"bad-file", "no-pictures"}


def test_nothing_to_check(run: Run, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        code, result = checked(run, place)
        assert (code, kinds(result), result["pictures"]) == (3, {"bad-file"}, 0)
        assert "training would fail" in run("data", "check", place).stdout


def test_what_cannot_be_read_at_all_names_its_file_once(run: Run, tmp_path: Path) -> None:
    """Not for each of the splits that it is about."""
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
        scene(1).save(tmp_path / "images" / split / "a.png")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a, a]")
    code, result = checked(run, tmp_path)
    (finding,) = result["findings"]
    assert (code, finding["kind"], finding["file"]) == (3, "bad-file", "data.yaml")
    assert finding["message"] == "'names' gives two classes the same name"
    assert finding["remedy"] == "rename or merge them"


def fixed(run: Run, root: Path, out: Path) -> list[Document]:
    """Repairs, sees that the copy is sound and the original as it was; returns the changes."""
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    outcome = run("data", "check", root, "--fix", out)
    assert "Traceback" not in outcome.output
    assert out.is_dir(), outcome.output
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert not list(out.parent.glob(".*.part"))
    code, result = checked(run, out)
    assert code == 0, result["findings"]
    for split in ("train", "val"):
        COCO(str(out / f"{split}.json"))
    changes: list[Document] = json.loads((out / "changes.json").read_text())["changes"]
    return changes


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [it for it in REFUSED if it[0] not in {"no-objects", "no-pictures", "bad-file", "no-classes"}]
    + [(kind, spoil) for severity, kind, spoil in TOLERATED if severity == "error"],
)
def test_what_can_be_repaired_is(run: Run, copy: Path, tmp_path: Path, kind: str, spoil: Spoil) -> None:
    spoil_train(copy, spoil)
    changes = fixed(run, copy, tmp_path / "out" / "a copy")
    assert kind in {change["kind"] for change in changes}
    assert (tmp_path / "out" / "a copy" / "LICENSE.txt").read_text() == "CC0"


def test_a_repair_keeps_the_pixels(run: Run, copy: Path, tmp_path: Path) -> None:
    """Cut and crossing polygons draw what they drew before; boxes become those of the masks."""

    def spoil(_: Path, content: Document) -> None:
        one, _, two, _, three, *_ = content["annotations"]
        one["segmentation"] = [[-9.5, 10, 40, 10, 40, 50, -9.5, 50], [60, 50, 70, 50, 70, 80, 60, 80]]
        two["segmentation"] = [[10, 10, 40, 50, 40, 10, 10, 50]]
        three["bbox"] = [20, 20, 60, 40]

    spoil_train(copy, spoil)
    out = tmp_path / "out"
    changes = fixed(run, copy, out)
    assert {"outside", "self-intersecting", "box-mismatch"} <= {change["kind"] for change in changes}
    old, new = COCO(str(copy / "train.json")), COCO(str(out / "train.json"))
    assert set(old.anns) == set(new.anns)
    for number, record in old.anns.items():
        assert np.array_equal(old.annToMask(record), new.annToMask(new.anns[number])), number
    assert new.anns[6]["bbox"] == [10, 10, 30, 40]
    assert isinstance(new.anns[2]["segmentation"], list)  # cut, and still polygons
    assert isinstance(new.anns[4]["segmentation"], dict)
    assert not [change for change in changes if change["id"] in {3, 5, 7}]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_pictures_are_saved_upright_with_their_objects(
    run: Run, copy: Path, tmp_path: Path, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    scene(1).save(copy / "images" / "1 ü.png", exif=exif)
    out = tmp_path / "out"
    changes = fixed(run, copy, out)
    assert "exif-rotated" in {change["kind"] for change in changes}
    new = COCO(str(out / "train.json"))
    with Image.open(out / "images" / new.imgs[1]["file_name"]) as picture:
        assert picture.size == (new.imgs[1]["width"], new.imgs[1]["height"])
        assert picture.getexif().get(0x0112, 1) == 1
    if orientation < 5:
        return  # the sizes do not tell: a warning, and the annotation is taken to be upright
    from PIL import ImageOps

    for number in (2, 3):
        stored = COCO(str(copy / "train.json"))
        mask = Image.fromarray(stored.annToMask(stored.anns[number]))
        mask.getexif()[0x0112] = orientation
        upright = np.asarray(ImageOps.exif_transpose(mask))
        drawn = new.annToMask(new.anns[number])
        assert np.array_equal(drawn, upright)


def test_pictures_that_cannot_keep_their_name(run: Run, tmp_path: Path) -> None:
    """Their new names are changes, too; and what is no UTF-8 can be shown, listed and repaired."""
    for day in ("monday", "tuesday"):
        for kind in ("images", "labels"):
            (tmp_path / day / kind).mkdir(parents=True)
    names = [("monday", b"a.png"), ("tuesday", b"a.png"), ("tuesday", b"\xff\n.png")]
    for number, (day, name) in enumerate(names):
        labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        labels[10:40, 10:40] = 1
        picture = Image.new("RGB", (WIDTH, HEIGHT)) if number == 2 else scene(number)  # blank, so that it is told of
        for kind, image in (("images", picture), ("labels", Image.fromarray(labels))):
            image.save(tmp_path / day / kind / "x.png")
            (tmp_path / day / kind / "x.png").rename(tmp_path / day / kind / os.fsdecode(name))
    out, page = tmp_path / "out", tmp_path / "page.html"
    assert run("data", "check", tmp_path / "tuesday").exit_code == 0
    assert checked(run, tmp_path / "tuesday", "--report", page, "--fix", out)[0] == 0
    (change,) = json.loads((out / "changes.json").read_text())["changes"]
    assert change == {
        "kind": "picture-name",
        "file": "images/\udcff\n.png",
        "id": 2,
        "change": "is called __.png in the copy",
    }
    assert "blank-picture" in page.read_text()
    (tmp_path / "monday").rename(tmp_path / "train")
    (tmp_path / "tuesday").rename(tmp_path / "val")
    run("data", "check", tmp_path, "--fix", tmp_path / "second")
    changes = json.loads((tmp_path / "second" / "changes.json").read_text())["changes"]
    assert [it["change"] for it in changes] == ["is called a-2.png in the copy", "is called __.png in the copy"]


def test_fix_refuses(run: Run, copy: Path, tmp_path: Path) -> None:
    outcome = run("data", "check", copy, "--fix", copy)
    assert outcome.exit_code == 2
    assert "already exists" in outcome.stderr
    file = tmp_path / "file"
    file.write_text("")
    assert run("data", "check", copy, "--fix", file / "below").exit_code == 1
    spoil_train(copy, empty)
    for content in ((copy / "train.json").read_text(), "{}", "{", "[]"):
        (copy / "train.json").write_text(content)
        outcome = run("data", "check", copy, "--fix", tmp_path / "out")
        assert outcome.exit_code == 3
        assert "nothing would be left" in outcome.stderr
        assert not (tmp_path / "out").exists()


def test_report(run: Run, copy: Path, tmp_path: Path) -> None:
    def spoil(root: Path, content: Document) -> None:
        corners_as_box(root, content)
        swap_split(root, content)
        content["categories"][0]["name"] = "<script>alert(1)</script>"

    spoil_train(copy, spoil)
    page = tmp_path / "a page.html"
    outcome = run("data", "check", copy, "--report", page)
    assert outcome.exit_code == 3
    text = page.read_text()
    assert "<script" not in text
    assert "box-mismatch" in text
    assert "both-splits" in text
    assert text.count("data:image/jpeg;base64,") == 3  # an object and two pictures alike
    assert "look like a corner" in text
    assert "http" not in text.replace("http-equiv", "")


def test_ten_thousand_instances_in_one_picture(run: Run, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.effect_noise((800, 800), 80).save(tmp_path / "images" / "a.png")
    annotations = [
        {
            "id": i,
            "image_id": 1,
            "category_id": 1,
            "bbox": [x, y, 7, 7],
            "segmentation": [[x, y, x + 7, y, x + 7, y + 7, x, y + 7]],
        }
        for i, (x, y) in enumerate((8 * (n % 100), 8 * (n // 100)) for n in [*range(9999), 0])
    ]
    images = [{"id": 1, "file_name": "a.png", "width": 800, "height": 800}]
    content = {"images": images, "categories": [{"id": 1, "name": "a"}], "annotations": annotations}
    (tmp_path / "train.json").write_text(json.dumps(content))
    code, result = checked(run, tmp_path, "--recipe", "small")
    assert code == 0
    assert [it["id"] for it in result["findings"] if it["kind"] == "duplicate-instance"] == [9999]
    assert "many-objects" in kinds(result, "info")


def test_sizes_and_limits_are_those_that_training_would_choose(run: Run, tmp_path: Path) -> None:
    """Unless the user names others."""
    data = open_data(DATA / "mushrooms")
    chosen = suit_data(load_recipe("small"), frozenset(), measure_data(data))
    page = tmp_path / "page.html"
    run("data", "check", DATA / "mushrooms", "--report", page)
    size = chosen.input
    assert f"shorter side has {size.shorter} pixels, the longer side at most {size.longer}" in page.read_text()
    run("data", "check", DATA / "mushrooms", "--size", 320, "--max-size", 500, "--report", page)
    assert "shorter side has 320 pixels, the longer side at most 500" in page.read_text()


@pytest.mark.parametrize("name", ["nuclei", "mushrooms", "facade", "coco_mini"])
def test_the_samples_have_no_error(run: Run, name: str) -> None:
    code, result = checked(run, DATA / name)
    assert code == 0, [it for it in result["findings"] if it["severity"] == "error"]


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real sets are not here")
@pytest.mark.parametrize("name", ["potholes", "strawberry", "coco_mini", "facade", "mushrooms", "nuclei"])
def test_real_sets_have_no_error_and_no_leak(run: Run, name: str) -> None:
    code, result = checked(run, SHARED / name)
    assert code == 0, [it for it in result["findings"] if it["severity"] == "error"]
    assert "both-splits" not in kinds(result, "warning")


def test_a_dynamic_assigner_tells_no_pyramid_levels(run: Run, copy: Path, tmp_path: Path) -> None:
    """It chooses them in training, so neither the terminal nor the page speaks of them."""
    page = tmp_path / "page.html"
    for recipe, told in (("small", True), ("small-rtm", False)):
        outcome = run("data", "check", copy, "--recipe", recipe, "--report", page)
        assert outcome.exit_code == 0, outcome.output
        assert ("pyramid level" in outcome.output) == told
        assert ("Pyramid level" in page.read_text()) == told
        assert "Object sizes" in page.read_text()
        page.unlink()
