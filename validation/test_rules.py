"""Learning rules: the library's levels against weights that follow the rule written out again."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS, FOR_ODES, FOR_SGD, ensemble
from validation.measure import rules_on_weights as by_hand
from validation.measure.ensembles import chain_ensemble
from validation.measure.figures import SGD, WRONG, against_weights
from validation.measure.gaps import generator
from validation.measure.sharing import LANES, whole_blocks
from validation.measure.theory import solved_by_steps

import learndyn as ld
from learndyn import plot, rules
from learndyn.claims import Claim, Verdict
from learndyn.rules import AbstractRule
from learndyn.testing import in_units_of_one_run, two_sample_z, z_limit, z_missed, z_scores

N, RUNS, TS = 100, 768, np.array([0.0, 0.5, 1.0, 2.0])
"""A mean over so many runs is good to 0.036 standard deviations of a run."""

MARGIN, BIAS = 0.5, 0.25
"""The allowed distance of mean and ODE in standard deviations of a run, and how much of it the ODE
leaves out at this N: a bias of order 1/n over a scatter of order 1/sqrt(n)."""

FALSE_ALARM = 5e-5
"""How likely the comparison of two ensembles of one law is to fail."""

START = ld.Overlaps(
    [[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]], np.eye(2), v=[0.8, 0.6]
)
"""A start without any symmetry, at which every term of the equations counts."""
ON_SPHERE = ld.Overlaps([[1.0, 0.1], [0.1, 1.0]], [[0.2, 0.05], [0.1, 0.15]], np.eye(2))
"""Students of length 1, as rules on a sphere keep them."""
ONE = ld.Overlaps([[1.0]], [[0.2]], [[1.0]])
"""One unit, for the rules of single perceptrons."""

NOISE, FLIP, FEEDBACK, KEEP, LIMIT = 0.3, 0.1, (1.0, -0.7), 0.7, 0.4
"""NOISE is that of `test_algorithms.py`. The others are so far from what SGD has that the theories
which lack them, the controls, are off by more than MARGIN."""
ERF = ld.Problem(noise=NOISE)
LINEAR = ld.Problem(ld.Linear(), ld.Linear(), noise=NOISE)
FLIPPED = ld.Problem(ld.Linear(), ld.Sign(FLIP), ld.Hinge())
"""The loss says only that labels are signs."""
CLEAN = ld.Problem(ld.Linear(), ld.Sign(0.0), ld.Hinge())


@dataclasses.dataclass(frozen=True)
class Case:
    """A rule in the library and by hand; the theory that lacks what makes it differ; level: which
    of the library's runs are held to those by hand, for cases in `RUN` and in full."""

    statement: str
    source: str
    control: str
    problem: ld.Problem
    rule: AbstractRule
    start: ld.Overlaps
    hand: by_hand.Setting
    wrong_rule: AbstractRule
    wrong_problem: ld.Problem | None = None
    level: str = "chain"


def classifier(name: str, rule: type[AbstractRule], slope: Any, level: str) -> Case:
    hand = by_hand.Setting(
        by_hand.along_slope(slope), lr=1.0, units="linear", signs=True, flip=FLIP
    )
    return Case(
        f"{name} of a linear unit follows closed forms, label flips included",
        "Engel & Van den Broeck, Statistical Mechanics of Learning, with flips",
        "The ODE without flips.",
        FLIPPED,
        rule(1.0),
        ONE,
        hand,
        rule(1.0),
        CLEAN,
        level,
    )


def erf_case(
    statement: str,
    source: str,
    control: str,
    rule: AbstractRule,
    hand: by_hand.Rule,
    wrong_rule: AbstractRule | None = None,
    *,
    start: ld.Overlaps = START,
    level: str = "chain",
    **own: Any,
) -> Case:
    """Two erf units. wrong_rule: None: SGD at the same rates. own: more of the setting by hand."""
    rates = {"lr": float(rule.lr)}
    rates |= {"lr_second": float(rule.lr_second)} if rule.trains_second else {}
    setting = by_hand.Setting(hand, noise=NOISE, **rates, **own)
    wrong = ld.SGD(**rates) if wrong_rule is None else wrong_rule
    return Case(statement, source, control, ERF, rule, start, setting, wrong, level=level)


