"""Goldt et al. 2020, where learning ends: Figs. 2a, 3c, 4, S2, S3 and Eqs. (11) to (13)."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, numbers
from learndyn.atlas._measure import ensemble, labelled, mean_and_error
from learndyn.atlas._starts import start
from learndyn.atlas.publications.goldt2020.publication import GOLDT

if TYPE_CHECKING:
    import xarray

EG_UNITS = "ε_g*/σ²"
OWN = "the closed form, evaluated for the atlas"


def _finals(s: SimpleNamespace, problem: Any, starts: list, rates: list) -> np.ndarray:
    """Means and standard errors of eg/noise² along runs from these states."""
    ts = np.linspace(0.0, s.alpha_max, 201)
    size = {"n": s.n, "runs": s.runs, "seed": s.seed}
    runs = (
        ensemble(s.level, problem, ld.SGD(lr=lr), state, ts, **size).eg
        for state, lr in zip(starts, rates, strict=True)
    )
    found = [mean_and_error(eg, burn_in=s.burn_in) for eg in runs]
    return np.transpose(found) / s.noise**2


def _settled(problem: Any, lr: float, states: list) -> list:
    """Where the ODE ends with noise: some hundreds of alpha from the noiseless states."""
    rule = ld.SGD(lr=lr)
    return [ld.asymptotics.fixed_point(problem, rule, state).state for state in states]


def _filled(shape: tuple[int, ...], places: Any, values: Any) -> np.ndarray:
    """An array of NaN with `values` at `places`, which index its last axis."""
    array = np.full(shape, np.nan)
    array[..., places] = values
    return array


def _fig2a(s: SimpleNamespace) -> "xarray.Dataset":
    m, l, k = (np.array(x) for x in (s.m, s.l, s.k))
    predicted = ld.asymptotics.eg_specialised(m[:, None], l, s.lr)
    states = [ld.asymptotics.specialised_state(s.m[0], one) for one in s.simulated_l]
    lines = [ld.asymptotics.specialised_state(one, 0) for one in s.simulated_k]
    rates = lambda starts: [s.lr] * len(starts)
    smooth = ld.Problem(noise=s.noise)
    erf, erf_error = _finals(s, smooth, _settled(smooth, s.lr, states), rates(states))
    linear = ld.Problem(ld.Linear(), ld.Linear(), noise=s.noise)
    flat, flat_error = _finals(s, linear, lines, rates(lines))
    at_l, at_k = np.searchsorted(l, s.simulated_l), np.searchsorted(k, s.simulated_k)
    first = lambda x: np.stack([_filled(l.shape, at_l, x), *np.full((len(m) - 1, len(l)), np.nan)])
    return labelled(
        {
            "eg_erf_predicted": (("m", "l"), predicted, f"{EG_UNITS}, erf"),
            "eg_erf": (("m", "l"), first(erf), f"{EG_UNITS}, erf"),
            "eg_erf_error": (("m", "l"), first(erf_error)),
            "eg_linear_predicted": (
                "k",
                ld.asymptotics.eg_linear(s.lr, k=k),
                f"{EG_UNITS}, linear",
            ),
            "eg_linear": ("k", _filled(k.shape, at_k, flat), f"{EG_UNITS}, linear"),
            "eg_linear_error": ("k", _filled(k.shape, at_k, flat_error)),
        },
        m=m,
        l=l,
        k=k,
    )


FIG2A = Entry(
    "goldt2020-fig2a",
    GOLDT,
    "the final error grows with every superfluous unit, for erf and linear units",
    "S",
    "a",
    settings={
        "lr": 0.05,
        "noise": 0.01,
        "n": 784,
        "m": (2, 4),
        "l": (0, 1, 2, 3, 4, 5),
        "k": (2, 3, 4, 5, 6, 7),
        "level": "sgd",
        "simulated_l": (0, 1, 2, 3, 4, 5),
        "simulated_k": (2, 3, 4, 5, 6, 7),
        "runs": 2,
        "alpha_max": 1000.0,
        "burn_in": 0.25,
        "seed": 0,
    },
    quick={"level": "chain", "simulated_l": (0, 3), "simulated_k": (2, 5), "runs": 8}
    | {"alpha_max": 200.0},
    run=_fig2a,
    published=(
        *numbers(
            "eg_erf",
            "0.009390906 0.017786528 0.026463525 0.035436292 0.044720214 0.054331765",
            {"l": range(6)},
            at={"m": 2},
            source=f"Eq. (10), {OWN}",
        ),
        *numbers(
            "eg_erf",
            "0.019141353 0.027864206 0.036885194 0.046219869 0.055884885 0.065898095",
            {"l": range(6)},
            at={"m": 4},
            source=f"Eq. (10), {OWN}",
        ),
        *numbers(
            "eg_linear",
            "0.026315789 0.040540541 0.055555556 0.071428571 0.088235294 0.106060606",
            {"k": range(2, 8)},
            source=f"Eq. (12), {OWN}",
        ),
    ),
    panels=(
        Panel("eg_erf", "l", by="m", title="erf"),
        Panel("eg_linear", "k", title="linear"),
    ),
    note="the caption does not say which M panel a has: M = 2 and 4 are shown, M = 2 is simulated",
)


def _limits(s: SimpleNamespace) -> "xarray.Dataset":
    m, l, lr = (np.array(x) for x in (s.m, s.l, s.lr))
    grid = m[:, None, None], l[:, None], lr
    closed = ld.asymptotics
    erf = closed.eg_specialised(*grid) / closed.eg_specialised_small_lr(*grid)
    sizes = m[:, None, None] + l[:, None]
    linear = closed.eg_linear(lr, k=sizes) / closed.eg_linear_small_lr(lr, k=sizes)
    smallest = closed.eg_specialised(m[:, None], l, s.tiny_lr) * 2 * np.pi / s.tiny_lr
    return labelled(
        {
            "ratio_erf": (("m", "l", "lr"), erf, "Eq. (10) over Eq. (11)"),
            "ratio_linear": (("m", "l", "lr"), linear, "Eq. (12) over Eq. (13)"),
            "slope": (("m", "l"), smallest, "2π ε_g*/(η σ²) as η → 0"),
            "slope_predicted": (("m", "l"), l + m[:, None] / 3**0.5),
        },
        m=m,
        l=l,
        lr=lr,
    )


EQ11_13 = Entry(
    "goldt2020-eq11-13",
    GOLDT,
    "at small learning rates the final error is η σ² (L + M/√3)/2π for erf, η σ² (L + M)/4 for "
    "linear units",
    "S",
    "a",
    settings={
        "m": (2, 4),
        "l": (0, 1, 2, 3),
        "lr": (0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
        "tiny_lr": 1e-5,
    },
    run=_limits,
    published=(
        *numbers("ratio_erf", "1.022", {"lr": [0.05]}, at={"m": 2, "l": 0}, source=OWN),
        *numbers("ratio_erf", "1.0136", {"lr": [0.01]}, at={"m": 2, "l": 3}, source=OWN),
        *numbers("slope", "", {"l": range(4)}, at={"m": 2}, kind="shown", source="Eq. (11)"),
        *numbers("slope", "", {"l": range(4)}, at={"m": 4}, kind="shown", source="Eq. (11)"),
    ),
    panels=(
        Panel("ratio_erf", "lr", by="l", at={"m": 2}, log="x", title="erf, M = 2"),
        Panel("ratio_linear", "lr", by="l", at={"m": 2}, log="x", title="linear, M = 2"),
        Panel("slope", "l", by="m", title="the limit"),
    ),
    note="Eq. (13) follows from Eq. (12), where the text says Eq. (10)",
)


def _fig3c(s: SimpleNamespace) -> "xarray.Dataset":
    m, z = np.array(s.m), np.array(s.z)
    closed = ld.asymptotics
    exact = closed.eg_denoising(m[:, None], z, s.v_teacher, s.lr)
    small = closed.eg_denoising_small_lr(m[:, None], z, s.v_teacher, s.lr)
    ends = [_denoising_end(s, *place) for place in s.simulated]
    found = np.full(exact.shape, np.nan)
    for (units, copies), end in zip(s.simulated, ends, strict=True):
        found[s.m.index(units), s.z.index(copies)] = end
    return labelled(
        {
            "eg_predicted": (("m", "z"), exact, EG_UNITS),
            "eg": (("m", "z"), found, EG_UNITS),
            "eg_small_lr": (("m", "z"), small, f"{EG_UNITS} to first order in η, Eq. (15)"),
        },
        m=m,
        z=z,
    )


def _denoising_end(s: SimpleNamespace, m: int, z: int) -> float:
    """eg/noise² where the ODE of both layers is at rest, near the denoising state."""
    start = ld.asymptotics.denoising_state(m, z, s.v_teacher)
    rule = ld.SGD(lr=s.lr, lr_second=s.lr)
    point = ld.asymptotics.fixed_point(ld.Problem(noise=s.noise), rule, start)
    return float(point.eg) / s.noise**2


FIG3C = Entry(
    "goldt2020-fig3c",
    GOLDT,
    "with both layers trained, Z units for each teacher unit average the noise: ε_g* ∝ 1/Z",
    "S",
    "b",
    settings={
        "lr": 0.2,
        "noise": 0.01,
        "v_teacher": 2.0,
        "m": (1, 2, 3, 4),
        "z": (1, 2, 3, 4, 6, 8),
        "simulated": ((1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (3, 1), (3, 2), (4, 1)),
    },
    quick={"simulated": ((1, 1), (1, 2))},
    run=_fig3c,
    published=(
        *(
            one
            for m, values in {
                1: "0.091573 0.040777 0.026228 0.019331 0.012668 0.009421",
                2: "0.224481 0.088816 0.055365 0.040219 0.025996 0.019204",
                3: "0.434440 0.146224 0.087919 0.062857 0.040035 0.029371",
                4: "0.815768 0.216035 0.124526 0.087476 0.054843 0.039943",
            }.items()
            for one in numbers("eg", values, {"z": (1, 2, 3, 4, 6, 8)}, at={"m": m}, source=OWN)
        ),
        *numbers(
            "eg_small_lr",
            "0.073511 0.036755 0.018378 0.009189",
            {"z": (1, 2, 4, 8)},
            at={"m": 1},
            source=f"Eq. (15), {OWN}",
        ),
    ),
    panels=(
        Panel("eg", "z", by="m", log="xy", title="exact in η; crosses: fixed points of the ODE"),
        Panel("eg_small_lr", "z", by="m", log="xy", title="Eq. (15)"),
    ),
    note="which M the figure has is not stated",
)


def _fig4(s: SimpleNamespace) -> "xarray.Dataset":
    problem = ld.Problem(ld.Linear(), ld.Linear(), noise=s.noise)
    k = np.array(s.k)
    averaged = [ld.asymptotics.eg_linear(s.lr, v=np.ones(one) / one) for one in s.k]
    starts = [ld.asymptotics.specialised_state(min(one, s.m), one - s.m) for one in s.simulated_k]
    found, error = _finals(s, problem, starts, [s.lr] * len(starts))
    both = {one: _both_layers(s, problem, one) for one in s.k_both}
    at = np.searchsorted(k, s.simulated_k)
    return labelled(
        {
            "committee_predicted": (
                "k",
                ld.asymptotics.eg_linear(s.lr, k=k),
                f"{EG_UNITS}, committee",
            ),
            "committee": ("k", _filled(k.shape, at, found), f"{EG_UNITS}, committee"),
            "committee_error": ("k", _filled(k.shape, at, error)),
            "normalised": ("k", averaged, f"{EG_UNITS}, normalised committee"),
            "both": ("k_both", list(both.values()), f"{EG_UNITS}, both layers trained"),
        },
        k=k,
        k_both=list(both),
    )


def _both_layers(s: SimpleNamespace, problem: Any, k: int) -> float:
    """eg/noise² at the end of the ODE of both layers, which depends on the start."""
    rule, ts = ld.SGD(lr=s.lr, lr_second=s.lr), np.array([0.0, s.alpha_both])
    return float(ld.solve_ode(problem, rule, start(f"{s.start}-k{k}"), ts).eg[-1]) / s.noise**2


FIG4 = Entry(
    "goldt2020-fig4",
    GOLDT,
    "linear units: the final error rises with K, falls if the committee is normalised, and stays "
    "if both layers learn",
    "S",
    "a",
    settings={
        "lr": 0.01,
        "noise": 0.01,
        "n": 100,
        "m": 4,
        "k": (4, 5, 6, 8, 10, 12),
        "level": "sgd",
        "simulated_k": (4, 6, 8, 12),
        "runs": 5,
        "alpha_max": 1000.0,
        "burn_in": 0.25,
        "seed": 0,
        "k_both": (4, 6, 8, 12),
        "start": "goldt2020-fig4",
        "alpha_both": 1e4,
    },
    quick={"level": "chain", "simulated_k": (4,), "runs": 8, "k_both": (4, 8)},
    run=_fig4,
    published=(
        *numbers(
            "committee",
            ".010204 .012821 .015464 .020833 .026316 .031915",
            {"k": (4, 5, 6, 8, 10, 12)},
            source=f"Eq. (12), {OWN}",
        ),
        *numbers(
            "normalised",
            ".000625782 .000500501 .000417014 .000312695 .000250125 .00020842",
            {"k": (4, 5, 6, 8, 10, 12)},
            source=f"Eq. (12), {OWN}",
        ),
        *numbers(
            "both",
            ".0057 .0059 .0063 .0066",
            {"k_both": (4, 6, 8, 12)},
            source="the ODE from these starts, for the atlas",
        ),
    ),
    panels=(
        Panel("committee", "k", log="y", title="v = 1"),
        Panel("both", "k_both", title="both layers"),
        Panel("normalised", "k", log="y", title="v = 1/K"),
    ),
    note="the figure has five runs and one standard deviation; here the mean of the runs is shown",
)


def _figS2(s: SimpleNamespace) -> "xarray.Dataset":
    m, l = np.array(s.m)[:, None], np.array(s.l)
    exact = ld.asymptotics.eg_specialised(m, l, 1 / (m + l))
    found = np.full(exact.shape, np.nan)
    for i, j in s.followed:
        found[s.m.index(i), s.l.index(j)] = _erf_end(i, j, 1 / (i + j), s.noise)
    return labelled(
        {"eg_predicted": (("m", "l"), exact, EG_UNITS), "eg": (("m", "l"), found, EG_UNITS)},
        m=m[:, 0],
        l=l,
    )


def _erf_end(m: int, l: int, lr: float, noise: float) -> float:
    """eg/noise² of the ODE long after it started from the specialised state."""
    start = ld.asymptotics.SpecialisedOverlaps(float(m), float(l))
    ts = np.array([0.0, 200.0 / lr])
    problem, rule = ld.Problem(noise=noise), ld.SGD(lr=lr)
    run = ld.asymptotics.solve_reduced(problem, rule, start, ts, rtol=1e-8, atol=1e-14)
    return float(run.eg[-1]) / noise**2


FIGS2 = Entry(
    "goldt2020-figS2",
    GOLDT,
    "with η = 1/K the final error still rises with every superfluous unit, then levels off",
    "S",
    "c",
    settings={
        "m": (2, 4),
        "l": tuple(range(11)),
        "noise": 0.01,
        "followed": ((2, 0), (2, 3), (2, 10), (4, 0), (4, 10)),
    },
    run=_figS2,
    published=(
        *numbers(
            "eg",
            ".11713 .15042 .16891 .18068 .18882 .19478 .19934 .20294 .20585 .20826 .21028",
            {"l": range(11)},
            at={"m": 2},
            source=f"Eq. (10), {OWN}",
        ),
        *numbers(
            "eg",
            ".11480 .13497 .14929 .15997 .16825 .17485 .18024 .18472 .18850 .19174 .19455",
            {"l": range(11)},
            at={"m": 4},
            source=f"Eq. (10), {OWN}",
        ),
    ),
    panels=(Panel("eg", "l", by="m", title="η = 1/K; crosses: end of the ODE"),),
    note="the parameters of the printed figure are not known, only what the text says of it",
)


def _figS3(s: SimpleNamespace) -> "xarray.Dataset":
    problem, rule = ld.Problem(ld.ReLU(), ld.ReLU(), noise=s.noise), ld.SGD(lr=s.lr)
    k, m = np.array(s.k), np.array(s.m)
    small = [
        float(
            ld.asymptotics.eg_zero_error_small_lr(
                problem, rule, ld.asymptotics.specialised_state(one, 0)
            )
        )
        / s.noise**2
        for one in s.k
    ]
    starts = [ld.asymptotics.specialised_state(one, 0) for one in s.simulated_m]
    found, error = _finals(s, problem, _settled(problem, s.lr, starts), [s.lr] * len(starts))
    at = np.searchsorted(m, s.simulated_m)
    return labelled(
        {
            "eg_small_lr": ("k", small, f"{EG_UNITS} as η → 0"),
            "eg_predicted": ("m", ld.asymptotics.eg_relu(m, s.lr), f"{EG_UNITS}, L = 0"),
            "eg": ("m", _filled(m.shape, at, found), f"{EG_UNITS}, L = 0"),
            "eg_error": ("m", _filled(m.shape, at, error)),
        },
        k=k,
        m=m,
    )


FIGS3 = Entry(
    "goldt2020-figS3",
    GOLDT,
    "the final error of ReLU committees is proportional to η σ² K",
    "S",
    "c",
    settings={
        "lr": 0.05,
        "noise": 0.01,
        "n": 784,
        "k": (2, 3, 4),
        "m": (1, 2, 3, 4),
        "level": "sgd",
        "simulated_m": (1, 2, 3, 4),
        "runs": 2,
        "alpha_max": 1000.0,
        "burn_in": 0.25,
        "seed": 0,
    },
    quick={"level": "chain", "simulated_m": (2,), "runs": 8, "alpha_max": 200.0},
    run=_figS3,
    published=(
        *numbers("eg_small_lr", ".0125 .01875 .025", {"k": (2, 3, 4)}, source="η σ² K/8"),
        *numbers("eg", ".0064103 .0129877 .0197385 .0266694", {"m": (1, 2, 3, 4)}, source=OWN),
    ),
    panels=(
        Panel("eg_small_lr", "k", title="any zero-error state"),
        Panel("eg", "m", title="exact in η"),
    ),
    note="the parameters of the printed figure are not known; the next order is σ³",
)

ENTRIES = (FIG2A, EQ11_13, FIG3C, FIG4, FIGS2, FIGS3)
