"""What random faults showed to be untested: each test has an oracle that shares nothing with the
library."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jaxtyping import Array

import learndyn as ld
from learndyn import asymptotics
from learndyn.averages._errors import estimated
from learndyn.averages._places import places
from learndyn.averages._samples import _episode_weights, clean_teacher_output
from learndyn.averages._symmetry import _flips
from learndyn.averages._types import AbstractAverages
from learndyn.dynamics import _stiff_groups as rodas
from learndyn.dynamics._prepare import Number, overlaps_hold
from learndyn.dynamics._step_errors import _euler
from learndyn.flow.conservation.laws import _integral

ENDS = np.triu_indices(2)

# Averages


def test_density_of_an_episode_is_the_product_of_its_samples():
    """Where weights w_b change by w_b s_b, an episode's changes by w sum_b s_b, to first order."""
    rule = ld.rules.RewardPerceptron(3, 1.0)
    weight, scores = jnp.full(6, 1 / 6), jnp.array([0.3, -0.2, 0.5, 1.0, 0.0, -0.4])
    found = jax.jvp(lambda w: _episode_weights(rule, w), (weight,), (weight * scores,))
    np.testing.assert_allclose(found[0], weight)
    np.testing.assert_allclose(found[1], np.repeat([0.6, 0.6], 3) / 6, rtol=1e-12)


@pytest.mark.parametrize(
    ("student", "teacher", "biases", "flips"),
    [
        (ld.Erf(), ld.Tanh(), True, ((-1, -1, -1),)),  # all fields together
        (ld.Erf(), ld.ReLU(), True, ()),
        (ld.ReLU(), ld.Erf(), True, ()),
        (ld.Quadratic(), ld.ReLU(), False, ((-1, 1, 1),)),
        (ld.ReLU(), ld.Quadratic(), False, ((1, -1, 1),)),
        (ld.ReLU(), ld.Erf(), False, ()),
    ],
)
def test_flips_of_fields_that_odd_and_even_functions_allow(student, teacher, biases, flips):
    assert _flips(ld.Problem(student, teacher), 2, biases) == flips


class Told(AbstractAverages):
    """Averages that are one number, of which the test says what finer and coarser ones are."""

    value: Array
    around: tuple = ()
    far: Array | None = None
    fall: float = math.inf
    sets: Array | None = None

    def neighbours(self):
        return self.around or None

    def coarsest(self):
        return self.far

    @property
    def falls(self):
        return self.fall

    @property
    def replicates(self):
        return 0 if self.sets is None else len(self.sets)

    def replicate(self, index):
        return Told(self.sets[index])

    def field_averages(self, problem, rule, state):
        raise NotImplementedError

    def generalisation_error(self, problem, state):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("levels", "options", "error", "resolved"),
    [
        # Differences 0.01 and 0.001: twice the second, where no coarser level says otherwise
        ((None, 1.01, 1.0, 0.999), {}, 0.002, True),
        # ... or twice the first over the factor by which this rule's errors fall
        ((None, 1.01, 1.0, 0.999), {"falls": 4.0}, 0.005, True),
        # Differences 0.04, 0.01, 0.001: as a geometric series the last would be 0.0025
        ((1.05, 1.01, 1.0, 0.999), {}, 0.005, True),
        ((0.95, 0.99, 1.0, 1.001), {}, 0.005, True),
        # The first two have not begun to shrink: twice the larger of the last two
        ((1.015, 1.01, 1.0, 0.999), {}, 0.02, False),
        # The last two have not
        ((1.05, 1.01, 1.0, 0.996), {}, 0.02, False),
        ((None, 1.001, 1.0, 0.99), {}, 0.02, False),
        # They need not where they are below 5e-5 of the number
        ((None, 2.00002, 2.0, 1.99997), {}, 6e-5, True),
        # Above 0.02 of it they say nothing
        ((None, 1.2, 1.0, 1.03), {}, 0.06, False),
        # A misfit of 0.0028 is known by other means, and above 0.003 nothing is resolved.
        ((None, 3.01, 3.0, 2.999), {"misfit": 0.0028}, 0.0168, True),
        ((None, 3.01, 3.0, 2.999), {"misfit": 0.004}, 0.024, False),
        # Levels that agree to the last bit leave the rounding of 1e4 terms.
        ((None, 5.0, 5.0, 5.0), {"misfit": 0.002}, 5e-13 + 1e-15, True),
    ],
)
def test_errors_that_levels_of_averages_tell(levels, options, error, resolved):
    coarsest, coarser, value, finer = (x and Told(jnp.asarray(x)) for x in levels)
    averages = Told(value.value, (coarser, finer), coarsest, options.get("falls", math.inf))
    found = estimated(averages, lambda a: [a.value], misfit=options.get("misfit", 0.0))
    np.testing.assert_allclose(found.errors[0], error, rtol=1e-6)
    assert bool(found.resolved) == resolved


