"""Arrays in files, through Django's storage: a disk, or a bucket."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from django.core.files.base import ContentFile
from django.db.models.fields.files import FieldFile
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def to_file(arrays: Mapping[str, NDArray[Any]], *, is_compressed: bool = True) -> "ContentFile[bytes]":
    """An npz of these arrays; features do not shrink by compression, and are stored plainly."""
    buffer = io.BytesIO()
    save = np.savez_compressed if is_compressed else np.savez
    save(buffer, **arrays)  # type: ignore[arg-type]
    return ContentFile(buffer.getvalue())


def read_arrays(file: FieldFile) -> Arrays:
    """The arrays of a stored npz. Nothing in it is run: pickles are refused."""
    with (
        file.storage.open(str(file.name), "rb") as stored,
        np.load(io.BytesIO(stored.read()), allow_pickle=False) as found,
    ):
        return {name: found[name] for name in found.files}
