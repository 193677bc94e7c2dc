"""Two-layer linear networks: modes, plateaus, when they end, and the law of those times."""

import itertools

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy import stats
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS
from validation.measure.figures import SGD, WRONG
from validation.measure.gaps import draw_gaps, gaps, generator, judge_gaps
from validation.measure.linear_flows import (
    HIDDEN,
    D,
    LinearFlows,
    crossings,
    half_times,
    linear_flows,
)

from learndyn import flow, plot
from learndyn.claims import Claim, Verdict

SAXE = "Saxe, McClelland & Ganguli 2014, with a covariance that commutes"
S, LAM = np.array([3.0, 2.0, 1.0]), np.array([1.2, 0.8, 0.5])
"""Strengths of the modes, and the inputs' variance along them."""


def orthogonal(rng: np.random.Generator, rows: int, columns: int = D) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def modes_of(found: LinearFlows, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left_k.M right_k (runs, times, modes)."""
    return np.einsum("ik,rtij,jk->rtk", left, found.maps, right)


MODES_MARGIN = 1e-7
"""The flow is integrated at rtol = 1e-10; errors grow while a mode does."""


def test_modes(lab: Lab) -> None:
    lab.skip_in_quick()
    claim = Claim(
        id="flow-linear-modes",
        family="flow",
        statement="From aligned starts the modes of a linear network are separate sigmoids",
        source=SAXE,
        setting=f"{HIDDEN} hidden units, {D} modes of strengths 3, 2, 1, variances 1.2, 0.8, 0.5, "
        "8 balanced starts between 1e-6 and 3, up to t = 16",
        rule=f"`linear_modes` is within {MODES_MARGIN:g} of the flow's modes at all times.",
        control="Inputs of variance 1 along all modes.",
    )

    def measure() -> xr.Dataset:
        rng, runs = generator(lab.key(claim.id)), 8
        left, right, units = orthogonal(rng, D), orthogonal(rng, D), orthogonal(rng, HIDDEN)
        u = 10 ** rng.uniform(-6, 0.5, (runs, D))
        w1 = np.einsum("hk,rk,dk->rhd", units, np.sqrt(u), right)
        w2 = np.einsum("ck,rk,hk->rch", left, np.sqrt(u), units)
        found = linear_flows(
            w1, w2, right * LAM @ right.T, left * S @ right.T, 16.0, xla=FOR_CHAINS
        )
        measured = modes_of(found, left, right)
        off = [
            [np.abs(flow.linear_modes(one, S, found.ts, lam) - run).max() for lam in (LAM, 1.0)]
            for one, run in zip(u, measured, strict=True)
        ]
        return gaps([f"start {i + 1}" for i in range(runs)], *np.transpose(off))

    judge = judge_gaps(MODES_MARGIN, "Modes against flow")
    lab.settle(claim, measure, judge, draw_gaps(MODES_MARGIN, "largest error of a mode"))


TIMES_SOURCE = "derived here by rotating hidden units; Bartlett 1934 for the law"
TIMES_MARGIN, SMALL = 1e-4, 1e-8
"""The theory's error is alpha^(2/3) = 5e-6, that of interpolation 1e-5."""


def test_jump_times(lab: Lab) -> None:
    lab.skip_in_quick()
    claim = Claim(
        id="flow-linear-times",
        family="flow",
        statement="Random small starts say when each mode of a linear network jumps",
        source=TIMES_SOURCE,
        setting=f"{HIDDEN} hidden units, rates (0.5, 2), alpha = {SMALL:g}, strengths 3, 2, 1, "
        "variances 1.2, 0.8, 0.5, 48 random starts",
        rule=f"`linear_jump_times` is within {TIMES_MARGIN:g} of the time at which the flow's mode "
        "reaches half of its end.",
        control="The share of all hidden units in a mode, whether or not an earlier mode has used "
        "them: |c_k| in place of R_kk.",
    )

    def measure() -> xr.Dataset:
        rng = generator(lab.key(claim.id))
        w1, w2 = SMALL * rng.standard_normal((2, 48, HIDDEN, D))
        w2 = w2.transpose(0, 2, 1)
        measured, predicted, _ = timed(w1, w2, 32.0, (0.5, 2.0))
        stretch = (0.5 / 2.0) ** 0.25
        share = np.linalg.norm(w1.transpose(0, 2, 1) / stretch + w2 * stretch, axis=2) / np.sqrt(2)
        wrong = np.log(2 * S / (LAM * share**2)) / (2 * S)
        off = [np.abs(one - measured).max(axis=1) for one in (predicted, wrong)]
        return gaps([f"start {i + 1}" for i in range(len(w1))], *off)

    judge = judge_gaps(TIMES_MARGIN, "Times of jumps against flow")
    lab.settle(claim, measure, judge, draw_gaps(TIMES_MARGIN, "largest error of a time"))


def timed(
    w1: np.ndarray, w2: np.ndarray, last: float, lr: tuple
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times of the flow's modes and of `linear_jump_times`, (runs, modes); degrees of freedom."""
    found = linear_flows(w1, w2, np.diag(LAM), np.diag(S), last, lr, xla=FOR_CHAINS)
    measured = half_times(found.ts, modes_of(found, np.eye(D), np.eye(D)), S / LAM)
    told = [
        flow.linear_jump_times(*one, np.diag(LAM), np.diag(S), lr)
        for one in zip(w1, w2, strict=True)
    ]
    return measured, np.array([one.times for one in told]), told[0].freedom


LAW_ALARM, LAW_SCALE = 1e-5, 1e-4
"""How likely the test of one mode is to fail by chance; and the scale of the starts."""


def test_law_of_times(lab: Lab) -> None:
    lab.skip_in_quick()
    claim = Claim(
        id="flow-linear-chi-square",
        family="flow",
        statement="Over random starts, jump times have chi-square statistics with one degree of "
        "freedom less for every mode before",
        source=TIMES_SOURCE,
        setting=f"{HIDDEN} hidden units, weights N(0, {LAW_SCALE:g}²), rates (0.5, 2), strengths "
        "3, 2, 1, variances 1.2, 0.8, 0.5; v = 1.25; chi_k = 2 s_k/(lam_k alpha² v) "
        "exp(-2 s_k t_k)",
        rule="Kolmogorov-Smirnov against the chi-square law of the degrees of freedom of "
        f"`linear_jump_times` has p > {LAW_ALARM:g} for every mode.",
        control=f"{HIDDEN} degrees of freedom for every mode.",
    )

    def measure() -> xr.Dataset:
        rng, runs = generator(lab.key(claim.id)), lab.pick(128, 320, 3200)
        w1, w2 = LAW_SCALE * rng.standard_normal((2, runs, HIDDEN, D))
        measured, _, freedom = timed(w1, w2.transpose(0, 2, 1), 24.0, (0.5, 2.0))
        v = (np.sqrt(2.0 / 0.5) + np.sqrt(0.5 / 2.0)) / 2
        return xr.Dataset(
            {
                "chi": (
                    ("seed", "mode"),
                    2 * S / (LAM * LAW_SCALE**2 * v) * np.exp(-2 * S * measured),
                ),
                "freedom": ("mode", freedom),
            },
            coords={"mode": np.arange(D) + 1},
        )

    lab.settle(claim, measure, judge_law, draw_law)


def judge_law(dataset: xr.Dataset) -> Verdict:
    chi, freedom = dataset.chi.values, dataset.freedom.values
    test = lambda k, df: stats.kstest(chi[:, k], stats.chi2(df).cdf)
    right = [test(k, freedom[k]) for k in range(D)]
    wrong = [test(k, HIDDEN) for k in range(D)]
    p, wrong_p = (np.array([one.pvalue for one in many]) for many in (right, wrong))
    # The control's statistic scatters around its expectation by at most 1/(2 √n).
    accepted = stats.kstwo(len(chi)).isf(LAW_ALARM)
    room = (max(one.statistic for one in wrong) - accepted) * 2 * np.sqrt(len(chi))
    spread = chi.std(axis=0, ddof=1) / np.sqrt(len(chi))
    return Verdict(
        predicted=float(freedom[-1]),
        measured=float(chi[:, -1].mean()),
        error=float(spread[-1]),
        control=float(HIDDEN),
        passed=bool((p > LAW_ALARM).all()),
        control_rejected=bool((wrong_p < LAW_ALARM).any()),
        detail=f"Means of chi are {chi.mean(0).round(2)} ± {spread.round(2)} for {freedom} degrees "
        f"of freedom, p = {p.round(4)}; with {HIDDEN} for all modes p falls to "
        f"{wrong_p.min():.1e}; {len(chi)} starts.",
        false_alarm=D * LAW_ALARM + float(stats.norm.sf(room)),
    )


def draw_law(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    grid, rank = np.linspace(0.0, 20.0, 400), np.linspace(0, 1, dataset.sizes["seed"])
    with plot.style():
        figure, axes = plt.subplots(1, D, figsize=(9, 3.2), layout="constrained", sharey=True)
        for ax, mode in zip(axes, dataset.mode.values, strict=True):
            some = dataset.sel(mode=mode)
            freedom = int(some.freedom)
            ax.plot(np.sort(some.chi), rank, color=SGD, label="flow")
            ax.plot(grid, stats.chi2(freedom).cdf(grid), "k:", label=f"{freedom} degrees")
            wrong = stats.chi2(HIDDEN).cdf(grid)
            ax.plot(grid, wrong, "--", color=WRONG, label=f"{HIDDEN} degrees (control)")
            ax.set(xlabel=rf"$\chi_{mode}$", xlim=(0, 20))
            ax.legend(frameon=False, fontsize=7)
        axes[0].set_ylabel("distribution")
    return figure


ALPHAS = (1e-6, 1e-8)
"""Scales of the start. A slope is a difference of times over log(100) = 4.6."""

CLEAR = 0.4
"""The least relaxation exponent and wait between jumps of the problems that are looked at: errors
fall as alpha to such powers."""


def random_task(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Moments that do not commute, whose plateaus are well apart."""
    while True:
        g = rng.standard_normal((D, 2 * D))
        sxx, syx = g @ g.T / (2 * D) + 0.3 * np.eye(D), rng.standard_normal((D, D))
        syx *= 3 / np.linalg.norm(syx, 2)
        times = restarted(sxx, syx)
        exact = flow.linear_jumps(sxx, syx)
        waits = np.diff(exact.times)
        if exact.relaxation_exponents.min() > CLEAR and waits.min() > 0.2 and times[-1] < 4:
            return sxx, syx


def in_blocks(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Modes that share nothing, whose strengths s and gains s²/lam are in different orders."""
    left, right = orthogonal(rng, D), orthogonal(rng, D)
    return right * np.array([3.0, 1.0, 1.0]) @ right.T, left * np.array([3.0, 2.0, 1.0]) @ right.T


def regressions(sxx: np.ndarray, syx: np.ndarray) -> np.ndarray:
    """Reduced-rank regressions M_0 to M_D, of rank 0 to D."""
    best = np.linalg.solve(sxx, syx.T).T
    vectors = np.linalg.eigh(best @ syx.T)[1][:, ::-1]
    return np.array([vectors[:, :r] @ vectors[:, :r].T @ best for r in range(D + 1)])


def by_strength(sxx: np.ndarray, syx: np.ndarray) -> np.ndarray:
    """The maps of `in_blocks`: one mode after another, the strongest first."""
    left, s, right = np.linalg.svd(syx)
    lam = np.sum((right @ sxx) * right, axis=1)
    return np.array([left[:, :r] * (s / lam)[:r] @ right[:r] for r in range(D + 1)])


def accumulated(sxx: np.ndarray, syx: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """T_k of Σ_j σ_{k-j}(E_j) (T_{j+1} - T_j) = 1 with E_j = S_yx - M_j S_xx."""
    sizes = [np.linalg.svd(syx - m @ sxx, compute_uv=False) for m in maps]
    times = [0.0]
    for k in range(1, len(maps)):
        grown = sum(sizes[j][k - j - 1] * (times[j + 1] - times[j]) for j in range(k - 1))
        times.append(times[-1] + (1 - grown) / sizes[k - 1][0])
    return np.array(times[1:])


def restarted(sxx: np.ndarray, syx: np.ndarray) -> np.ndarray:
    """T_k if every mode began to grow only after the one before had jumped."""
    maps = regressions(sxx, syx)[:-1]
    return np.cumsum([1 / np.linalg.norm(syx - m @ sxx, 2) for m in maps])


PLATEAU_MARGIN = 0.02
"""Least errors on a plateau are alpha to a power of 0.2 or more."""


@pytest.mark.parametrize("kind", ["coupled", "blocks"])
def test_plateaus(lab: Lab, kind: str) -> None:
    lab.skip_in_quick()
    claim = Claim(
        id=f"flow-linear-plateaus-{kind}",
        family="flow",
        statement="Plateaus of a linear network are reduced-rank regressions"
        + (", of each block by itself" if kind == "blocks" else ""),
        source="derived here; Li, Luo & Lyu 2021, greedy low-rank learning",
        setting=f"{HIDDEN} hidden units, alpha = {ALPHAS[1]:g}; "
        + {
            "coupled": "3 random pairs of moments that do not commute, largest strength 3",
            "blocks": "3 rotations of strengths 3, 2, 1 with variances 3, 1, 1",
        }[kind],
        rule="Where the flow is slowest between two jumps, and at its end, its map is within "
        f"{PLATEAU_MARGIN:.0%} of that of `linear_jumps`, relative to the last one; `linear_jumps`"
        + (" and `greedy_low_rank` have" if kind == "coupled" else " has")
        + " the maps of plain formulas to 1e-8.",
        control={
            "coupled": "Least squares cut to rank r by its own singular values.",
            "blocks": "Reduced-rank regression of the whole, without blocks.",
        }[kind],
    )

    def measure() -> xr.Dataset:
        rng = generator(lab.key(claim.id))
        tasks = [(random_task if kind == "coupled" else in_blocks)(rng) for _ in range(3)]
        found = runs_of(tasks, ALPHAS[1], rng.standard_normal((2, len(tasks), HIDDEN, D)))
        cases, right, wrong = [], [], []
        for i, (sxx, syx) in enumerate(tasks):
            told = flow.linear_jumps(sxx, syx)
            exact = (regressions if kind == "coupled" else by_strength)(sxx, syx)
            cut = truncated(exact[-1]) if kind == "coupled" else regressions(sxx, syx)
            size = np.linalg.norm(exact[-1])
            seen = slowest(found, i, told.loss)
            off = lambda maps, seen=seen, size=size: (
                np.linalg.norm(maps[1:] - seen, axis=(1, 2)) / size
            )
            others = [told.maps] + [flow.greedy_low_rank(sxx, syx).maps] * (kind == "coupled")
            same = max(np.abs(maps - exact).max() for maps in others) < 1e-8
            cases += [f"task {i + 1}, rank {r + 1}" for r in range(D)]
            right.append(np.where(same, off(told.maps), np.inf))
            wrong.append(off(cut))
        return gaps(cases, np.concatenate(right), np.concatenate(wrong))

    judge = judge_gaps(PLATEAU_MARGIN, "Plateaus against flow")
    lab.settle(claim, measure, judge, draw_gaps(PLATEAU_MARGIN, "relative error of a map"))


def truncated(best: np.ndarray) -> np.ndarray:
    left, s, right = np.linalg.svd(best)
    return np.array([left[:, :r] * s[:r] @ right[:r] for r in range(D + 1)])


def runs_of(tasks: list, alpha: float, start: np.ndarray) -> LinearFlows:
    """One run of each task from the weights alpha start, start (2, tasks, hidden, d)."""
    w1, w2 = alpha * start
    sxx, syx = (np.array(one) for one in zip(*tasks, strict=True))
    last = max(flow.linear_jumps(*task).times[-1] for task in tasks) * np.log(1 / alpha) + 12
    return linear_flows(w1, w2.transpose(0, 2, 1), sxx, syx, 1.2 * last, xla=FOR_CHAINS)


def slowest(found: LinearFlows, run: int, levels: np.ndarray) -> np.ndarray:
    """The maps where the run is slowest between two jumps, and the last one."""
    times = np.append(crossings(found.ts, found.loss[run], levels), found.ts[-1])
    places = []
    for start, end in itertools.pairwise(times):
        inside = (found.ts > start) & (found.ts <= end)
        places.append(int(np.argmin(np.where(inside, found.speed[run], np.inf))))
    return found.maps[run][places]


SLOPE_MARGIN = 0.01
"""The larger scale leaves alpha^CLEAR = 4e-3 of a time of order 1, so 1e-3 of a slope; 5e-4 is the
largest in the run of validation/RESULTS.md."""


@pytest.mark.parametrize("kind", ["coupled", "blocks"])
def test_slopes(lab: Lab, kind: str) -> None:
    lab.skip_in_quick()
    claim = Claim(
        id=f"flow-linear-slopes-{kind}",
        family="flow",
        statement="Jump times of a linear network grow with log(1/alpha) at rates from accumulated "
        "utility" + (", block by block" if kind == "blocks" else ""),
        source="derived here",
        setting=f"{HIDDEN} hidden units; "
        + {
            "coupled": "3 random pairs of moments that do not commute, largest strength 3",
            "blocks": "3 rotations of strengths 3, 2, 1 with variances 3, 1, 1",
        }[kind],
        rule="The difference of the times at which the loss passes the mean of two levels, at "
        f"alpha = {ALPHAS[1]:g} and {ALPHAS[0]:g} from the same direction, over log(100), is "
        f"within {SLOPE_MARGIN:.0%} of the times of `linear_jumps`, which are the recursion's to "
        "1e-8.",
        control={
            "coupled": "Each mode begins to grow when the one before has jumped.",
            "blocks": "The recursion over plateaus of the whole, without blocks.",
        }[kind],
    )

    def measure() -> xr.Dataset:
        rng = generator(lab.key(claim.id))
        tasks = [(random_task if kind == "coupled" else in_blocks)(rng) for _ in range(3)]
        told = [flow.linear_jumps(*task) for task in tasks]
        start, times = rng.standard_normal((2, len(tasks), HIDDEN, D)), []
        for alpha in ALPHAS:
            found = runs_of(tasks, alpha, start)
            times.append(
                [crossings(found.ts, found.loss[i], one.loss) for i, one in enumerate(told)]
            )
        measured = np.subtract(times[1], times[0]) / np.log(ALPHAS[0] / ALPHAS[1])
        maps = regressions if kind == "coupled" else by_strength
        exact = [accumulated(*task, maps(*task)) for task in tasks]
        plain = [accumulated(*task, regressions(*task)) for task in tasks]
        wrong = [restarted(*task) for task in tasks] if kind == "coupled" else plain
        same = np.abs(np.array([one.times for one in told]) - exact).max() < 1e-8
        off = lambda times: np.abs(measured / np.array(times) - 1).ravel()
        right = np.where(same, off([one.times for one in told]), np.inf)
        cases = [f"task {i + 1}, jump {k + 1}" for i in range(len(tasks)) for k in range(D)]
        return gaps(cases, right, off(wrong))

    judge = judge_gaps(SLOPE_MARGIN, "Slopes of times against flow")
    lab.settle(claim, measure, judge, draw_gaps(SLOPE_MARGIN, "relative error of a slope"))
