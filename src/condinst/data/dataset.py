"""The training pictures as a torch data set. Random changes depend only on (seed, epoch, index)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch.utils.data import Dataset

from condinst.data.augment.compose import BACKGROUND, Colour
from condinst.data.augment.kept_pictures import KeptPictures
from condinst.data.augment.order import order_of_epoch
from condinst.data.batch import Example
from condinst.data.drawing import Drawing
from condinst.data.pictures.image import read_image
from condinst.data.sample import AnnotatedData, Array8
from condinst.data.truth import make_truth
from condinst.settings.kinds import FULL, Range
from condinst.settings.prediction import Resampling
from condinst.settings.training import AugmentConfig

PLAIN = {"mosaic": 0.0, "copy_paste": 0.0, "mixup": 0.0}  # what the last part of the training does without


class TrainingSet(Dataset[Example]):
    """Augmented examples.

    The same seed, epoch and index give the same example in any process, so a resumed run continues exactly. fill: RGB
    of the pixels that no picture covers. stretch: see `InputConfig`. plain_from: the first epoch without mosaic,
    copy_paste and mixup; None: all epochs are alike.
    """

    def __init__(
        self,
        data: AnnotatedData,
        augment: AugmentConfig,
        mask_out_stride: int,
        seed: int,
        range: Range = FULL,
        *,
        fill: Colour = BACKGROUND,
        resampling: Resampling = "pillow",
        stretch: bool = False,
        plain_from: int | None = None,
    ) -> None:
        self.data = data
        self.augment = augment
        self.mask_out_stride = mask_out_stride
        self.seed = seed
        self.range = range
        self.fill, self.resampling, self.stretch, self.plain_from = fill, resampling, stretch, plain_from
        self.read = KeptPictures(augment.cache, self._read)
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))  # the last epoch asked for, its order

    def __len__(self) -> int:
        return len(self.data.samples)

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """Read, augment and draw sample `index` of `epoch`. Raises DataError for a damaged file."""
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        plain = self.plain_from is not None and epoch >= self.plain_from
        config = self.augment.model_copy(update=PLAIN) if plain else self.augment
        partner = self._partner(epoch, index, rng)
        drawing = Drawing(self.data, config, rng, self.read, partner, self.fill, self.resampling, self.stretch)
        scene, original_size = drawing.draw(index)
        height, width = scene.image.shape[:2]
        truth = make_truth(scene.things, height, width, self.mask_out_stride)
        return Example(scene.image, original_size, truth, paths=scene.paths, key=key)

    def _read(self, index: int) -> Array8:
        return read_image(self.data.samples[index].path, range=self.range)

    def _partner(self, epoch: int, index: int, rng: np.random.Generator) -> Callable[[], int]:
        """Return the function that draws other pictures: any, or those read before it if the last ones are kept."""
        count = len(self)
        if not self.augment.cache:
            return lambda: int(rng.integers(count))
        if self.order[0] != epoch:
            self.order = epoch, order_of_epoch(count, self.seed, epoch)
        order = self.order[1]
        place, reach = int(np.flatnonzero(order == index)[0]), min(self.augment.cache, count)
        return lambda: int(order[(place - 1 - rng.integers(reach)) % count])
