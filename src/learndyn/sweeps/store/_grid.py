"""A variable of a store in the order of the grid, read when it is used.

This module imports xarray, so it is imported where it is used.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from learndyn.sweeps.store._files import Description, open_array
from learndyn.sweeps.store._layout import Variable


class GridArray(BackendArray):
    """A variable in the order of the grid; places: where in the store each cell is, or -1."""

    def __init__(
        self,
        path: Path,
        name: str,
        variable: Variable,
        description: Description,
        places: np.ndarray,
        everything: bool,
    ):
        self.path, self.name, self.variable = path, name, variable
        self.block = description.block
        kept = list(description.dims)
        for dim in variable.idle:
            places = _first_known(places, kept.index(dim))
            kept.remove(dim)
        self.places = places
        self.dims = (*kept, *variable.dims)
        self.shape = (*places.shape, *variable.shape)
        whole = variable.everywhere and everything
        self.dtype = np.dtype(variable.dtype if whole else variable.stored)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Block by block, so that no more than one of them is in memory."""
        rank = self.places.ndim
        places, inside = np.asarray(_outer(self.places, key[:rank])), key[rank:]
        shape = _outer(np.broadcast_to(0, self.variable.shape), inside).shape
        stored = np.dtype(self.variable.stored)
        found = np.full((places.size, *shape), self.variable.fill, stored)
        flat = places.ravel()
        array = open_array(self.path, self.name)
        for block in np.unique(flat[flat >= 0] // self.block):
            wanted = np.flatnonzero(flat // self.block == block)
            rows = self._block(array, int(block))
            if rows is not None:
                some = rows[flat[wanted] - block * self.block]
                found[wanted] = _outer(some, (slice(None), *inside))
        return found.reshape((*places.shape, *shape)).astype(self.dtype)

    def _block(self, array: Any, block: int) -> np.ndarray | None:
        """The numbers of a block; None, with a warning, where they cannot be read."""
        try:
            return array[block * self.block : (block + 1) * self.block]
        except Exception as error:  # Zarr raises all kinds for damaged files
            warnings.warn(
                f"block {block} of {self.name} in {str(self.path)!r} cannot be read and is NaN "
                f"({type(error).__name__}: {' '.join(str(error).split())}). Remove "
                f"{str(self.path / 'done' / f'c.{block}')!r} and start the sweep again.",
                RuntimeWarning,
                stacklevel=2,
            )
            return None


def _first_known(places: np.ndarray, axis: int) -> np.ndarray:
    """Places without an axis along which all runs agree: those of the first run that is there."""
    rows = np.moveaxis(places, axis, 0)
    first = np.argmax(rows >= 0, axis=0)
    return np.asarray(np.take_along_axis(rows, first[None], 0)[0])


def _outer(array: np.ndarray, key: tuple[Any, ...]) -> np.ndarray:
    """An array at indices that count for each axis alone; integers drop their axis."""
    for axis in reversed(range(len(key))):
        array = array[(*[slice(None)] * axis, key[axis])]
    return np.asarray(array)  # where all axes are dropped NumPy returns a number


def lazily(array: GridArray) -> Any:
    data: Any = indexing.LazilyIndexedArray(array)
    return indexing.MemoryCachedArray(indexing.CopyOnWriteArray(data))
