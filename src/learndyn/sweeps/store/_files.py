"""A store on disk: a Zarr group whose arrays hold one block of runs per chunk file.

Along `item` stand the runs in the order of the plan; those of one program fill `chunk` places and
those of one block `block` places, of which the last may be empty. A file in the folder `done` is
the flag of a block. It is written last, and without it nothing of its block counts. `cell` says
which cell of which grid a place holds: that of the sweep when it was begun, or was extended.
"""

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from learndyn._extras import require_extra
from learndyn.sweeps.store._layout import Layout, Variable

if TYPE_CHECKING:
    import zarr

FORMAT = 1
"""Version of how a store is laid out."""

_NAME = "learndyn_sweep"
"""The attribute of the group in which everything about the sweep is."""

_CELLS_PER_FILE = 1 << 20
"""Places whose cells share a file at most: 8 MiB."""

_GROWTH = 16
"""Times as many places as the first sweep has that a file of cells holds: the files are written
whole, so a small store stays small, and one that grows a thousandfold has some sixty of them."""

_CHECKSUM = 4
"""Bytes that follow the numbers in each file, so that damage is found."""


class Grid(NamedTuple):
    """A sweep as it was asked for once. first: its first place. places: how many it added."""

    axes: dict[str, list[Any]]
    shape: tuple[int, ...]
    first: int
    places: int


class Description(NamedTuple):
    """Everything about a stored sweep but its numbers."""

    identity: dict[str, Any]
    chunk: int
    block: int
    grids: list[Grid]
    layout: Layout
    dims: tuple[str, ...]
    coordinates: dict[str, list[Any]]
    attributes: dict[str, Any]

    @property
    def places(self) -> int:
        return self.grids[-1].first + self.grids[-1].places

    @property
    def blocks(self) -> int:
        return self.places // self.block


def flags_folder(path: Path) -> Path:
    """Where flags, errors and locks are: no other reader of Zarr looks there for arrays."""
    return path / "done"


def read_description(path: Path) -> Description | None:
    """That of the sweep in a store; None where none was begun.

    Raises: ValueError for metadata that cannot be read, are no sweep's, or of a later version.
    """
    file = path / "zarr.json"
    if not file.exists():
        strangers = [] if not path.exists() else [x.name for x in path.iterdir()]
        if strangers and "done" not in strangers:
            raise ValueError(
                f"{str(path)!r} holds {sorted(strangers)[:3]} and no sweep: choose another place."
            )
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["attributes"][_NAME]
        if found["format"] > FORMAT:
            raise ValueError(
                f"{str(path)!r} has format {found['format']} of a later version of learndyn; this "
                f"one reads up to {FORMAT}. Install a newer learndyn."
            )
        return _description(found)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{str(file)!r} does not describe a sweep ({type(error).__name__}: {error}): the file "
            "is damaged, or something else wrote it. Take it from a copy, or choose another store."
        ) from error


def _description(found: Mapping[str, Any]) -> Description:
    layout = {
        name: Variable(**{**x, **{part: tuple(x[part]) for part in ("dims", "shape", "idle")}})
        for name, x in found["layout"].items()
    }
    grids = [Grid(**{**grid, "shape": tuple(grid["shape"])}) for grid in found["grids"]]
    plain = {name: found[name] for name in Description._fields}
    return Description(**{**plain, "layout": layout, "grids": grids, "dims": tuple(found["dims"])})


def write_description(path: Path, description: Description) -> None:
    """Put it in place of the one before: a reader sees one or the other."""
    parts = description._asdict()
    parts["layout"] = {name: variable._asdict() for name, variable in description.layout.items()}
    parts["grids"] = [grid._asdict() for grid in description.grids]
    told = {"zarr_format": 3, "node_type": "group"}
    text = json.dumps(told | {"attributes": {_NAME: {"format": FORMAT, **parts}}})
    partial = path / f"zarr.json.{uuid.uuid4().hex}.partial"
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path / "zarr.json")
    finally:
        partial.unlink(missing_ok=True)


