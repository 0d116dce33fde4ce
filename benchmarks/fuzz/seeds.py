"""Small valid inputs of every kind that the package reads; the fuzz program damages copies of them."""

from __future__ import annotations

import base64
import json
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from condinst.config import Config
from condinst.engine.checkpoint import save_checkpoint
from condinst.model.condinst import CondInst
from condinst.weights.folder import save_model

WIDTH, HEIGHT = 48, 40
TINY = (
    *("model.backbone.name=test_resnet", "model.classes=[cat, dog]", "model.fpn_channels=8"),
    *("model.head.channels=8", "model.head.convs=1", "model.mask_branch.channels=8", "model.mask_branch.convs=1"),
    *("model.mask_branch.features=2", "model.mask_head.width=2"),
)
Pixels = NDArray[np.uint8]


def build(folder: Path) -> dict[str, Path]:
    """Every valid input in `folder`: name → its file or folder. The name begins with the kind and a slash."""
    inputs: dict[str, Path] = {}
    for kind, make in MAKERS.items():
        (folder / kind).mkdir(parents=True)
        inputs |= {f"{kind}/{path.name}": path for path in make(folder / kind)}
    return inputs


def tiny_config() -> Config:
    """The settings of the smallest network."""
    return Config().with_overrides(list(TINY))


def tiny_backbone() -> torch.nn.Module:
    """Its backbone alone, by timm."""
    return timm.create_model("test_resnet", features_only=True, out_indices=(2, 3, 4))


def pixels(seed: int = 0) -> Pixels:
    """(HEIGHT, WIDTH, 3): two bright objects on noise."""
    image = np.random.default_rng(seed).integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    image[5:20, 6:22] = (200, 180, 40)
    image[22:36, 25:44] = (40, 90, 220)
    return image


def pictures(folder: Path) -> list[Path]:
    """One file for each format and pixel format."""
    rgb = Image.fromarray(pixels())
    grey16 = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    frames = [Image.fromarray(pixels(seed)) for seed in range(3)]
    several: dict[str, Any] = {"save_all": True, "append_images": frames}
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(folder / "rgb.png")
    rgb.quantize(8).save(folder / "palette.png", transparency=0)
    rgb.convert("RGBA").save(folder / "alpha.png")
    grey16.save(folder / "grey16.png")
    frames[0].save(folder / "moving.png", **several)
    rgb.save(folder / "turned.jpg", exif=exif)
    rgb.convert("CMYK").save(folder / "print.jpg")
    frames[0].save(folder / "two.mpo", save_all=True, append_images=frames[:1])
    rgb.save(folder / "plain.bmp")
    frames[0].save(folder / "moving.gif", **several)
    frames[0].save(folder / "moving.webp", lossless=True, **several)
    rgb.save(folder / "plain.avif")
    rgb.save(folder / "plain.jp2")
    rgb.save(folder / "plain.ppm")
    grey16.save(folder / "deep.pgm")
    frames[0].save(folder / "pages.tiff", **several)
    rgb.save(folder / "packed.tif", compression="tiff_lzw")
    rgb.save(folder / "zipped.tif", compression="tiff_adobe_deflate")
    grey16.save(folder / "grey16.tif")
    Image.fromarray(np.asarray(rgb.convert("L")).astype(np.float32) / 255).save(folder / "float.tif")
    content = base64.b64encode((folder / "rgb.png").read_bytes()).decode()
    (folder / "embedded.json").write_text(json.dumps({"imageData": content, "shapes": []}))
    return sorted(folder.iterdir())


RING = [[6, 5], [22, 5], [22, 20], [14, 12], [6, 20]]
BOX = [25, 22, 44, 36]


def data_sets(folder: Path) -> list[Path]:
    """One folder for each annotation format, two pictures in each."""
    return [make(folder / name) for name, make in FORMATS.items()]


def _put(place: Path, names: tuple[str, ...] = ("a.png", "b.png")) -> None:
    place.mkdir(parents=True)
    for seed, name in enumerate(names):
        Image.fromarray(pixels(seed)).save(place / name)


