"""Where learning from random weights ends: who has learned what, and the error that is left."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from scipy.stats import binom, binomtest
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS, compiled, ensemble, wide
from validation.measure.figures import ODE, SGD, WRONG, overlaps_of_runs

import learndyn as ld
from learndyn import asymptotics, plot
from learndyn.claims import Claim, Verdict
from learndyn.testing import LEVEL, Equivalence

N, K, M, NOISE = 100, 4, 2, 0.01
"""Two student units for each teacher unit, so that two are superfluous, or copies. The noise is so
small that it does not blur the overlaps by which units are told apart."""
TIMES, RUNS = 16, wide(128, 1024)
"""Times kept and runs side by side: the same in every claim, so that they share programs."""


@functools.partial(ensemble, xla=FOR_CHAINS)
def _chains(
    problem: ld.Problem, rule: ld.SGD, starts: ld.Overlaps, ts: jax.Array, keys: jax.Array
) -> ld.Trajectory:
    def run(start: ld.Overlaps, key: jax.Array) -> ld.Trajectory:
        return ld.simulate_chain(problem, rule, start, ts, n=float(N), key=key)

    return jax.vmap(run)(starts, keys)


def learn(
    problem: ld.Problem, rule: ld.SGD, starts: ld.Overlaps, end: float, key: jax.Array
) -> tuple[ld.Trajectory, ld.Overlaps]:
    """One run from each of `RUNS` starts up to alpha = end, and the states where they end."""
    ts = jnp.linspace(0.0, end, TIMES)
    runs = _chains(problem, rule, starts, ts, jax.random.split(key, RUNS))
    return runs, ld.Overlaps(
        runs.Q[:, -1], runs.R[:, -1], runs.T, v=runs.v[:, -1], v_teacher=runs.v_teacher
    )


def random_starts(key: jax.Array, **options: object) -> ld.Overlaps:
    """Overlaps of `RUNS` random students, each with a random orthonormal teacher."""

    def one(key: jax.Array) -> ld.Overlaps:
        made = ld.init_weights(key, n=N, k=K, m=M, orthonormal_teacher=True, **options)
        return ld.overlaps(made)

    return jax.vmap(one)(jax.random.split(key, RUNS))


SMALL, LR, LR_RELU, END, NEAR, SHARE, EXPECTED = 0.3, 0.7, 0.3, 1500.0, 0.1, 0.85, 0.985
"""Standard deviation of the students' weights at the start; rates; alpha at the end; how near an
overlap must be; the share of runs that must be shown to be there, and the least that is expected:
764 of 768 runs of other seeds were, the others still leaving their plateau."""


def test_end_of_committees(lab: Lab) -> None:
    lab.skip_in_quick()
    claim = Claim(
        id="specialised-end",
        family="specialisation",
        statement="Erf committees end specialised: one student unit has the weights of each "
        "teacher unit, and the superfluous ones vanish or cancel; ReLU committees do not",
        source="Goldt et al. 2020, Figs. 1b (insets) and 2b",
        setting=f"k = {K}, m = {M}, n = {N}, noise {NOISE}, {RUNS} chains from random weights "
        f"N(0, {SMALL}²), at alpha = {END:g}; erf with lr = {LR}, ReLU with lr = {LR_RELU}",
        rule=f"A run has specialised where each teacher unit has one student unit with R within "
        f"{NEAR} of 1 and the other units' weights add up to less than {NEAR} in |w|²/N. More than "
        f"{SHARE:.0%} of the runs have (exact binomial test, {LEVEL:.0%}).",
        control="The same of ReLU committees, whose units share a teacher unit's weights.",
    )

    def measure() -> xr.Dataset:
        found = {}
        for name, units, lr in (("erf", ld.Erf(), LR), ("relu", ld.ReLU(), LR_RELU)):
            problem = ld.Problem(units, units, noise=NOISE)
            keys = jax.random.split(lab.key(f"{claim.id} {name}"))
            starts = random_starts(keys[0], scale=SMALL)
            runs, end = learn(problem, ld.SGD(lr=lr), starts, END, keys[1])
            found[f"Q_{name}"] = (("seed", "student", "student_"), np.asarray(end.Q))
            found[f"R_{name}"] = (("seed", "student", "teacher"), np.asarray(end.R))
            found[f"eg_{name}"] = (("seed", "alpha"), np.asarray(runs.eg))
        return xr.Dataset(found)

    lab.settle(claim, measure, judge_end, draw_end)


def specialised(q: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Which runs have specialised; q (runs, k, k), r (runs, k, m)."""
    best = r.argmax(axis=1)
    paired = np.abs(r.max(axis=1) - 1).max(axis=1) < NEAR
    distinct = (np.diff(np.sort(best, axis=1), axis=1) > 0).all(axis=1)
    others = np.ones(r.shape[:2])
    np.put_along_axis(others, best, 0.0, axis=1)
    left = np.einsum("si,sij,sj->s", others, q, others)
    return paired & distinct & (left < NEAR)


