"""Data sets: embedded in scikit-learn, published files on disk or downloaded, and the user's own.

Images are arrays of shape (n, height, width) or (n, height, width, 3), float64 in 0..1; labels are int64.
"""

from modeltoll.bench.datasets.download import PUBLISHERS, fetch
from modeltoll.bench.datasets.embedded import cells, digits, photograph_patches
from modeltoll.bench.datasets.foreign import SOURCES, foreign_images
from modeltoll.bench.datasets.images import (
    DATA_VARIABLE,
    UNKNOWN,
    DataError,
    Images,
    accuracy,
    data_folder,
    image_shape,
)
from modeltoll.bench.datasets.published import cifar10, emnist_letters, fashion, mnist, svhn, tiny_imagenet
from modeltoll.bench.datasets.resize import resize, resize_to
from modeltoll.bench.datasets.user_data import archive, image_folder

__all__ = [
    "DATA_VARIABLE",
    "PUBLISHERS",
    "SOURCES",
    "UNKNOWN",
    "DataError",
    "Images",
    "accuracy",
    "archive",
    "cells",
    "cifar10",
    "data_folder",
    "digits",
    "emnist_letters",
    "fashion",
    "fetch",
    "foreign_images",
    "image_folder",
    "image_shape",
    "mnist",
    "photograph_patches",
    "resize",
    "resize_to",
    "svhn",
    "tiny_imagenet",
]