def test_a_misfit_of_each_quantity():
    """Differences 0.01 and 0.001 of 3: 0.0028 of it is known to be wrong in the first alone, and
    with 0.004 in either nothing is resolved."""
    around = tuple(Told(jnp.full(2, x)) for x in (3.01, 2.999))
    averages = Told(jnp.full(2, 3.0), around)
    for misfit, resolved in ([0.0028, 0.0], True), ([0.0028, 0.004], False):
        found = estimated(averages, lambda a: list(a.value), misfit=misfit)
        wanted = [max(2 * 3 * one, 0.002) for one in misfit]
        np.testing.assert_allclose(found.errors, wanted, rtol=1e-6)
        assert bool(found.resolved) == resolved


def test_errors_that_replicates_tell():
    """Six standard errors and the mean's distance; three quarters of the mean relative error at
    least, unless no replicate changes a number."""
    table = jnp.array([[1.0, 2.0, 3.0], [1.2, 2.0002, 3.0], [0.8, 1.9998, 3.0], [1.0, 2.0, 3.0]])
    averages = Told(jnp.array([1.0, 2.1, 3.1]), sets=table)
    found = estimated(averages, lambda a: list(a.value))
    scatter = (0.08 / 3) ** 0.5 / 2
    common = (scatter + 1e-3 * scatter / 2.1) / 3
    wanted = [6 * scatter, 6 * 0.75 * common * 2.1 + 0.1, 0.1]
    np.testing.assert_allclose(found.errors, wanted, rtol=1e-9)


@pytest.mark.parametrize(
    ("sizes", "common"),
    [
        # Errors are relative to the terms, where those are larger than what is left of them
        ([50.0, 0.0], (0.8 / 50 + 1e-3 / 2.1) / 2),
        # ... and those of a quantity whose terms have no known size do not count.
        ([math.inf, 0.0], 1e-3 / 2.1),
        ([0.0, math.inf], 0.8 / 1.3),
        ([math.inf, math.inf], 0.0),
    ],
)
def test_relative_errors_of_what_cancels(sizes, common):
    """The standard error of four replicates is 0.8 and 1e-3 of 1.3 and 2.1."""
    step = 0.8 * 6**0.5 * jnp.array([1.0, -1.0, 0.0, 0.0])
    table = jnp.stack([1.3 + step, 2.1 + 1e-3 / 0.8 * step], axis=1)
    averages = Told(jnp.array([1.3, 2.1]), sets=table)
    found = estimated(averages, lambda a: list(a.value), terms=lambda values: sizes)
    at_least = 6 * 0.75 * common * np.array([1.3, 2.1])
    np.testing.assert_allclose(found.errors, np.maximum([4.8, 6e-3], at_least), rtol=1e-9)


@pytest.mark.parametrize(
    ("loss", "known"),
    [
        (lambda phi, y: jnp.abs(phi - y), ((), (0.0,))),
        (lambda phi, y: jnp.abs(phi - 0.5) + (phi - y) ** 2, ((0.5,), ())),
        (lambda phi, y: jnp.abs(phi - 2 * y), None),  # neither in phi nor in phi - y
    ],
    ids=["residual", "output", "neither"],
)
def test_places_of_a_loss_of_the_user(loss, known):
    found = places(ld.Problem(loss=loss), ld.SGD(lr=0.1))
    if known is None:
        assert found is None
    else:
        for ours, wanted in zip((found.in_output, found.in_residual), known, strict=True):
            assert ours == pytest.approx(wanted, abs=1e-9)


