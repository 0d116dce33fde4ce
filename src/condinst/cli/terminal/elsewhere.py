"""Options of other programs and the condinst option with the same effect."""

from __future__ import annotations

_SIZE = {"--imgsz": "--size", "--img-size": "--size", "--img": "--size", "--image-size": "--size"}
_MODEL = {"--weights": "--model", "--checkpoint": "--model"}
_THRESHOLD = "the setting detect.nms_threshold in the model's config.yaml"
_USE = {
    **_SIZE,
    **_MODEL,
    "--iou": _THRESHOLD,
    "--iou-thres": _THRESHOLD,
    "--nms-threshold": _THRESHOLD,
    "--max-det": "--max-detections",
    "--half": "--mode fast",
    "--fp16": "--mode fast",
}
# command → option of another program → condinst option
ELSEWHERE: dict[str, dict[str, str]] = {
    "predict": {
        **_USE,
        "--conf-thres": "--conf",
        "--confidence": "--conf",
        "--threshold": "--conf",
        "--save-dir": "--out",
        "--project": "--out",
        "--name": "--out",
        "--source": "the pictures themselves, as in: condinst predict FOLDER",
        "--batch-size": "--batch",
    },
    "val": _USE,
    "train": {
        "--epochs": "train.epochs=N",
        "--iterations": "train.iterations=N",
        "--steps": "train.iterations=N",
        "--max-iter": "train.iterations=N",
        "--imgsz": "input.shorter=PIXELS",
        "--img-size": "input.shorter=PIXELS",
        "--img": "input.shorter=PIXELS",
        "--size": "input.shorter=PIXELS",
        "--batch": "train.batch_size=N",
        "--batch-size": "train.batch_size=N",
        "--lr": "train.lr=NUMBER",
        "--lr0": "train.lr=NUMBER",
        "--learning-rate": "train.lr=NUMBER",
        "--weight-decay": "train.weight_decay=NUMBER",
        "--optimizer": "train.optimizer=adamw",
        "--workers": "train.workers=N",
        "--num-workers": "train.workers=N",
        "--patience": "train.patience=N",
        "--seed": "train.seed=N",
        "--amp": "train.precision=bf16",
        "--iou": "detect.nms_threshold=NUMBER",
        "--conf": "detect.score_threshold=NUMBER",
        "--classes": "nothing to give: the classes are those of the data",
        "--model": "--from",
        "--weights": "--from",
        "--pretrained": "--from",
        "--name": "--out",
        "--project": "--out",
        "--output-dir": "--out",
        "--device": "ACCELERATE_USE_CPU=true or CUDA_VISIBLE_DEVICES=N in the environment",
        "--save-txt": "nothing to give: predict writes results",
    },
}
