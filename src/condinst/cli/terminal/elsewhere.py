"""Options of other programs: the ones that condinst accepts, and the ones for which it names its own option."""

from __future__ import annotations

from condinst.settings.reading import ELSEWHERE as SETTINGS

# Option of another program → the same option of condinst. A command accepts it if the command has condinst's option.
ACCEPTED = {
    "--imgsz": ("--size",),
    "--img-size": ("--size",),
    "--max-det": ("--max-detections",),
    "--max_det": ("--max-detections",),
    "--weights": ("--model",),
    "--confidence-threshold": ("--conf",),
    "--save-txt": ("--save", "yolo"),
    "--save_txt": ("--save", "yolo"),
    "--save-crop": ("--save", "crops"),
    "--show-boxes": ("--boxes",),
    "--show-labels": ("--labels",),
    "--show-conf": ("--conf-labels",),
    "--line-thickness": ("--line-width",),
    "--output": ("--out",),
}
_USE = {
    "--img": "--size",
    "--image-size": "--size",
    "--checkpoint": "--model",
    "--half": "--mode fast",
    "--fp16": "--mode fast",
}
_THRESHOLD = "set detect.nms_threshold in the model's config.yaml"
# command → option of another program → the option or setting of condinst, for the message
ADVICE: dict[str, dict[str, str]] = {
    "predict": {
        **_USE,
        "--iou-thres": "--iou",
        "--nms-threshold": "--iou",
        "--conf-thres": "--conf",
        "--confidence": "--conf",
        "--threshold": "--conf",
        "--save-dir": "--out",
        "--project": "--out",
        "--name": "--out",
        "--source": "give the pictures themselves: condinst predict FOLDER",
        "--batch-size": "--batch",
    },
    "val": {**_USE, "--iou": _THRESHOLD, "--iou-thres": _THRESHOLD, "--nms-threshold": _THRESHOLD},
    "train": {
        "--" + name.replace("_", "-"): meant if meant.startswith("--") else f"{meant}=VALUE"
        for name, meant in SETTINGS.items()
    }
    | {
        "--img": "input.shorter=VALUE",
        "--steps": "train.iterations=VALUE",
        "--num-workers": "train.workers=VALUE",
        "--model": "--from",
        "--output-dir": "--out",
        "--classes": "training uses the classes of the data",
        "--device": "set ACCELERATE_USE_CPU=true or CUDA_VISIBLE_DEVICES=N in the environment",
        "--save-txt": "only predict writes results",
    },
}