def test_a_label_with_its_own_noise_is_averaged_over_it():
    """<rho zeta**2 + zeta> = rho for zeta ~ N(0, 1)."""
    teacher = ld.MultiIndex(lambda rho, zeta: rho[0] * zeta**2 + zeta)
    problem, rho = ld.Problem(ld.Linear(), teacher), jnp.array([[0.4], [-3.0]])
    layers = ld.Overlaps(jnp.eye(1), jnp.zeros((1, 1)), jnp.eye(1)).layers
    np.testing.assert_allclose(clean_teacher_output(problem, rho, layers), rho[:, 0], rtol=1e-11)


def test_a_scrambled_net_may_contain_zero(monkeypatch):
    """It then stands for the smallest number of 54 binary digits, whose quantile is finite."""
    corner = np.array([[0.0], [0.5]])
    monkeypatch.setattr(scipy.stats.qmc.Sobol, "random_base2", lambda net, m: corner)
    z, _ = ld.averages.QuasiMonteCarlo(points=2, replicates=2).nodes(1)
    # The normal distribution's tail, Mills' ratio to six terms
    below, x = 2.0**-54, -float(z[0, 0, 0])
    ratio = 1 / x - 1 / x**3 + 3 / x**5 - 15 / x**7 + 105 / x**9 - 945 / x**11
    assert ratio * math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) == pytest.approx(
        below, rel=1e-4, abs=0
    )
    assert float(z[0, 1, 0]) == 0.0


# Asymptotics


def test_linear_error_where_a_step_keeps_it_or_multiplies_it_by_three():
    """By hand, n = 2, k = 1: factors 1 - lr + lr**2 are 1 and 3, noise adds (lr noise)**2 / 4."""
    steps, lr = jnp.array([0, 1, 5, 0, 1, 3]), jnp.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    found = asymptotics.eg_linear_finite_n(steps, 0.5, n=2, lr=lr, noise=0.5, k=1)
    np.testing.assert_allclose(found, [0.5, 0.5625, 0.8125, 0.5, 1.75, 16.75])


# Dynamics


@pytest.mark.parametrize(
    ("bounds", "must", "good", "bad"),
    [
        ({}, "finite and >= 0", [0.0, 1e300], [-1e-300, math.inf, math.nan]),
        ({"strict": True}, "finite and > 0", [1e-300], [0.0]),
        ({"least": -math.inf}, "finite", [-1e300], [-math.inf]),
        ({"most": 2.0}, "finite, >= 0 and at most 2", [2.0], [2.0000001]),
        ({"below": 1.0}, "finite, >= 0 and < 1", [0.9999999], [1.0]),
        ({"least": 3.0, "whole": True}, "a whole number >= 3", [3.0, 8.0], [2.0, 3.5]),
    ],
)
def test_bounds_of_a_number_and_their_words(bounds, must, good, bad):
    number = lambda value: Number("x", np.asarray(value), "", **bounds)
    assert number(0.0).must == must
    assert [bool(number(x).holds(np)) for x in [*good, *bad]] == [True] * len(good) + [False] * len(
        bad
    )


def test_traced_overlaps_may_be_off_by_what_printed_digits_lose():
    """1e-8 of 1 + the largest entry in symmetry, 1e-10 of the trace in the smallest eigenvalue,
    which is 1 - R for Q = T = 1."""
    holds = jax.jit(lambda Q, R: overlaps_hold(ld.Overlaps(Q, R, jnp.eye(1))))
    turned = [
        holds(jnp.array([[3.0, 0.5], [0.5 + x, 1.0]]), jnp.zeros((2, 1))) for x in (3.9e-8, 4.1e-8)
    ]
    beyond = [holds(jnp.eye(1), jnp.full((1, 1), 1 + x)) for x in (1.9e-10, 2.1e-10)]
    assert [bool(x) for x in turned + beyond] == [True, False, True, False]


