"""The training pictures as a torch data set. Random changes depend only on (seed, epoch, index)."""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset

from condinst.data.batch import Example
from condinst.data.compose import Scene, make_mosaic, paste_objects
from condinst.data.pictures.image import read_image
from condinst.data.sample import AnnotatedData
from condinst.data.shown import show
from condinst.data.transforms import augment
from condinst.data.truth import make_truth
from condinst.errors import DataError
from condinst.settings.kinds import FULL, Range
from condinst.settings.training import AugmentConfig


class TrainingSet(Dataset[Example]):
    """Augmented examples.

    The same seed, epoch and index give the same example in any process, so a resumed run continues exactly.
    """

    def __init__(
        self, data: AnnotatedData, augment: AugmentConfig, mask_out_stride: int, seed: int, range: Range = FULL
    ) -> None:
        self.data = data
        self.augment = augment
        self.mask_out_stride = mask_out_stride
        self.seed = seed
        self.range = range

    def __len__(self) -> int:
        return len(self.data.samples)

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """Read, augment and draw sample `index` of `epoch`. Raises DataError for a damaged file."""
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        scene, original_size = self._scene(index, rng)
        if rng.random() < self.augment.mosaic:
            scene = self._mosaic(scene, rng)
            original_size = scene.image.shape[0], scene.image.shape[1]
        if rng.random() < self.augment.copy_paste:
            scene = paste_objects(scene, self._any_scene(rng), rng)
        height, width = scene.image.shape[:2]
        truth = make_truth(scene.things, height, width, self.mask_out_stride)
        return Example(scene.image, original_size, truth, paths=scene.paths, key=key)

    def _scene(self, index: int, rng: np.random.Generator) -> tuple[Scene, tuple[int, int]]:
        """Return an augmented picture and the (height, width) of its file."""
        sample = self.data.samples[index]
        image = read_image(sample.path, range=self.range)
        original_size = image.shape[0], image.shape[1]
        if original_size != (sample.height, sample.width):
            raise DataError(f"{sample.path}: the file has changed size since its annotation was read; start again")
        changed = augment(image, self.augment, rng)
        things = show(sample, changed.matrix, *changed.image.shape[:2])
        return Scene(changed.image, tuple(things), (sample.path,)), original_size

    def _any_scene(self, rng: np.random.Generator) -> Scene:
        return self._scene(int(rng.integers(len(self))), rng)[0]

    def _mosaic(self, first: Scene, rng: np.random.Generator) -> Scene:
        """Return the size of the crop, or the size of the first picture if there is no crop."""
        height, width = (self.augment.crop or side for side in first.image.shape[:2])
        return make_mosaic([first, *(self._any_scene(rng) for _ in range(3))], height, width, rng)
