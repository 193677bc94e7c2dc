"""Datasets on disk: NetCDF for one file, Zarr for sweeps, never pickle."""

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.datasets._build import to_dataset
from learndyn.datasets._provenance import SCHEMA_VERSION
from learndyn.dynamics import Fluctuations, Trajectory
from learndyn.states import Overlaps, Weights

if TYPE_CHECKING:
    import xarray

_JSON = "json:"
"""Marks an attribute that neither format can hold, written as JSON."""

_NETCDF = (".nc", ".nc4", ".h5", ".netcdf")


def save(
    dataset: "xarray.Dataset | Trajectory | Fluctuations | Weights | Overlaps",
    path: str | os.PathLike[str],
) -> Path:
    """Write `dataset`: NetCDF for a path ending in .nc, Zarr for .zarr. Replaces what is there.

    A trajectory is written as its dataset, `to_dataset(trajectory)`. `Weights` and `Overlaps` go
    to a path ending in .npz, bit for bit, from which `read_state` gives them back.

    The file appears when it is complete, so an interrupted run leaves no half of one.
    Attributes that the formats cannot hold (None, booleans, dicts, lists) are kept as JSON;
    `load` gives them back.

    Returns: the path. Raises: ValueError for another ending or an attribute that is none of
    these; ImportError where Zarr is not installed.
    """
    path = Path(path)
    if isinstance(dataset, Weights | Overlaps):
        return _save_state(dataset, path)
    if isinstance(dataset, Trajectory | Fluctuations):
        dataset = to_dataset(dataset)
    kind = _kind(path)
    encoded = dataset.copy()
    encoded.attrs = _encode(dataset.attrs)
    for name in encoded.variables:
        encoded[name].attrs = _encode(dataset[name].attrs)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial{path.suffix}")
    try:
        if kind == "netcdf":
            encoded.to_netcdf(partial, engine="h5netcdf")
        else:
            # Zarr has no stable format for strings of fixed length.
            _retyped(encoded, "U", object).to_zarr(partial, mode="w", consolidated=False)
            if path.is_dir():
                shutil.rmtree(path)
        # Renaming is atomic within a file system: readers see the old file or the new one.
        partial.replace(path)
    finally:
        _remove(partial)
    return path


def load(path: str | os.PathLike[str]) -> "xarray.Dataset":
    """Read a dataset into memory as it was when saved; the file is closed afterwards.

    Raises: FileNotFoundError; ValueError for a path that ends in neither .nc nor .zarr, and for a
    dataset of a schema that a later version of learndyn wrote.
    """
    import xarray as xr

    path = Path(path)
    engine = {"netcdf": "h5netcdf", "zarr": "zarr"}[_kind(path)]
    if not path.exists():
        raise FileNotFoundError(f"there is no dataset at {path}.")
    options = {"consolidated": False} if engine == "zarr" else {}
    dataset = _retyped(xr.load_dataset(path, engine=engine, **options), "T", str)
    dataset.attrs = _decode(dataset.attrs)
    for name in dataset.variables:
        dataset[name].attrs = _decode(dataset[name].attrs)
    _require_schema(dataset, path)
    return dataset


def _save_state(state: Weights | Overlaps, path: Path) -> Path:
    """The arrays of a state under their names; None is left out."""
    if path.suffix != ".npz":
        raise ValueError(f"a state's path must end in .npz; got {str(path)!r}.")
    arrays = {name: np.asarray(x) for name, x in vars(state).items() if x is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial{path.suffix}")
    try:
        np.savez(partial, **arrays)
        partial.replace(path)
    finally:
        _remove(partial)
    return path


def _require_schema(dataset: "xarray.Dataset", path: Path) -> None:
    """Raises: ValueError for a schema of a later version."""
    schema = int(dataset.attrs.get("schema", 0))
    if schema > SCHEMA_VERSION:
        raise ValueError(
            f"{path} has schema {schema} (learndyn "
            f"{dataset.attrs.get('creation_library_version', 'of a later version')}), but this "
            f"version reads up to {SCHEMA_VERSION}. Install a newer learndyn."
        )


def _kind(path: Path) -> str:
    if path.suffix in _NETCDF:
        return "netcdf"
    if path.suffix == ".zarr":
        return "zarr"
    if path.suffix == ".npz":
        raise ValueError(f"{str(path)!r} holds a state, not a dataset: use ld.read_state.")
    raise ValueError(
        f"a dataset's path must end in .nc (NetCDF) or .zarr (Zarr); got {str(path)!r}."
    )


def _retyped(dataset: "xarray.Dataset", kind: str, dtype: type) -> "xarray.Dataset":
    """`dataset` with the variables of this kind of dtype in another."""
    found = {
        name: (v.dims, np.array(v.values.tolist(), dtype), v.attrs)
        for name, v in dataset.variables.items()
        if v.dtype.kind == kind
    }
    return dataset.assign(found)


def _encode(attributes: dict[Any, Any]) -> dict[str, Any]:
    return {str(name): _encode_one(name, value) for name, value in attributes.items()}


def _encode_one(name: Any, value: Any) -> Any:
    native = isinstance(value, int | float | np.number | np.ndarray) and not isinstance(value, bool)
    if native or (isinstance(value, str) and not value.startswith(_JSON)):
        return value
    try:
        return _JSON + json.dumps(value)
    except TypeError as error:
        raise ValueError(
            f"the attribute {name!r} must be a string, a number, an array, or plain data that "
            f"JSON can hold; got {value!r}."
        ) from error


def _decode(attributes: dict[Any, Any]) -> dict[Any, Any]:
    return {
        name: json.loads(value.removeprefix(_JSON))
        if isinstance(value, str) and value.startswith(_JSON)
        else value
        for name, value in attributes.items()
    }


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
