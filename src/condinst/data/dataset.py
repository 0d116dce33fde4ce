"""The training pictures as a torch data set whose randomness depends on (seed, epoch, index) alone."""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset

from condinst.config import AugmentConfig
from condinst.data.batch import Example
from condinst.data.coco import CocoData
from condinst.data.image import read_image
from condinst.data.transforms import augment
from condinst.data.truth import draw_truth
from condinst.errors import DataError


class TrainingSet(Dataset[Example]):
    """Augmented examples. The same seed, epoch and index give the same example in any process, so resuming changes nothing."""

    def __init__(self, data: CocoData, augment: AugmentConfig, mask_out_stride: int, seed: int) -> None:
        self.data = data
        self.augment = augment
        self.mask_out_stride = mask_out_stride
        self.seed = seed

    def __len__(self) -> int:
        return len(self.data.samples)

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """Read, augment and draw the sample of (epoch, index). Raises DataError if its file is damaged or a mask is missing."""
        epoch, index = key
        sample = self.data.samples[index]
        image = read_image(sample.path)
        height, width = image.shape[:2]
        if (height, width) != (sample.height, sample.width):
            raise DataError(f"{sample.path}: {width}×{height} pixels, annotated as {sample.width}×{sample.height}")
        rng = np.random.default_rng([self.seed, epoch, index])
        changed = augment(image, self.augment, rng)
        truth = draw_truth(sample, changed.matrix, *changed.image.shape[:2], self.mask_out_stride)
        return Example(changed.image, (height, width), truth)
