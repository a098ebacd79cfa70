"""Pictures: open them from any source, and split a training set into keep and forget."""

from dataunlearn.data.opening import (
    ArrayImages,
    ConcatImages,
    FileImages,
    HubImages,
    ImageSet,
    ImageSource,
    SubsetImages,
    open_images,
)
from dataunlearn.data.split import Split, split_sets

__all__ = [
    "ArrayImages",
    "ConcatImages",
    "FileImages",
    "HubImages",
    "ImageSet",
    "ImageSource",
    "Split",
    "SubsetImages",
    "open_images",
    "split_sets",
]
