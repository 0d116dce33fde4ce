"""Options of other programs: the ones that condinst accepts, and the ones for which condinst names its own option."""

from __future__ import annotations

from condinst.settings.elsewhere import ELSEWHERE as SETTINGS

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
# Option of another program → setting of condinst. `condinst train --epochs 5` means `condinst train train.epochs=5`.
_SETTING_NAMES = (
    *("epochs", "iterations", "max_iter", "batch", "batch_size", "imgsz", "img_size", "image_size"),
    *("lr", "lr0", "learning_rate", "patience", "workers", "seed", "weight_decay", "momentum"),
)
ACCEPTED_SETTINGS = {
    spelling: SETTINGS[name] for name in _SETTING_NAMES for spelling in (f"--{name}", "--" + name.replace("_", "-"))
} | {"--steps": "train.iterations", "--img": "input.shorter", "--num-workers": "train.workers"}
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
        if f"--{name}" not in ACCEPTED_SETTINGS
    }
    | {
        "--model": "--from",
        "--output-dir": "--out",
        "--classes": "training uses the classes of the data",
        "--device": "set ACCELERATE_USE_CPU=true or CUDA_VISIBLE_DEVICES=N in the environment",
        "--save-txt": "only predict writes results",
    },
}