def _coco(folder: Path) -> Path:
    _put(folder / "images")
    runs = {"size": [HEIGHT, WIDTH], "counts": [200, 20, 20, 20, HEIGHT * WIDTH - 260]}
    shapes = [
        {"segmentation": [[value for point in RING for value in point]], "bbox": [6, 5, 16, 15], "area": 180.0},
        {"segmentation": runs, "bbox": [5, 0, 1, 40], "area": 40, "iscrowd": 1},
        {"segmentation": [], "bbox": [25, 22, 19, 14], "area": 266},
    ]
    document = {
        "images": [
            {"id": number, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT}
            for number, name in enumerate("ab", 1)
        ],
        "categories": [{"id": 1, "name": "cat", "supercategory": "animal"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": number, "image_id": 1 + number % 2, "category_id": (1, 7)[number % 2], "iscrowd": 0} | shape
            for number, shape in enumerate(shapes, 1)
        ],
    }
    for split in ("train", "val"):
        (folder / f"{split}.json").write_text(json.dumps(document))
    return folder


def _yolo(folder: Path) -> Path:
    (folder / "labels" / "train").mkdir(parents=True)
    _put(folder / "images" / "train")
    ring = " ".join(f"{x / WIDTH:.4f} {y / HEIGHT:.4f}" for x, y in RING)
    for name in "ab":
        (folder / "labels" / "train" / f"{name}.txt").write_text(f"0 {ring}\n1 0.7 0.7 0.3 0.3\n")
    (folder / "data.yaml").write_text(
        "path: .\ntrain: images/train\nval: images/train\nnc: 2\nnames: {0: cat, 1: dog}\n"
    )
    return folder


def _labelme(folder: Path) -> Path:
    _put(folder)
    shapes = [
        {"label": "cat", "points": RING, "group_id": None, "shape_type": "polygon", "flags": {}},
        {"label": "dog", "points": [BOX[:2], BOX[2:]], "group_id": 3, "shape_type": "rectangle", "flags": {}},
        {"label": "dog", "points": [[30, 30], [34, 30]], "group_id": 3, "shape_type": "circle", "flags": {}},
    ]
    for name in "ab":
        size = {"imageHeight": HEIGHT, "imageWidth": WIDTH, "imagePath": f"{name}.png", "imageData": None}
        (folder / f"{name}.json").write_text(json.dumps({"version": "5.5.0", "flags": {}, "shapes": shapes} | size))
    return folder


def _cvat(folder: Path) -> Path:
    _put(folder / "images")
    points = ";".join(f"{x},{y}" for x, y in RING)
    shapes = (
        f'<polygon label="cat" points="{points}" occluded="0"/>'
        f'<box label="dog" xtl="25" ytl="22" xbr="44" ybr="36" rotation="12.5"/>'
        '<ellipse label="dog" cx="30" cy="30" rx="6" ry="4" group_id="2"/>'
        '<mask label="cat" left="3" top="4" width="4" height="2" rle="1, 3, 1, 3"/>'
        '<points label="cat" points="1,2"/>'
    )
    images = "".join(
        f'<image id="{number}" name="{name}.png" subset="{split}" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>'
        for number, (name, split) in enumerate((("a", "Train"), ("b", "Val")))
    )
    labels = "".join(f"<label><name>{name}</name><attributes></attributes></label>" for name in ("cat", "dog"))
    head = f"<meta><task><labels>{labels}</labels></task></meta>"
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{head}{images}</annotations>'
    (folder / "annotations.xml").write_text(text)
    return folder


def _numbers() -> Image.Image:
    """A label image: object 1 and object 2."""
    image = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(image)
    draw.polygon([(x, y) for x, y in RING], fill=1)
    draw.rectangle(tuple(BOX), fill=2)
    return image


def _masks(folder: Path) -> Path:
    for name in "ab":
        _put(folder / name / "images", (f"{name}.png",))
        (folder / name / "masks").mkdir()
        for number in (1, 2):
            mask = _numbers().point([255 * (value == number) for value in range(256)])
            mask.save(folder / name / "masks" / f"{number}.png")
    return folder


def _label_images(folder: Path) -> Path:
    _put(folder / "images")
    (folder / "masks").mkdir()
    _numbers().save(folder / "masks" / "a.png")
    Image.fromarray(np.asarray(_numbers()).astype(np.uint16) * 300).save(folder / "masks" / "b.tif")
    return folder


def _voc(folder: Path) -> Path:
    _put(folder / "JPEGImages", ("a.jpg", "b.jpg"))
    for place in ("SegmentationObject", "SegmentationClass"):
        (folder / place).mkdir()
        for name in "ab":
            image = _numbers().convert("P")
            image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [0] * 756)
            image.save(folder / place / f"{name}.png")
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("a\nb\n")
    (folder / "labelmap.txt").write_text("background:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n")
    return folder