CASES = {
    "hebb": classifier("Hebb's rule", rules.Hebb, lambda phi, y: -y, "sgd"),
    "perceptron": classifier(
        "The perceptron's rule", rules.Perceptron, lambda phi, y: -y * (phi * y < 0), "chain"
    ),
    "adatron": classifier(
        "AdaTron", rules.AdaTron, lambda phi, y: np.where(phi * y < 0, phi, 0.0), "chain"
    ),
    "feedback": erf_case(
        "Feedback alignment has SGD's closed forms with its feedback in place of v",
        "Refinetti et al. 2021; averages derived here",
        "The ODE of SGD.",
        rules.FeedbackAlignment(FEEDBACK, lr=0.6, lr_second=0.5),
        by_hand.feedback(FEEDBACK),
        level="sgd",
    ),
    "node-normal": erf_case(
        "Node perturbation moves R as SGD, and adds 2 <c_i c_k> + delta_ik sum <c_j^2> to Q",
        "Second moments of xi xi^T c, derived here",
        "The ODE without the noise that xi adds: SGD's.",
        rules.NodePerturbation(lr=0.5),
        by_hand.perturbation(signs=False),
    ),
    "node-sign": erf_case(
        "With xi = +-1 the diagonal of the second moments is sum <c_j^2>",
        "Second moments of xi xi^T c, derived here",
        "The ODE of normal xi.",
        rules.NodePerturbation(law="sign", lr=0.5),
        by_hand.perturbation(signs=True),
        rules.NodePerturbation(lr=0.5),
    ),
    "clipped-batch": Case(
        "Clipping the mean gradient of a batch is a rule of episodes, with incomplete gamma "
        "functions for a linear unit",
        "Derived here",
        "The ODE of batches whose samples are clipped one by one.",
        LINEAR,
        rules.Clipped(LIMIT, 0.6, per="batch", batch_size=2),
        ONE,
        by_hand.Setting(by_hand.clipped(LIMIT), 0.6, batch=2, units="linear", noise=NOISE),
        rules.Clipped(LIMIT, 0.6, batch_size=2),
    ),
    "dropout": erf_case(
        "Dropout has closed forms: products over units that stay",
        "Averages over masks, derived here",
        "The ODE of SGD.",
        rules.Dropout(KEEP, 0.6, lr_second=0.5),
        by_hand.dropout(KEEP),
    ),
    "input-noise": erf_case(
        "Noise s on the inputs multiplies the lr^2 term by 1 + s^2, and fields see it",
        "Derived here",
        "The ODE of SGD on clean inputs.",
        rules.InputNoise(0.6, 0.6),
        by_hand.gradient,
        level="sgd",
        input_noise=0.6,
    ),
    "reward": Case(
        "Rewards of whole episodes: B independent copies of the fields",
        "Patel et al. 2023, with a penalty",
        "The ODE without the penalty.",
        CLEAN,
        rules.RewardPerceptron(3, 1.0, 0.5),
        ONE,
        by_hand.Setting(by_hand.reward(1.0, 0.5), 1.0, batch=3, units="linear", signs=True),
        rules.RewardPerceptron(3, 1.0, 0.0),
    ),
    "spherical": erf_case(
        "On the sphere each step projects the drift and divides by |w_i|",
        "Derived here",
        "The ODE of SGD without the sphere.",
        ld.SGD(2.5, spherical=True),
        by_hand.gradient,
        start=ON_SPHERE,
        spherical=True,
    ),
}
IN_QUICK = ("node-normal", "dropout")
RUN = ("clipped-batch",)
"""Whose runs by the library are compiled in standard: an episode that reads |x|^2. Draws are in the
exact mean of the chain below."""


@pytest.mark.parametrize("name", CASES)
def test_rule(lab: Lab, name: str) -> None:
    lab.skip_in_quick(name not in IN_QUICK)
    case, runs = CASES[name], whole_blocks(RUNS * lab.pick(1, 1, 4))
    is_run = lab.profile == "full" or (name in RUN and lab.profile == "standard")
    also = f"and as many of the library's {case.level} " * is_run
    law = (
        " Of the z scores between the two ensembles, of every coordinate and every product of "
        f"two, none is beyond the limit that equal laws exceed with probability {FALSE_ALARM}."
    )
    claim = Claim(
        id=f"rule-{name}",
        family="rules",
        statement=case.statement,
        source=case.source,
        setting=f"{case.rule}, {case.problem}, n = {N}, alpha <= {TS[-1]:g}; {runs} runs on "
        f"weights, of the rule written out again, {also}from the same overlaps",
        rule=f"The mean of every Q, R and v on weights differs from the ODE by less than {MARGIN} "
        "standard deviations of a run at every time (two one-sided tests, 5 % each)."
        + law
        * is_run,
        control=case.control,
    )
    measured = lambda: measure(case, runs, lab.key(claim.id), is_run=is_run)
    lab.settle(claim, measured, judge, draw)


