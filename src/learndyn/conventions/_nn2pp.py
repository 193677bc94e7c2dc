"""Log files of nn2pp, the program behind the figures of Goldt et al. (2019, 2020)."""

import dataclasses
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.conventions._convention import Convention, Scale
from learndyn.datasets import reading, to_dataset
from learndyn.problems import Erf, Linear, Problem, Quadratic, ReLU
from learndyn.rules import SGD

if TYPE_CHECKING:
    import xarray

_UNITS = {"lin": Linear, "erf": Erf, "relu": ReLU, "quad": Quadratic}
"""Activations by their names in a header."""

_NUMBER = r"=\s*([-+.\deE]+|inf|nan)"

_BEFORE = 6
"""Columns before the overlaps: steps / N, eg, et, eg_frac, et_frac, diff."""


def from_nn2pp(file: str | os.PathLike[str]) -> Convention:
    r"""A log of `nn2pp.exe` or `nn2pp_ode_erf.exe`, *.dat: its problem, rule and results.

    nn2pp's steps / N, eg, Q, R, A (our v_teacher), v, lr, lr2 and sigma have our numbers. Its
    weight decay is not multiplied by the learning rate: wd is our lr * weight_decay.

    Worked number: --lr 0.5 --wd 0.1 is `SGD(lr=0.5, weight_decay=0.2)`.

    Args:
        file: path of the log.

    Returns:
        A convention whose `data` is the log as a dataset: eg, and Q, R, v, v_teacher unless it was
        run with --quiet; T where the file *_T0.dat of --store lies next to it. So
        `ld.overlaps_at(data, 0)` is the start of an ODE.

    Raises:
        OSError: or ValueError for a file that is no such log, and for runs that have no counterpart
            here: classes as labels of a squared loss, decay of both layers.

    Source:
        https://github.com/sgoldt/nn2pp, `libnn2pp.h` and `scmpp_ode.cpp`.

    Example:
        >>> from pathlib import Path
        >>> head = "# g1=erf, g2=erf, N=500, M=1, K=1\n# lr=0.5, lr2=0, wd=0.1, sigma=0.01"
        >>> rows = "0,0.3,0.3,0,0,0,1.0,0.1,1.0,1.0\n1,0.2,0.2,0,0,0,0.9,0.4,1.0,1.0"
        >>> _ = Path("run.dat").write_text(f"{head}\n{rows}\n")
        >>> run = conventions.from_nn2pp("run.dat")
        >>> run.rule, float(run.data.R[1, 0, 0])
        (SGD(lr=0.5, weight_decay=0.2), 0.4)
    """
    path = Path(file)
    with reading(path, "log of nn2pp"):
        lines = path.read_text(encoding="utf-8").splitlines()
    header = "\n".join(line for line in lines if line.startswith("#"))
    rows = [line.split(",") for line in lines if line.strip() and not line.startswith("#")]
    facts = _facts(path, header)
    _require_counterpart(path, facts)
    decay = facts["wd"] / facts["lr"] if facts["lr"] else 0.0
    rule = SGD(
        lr=facts["lr"],
        lr_second=facts["lr2"] if facts["both"] else None,
        weight_decay=decay,
        batch_size=int(facts.get("batch", 1)),
    )
    problem = Problem(_UNITS[facts["g2"]](), _UNITS[facts["g1"]](), noise=facts["sigma"])
    scale = {"weight_decay": Scale(1.0 / facts["lr"])} if facts["lr"] else {}
    found = Convention(f"nn2pp ({path.name})", problem, rule, scale)
    return dataclasses.replace(found, data=_dataset(path, rows, facts, found))


def _facts(path: Path, header: str) -> dict[str, Any]:
    """What the header says. Raises: ValueError where it lacks something."""
    units = re.search(r"# g1=(?:g2=)?(\w+)(?:, g2=(\w+))?", header)
    names = {"N": "N", "M": "M", "K": "K", "lr": "lr", "lr2": "lr2", "sigma": "sigma"}
    names |= {"wd": "wd", "batch": "mini-batch size"}
    found = {key: re.search(rf"[ #,]{name}{_NUMBER}", header) for key, name in names.items()}
    facts: dict[str, Any] = {key: float(x[1]) for key, x in found.items() if x}
    missing = [key for key in ("M", "K", "lr", "lr2", "sigma", "wd") if key not in facts]
    if units is None or missing:
        raise ValueError(
            f"{str(path)!r} must begin with the header of nn2pp, '# g1=…, g2=…, N=…' and "
            f"'# lr=…'; it lacks {missing or 'g1'}. Is it the .dat file of a run?"
        )
    facts |= {"g1": units[1], "g2": units[2] or units[1]}
    return facts | {"both": "training both layers" in header}


def _require_counterpart(path: Path, facts: dict[str, Any]) -> None:
    """Raises: ValueError for a run that this library does not have."""
    for side in ("g1", "g2"):
        if facts[side] not in _UNITS:
            raise ValueError(
                f"{str(path)!r} has the activation {facts[side]!r}, but those that can be read are "
                f"{', '.join(_UNITS)}."
            )
    if "_class_" in path.name:
        raise ValueError(
            f"{str(path)!r} trained a squared loss on classes, which has no counterpart here: give "
            "a Problem with a loss for classification yourself."
        )
    if facts["both"] and facts["wd"]:
        raise ValueError(
            f"{str(path)!r} has weight decay on both layers, but ours acts on the first alone."
        )


def _dataset(
    path: Path, rows: list[list[str]], facts: dict[str, Any], found: Convention
) -> "xarray.Dataset":
    with reading(path, "log of nn2pp, whose rows are numbers"):
        table = np.array([[float(x) for x in row] for row in rows])
    if table.ndim != 2:
        raise ValueError(f"{str(path)!r} has no rows of results.")
    variables = {"eg": table[:, 1]} | _overlaps(path, table, int(facts["K"]), int(facts["M"]))
    n = int(facts["N"]) if "N" in facts else None
    level = "ode" if n is None else "sgd"
    return to_dataset(
        variables, found.problem, found.rule, level=level, n=n, ts=table[:, 0],
        attributes={"source": found.source},
    )  # fmt: skip


def _overlaps(path: Path, table: np.ndarray, k: int, m: int) -> dict[str, Any]:
    """Q row by row from its diagonal on, R, A and v; nothing after --quiet."""
    sizes = [k * (k + 1) // 2, k * m, m, k]
    if table.shape[1] == _BEFORE:
        return {}
    if table.shape[1] != _BEFORE + sum(sizes):
        raise ValueError(
            f"{str(path)!r} must have {_BEFORE + sum(sizes)} columns for K = {k} and M = {m}; got "
            f"{table.shape[1]}."
        )
    upper, r, a, v = np.split(table[:, _BEFORE:], np.cumsum(sizes)[:-1], axis=1)
    q = np.zeros((len(table), k, k))
    rows, columns = np.triu_indices(k)
    q[:, rows, columns] = q[:, columns, rows] = upper
    named = {"Q": q, "R": r.reshape(-1, k, m), "v": v, "v_teacher": a[0]}
    stored = path.with_name(f"{path.stem}_T0.dat")
    if stored.exists():
        with reading(stored, "table of T"):
            named["T"] = np.loadtxt(stored, delimiter=",", ndmin=2)
    return named
