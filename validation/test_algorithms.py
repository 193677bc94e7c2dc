"""Variants of SGD: batches, decay, momentum, schedules, biases, own losses, feedback alignment."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS, FOR_ODES
from validation.measure.chain_curves import ChainCurve, measure_chain_curve
from validation.measure.figures import learning_curve
from validation.measure.learning_curves import RULE, judge_curve
from validation.measure.sharing import Savings, whole_blocks

import learndyn as ld
from learndyn.claims import Claim
from learndyn.rules import AbstractRule, FeedbackAlignment

N, N_NODES, NOISE, LR, TIMES = 1000, 500, 0.3, 0.6, (1.0, 2.0, 4.0, 8.0, 16.0)
"""Rate and noise are so large that each term which a control lacks moves eg by more than the margin
at one of the times, which double. N and N_NODES are explained with RUNS."""

RUNS, BIAS = 512, 0.2
"""An estimate is then good to 0.045, the bias at this N is below 0.2 and the tests need 0.07 of
the margin of 0.5: a true claim fails with probability below 1e-5. Where averages are over nodes,
N is N_NODES: the nodes' error, some 1e-3 of eg, is then well below the scatter of a run."""

OVERLAPS = ([[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]], [[1.0, 0.0], [0.0, 1.0]])
"""A start without any symmetry, at which every term of the equations counts."""
START = ld.Overlaps(*OVERLAPS)
BIASED = ld.Overlaps(*OVERLAPS, b=[0.0, 0.0], b_teacher=[0.8, 0.4])
"""Biases that start away from the teacher's, which differ from each other and are of the size of
the fields, so that their motion is seen in eg."""
SILENT = ld.Overlaps(*OVERLAPS, v=[0.0, 0.0])
"""The same weights behind a second layer that is silent, so that gradients vanish at first."""
ERF, PLAIN = ld.Problem(noise=NOISE), ld.SGD(lr=LR)

FEEDBACK = (1.0, -0.7)
"""The signs differ, so that the second unit ends at v < 0, where SGD leads both to v > 0."""


def decaying(alpha: jax.Array) -> jax.Array:
    return LR / (1 + alpha / 2)