def judge_end(dataset: xr.Dataset) -> Verdict:
    counts = {
        name: int(specialised(dataset[f"Q_{name}"].values, dataset[f"R_{name}"].values).sum())
        for name in ("erf", "relu")
    }
    runs = dataset.sizes["seed"]
    enough = lambda count: binomtest(count, runs, SHARE, alternative="greater").pvalue < LEVEL
    share, needed = counts["erf"] / runs, next(c for c in range(runs + 1) if enough(c))
    detail = (
        f"{counts['erf']} of {runs} erf runs have specialised ({needed} were needed), "
        f"{counts['relu']} of {runs} ReLU runs."
    )
    return Verdict(
        predicted=1.0,
        measured=share,
        error=float(np.sqrt(max(share * (1 - share), 1 / runs) / runs)),
        control=counts["relu"] / runs,
        passed=bool(enough(counts["erf"])),
        control_rejected=not enough(counts["relu"]),
        detail=detail,
        false_alarm=float(
            binom.cdf(needed - 1, runs, EXPECTED)
            + binom.sf(needed - 1, runs, (counts["relu"] + 1) / (runs + 1))
        ),
    )


def draw_end(dataset: xr.Dataset) -> Figure:
    return overlaps_of_runs({"erf": dataset.R_erf, "ReLU": dataset.R_relu})


LARGE, PHASES = 3.0, ((0.7, 1500.0), (0.1, 500.0), (0.03, 2000.0))
"""Learning rates, each up to an alpha: to get there, and for the formula of small rates."""

LATE, MARGIN, BIAS = 5, 0.06, 0.025
"""Times of the last phase that count; relative margin; the next order in lr and in 1/n."""


def test_error_from_random_starts(lab: Lab) -> None:
    lab.skip_in_quick()
    claim = Claim(
        id="asymptotic-random-starts",
        family="asymptotics",
        statement="From random weights runs end at different error-free states, and label noise "
        "leaves at each the error that its own Q says, at small learning rate",
        source="Goldt et al. 2020, Eq. (11), for any error-free state",
        setting=f"erf, k = {K}, m = {M}, n = {N}, noise {NOISE}, {RUNS} chains from random weights "
        f"N(0, {LARGE:g}²); lr = " + ", then ".join(f"{lr:g} for {end:g}" for lr, end in PHASES),
        rule="eg over lr noise²/(2 pi) sum_k 1/sqrt(1 + 2 Q_kk), with the run's own Q, is 1 within "
        f"{MARGIN:.0%} on average over runs (two one-sided tests, 5 %).",
        control="Eq. (11), which is for superfluous units without weights; the same sum with all "
        "Q_kk = 1.",
    )

    def measure() -> xr.Dataset:
        problem, keys = ld.Problem(noise=NOISE), jax.random.split(lab.key(claim.id), 4)
        state = random_starts(keys[0], scale=LARGE)
        for (lr, end), key in zip(PHASES, keys[1:], strict=True):
            runs, state = learn(problem, ld.SGD(lr=lr), state, end, key)
        rule = ld.SGD(lr=PHASES[-1][0])
        cancelling = jnp.array([[1.0, 0], [0, 1], [1, 0], [-1, 0]])  # superfluous units of norm 1
        equal = ld.Overlaps(cancelling @ cancelling.T, cancelling, jnp.eye(M))
        return xr.Dataset(
            {
                "eg": (("seed", "alpha"), np.asarray(runs.eg)),
                "Q": (("seed", "student", "student_"), np.asarray(state.Q)),
                "theory": (("seed", "alpha"), np.asarray(own_errors(problem, rule, runs))),
                "wrong": (
                    "control",
                    [
                        float(asymptotics.eg_specialised_small_lr(M, K - M, rule.lr, NOISE)),
                        float(asymptotics.eg_zero_error_small_lr(problem, rule, equal)),
                    ],
                ),
            },
            coords={"alpha": np.asarray(runs.alpha[0])},
        )

    lab.settle(claim, measure, judge_error, draw_error)


