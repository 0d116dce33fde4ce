"""Names that other programs give to settings. A module of its own, so that `condinst --help` need not load pydantic."""

from __future__ import annotations

# Setting of another program → setting or option of condinst.
ELSEWHERE = {
    "epochs": "train.epochs",
    "imgsz": "input.shorter",
    "img_size": "input.shorter",
    "image_size": "input.shorter",
    "size": "input.shorter",
    "batch": "train.batch_size",
    "batch_size": "train.batch_size",
    "lr": "train.lr",
    "lr0": "train.lr",
    "learning_rate": "train.lr",
    "iterations": "train.iterations",
    "max_iter": "train.iterations",
    "patience": "train.patience",
    "workers": "train.workers",
    "seed": "train.seed",
    "optimizer": "train.optimizer",
    "weight_decay": "train.weight_decay",
    "momentum": "train.momentum",
    "amp": "train.precision",
    "iou": "detect.nms_threshold",
    "conf": "detect.score_threshold",
    "max_det": "detect.max_detections",
    "classes": "model.classes",
    "pretrained": "--from",
    "weights": "--from",
    "name": "--out",
    "project": "--out",
}
