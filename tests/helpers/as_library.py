"""A setting of `plain_sgd` as the library has it: its problem, its rule, its start."""

import functools

import jax.numpy as jnp
import numpy as np
import plain_sgd
from plain_sgd import Setting

import learndyn as ld


# Named functions, which datasets can bring back
def own_unit(x):
    return jnp.sin(x) + 0.2 * x


def log_cosh(phi, y):
    return jnp.log(jnp.cosh(phi - y))


ACTIVATIONS = {
    "erf": ld.Erf(),
    "relu": ld.ReLU(),
    "leaky": ld.LeakyReLU(plain_sgd.LEAK),
    "tanh": ld.Tanh(),
    "linear": ld.Linear(),
    "quadratic": ld.Quadratic(),
    "own": own_unit,
    "sign": ld.Sign(),
}
LOSSES = {
    "squared": ld.Squared(),
    "logistic": ld.Logistic(),
    "hinge": ld.Hinge(),
    "perceptron": ld.Perceptron(),
    "own": log_cosh,
}


def of_two_fields(rho, zeta):
    return jnp.tanh(rho[0] * rho[1]) + 0.5 * rho[0] + 0.3 * zeta + 0.4 * zeta**2


MULTI_INDEX = ld.MultiIndex(of_two_fields)


def problem_of(row: Setting) -> ld.Problem:
    special = {"flipped": ld.Sign(flip=row.flip), "multi-index": MULTI_INDEX}
    teacher = special.get(row.teacher, ACTIVATIONS.get(row.teacher))
    return ld.Problem(ACTIVATIONS[row.student], teacher, LOSSES[row.loss], row.noise)


def with_a_draw(problem, sample, layers):
    c, dv = problem.gradient(sample.lam, sample.y, layers)
    xi = Setting.shake * sample.draws[0]
    return ld.Modulation(c * sample.size * (1 + xi) + xi, dv + xi * sample.draws[0])


def by_norms(problem, sample, layers):
    c, dv = problem.gradient(sample.lam, sample.y, layers)
    return ld.Modulation(c / (0.5 + jnp.diagonal(sample.overlaps.Q)), dv)


RULES = {
    "sgd": ld.SGD,
    "feedback": functools.partial(ld.rules.FeedbackAlignment, Setting.feedback),
    "node": functools.partial(ld.rules.NodePerturbation, 0.0, "normal"),
    "clipped": functools.partial(ld.rules.Clipped, Setting.limit),
    "clipped batch": functools.partial(ld.rules.Clipped, Setting.limit, per="batch"),
    "dropout": functools.partial(ld.rules.Dropout, Setting.keep),
    "input noise": functools.partial(ld.rules.InputNoise, Setting.std),
    "local": functools.partial(ld.LocalRule, with_a_draw, draws=1),
    "reader": functools.partial(ld.LocalRule, by_norms, needs_overlaps=True),
    "perceptron": ld.rules.Perceptron,
}

SCHEDULES = {name: place for place, name in enumerate(("lr", "lr_second", "lr_bias"))}
SPEEDS = {"lr": 4.0, "lr_second": 6.0, "lr_bias": 2.0}


def rate_of(row: Setting, name: str):
    rate = getattr(row, name)
    if row.rates == "schedule":
        return ld.rules.InverseTimeRate(rate, 1 / SPEEDS[name])
    return rate * np.array(row.factors) if row.rates == "per unit" else rate


def rule_of(row: Setting) -> ld.rules.AbstractRule:
    trained = {"lr": True, "lr_second": row.second, "lr_bias": row.biases == "trained"}
    rates = {name: rate_of(row, name) for name, is_trained in trained.items() if is_trained}
    momentum = {"none": None, "constant": row.beta, "slow": ld.SlowMomentum(row.gamma)}
    return RULES[row.rule](
        **rates,
        weight_decay=row.decay,
        batch_size=row.batch,
        momentum=momentum[row.momentum],
        spherical=row.spherical,
    )


def layers_of(row: Setting, start: plain_sgd.Start) -> dict[str, np.ndarray]:
    biases = {"b": start.b, "b_teacher": start.b_teacher} if row.biases != "none" else {}
    if row.teacher == "multi-index":
        biases.pop("b_teacher", None)
        return {"v": start.v} | biases
    return {"v": start.v, "v_teacher": start.v_teacher} | biases


def overlaps_of(row: Setting, start: plain_sgd.Start) -> ld.Overlaps | ld.GroupedOverlaps:
    units, teachers = plain_sgd.UNITS, plain_sgd.TEACHERS
    parts = ((units, units), (units, teachers), (teachers, teachers))
    q, r, t = (start.gram[:, a, b] for a, b in parts)
    layers = layers_of(row, start)
    if row.groups:
        spectrum = ld.Spectrum(row.eigenvalues, row.shares)
        return ld.GroupedOverlaps(q, r, t, spectrum, **layers)
    return ld.Overlaps(q[0], r[0], t[0], **layers)
