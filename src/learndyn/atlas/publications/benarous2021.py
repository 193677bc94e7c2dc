"""Ben Arous, Gheissari & Jagannath 2021: samples needed, by the information exponent."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import along, ensemble, labelled

if TYPE_CHECKING:
    import xarray

BENAROUS = Publication(
    "benarous2021", "Ben Arous, Gheissari & Jagannath, JMLR 22 (2021), arXiv 2003.10409"
)
LAW = "the law: N, N ln N, N²"


def third_hermite(x: Any) -> Any:
    """He₃, whose first Hermite coefficient that is not zero is the third."""
    return x**3 - 3 * x


def _exponent(s: SimpleNamespace) -> "xarray.Dataset":
    return along("exponent", {k: _over_sizes(s, k) for k in s.exponent})


def _over_sizes(s: SimpleNamespace, k: int) -> "xarray.Dataset":
    sizes = np.array(s.n[k - 1])
    steps = np.array([_steps(s, k, int(n)) for n in sizes])
    # The law for exponent 2 has a logarithm, by which its steps are divided first.
    plain = steps / np.log(sizes) if k == 2 else steps
    slope = np.polyfit(np.log(sizes), np.log(plain), 1)[0]
    return labelled(
        {
            "steps": ("n", steps, "median number of steps until |R| = 0.5"),
            "power": ((), slope, "power of N of the steps, without logarithm"),
        },
        n=sizes,
    )


def _steps(s: SimpleNamespace, k: int, n: int) -> float:
    """Median over runs of the steps from R = 1/√N to 1/2, by SGD on the sphere."""
    # A constant that student and teacher share, as x² has, is none of their difference.
    unit = {1: ld.Linear, 2: ld.Quadratic, 3: lambda: third_hermite}[k]()
    problem = ld.Problem(unit, unit)
    # The slower the start, the smaller steps must be, for the drift to win over their noise.
    rate = s.lr[k - 1] / (n**0.5 if k == 3 else 1.0)
    start = ld.Overlaps(Q=[[1.0]], R=[[n**-0.5]], T=[[1.0]])
    ts = np.linspace(0.0, s.time[k - 1] * {1: 1.0, 2: np.log(n), 3: n}[k], s.points)
    rule = ld.SGD(lr=rate, spherical=True)
    runs = ensemble("chain", problem, rule, start, ts, n=n, runs=s.runs, seed=0)
    # |R|: a square does not know the sign.
    overlap = np.abs(runs.R.transpose("seed", "alpha", ...).values[..., 0, 0])
    passed = overlap >= 0.5
    exits = np.where(passed.any(axis=1), ts[passed.argmax(axis=1)], np.inf)
    return float(np.median(exits) * n)


EXPONENT = Entry(
    "benarous2021-exponent",
    BENAROUS,
    "one unit leaves its start after N, N ln N or N² samples, for information exponents 1, 2, 3",
    "R",
    "a",
    settings={
        "exponent": (1, 2, 3),
        "n": ((250, 1000, 4000), (250, 1000, 4000), (24, 48, 96, 192)),
        "lr": (0.2, 0.05, 0.003),
        "time": (10.0, 5.0, 50.0),
        "points": 401,
        "runs": 64,
    },
    quick={"exponent": (2, 3), "n": ((), (250, 1000, 4000), (24, 48, 96)), "runs": 16},
    run=_exponent,
    published=numbers(
        "power",
        "1 1 2",
        {"exponent": (1, 2, 3)},
        within=0.15,
        source=f"{LAW}, remembered; margin of the atlas",
    ),
    panels=(
        Panel("steps", "n", by="exponent", log="xy"),
        Panel("power", "exponent", title="without the logarithm of exponent 2"),
    ),
    note="student and teacher are x, x² and x³ − 3x; rates and sizes are ours",
)

ENTRIES = (EXPONENT,)