def measure(case: Case, runs: int, key: jax.Array, *, is_run: bool) -> xr.Dataset:
    """Variables: weights and, where the library's runs are wanted, library (seed, p); theory and
    wrong (p); all of the coordinates that move."""
    keys = jax.random.split(key, 2)
    start = np.asarray(case.start.Q), np.asarray(case.start.R), np.asarray(case.start.v)
    setting = {"n": N, "runs": runs, "rng": generator(keys[0])}
    weights = by_hand.run(case.hand, *start, TS[1:], **setting)
    theory = _theory(case.problem, case.rule, case.start)
    wrong = _theory(case.wrong_problem or case.problem, case.wrong_rule, case.start)
    moves = np.ptp(weights, axis=0) > 1e-9
    found = {"theory": ("p", theory[moves]), "wrong": ("p", wrong[moves])}
    sides = {"weights": weights} | ({"library": _library(case, runs, keys[1])} if is_run else {})
    return xr.Dataset(found | {name: (("seed", "p"), x[:, moves]) for name, x in sides.items()})


def _theory(problem: ld.Problem, rule: AbstractRule, start: ld.Overlaps) -> np.ndarray:
    states = solved_by_steps(problem, rule, start, TS[1:], xla=FOR_ODES)
    parts = [(np.asarray(x)[None] for x in (state.Q, state.R, state.v)) for state in states]
    return np.concatenate([by_hand.coordinates(*part)[0] for part in parts])


def _library(case: Case, runs: int, key: jax.Array) -> np.ndarray:
    if case.level == "chain":
        options = {"n": N, "key": key, "runs": runs, "fill_times": True, "xla": FOR_CHAINS}
        return _flat(chain_ensemble(case.problem, case.rule, case.start, TS, **options))
    weights = ld.weights_from_overlaps(key, case.start, n=N)
    keys = jax.random.split(key, runs)
    return _flat(on_weights(case.problem, case.rule, weights, keys))


@functools.partial(ensemble, xla=FOR_SGD)
def on_weights(problem: ld.Problem, rule: AbstractRule, weights: ld.Weights, keys: Any) -> Any:
    """Q, R and v of the library's SGD on weights, run by run."""

    def one(key: Any) -> Any:
        found = ld.simulate_sgd(problem, rule, weights, TS, key=key)
        return {"Q": found.Q, "R": found.R, "v": found.v}

    return jax.lax.map(one, keys, batch_size=LANES)


def _flat(found: dict[str, Any]) -> np.ndarray:
    """(runs, coordinates) at all times but the first."""
    parts = [
        by_hand.coordinates(*(np.asarray(found[name])[:, i] for name in ("Q", "R", "v")))
        for i in range(1, len(TS))
    ]
    return np.concatenate(parts, axis=1)


def judge(dataset: xr.Dataset) -> Verdict:
    samples = dataset.weights.values
    right = in_units_of_one_run(samples, dataset.theory.values, MARGIN)
    wrong = in_units_of_one_run(samples, dataset.wrong.values, MARGIN)
    worst, one_law, law = right.worst, True, ""
    if "library" in dataset:
        z = np.abs(two_sample_z(dataset.library.values, samples))
        limit = z_limit(len(z), FALSE_ALARM)
        one_law = bool(z.max() < limit)
        law = (
            f" Against the library's runs: largest |z| of {len(z)} is {z.max():.2f}, limit "
            f"{limit:.2f}."
        )
    return Verdict(
        predicted=float(dataset.theory.values[worst]),
        measured=float(samples[:, worst].mean()),
        error=float(samples[:, worst].std(ddof=1) / len(samples) ** 0.5),
        control=float(dataset.wrong.values[worst]),
        passed=right.equal and one_law,
        control_rejected=not wrong.equal,
        detail=f"Furthest of {samples.shape[1]} coordinates: mean - ODE = "
        f"{right.estimate[worst]:+.3f} +- {right.error[worst]:.3f} standard deviations of a run "
        f"(margin {MARGIN}); wrong theory: up to {np.abs(wrong.estimate).max():.1f}." + law,
        false_alarm=right.false_alarm(BIAS) + FALSE_ALARM * bool(law) + wrong.missed,
    )


def draw(dataset: xr.Dataset) -> Figure:
    return against_weights(dataset.weights.values, dataset, MARGIN, "Q, R, v")


# The exact mean of the chain