@functools.partial(compiled, xla=FOR_CHAINS)
def own_errors(problem: ld.Problem, rule: ld.SGD, runs: ld.Trajectory) -> jax.Array:
    """What the formula of small rates says at each state of each run, (seed, alpha)."""

    def one(q: jax.Array, r: jax.Array, v: jax.Array) -> jax.Array:
        state = ld.Overlaps(q, r, jnp.eye(M), v)
        return asymptotics.eg_zero_error_small_lr(problem, rule, state)

    return jax.vmap(jax.vmap(one))(runs.Q, runs.R, runs.v)


def judge_error(dataset: xr.Dataset) -> Verdict:
    late = dataset.isel(alpha=slice(-LATE, None))
    eg, own = (late[name].mean("alpha").values for name in ("eg", "theory"))
    wrong = dataset.wrong.values

    def against(theory: np.ndarray | float) -> Equivalence:
        ratio = eg / theory
        return Equivalence(ratio.mean() - 1, ratio.std(ddof=1) / len(ratio) ** 0.5, MARGIN)

    right = against(own)
    return Verdict(
        predicted=float(own.mean()),
        measured=float(eg.mean()),
        error=float(right.error * own.mean()),
        control=float(np.mean(wrong[0])),
        passed=right.equal,
        control_rejected=not any(against(theory).equal for theory in wrong),
        detail=f"Measured over predicted: {1 + right.estimate:.4f} ± {right.error:.4f}; over Eq. "
        f"(11) {(eg / wrong[0]).mean():.3f}, with all Q_kk = 1 {(eg / wrong[1]).mean():.3f}. The "
        f"predictions scatter by {100 * own.std() / own.mean():.0f} % between runs.",
        false_alarm=right.false_alarm(BIAS) + sum(against(theory).missed for theory in wrong),
    )