@pytest.mark.parametrize("spherical", [False, True])
def test_slow_momentum_moves_overlaps_as_it_moves_weights(spherical):
    """Linear units: w' = -lr u and u' = gamma (gradient + decay w - u), with vectors in R^4."""
    rng = np.random.default_rng(0)
    w, u, t = rng.normal(size=(2, 4)), rng.normal(size=(2, 4)), rng.normal(size=(1, 4))
    w /= np.linalg.norm(w, axis=1, keepdims=True)  # as the sphere asks
    v, v_teacher, lr = np.array([0.8, -0.5]), np.array([1.2]), np.array([0.3, 0.5])
    gamma, decay, batch, noise = 2.0, 0.4, 3, 0.2
    output = v @ w - v_teacher @ t
    dw = -lr[:, None] * u
    if spherical:
        dw -= np.sum(w * dw, axis=1, keepdims=True) * w
    du = gamma * (v[:, None] * output + decay * w - u)
    # Steps of the velocity are gamma/n times single gradients, whose squares add up over n steps.
    square = gamma**2 / batch * np.outer(v, v) * (output @ output + noise**2)
    flat = lambda q, r, s, u, v: np.concatenate([q[ENDS], r.ravel(), s.ravel(), u[ENDS], v.ravel()])
    wanted = flat(
        dw @ w.T + w @ dw.T, dw @ t.T, dw @ u.T + w @ du.T, du @ u.T + u @ du.T + square, du @ t.T
    )

    start = ld.Overlaps(w @ w.T, w @ t.T, t @ t.T, v, v_teacher)
    momentum = ld.SlowMomentum(gamma)
    rule = ld.SGD(lr, None, None, decay, batch, momentum, spherical=spherical)
    flow = ld.ode_term(ld.Problem(ld.Linear(), ld.Linear(), noise=noise), rule, start).vector_field
    y = flat(w @ w.T, w @ t.T, w @ u.T, u @ u.T, u @ t.T)
    np.testing.assert_allclose(flow(0.0, jnp.asarray(y), None), wanted, atol=1e-12)


def test_euler_steps_are_linear_between_their_ends():
    """A linear unit in steps of 0.5, by hand in NumPy."""
    lr, noise, q, r, t = 0.3, 0.2, 0.7, 0.3, 1.4
    rows = [np.array([q, r])]
    for _ in range(2):
        q, r = rows[-1]
        dq = -2 * lr * (q - r) + lr**2 * (q - 2 * r + t + noise**2)
        rows.append(rows[-1] + 0.5 * np.array([dq, -lr * (r - t)]))
    first, second, third = rows

    start = ld.Overlaps([[0.7]], [[0.3]], [[t]])
    problem = ld.Problem(ld.Linear(), ld.Linear(), noise=noise)
    flow = ld.ode_term(problem, ld.SGD(lr), start).vector_field
    found = _euler(flow, jnp.array([0.0, 0.2, 0.5, 0.9]), jnp.asarray(0.5))
    wanted = [first, 0.6 * first + 0.4 * second, second, 0.2 * second + 0.8 * third]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def rodas_step(t, y, h):
    """A Rosenbrock step by Rodas5P's table, for y1' = -2 t y1**2 and y2' = y1 y2."""
    flow = lambda t, y: np.array([-2 * t * y[0] ** 2, y[0] * y[1]])
    jacobian = np.array([[-4 * t * y[0], 0.0], [y[1], y[0]]])
    in_time = np.array([-2 * y[0] ** 2, 0.0])
    left, stages = np.eye(2) / (rodas._GAMMA * h) - jacobian, np.zeros((8, 2))
    for i in range(8):
        right = flow(t + h * rodas._TIMES[i], y + rodas._STARTS[i] @ stages)
        right += rodas._PAST[i] @ stages / h + h * rodas._SLOPES[i] * in_time
        stages[i] = np.linalg.solve(left, right)
    end = y + rodas._STARTS[7] @ stages + stages[7]
    dense = rodas.Dense(*(jnp.asarray(x) for x in (t, t + h, y, end, rodas._DENSE @ stages)))
    return end, stages[7], np.asarray(dense.evaluate(t + 0.3 * h))


