"""Learning rules as the tests run them: the library's and some that a user writes, each with a
problem and a start that suit it, and one door to all levels."""

import functools
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import learndyn as ld
from learndyn import rules
from learndyn.averages import QuasiMonteCarlo
from learndyn.rules import AbstractRule, Modulation

PROBLEM = ld.Problem(noise=0.1)
LINEAR = ld.Problem(ld.Linear(), ld.Linear(), noise=0.3)
WEDGE = ld.Problem(ld.Linear(), ld.Sign(0.1), ld.Perceptron())
TS = jnp.array([0.0, 1.0, 3.0])
NODES = QuasiMonteCarlo(256, 2)


def start(v=None):
    return ld.Overlaps([[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]], np.eye(2), v=v)


ONE = ld.Overlaps([[1.0]], [[0.2]], [[1.0]])
TWO = start([0.8, 0.6])
ON_SPHERE = ld.Overlaps([[1.0, 0.1], [0.1, 1.0]], [[0.2, 0.05], [0.1, 0.15]], np.eye(2))


# Rules that the user writes, with all that a sample has


def perturbed(problem, sample, layers):
    """Node perturbation of size 0.3, clipped at 0.3 by the true norm of the gradient."""
    error = lambda lam: problem.loss(problem.student_output(lam, layers), sample.y)
    change = error(sample.lam + 0.3 * sample.draws) - error(sample.lam)
    c = sample.draws / 0.3 * change
    norm = jnp.sqrt(jnp.sum(c**2) * sample.size)
    return Modulation(c * jnp.minimum(1.0, 0.3 / norm), 0.0 * c)


def batch_clipped(problem, samples, layers):
    gradient = jax.vmap(problem.gradient, (0, 0, None))(samples.lam, samples.y, layers)
    norm = jnp.sqrt(jnp.sum(gradient.c**2)) / len(samples.y)
    return Modulation(gradient.c * jnp.minimum(1.0, 0.2 / norm), gradient.dv)


def normalised(problem, sample, layers):
    c, dv = problem.gradient(sample.lam, sample.y, layers)
    return Modulation(c / jnp.diagonal(sample.overlaps.Q), dv)


def jumping(problem, sample, layers):
    c, dv = problem.gradient(sample.lam, sample.y, layers)
    return Modulation(0.2 * jnp.sign(c), dv)


OWN = {
    "draws": ld.LocalRule(perturbed, 1.0, draws=2, batch_size=2, weight_decay=0.2),
    "episode": ld.LocalRule(batch_clipped, 1.0, episode=True, batch_size=3),
    "overlaps": ld.LocalRule(normalised, 0.3, needs_overlaps=True),
    "jumps": ld.LocalRule(jumping, 1.0),
}


class Shares(AbstractRule):
    """SGD in which the gradient of each unit has a factor."""

    shares: jax.Array
    propagates_error: ClassVar[bool] = True

    def __init__(self, shares, lr, **keywords):
        super().__init__(lr, **keywords)
        self.shares = jnp.asarray(shares, float)

    def modulation(self, problem, sample, layers):
        c, dv = problem.gradient(sample.lam, sample.y, layers)
        return Modulation(self.shares * c, dv)

    def closed_form(self, signal, layers):
        return signal.weighted(self.shares * layers.v)


# All rules


class Case(NamedTuple):
    """A rule where it can run. without: the levels that it does not have."""

    rule: AbstractRule
    problem: ld.Problem = PROBLEM
    start: ld.Overlaps = TWO
    without: tuple[str, ...] = ()


RANDOM = ("chain", "langevin", "fluctuations")

CASES = {
    "sgd": Case(ld.SGD(0.5, 0.2)),
    "spherical": Case(ld.SGD(0.5, spherical=True), start=ON_SPHERE),
    "population": Case(ld.SGD(0.5, batch_size=math.inf), without=(*RANDOM, "sgd")),
    "feedback": Case(rules.FeedbackAlignment([1.0, -0.7], 0.5, lr_second=0.2)),
    "node": Case(rules.NodePerturbation(lr=0.3)),
    "node signs": Case(rules.NodePerturbation(law="sign", lr=0.3)),
    "node finite": Case(rules.NodePerturbation(0.3, lr=0.3)),
    "weight": Case(rules.WeightPerturbation(0.5, lr_second=0.2), without=RANDOM),
    "clipped": Case(rules.Clipped(0.5, 0.5), LINEAR, ONE),
    "clipped feedback": Case(rules.Clipped(0.5, rule=rules.FeedbackAlignment([1.0, -0.7], 0.5))),
    "clipped batch": Case(rules.Clipped(0.4, 0.6, per="batch", batch_size=2), LINEAR, ONE),
    "dropout": Case(rules.Dropout(0.8, 0.5, lr_second=0.5)),
    "input noise": Case(rules.InputNoise(0.5, 0.5)),
    "hebb": Case(rules.Hebb(1.0), WEDGE, ONE),
    "perceptron": Case(rules.Perceptron(1.0), WEDGE, ONE),
    "adatron": Case(rules.AdaTron(1.0), WEDGE, ONE),
    "reward": Case(rules.RewardPerceptron(3, 1.0), WEDGE, ONE),
    "penalty": Case(rules.RewardPerceptron(3, 1.0, 0.05), WEDGE, ONE),
    "natural": Case(rules.NaturalGradient(0.1, lr=0.15), without=RANDOM),
    **{f"own {name}": Case(rule) for name, rule in OWN.items()},
}


@functools.cache
def _weights(name, n=40):
    at = {"one": ONE, "two": TWO, "sphere": ON_SPHERE}[name]
    return ld.weights_from_overlaps(jax.random.key(5), at, n)


def weights(at: Any = TWO):
    """Weights in 40 dimensions that have these overlaps, of the three starts above."""
    if at is ON_SPHERE:
        return _weights("sphere")
    return _weights("one" if at.k == 1 else "two")


def run(level, rule, problem=PROBLEM, at=None, ts=TS, **keywords):
    """A run of this rule at a level, 40 dimensions where there are any."""
    at, key = TWO if at is None else at, jax.random.key(3)
    if level == "sgd":
        return ld.simulate_sgd(problem, rule, weights(at), ts, key=key, **keywords)
    if level == "chain":
        return ld.simulate_chain(problem, rule, at, ts, n=40, key=key, **keywords)
    if level == "ode":
        return ld.solve_ode(problem, rule, at, ts, **keywords)
    keywords = {"noise_nodes": NODES} | keywords
    if level == "fluctuations":
        return ld.fluctuations(problem, rule, at, ts, **keywords)
    return ld.simulate_langevin(problem, rule, at, ts, n=40, key=key, dt=0.2, **keywords)