STEPS, SMALL, UNITS, MEAN_LR, MEAN_NOISE = 10, 5, 3, 0.1, 0.5
"""SMALL is the input dimension, just above the four units of both networks: there the mean differs
most from its limit. STEPS are then two units of alpha."""
LINEAR_START = ld.Overlaps(
    np.diag([0.5, 0.4, 0.3]), np.array([[0.2], [0.1], [0.0]]), np.array([[1.0]])
)


def exact_mean(moment: float) -> np.ndarray:
    """The mean of eg of linear node perturbation after every step, at `SMALL` dimensions.

    moment: <(sum xi)^4> / k^2, 3 for normal numbers and (3 k^2 - 2 k)/k^2 for signs.
    """
    rate = MEAN_LR * UNITS
    start = LINEAR_START
    eg = [0.5 * float(start.Q.sum() - 2 * start.R.sum() + start.T.sum())]
    for _ in range(STEPS):
        shrink = 1 - 2 * rate / SMALL + moment * rate**2 * (SMALL + 2) / SMALL**2
        eg.append(eg[-1] * shrink + moment * rate**2 * MEAN_NOISE**2 / (2 * SMALL))
    return np.array(eg)


@pytest.mark.parametrize("law", ["normal", "sign"])
def test_exact_mean(lab: Lab, law: str) -> None:
    lab.skip(law not in lab.pick((), ("normal",), ("normal", "sign")))
    runs = whole_blocks(lab.pick(5120, 5120, 102_400))
    moment = {"normal": 3.0, "sign": (3 * UNITS**2 - 2 * UNITS) / UNITS**2}[law]
    claim = Claim(
        id=f"rule-exact-mean-{law}",
        family="rules",
        statement=f"The chain of linear node perturbation ({law}) has its exact mean at every step",
        source="Fourth moments of inputs and perturbations, derived here",
        setting=f"linear, k = {UNITS}, n = {SMALL}, lr = {MEAN_LR}, noise {MEAN_NOISE}, {STEPS} "
        f"steps, {runs} chains",
        rule="No z score of the mean eg is beyond the limit that a true mean exceeds with "
        f"probability {FALSE_ALARM}.",
        control="The exact mean of SGD, without the noise of perturbations.",
    )

    def measured() -> xr.Dataset:
        problem = ld.Problem(ld.Linear(), ld.Linear(), noise=MEAN_NOISE)
        rule = rules.NodePerturbation(law=law, lr=MEAN_LR)
        options = {"n": SMALL, "key": lab.key(claim.id), "runs": runs, "xla": FOR_CHAINS}
        ts = np.arange(STEPS + 1) / SMALL
        found = chain_ensemble(problem, rule, LINEAR_START, ts, **options)
        means = {"exact": exact_mean(moment), "wrong": exact_mean(1.0)}
        return xr.Dataset(
            {"eg": (("seed", "step"), found["eg"][:, 1:])}
            | {name: ("step", x[1:]) for name, x in means.items()}
        )

    lab.settle(claim, measured, judge_mean, draw_mean)


def judge_mean(dataset: xr.Dataset) -> Verdict:
    samples = dataset.eg.values
    right, wrong = (np.abs(z_scores(samples, dataset[name].values)) for name in ("exact", "wrong"))
    limit, last = z_limit(len(right), FALSE_ALARM), samples[:, -1]
    return Verdict(
        predicted=float(dataset.exact.values[-1]),
        measured=float(last.mean()),
        error=float(last.std(ddof=1) / len(last) ** 0.5),
        control=float(dataset.wrong.values[-1]),
        passed=bool(right.max() < limit),
        control_rejected=bool(wrong.max() > limit),
        detail=f"Largest |z| of {len(right)}: {right.max():.2f}, limit {limit:.2f}; from the mean "
        f"of SGD {wrong.max():.1f}.",
        false_alarm=FALSE_ALARM + z_missed(wrong, limit),
    )


def draw_mean(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    samples, steps = dataset.eg.values, 1 + np.arange(dataset.sizes["step"])
    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        error = 2 * samples.std(axis=0, ddof=1) / len(samples) ** 0.5
        ax.errorbar(steps, samples.mean(axis=0), error, fmt="o", ms=4, color=SGD, label="chain")
        ax.plot(steps, dataset.exact, color="0.1", label="exact")
        ax.plot(steps, dataset.wrong, "--", color=WRONG, label="SGD (control)")
        ax.set(xlabel="steps", ylabel=r"mean $\epsilon_g$")
        ax.margins(x=0.04)
        ax.legend(frameon=False)
    return figure