def test_orders_of_the_table_for_stiff_groups():
    """The error of one step falls as h**6, and as h**5 between its ends and without its last stage;
    y1 = 1 / (1 + t**2) and y2 = exp(arctan t) are the solution."""
    exact = lambda t: np.array([1 / (1 + t**2), np.exp(np.arctan(t))])
    errors = []
    for h in (0.05, 0.025):
        end, last, between = rodas_step(1.0, exact(1.0), h)
        off = end - exact(1.0 + h)
        errors.append([np.abs(x).max() for x in (off, last, between - exact(1.0 + 0.3 * h))])
    orders = np.log2(np.divide(*errors))
    assert orders == pytest.approx([6, 5, 5], abs=0.4)


# Flow


def test_charges_integrate_cubics_exactly():
    """Values 1 - 2 t + t**3 and their slopes at uneven times; the integral by hand."""
    t = np.array([0.5, 0.7, 1.5, 3.0])
    whole = lambda t: t - t**2 + t**4 / 4
    values, slopes = 1 - 2 * t + t**3, -2 + 3 * t**2
    found = _integral(*(jnp.asarray(x) for x in (t, values, slopes)))
    np.testing.assert_allclose(found, whole(t) - whole(0.5), atol=1e-13)


# Rules


def test_a_rate_that_falls_as_the_inverse_of_time():
    """lr / (1 + alpha / time): half of it at alpha = time."""
    rate = ld.rules.InverseTimeRate(0.4, time=5.0)
    np.testing.assert_allclose([rate(x) for x in (0.0, 2.5, 5.0)], [0.4, 0.4 / 1.5, 0.2])


def test_rewards_for_episodes_with_turned_labels():
    """One decision of three by a perceptron, over angles of the two fields, in NumPy."""
    lr, size, reward, penalty, flip = 0.8, 3, 1.2, 0.3, 0.1
    q, r, t = 0.7, 0.3, 1.4
    angle = (np.arange(200_000) + 0.5) * 2 * np.pi / 200_000
    along, across = np.cos(angle), np.sin(angle)
    lam = q**0.5 * along
    rho = r / q**0.5 * along + (t - r**2 / q) ** 0.5 * across
    right = np.where(lam * rho > 0, 1 - flip, flip)
    others = right.mean() ** (size - 1)
    # <c f> with the radius' mean sqrt(pi/2); a reward needs all three to be right.
    c = -np.sign(lam) * ((reward + penalty) * right * others - penalty)
    radius = (np.pi / 2) ** 0.5
    square = reward**2 * right.mean() * others + penalty**2 * (1 - right.mean() * others)
    first, second = radius * (c * lam).mean(), radius * (c * rho).mean()
    wanted = [-2 * lr * first + lr**2 / size * square, -lr * second]

    problem = ld.Problem(ld.Linear(), ld.Sign(flip=flip), ld.Perceptron())
    rule = ld.rules.RewardPerceptron(size, reward, penalty, lr=lr)
    start = ld.Overlaps([[q]], [[r]], [[t]])
    flow = ld.ode_term(problem, rule, start).vector_field
    np.testing.assert_allclose(flow(0.0, jnp.array([q, r]), None), wanted, rtol=1e-4)


def test_hebb_learns_numbers_as_labels_whatever_the_loss():
    """c = -v g'(lambda) y for labels y = g(rho), over a grid of both fields in NumPy."""
    lr, q, r, t = 0.8, 0.7, 0.3, 1.4
    x, weight = np.polynomial.hermite_e.hermegauss(60)
    weight = np.outer(weight, weight) / (2 * np.pi)
    lam = q**0.5 * x[:, None]
    rho = r / q**0.5 * x[:, None] + (t - r**2 / q) ** 0.5 * x
    slope = np.sqrt(2 / np.pi) * np.exp(-(lam**2) / 2)
    moved = slope * scipy.special.erf(rho / np.sqrt(2))
    mean = lambda values: np.sum(weight * values)
    wanted = [2 * lr * mean(moved * lam) + lr**2 * mean(moved**2), lr * mean(moved * rho)]

    rule, start = ld.rules.Hebb(lr=lr), ld.Overlaps([[q]], [[r]], [[t]])
    flow = ld.ode_term(ld.Problem(), rule, start).vector_field
    np.testing.assert_allclose(flow(0.0, jnp.array([q, r]), None), wanted, rtol=2e-4)  # nodes: 3e-5


