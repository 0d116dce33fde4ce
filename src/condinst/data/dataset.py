"""The training pictures as a torch data set whose randomness depends on (seed, epoch, index) alone."""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset

from condinst.config import AugmentConfig
from condinst.data.batch import Example
from condinst.data.image import read_image
from condinst.data.sample import AnnotatedData
from condinst.data.transforms import augment
from condinst.data.truth import draw_truth
from condinst.errors import DataError


class TrainingSet(Dataset[Example]):
    """Augmented examples: the same seed, epoch and index give the same one in any process, so resuming is exact."""

    def __init__(self, data: AnnotatedData, augment: AugmentConfig, mask_out_stride: int, seed: int) -> None:
        self.data = data
        self.augment = augment
        self.mask_out_stride = mask_out_stride
        self.seed = seed

    def __len__(self) -> int:
        return len(self.data.samples)

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """Read, augment and draw sample `index` of `epoch`. Raises DataError for a damaged file."""
        epoch, index = key
        sample = self.data.samples[index]
        image = read_image(sample.path)
        original_size = image.shape[0], image.shape[1]
        if original_size != (sample.height, sample.width):
            raise DataError(f"{sample.path}: the file has changed size since its annotation was read; start again")
        rng = np.random.default_rng([self.seed, epoch, index])
        changed = augment(image, self.augment, rng)
        height, width = changed.image.shape[:2]
        truth = draw_truth(sample, changed.matrix, height, width, self.mask_out_stride)
        return Example(changed.image, original_size, truth)