def log_cosh(phi: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.logaddexp(phi - y, y - phi)


CLOSED_FORMS = Savings(fill_times=True, fill_grid=True, xla_runs=FOR_CHAINS, xla_theory=FOR_ODES)
NODES = Savings(fill_grid=True, xla_runs=FOR_CHAINS, xla_theory=FOR_CHAINS)
"""Where averages come from nodes, eg at one more time costs more than compiling, and the ODE takes
time to run."""


@dataclasses.dataclass(frozen=True)
class Case:
    """What is varied, the effect in words, its source, and the theory that lacks it."""

    statement: str
    source: str
    control: str
    curve: ChainCurve


def case(statement: str, source: str, control: str, **changes: object) -> Case:
    """A curve like the plain one but for `changes`, through at least `RUNS` chains."""
    plain = {"problem": ERF, "rule": PLAIN, "start": START, "wrong_rule": PLAIN, "n": N}
    plain |= {"times": TIMES, "runs": whole_blocks(RUNS), "saves": CLOSED_FORMS}
    return Case(statement, source, control, ChainCurve(**plain | changes))


GOLDT = "Goldt et al. 2020, Eqs. (2), (3) and (9)"
CASES = {
    "batches": case(
        "Batches of B samples multiply the lr² term by 1/B, in the limit n → ∞ too",
        f"{GOLDT}, for batches",
        "The ODE of single samples.",
        rule=ld.SGD(lr=LR, batch_size=4),
    ),
    "decay": case(
        "Weight decay kappa adds -lr kappa R to dR/dalpha and -2 lr kappa Q to dQ/dalpha",
        f"{GOLDT}, with decay lr kappa/N per step",
        "The ODE without decay.",
        rule=ld.SGD(lr=LR, weight_decay=0.1),
    ),
    "momentum": case(
        "Momentum with constant beta acts as the learning rate lr/(1 - beta)",
        f"{GOLDT}, with u ← beta u + gradient",
        "The ODE at the rate lr.",
        rule=ld.SGD(lr=0.1, momentum=0.8),
        wrong_rule=ld.SGD(lr=0.1, momentum=0.0),
    ),
    "slow-momentum": case(
        "Where 1 - beta = gamma/N momentum no longer is a learning rate: the velocities have "
        "order parameters of their own",
        f"{GOLDT}, with velocities among the vectors whose overlaps close",
        "The ODE at the rate lr/(1 - beta), as for constant beta.",
        rule=ld.SGD(lr=LR, momentum=ld.SlowMomentum(2.0)),
    ),
    "schedule": case(
        "A learning rate lr(alpha) enters the ODE as it stands",
        f"{GOLDT}, with lr = {LR}/(1 + alpha/2)",
        f"The ODE at the constant rate {LR}.",
        rule=ld.SGD(lr=decaying),
    ),
    "biases": case(
        "Trained biases follow db/dalpha = -lr_bias <c>, with overlaps of the centred fields",
        f"{GOLDT}, with biases",
        "The ODE with biases that learn at half their rate.",
        rule=ld.SGD(lr=LR, lr_bias=LR),
        n=N_NODES,
        saves=NODES,
        start=BIASED,
        wrong_rule=ld.SGD(lr=LR, lr_bias=LR / 2),
    ),
    "logistic": case(
        "Classification with the logistic loss follows its ODE, averages taken by nodes",
        "Goldt et al. 2020, section 2, with another loss",
        "The ODE without label noise.",
        n=N_NODES,
        saves=NODES,
        problem=ld.Problem(loss=ld.Logistic(), noise=NOISE),
        wrong_problem=ld.Problem(loss=ld.Logistic(), noise=0.0),
    ),
    "own-loss": case(
        "A loss of one's own, log cosh, follows its ODE, averages taken by nodes",
        "Goldt et al. 2020, section 2, with another loss",
        "The ODE of the squared loss.",
        n=N_NODES,
        saves=NODES,
        problem=ld.Problem(loss=log_cosh, noise=NOISE),
        wrong_problem=ERF,
    ),
    "feedback": case(
        "Feedback alignment follows the ODE of SGD with its fixed feedback in place of v in the "
        "averages that move the first layer",
        "Refinetti et al. 2021; the averages of Goldt et al. 2020, Eq. (9), with other weights",
        "The ODE of SGD from the same start.",
        rule=FeedbackAlignment(FEEDBACK, lr=LR, lr_second=LR),
        start=SILENT,
        wrong_rule=ld.SGD(lr=LR, lr_second=LR),
    ),
}
IN_QUICK = ("decay", "feedback")


@pytest.mark.parametrize("name", CASES)
def test_variant(lab: Lab, name: str) -> None:
    lab.skip_in_quick(name not in IN_QUICK)
    chosen = CASES[name]
    claim = Claim(
        id=f"algorithm-{name}",
        family="algorithms",
        statement=chosen.statement,
        source=chosen.source,
        setting=f"erf, k = m = 2, n = {chosen.curve.n}, noise {NOISE}, "
        f"{chosen.curve.runs} chains from the ODE's overlaps, alpha = "
        f"{', '.join(f'{t:g}' for t in TIMES)}; " + describe(chosen.curve.rule),
        rule=RULE,
        control=chosen.control,
    )
    measure = lambda: measure_chain_curve(chosen.curve, lab.key(claim.id))
    draw = lambda dataset: learning_curve(dataset, label="chain")
    judge = functools.partial(judge_curve, bias=BIAS)
    lab.settle(claim, measure, judge, draw)


def describe(rule: AbstractRule) -> str:
    """The settings of a rule that are not the default."""
    said = [f"lr = {decaying.__name__}" if callable(rule.lr) else f"lr = {float(rule.lr):g}"]
    said += [f"lr_second = {float(rule.lr_second):g}"] if rule.trains_second else []
    said += [f"lr_bias = {float(rule.lr_bias):g}"] if rule.lr_bias is not None else []
    said += [f"batches of {rule.batch_size}"] if rule.batch_size > 1 else []
    said += [f"kappa = {float(rule.weight_decay):g}"] if float(rule.weight_decay) else []
    if rule.has_slow_momentum:
        said += [f"1 - beta = {float(rule.momentum.gamma):g}/N, rate lr (1 - beta)"]
    elif rule.momentum is not None:
        said += [f"beta = {float(rule.momentum):g}"]
    if isinstance(rule, FeedbackAlignment):
        said += [f"feedback {FEEDBACK} from v = 0"]
    return ", ".join(said)