@pytest.mark.parametrize(
    ("edges", "known"),
    [
        ((0.5, 0.5), (0.5,)),  # the step is at the same field whatever the label
        ((0.5, 0.7), None),
        ((0.5, 99.0), None),  # beyond where anyone looks: no step for that label
    ],
)
def test_places_of_a_rule_that_depend_on_the_label_are_not_known(edges, known):
    def step(problem, sample, layers):
        edge = jnp.where(sample.y < 0, *edges)
        return ld.Modulation(jnp.where(sample.lam > edge, 1.0, 0.0), jnp.zeros(1))

    found = places(ld.Problem(), ld.LocalRule(step, lr=0.1))
    assert (found if found is None else found.in_field) == (known and pytest.approx(known))


def test_a_rule_may_divide_by_the_squared_length():
    """c = (lambda - rho) / Q of linear units, by hand."""
    lr, q, r, t = 0.3, 0.7, 0.3, 1.4

    def per_length(problem, sample, layers):
        error = sample.lam - sample.y
        return ld.Modulation(error / jnp.diagonal(sample.overlaps.Q), jnp.zeros(1))

    rule = ld.LocalRule(per_length, lr=lr, needs_overlaps=True)
    start = ld.Overlaps([[q]], [[r]], [[t]])
    flow = ld.ode_term(ld.Problem(ld.Linear(), ld.Linear()), rule, start).vector_field
    wanted = [-2 * lr * (q - r) / q + lr**2 * (q - 2 * r + t) / q**2, -lr * (r - t) / q]
    np.testing.assert_allclose(flow(0.0, jnp.array([q, r]), None), wanted, atol=1e-3)  # nodes: 2e-4


def test_noisy_inputs_make_fields_wider_and_steps_longer():
    """Linear units that see x + s n: moved along it, with labels of x, by hand."""
    lr, s, q, r, t = 0.3, 0.8, 0.7, 0.3, 1.4
    wide = 1 + s**2
    start = ld.Overlaps([[q]], [[r]], [[t]])
    rule = ld.rules.InputNoise(s, lr=lr)
    flow = ld.ode_term(ld.Problem(ld.Linear(), ld.Linear()), rule, start).vector_field
    wanted = [
        -2 * lr * (wide * q - r) + lr**2 * wide * (wide * q - 2 * r + t),
        -lr * (wide * r - t),
    ]
    np.testing.assert_allclose(flow(0.0, jnp.array([q, r]), None), wanted, rtol=1e-12)


def test_node_perturbation_is_a_quotient_of_differences():
    """Two linear units, phi = 0.42 and 0.55 when shaken; at scale 0, traced, its limit. By hand."""
    layers = ld.Overlaps(jnp.eye(2), jnp.zeros((2, 1)), jnp.eye(1), [0.8, -0.5]).layers
    sample = ld.rules.Sample(jnp.array([0.4, -0.2]), jnp.array(0.1), jnp.array([0.7, -2.0]))
    problem = ld.Problem(ld.Linear(), ld.Linear())
    rule = lambda scale: ld.rules.NodePerturbation(scale, "sign", 0.3)
    found = jax.vmap(lambda x: rule(x).modulation(problem, sample, layers).c)(jnp.array([0.1, 0.0]))
    np.testing.assert_allclose(found, np.outer([0.5005, 0.416], [1, -1]), rtol=1e-12)


def test_a_limit_that_nothing_reaches_leaves_feedback_as_it_is():
    """Linear units: c = 0.5 (lambda - rho), and not 1 as the gradient would have it; by hand."""
    lr, feedback, q, r, t = 0.3, 0.5, 0.7, 0.3, 1.4
    rule = ld.rules.Clipped(1e3, rule=ld.rules.FeedbackAlignment([feedback], lr))
    start = ld.Overlaps([[q]], [[r]], [[t]])
    flow = ld.ode_term(ld.Problem(ld.Linear(), ld.Linear()), rule, start).vector_field
    dq = -2 * lr * feedback * (q - r) + (lr * feedback) ** 2 * (q - 2 * r + t)
    wanted = [dq, -lr * feedback * (r - t)]
    np.testing.assert_allclose(flow(0.0, jnp.array([q, r]), None), wanted, rtol=1e-3)