FORMATS: dict[str, Callable[[Path], Path]] = {
    "coco": _coco,
    "yolo": _yolo,
    "labelme": _labelme,
    "cvat": _cvat,
    "masks": _masks,
    "label_images": _label_images,
    "voc": _voc,
}


def weights(folder: Path) -> list[Path]:
    """A model folder, files of other programs, and files of first weights."""
    config = tiny_config()
    save_model(CondInst(config.model), config, folder / "model")
    body = tiny_backbone().state_dict()
    torch.save(body, folder / "zip.pth")
    torch.save(
        {"state_dict": OrderedDict(body), "meta": {"classes": ("cat", "dog"), "time": 1.5}, "epoch": 3},
        folder / "checkpoint.pt",
    )
    torch.save(body, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file(body, folder / "first.safetensors")
    convs = [module for module in tiny_backbone().modules() if isinstance(module, torch.nn.Conv2d)]
    arrays: dict[str, Any] = {}
    for number, conv in enumerate(convs):
        arrays[f"{number}.weight"] = conv.weight.detach().numpy()
        arrays[f"{number}.bias"] = np.zeros(conv.out_channels, dtype=np.float32)
    np.savez(folder / "folded.npz", **arrays)
    np.savez_compressed(folder / "packed.npz", **arrays)
    blobs = {"conv1_w": np.zeros((8, 3, 7, 7), np.float32), "res_conv1_bn_s": np.ones(8, np.float32)}
    (folder / "caffe.pkl").write_bytes(pickle.dumps({"model": blobs}, protocol=2))
    return sorted(folder.iterdir())


def runs(folder: Path) -> list[Path]:
    """The folder of a training run, as far as it can be written without training."""
    run = folder / "run"
    config = tiny_config()
    model = CondInst(config.model)
    save_model(model, config, run)
    state = {"log": {"sums": {"loss": 1.5}, "count": 1}, "rng": torch.arange(16)}
    save_checkpoint(run, 2, {"model": model}, state)
    (run / "log.csv").write_text("iteration,loss,lr,images_per_second\n1,2.5,0.01,3\n2,2.25,0.01,3\n")
    (run / "scores.csv").write_text("iteration,mask_AP,box_AP\n1,0.1,0.2\n2,0.3,0.4\n")
    scores = [{"iteration": number, "bbox": {"AP": 0.2}, "segm": {"AP": 0.1 * number}} for number in (1, 2)]
    (run / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in scores))
    (run / "environment.json").write_text(json.dumps([{"data": "0" * 64, "torch": "2"}]))
    return [run]


def settings(folder: Path) -> list[Path]:
    """A recipe as a user writes it, and one with every setting."""
    (folder / "short.yaml").write_text(
        "base: condinst-r50-1x\nabout: {why: a test}\nmodel:\n  classes: [cat, dog]\n  backbone: {name: test_resnet}\n"
        "train:\n  iterations: 1_000\n  lr: 0.01\n  milestones: [0.5, 0.9]\n  precision: no\n"
    )
    (folder / "whole.yaml").write_text(tiny_config().to_yaml())
    return sorted(folder.iterdir())


MAKERS: dict[str, Callable[[Path], list[Path]]] = {
    "picture": pictures,
    "data": data_sets,
    "weights": weights,
    "run": runs,
    "settings": settings,
}
