"""Datasets on disk: NetCDF for one file, Zarr for sweeps, never pickle.

To read a dataset takes no JAX: what only `save` needs is imported there.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn._extras import require_extra
from learndyn.datasets._derived import register
from learndyn.datasets._schema import SCHEMA_VERSION, number_units

if TYPE_CHECKING:
    import xarray

_JSON = "json:"
"""Marks an attribute that neither format can hold, written as JSON."""

_NETCDF = (".nc", ".nc4", ".h5", ".netcdf")


def save(
    dataset: Any,
    path: str | os.PathLike[str] | Any,
) -> Path:
    """Write `dataset`: NetCDF for a path ending in .nc, Zarr for .zarr. Replaces what is there.

    A trajectory, a `flow.Run` or `flow.Jumps` is written as its dataset, `to_dataset(trajectory)`;
    a batch of runs needs `over` there. `Weights` and `Overlaps` go to a path ending in .npz, bit
    for bit, from which `read_state` gives them back.

    The file appears when it is complete, so an interrupted run leaves no half of one. Attributes
    that the formats cannot hold (None, booleans, dicts, lists) are kept as JSON; `load` gives them
    back.

    Args:
        dataset: a dataset, a trajectory, a `flow.Run`, `flow.Jumps`, `Weights` or `Overlaps`.
        path: where to write; its ending chooses the format.

    Returns:
        The path.

    Raises:
        ValueError: for anything else, another ending, or an attribute that is none of these.
        OSError: where no file can be written there.
        ImportError: where Zarr is not installed.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> ld.save(start, "start.npz").name
        'start.npz'
        >>> bool((ld.read_state("start.npz").Q == start.Q).all())
        True
    """
    dataset, is_state = _as_saved(dataset)
    path = require_writable(path)
    if is_state:
        return _save_state(dataset, path)
    kind = _kind(path)
    encoded = dataset.copy()
    encoded.attrs = _encode(dataset.attrs)
    for name in encoded.variables:
        encoded[name].attrs = _encode(dataset[name].attrs)
    partial = _partial(path)
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

    Files of schemas 0 and 1 did not number the hidden units; the dataset does, from 1.

    Args:
        path: of a .nc file or a .zarr folder.

    Raises:
        FileNotFoundError: where there is no such file; another OSError where it cannot be read.
        ValueError: for a path that ends in neither .nc nor .zarr, for contents that are no dataset,
            and for a dataset of a schema that a later version of learndyn wrote.
        ImportError: where Zarr is not installed.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> path = ld.save(run, "run.nc")
        >>> np.round(ld.load(path).eg.values, 4)
        array([0.1788, 0.1162, 0.0763])
    """
    import xarray as xr

    register()
    path = Path(path)
    engine = {"netcdf": "h5netcdf", "zarr": "zarr"}[_kind(path)]
    options = {"consolidated": False} if engine == "zarr" else {}
    with reading(path, {"h5netcdf": "NetCDF file", "zarr": "Zarr store"}[engine]):
        dataset = _retyped(xr.load_dataset(path, engine=engine, **options), "T", str)
    dataset.attrs = _decode(dataset.attrs)
    for name in dataset.variables:
        dataset[name].attrs = _decode(dataset[name].attrs)
    require_schema(dataset.attrs, path)
    return number_units(dataset)


def _as_saved(value: Any) -> tuple[Any, bool]:
    """A dataset, made of the value if need be, or a state; and whether it is a state.

    Raises: ValueError for anything else.
    """
    import xarray as xr

    if isinstance(value, xr.Dataset):
        return value, False
    from learndyn._checks import brief
    from learndyn.datasets._build import to_dataset
    from learndyn.datasets._flows import is_flow
    from learndyn.dynamics import Fluctuations, Trajectory
    from learndyn.states import Overlaps, Weights

    if isinstance(value, Weights | Overlaps):
        return value, True
    if isinstance(value, Trajectory | Fluctuations) or is_flow(value):
        return to_dataset(value), False
    raise ValueError(
        f"save: what is saved must be a dataset, a trajectory or a state; got {brief(value)}. "
        "The arguments are, in this order: save(dataset, path)."
    )


def _save_state(state: Any, path: Path) -> Path:
    """The arrays of a state under their names; None is left out."""
    if path.suffix != ".npz":
        raise ValueError(f"a state's path must end in .npz; got {str(path)!r}.")
    arrays = {name: x for name, x in vars(state).items() if x is not None}
    partial = _partial(path)
    try:
        np.savez(partial, **arrays)
        partial.replace(path)
    finally:
        _remove(partial)
    return path


def require_schema(attributes: Mapping[Any, Any], path: Path) -> None:
    """Raises: ValueError for a schema of a later version."""
    schema = int(attributes.get("schema", 0))
    if schema > SCHEMA_VERSION:
        raise ValueError(
            f"{path} has schema {schema} (learndyn "
            f"{attributes.get('creation_library_version', 'of a later version')}), but this "
            f"version reads up to {SCHEMA_VERSION}. Install a newer learndyn."
        )


def require_writable(path: str | os.PathLike[str]) -> Path:
    """`path`, where a file (a folder for .zarr) can be written; its folder is made if need be.

    Asked before a run, so that no result is lost for want of a place.
    Raises: OSError that names the path and the reason.
    """
    path = Path(path)
    partial, is_store = _partial(path), path.suffix == ".zarr"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        partial.unlink()
        in_the_way = path.is_file() if is_store else path.is_dir()
    except OSError as error:
        raise type(error)(
            f"cannot write {str(path)!r}: {error.strerror} ({str(error.filename)!r}). Choose a "
            "place where files can be written."
        ) from error
    if in_the_way:
        raise FileExistsError(
            f"cannot write {str(path)!r}: a {'file' if is_store else 'folder'} of this name is in "
            "the way."
        )
    return path


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Whatever goes wrong while a file is read becomes one sentence with its path.

    what: what the file should be. Raises: OSError where the system refuses, else ValueError.
    """
    if not path.exists():
        raise FileNotFoundError(f"cannot read {str(path)!r}: there is no such file.")
    try:
        yield
    except ImportError:
        raise
    except OSError as error:
        if not error.errno:  # HDF5 has read the file and does not understand it
            raise _unreadable(path, what) from error
        reason = os.strerror(error.errno)
        raise type(error)(f"cannot read {str(path)!r}: {reason}.") from error
    except Exception as error:  # readers of other people's formats raise all kinds
        raise _unreadable(path, what) from error


def _unreadable(path: Path, what: str) -> ValueError:
    return ValueError(f"cannot read {str(path)!r}: it is no {what}, or it is damaged.")


def _partial(path: Path) -> Path:
    """Where a file is written until it is complete."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial{path.suffix}")


def _kind(path: Path) -> str:
    if path.suffix in _NETCDF:
        return "netcdf"
    if path.suffix == ".zarr":
        require_extra("zarr", "sweep", "the format .zarr")
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