def draw_error(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    late = dataset.isel(alpha=slice(-LATE, None))
    own, eg = (late[name].mean("alpha").values / NOISE**2 for name in ("theory", "eg"))
    wrong = dataset.wrong.values / NOISE**2
    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        ax.plot(own, eg, ".", color=SGD, label="runs")
        span = np.array([own.min(), own.max()])
        ax.plot(span, span, color=ODE, label="equal")
        for value, style, name in zip(
            wrong, ("--", ":"), ("Eq. (11)", "all $Q_{kk}$ = 1"), strict=True
        ):
            ax.axhline(value, color=WRONG, ls=style, label=f"{name} (control)")
        ax.set(xlabel=r"$\epsilon_g/\sigma^2$ predicted from the run's $Q$")
        ax.set_ylabel(r"$\epsilon_g/\sigma^2$ measured")
        ax.legend(frameon=False)
    return figure


V_TEACHER, ROUGH, UNEVEN, LR_BOTH, END_BOTH = 2.0, 0.5, 0.5, 0.5, 2000.0
"""V_TEACHER over two copies is an even share of 1. UNEVEN is the standard deviation of the shares'
logarithms, which puts the control outside of its margin; ROUGH is that of the weights."""
SUM_MARGIN, UNIT_MARGIN = 0.03, 0.1
"""Margins of the mean absolute deviations of v's sums, relative, and of R. At this time 0.003 and
0.06 of them are left."""
SUM_BIAS, UNIT_BIAS = 0.006, 0.07
"""What may be left of both, with some room."""


def test_shares_of_both_layers(lab: Lab) -> None:
    lab.skip_in_quick()
    claim = Claim(
        id="denoising-shares",
        family="specialisation",
        statement="With both layers trained, units that copy a teacher unit keep its weights, and "
        "their second-layer weights come to add up to its own, in shares that stay uneven",
        source="Goldt et al. 2020, Fig. 3b and section 3, the denoising solution",
        setting=f"erf, k = {K}, m = {M}, v* = {V_TEACHER:g}, lr = lr_second = {LR_BOTH}, noise "
        f"{NOISE}, n = {N}, {RUNS} chains from copies that are off by N(0, {ROUGH}²) with shares "
        f"uneven by factors exp(N(0, {UNEVEN}²)), at alpha = {END_BOTH:g}",
        rule=f"The mean of |sum v/v* - 1| over teacher units and runs is below {SUM_MARGIN}, that "
        f"of |R - 1| of a copy and its original below {UNIT_MARGIN} (one-sided tests, 5 %).",
        control=f"Even shares: the mean of |v Z/v* - 1|, Z = {K // M}, is below {UNIT_MARGIN}.",
    )

    def measure() -> xr.Dataset:
        problem, keys = ld.Problem(noise=NOISE), jax.random.split(lab.key(claim.id), 3)
        copies = {"start": "denoising", "scale": ROUGH, "v_teacher": V_TEACHER}
        starts = random_starts(keys[0], **copies)
        uneven = jnp.exp(UNEVEN * jax.random.normal(keys[1], starts.v.shape))
        starts = ld.Overlaps(
            starts.Q, starts.R, starts.T, v=starts.v * uneven, v_teacher=starts.v_teacher
        )
        rule = ld.SGD(lr=LR_BOTH, lr_second=LR_BOTH)
        runs, end = learn(problem, rule, starts, END_BOTH, keys[2])
        return xr.Dataset(
            {
                "R": (("seed", "student", "teacher"), np.asarray(end.R)),
                "v": (("seed", "student"), np.asarray(end.v)),
                "v_start": (("seed", "student"), np.asarray(starts.v)),
                "eg": (("seed", "alpha"), np.asarray(runs.eg)),
            }
        )

    lab.settle(claim, measure, judge_shares, draw_shares)


def sums(v: np.ndarray) -> np.ndarray:
    """Sums of v over the copies of each teacher unit, (runs, m): unit i copies unit i mod m."""
    return v.reshape(len(v), K // M, M).sum(axis=1)


def judge_shares(dataset: xr.Dataset) -> Verdict:
    own = np.take_along_axis(dataset.R.values, (np.arange(K) % M)[None, :, None], axis=2)

    def below(gaps: np.ndarray, margin: float) -> Equivalence:
        means = np.abs(gaps).reshape(len(gaps), -1).mean(axis=1)
        return Equivalence(means.mean(), means.std(ddof=1) / len(means) ** 0.5, margin)

    total = below(sums(dataset.v.values) / V_TEACHER - 1, SUM_MARGIN)
    units = below(own - 1, UNIT_MARGIN)
    even = below(dataset.v.values * (K / M) / V_TEACHER - 1, UNIT_MARGIN)
    return Verdict(
        predicted=0.0,
        measured=float(total.estimate),
        error=float(total.error),
        control=float(even.estimate),
        margin=SUM_MARGIN,
        passed=total.equal and units.equal,
        control_rejected=not even.equal,
        detail=f"Mean |sum v/v* - 1| = {total.estimate:.4f} ± {total.error:.4f}, mean |R - 1| = "
        f"{units.estimate:.3f} ± {units.error:.3f}, mean |v Z/v* - 1| = {even.estimate:.2f}.",
        false_alarm=total.false_alarm(SUM_BIAS) + units.false_alarm(UNIT_BIAS) + even.missed,
    )


def draw_shares(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
        for ax, name, title in ((left, "v_start", "at the start"), (right, "v", "at the end")):
            pairs = dataset[name].values.reshape(-1, K // M, M)
            ax.plot(pairs[:, 0].ravel(), pairs[:, 1].ravel(), ".", color=SGD, label="two copies")
            line = np.array([0.0, V_TEACHER])
            ax.plot(line, V_TEACHER - line, color=ODE, label="sum is v*")
            ax.plot(V_TEACHER / 2, V_TEACHER / 2, "x", color=WRONG, label="even (control)")
            ax.set(title=title, xlabel="$v$ of one copy", ylabel="$v$ of the other")
            ax.set(xlim=(0, 3), ylim=(0, 3))
        right.legend(frameon=False)
    return figure