def make_arrays(path: Path, description: Description, cells: np.ndarray) -> None:
    """The arrays of all variables, made or made longer; cells: those of the last grid's places."""
    zarr = _zarr()
    last = description.grids[-1]
    for name, variable in description.layout.items():
        shape = (description.places, *variable.shape)
        if (path / name / "zarr.json").exists() and variable.since < len(description.grids) - 1:
            open_array(path, name, "r+").resize(shape)
        else:
            _create(path, name, variable, shape, description.block)
    whole = np.full(last.places, -1)
    whole[: len(cells)] = cells
    wanted = min(_CELLS_PER_FILE, _GROWTH * description.places)
    per_file = description.block * -(-wanted // description.block)
    flag = Variable((), (), "|i1", "int8", True, (), 0)
    if last.first == 0:
        (flags_folder(path) / "zarr.json").unlink(missing_ok=True)  # of a beginning that was cut
        _create(path, "done", flag, (description.places,), description.block, fill=0)
        index = Variable((), (), "<i8", "int64", True, (), 0)
        _create(path, "cell", index, (description.places,), per_file, fill=-1)
    else:
        for name in ("done", "cell"):
            open_array(path, name, "r+").resize((description.places,))
    zarr.open_array(path / "cell", mode="r+")[last.first :] = whole


def _create(
    path: Path,
    name: str,
    variable: Variable,
    shape: tuple[int, ...],
    block: int,
    fill: Any = None,
) -> None:
    from zarr.codecs import Crc32cCodec

    # Without compression every file has a size that is known, so that a shorter one is found.
    _zarr().create_array(
        path / name,
        shape=shape,
        chunks=(block, *(max(size, 1) for size in variable.shape)),
        dtype=variable.stored,
        fill_value=variable.fill if fill is None else fill,
        compressors=[Crc32cCodec()],
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=("item", *variable.dims),
        overwrite=name != "done",  # in whose folder the locks are
    )


def open_array(path: Path, name: str, mode: str = "r") -> "zarr.Array":
    """One array of a store. Raises: ValueError where its metadata cannot be read."""
    zarr = _zarr()
    try:
        # A block that is all NaN has a file like any other, so that a lost one is seen.
        return zarr.open_array(path / name, mode=mode, config={"write_empty_chunks": True})
    except Exception as error:  # Zarr raises all kinds for damaged metadata
        raise ValueError(
            f"{str(path / name / 'zarr.json')!r} cannot be read ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no reason given'}): take the file "
            "from a copy of the store."
        ) from error


def write_block(
    opened: Mapping[str, "zarr.Array"],
    block: int,
    size: int,
    arrays: Mapping[str, np.ndarray],
    flags: np.ndarray,
) -> None:
    """The numbers of a block, and last its flag.

    opened: the arrays of the store. flags: (size,) 1 where a place was done.
    """
    rows = slice(block * size, (block + 1) * size)
    for name, values in arrays.items():
        inside = tuple(slice(length) for length in values.shape[1:])
        opened[name][(rows, *inside)] = values
    opened["done"][rows] = flags.astype(np.int8)


def write_errors(path: Path, block: int, errors: Mapping[int, str]) -> None:
    """Why runs of a block raised, by their places in the store."""
    text = json.dumps({str(place): message for place, message in errors.items()})
    (flags_folder(path) / f"errors.{block}.json").write_text(text, encoding="utf-8")


def read_errors(path: Path, blocks: np.ndarray) -> dict[int, str]:
    """Why runs raised, by place, for those blocks that are done."""
    found: dict[int, str] = {}
    for file in sorted(flags_folder(path).glob("errors.*.json")):
        if blocks[int(file.name.split(".")[1])]:
            found |= {int(place): x for place, x in json.loads(file.read_text("utf-8")).items()}
    return found


def blocks_done(path: Path, description: Description) -> np.ndarray:
    """(blocks,) Whether the flag of each block is there and whole."""
    done = np.zeros(description.blocks, bool)
    for entry in os.scandir(flags_folder(path)):
        kind, _, number = entry.name.partition(".")
        if kind == "c" and number.isdecimal() and int(number) < len(done):
            done[int(number)] = entry.stat().st_size == description.block + _CHECKSUM
    return done


def flag_times(path: Path, blocks: np.ndarray) -> np.ndarray:
    """(blocks,) Seconds since 1970 at which the flags of these blocks were written."""
    return np.array([(flags_folder(path) / f"c.{block}").stat().st_mtime for block in blocks])


def is_flagged(path: Path, description: Description, block: int) -> bool:
    """Whether the flag of one block is there and whole."""
    flag = flags_folder(path) / f"c.{block}"
    return flag.exists() and flag.stat().st_size == description.block + _CHECKSUM


def damaged_blocks(path: Path, description: Description, done: np.ndarray) -> dict[int, str]:
    """Blocks that are done but of which a file is lost or has another size, and which file."""
    found: dict[int, str] = {}
    for name, variable in description.layout.items():
        sizes = {
            entry.name: entry.stat().st_size
            for entry in os.scandir(path / name)
            if entry.name.startswith("c.")
        }
        array = open_array(path, name)
        size = int(np.prod(array.chunks)) * array.dtype.itemsize + _CHECKSUM
        first = description.grids[variable.since].first // description.block
        zeros = ".0" * len(variable.dims)
        for block in np.flatnonzero(done[first:]) + first:
            file = f"c.{block}{zeros}"
            if 0 not in variable.shape and sizes.get(file) != size:
                found[int(block)] = str(path / name / file)
    return found


def drop_flag(path: Path, block: int) -> None:
    """Let a block count as not done."""
    (flags_folder(path) / f"c.{block}").unlink(missing_ok=True)
    (flags_folder(path) / f"errors.{block}.json").unlink(missing_ok=True)


def _zarr() -> Any:
    require_extra("zarr", "sweep", "a sweep with a store")
    import zarr

    return zarr
