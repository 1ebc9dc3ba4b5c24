"""Random changes to pictures, so that a model does not learn each one by heart."""

from __future__ import annotations

from torchvision.transforms import v2

from clipedu.data.loading import Transform


def augmentation(size: int) -> Transform:
    """A crop of at least 70 % of the picture, and a little more or less light, contrast and saturation.

    The result is uint8 `[3, size, size]`. Captions stay true: nothing is mirrored, so left remains left, and no hue is
    changed, so red remains red; only something near the edge may be cut off.
    """
    crop = v2.RandomResizedCrop(size, scale=(0.7, 1.0), ratio=(0.9, 1.1), antialias=True)
    return v2.Compose([crop, v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2), v2.PILToTensor()])
