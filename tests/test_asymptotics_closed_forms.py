"""Closed forms of the literature against their digits, the ODE, and direct recursions."""

from fractions import Fraction
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import learndyn as ld
from learndyn import asymptotics
from learndyn.asymptotics.closed_forms._ridge import _geometric

SPECIALISED = [  # m, l, lr, eg / noise**2
    (2, 0, 0.05, 0.00939090589422),
    (2, 1, 0.05, 0.01778652814525),
    (2, 3, 0.05, 0.03543629176598),
    (2, 3, 0.01, 0.00670221736926),
    (2, 3, 0.5, 1.00289007597319),
]
DENOISING = [  # m, z, v_teacher, lr, eg / noise**2
    (1, 1, 2.0, 0.01, 0.00371214),
    (1, 2, 2.0, 0.01, 0.00184687),
    (1, 4, 2.0, 0.01, 0.00092115),
    (1, 8, 2.0, 0.01, 0.00046001),
    (2, 2, 2.0, 0.2, 0.08881605),
    (2, 4, 2.0, 0.2, 0.04021871),
]
CRITICAL = [  # m, l, lr
    (1, 0, 4.055779),
    (2, 0, 2.306828),
    (3, 0, 1.620675),
    (4, 0, 1.249393),
    (1, 1, 1.892594),
    (2, 1, 1.384025),
    (2, 2, 0.971889),
    (2, 3, 0.745684),
]
LINEAR = ld.Problem(student=ld.Linear(), teacher=ld.Linear(), noise=0.3)
TS = jnp.linspace(0.0, 12.0, 25)


def close(actual, expected, *, rel=0.0, abs=0.0):
    np.testing.assert_allclose(actual, expected, rtol=rel, atol=abs)


@eqx.filter_jit
def linear_ode(rule, start):
    return ld.solve_ode(LINEAR, rule, start, TS, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("m", "l", "lr", "eg"), SPECIALISED)
def test_specialised_error_to_its_digits(m, l, lr, eg):
    close(asymptotics.eg_specialised(m=m, l=l, lr=lr, noise=1.0), eg, abs=5e-15)
    scaled = asymptotics.eg_specialised(m, l, lr, noise=0.1)
    close(scaled, 0.01 * eg, rel=1e-12)


@pytest.mark.parametrize(("m", "z", "v", "lr", "eg"), DENOISING)
def test_denoising_error_to_its_digits(m, z, v, lr, eg):
    close(asymptotics.eg_denoising(m, z, v, lr), eg, abs=5.1e-9)


@pytest.mark.parametrize(("m", "l", "lr"), CRITICAL)
def test_critical_rate_is_the_pole_of_the_error(m, l, lr):
    close(asymptotics.critical_lr_specialised(m, l), lr, abs=5.1e-7)
    near = asymptotics.eg_specialised(m, l, lr * (1 - 1e-5))
    assert near > 1e4


def test_critical_rates_broadcast_and_trace():
    m, l, lr = (np.array(column) for column in zip(*CRITICAL, strict=True))
    close(asymptotics.critical_lr_specialised(m, l), lr, abs=5.1e-7)
    close(jax.jit(asymptotics.critical_lr_specialised)(m, l), lr, abs=5.1e-7)
    assert asymptotics.critical_lr_specialised(m[:, None], l).shape == (8, 8)
    # The value of a million units, by the roots of the polynomial.
    close(asymptotics.critical_lr_specialised(10**6, 0) * 10**6, 5.4413980927, rel=1e-5)


def test_small_rates_of_the_specialised_error():
    # Eq. (11) as the slope at 0, and its measured distance at finite rates.
    m, l = jnp.array([1.0, 2.0, 5.0]), jnp.array([0.0, 3.0, 1.0])
    slope = jax.vmap(jax.grad(asymptotics.eg_specialised, argnums=2))(m, l, jnp.zeros(3))
    close(slope, asymptotics.eg_specialised_small_lr(m, l, 1.0), rel=1e-12)
    ratio = asymptotics.eg_specialised(2, 0, 0.05) / asymptotics.eg_specialised_small_lr(2, 0, 0.05)
    close(ratio, 1.022, abs=5e-4)
    ratio = asymptotics.eg_specialised(2, 3, 0.01) / asymptotics.eg_specialised_small_lr(2, 3, 0.01)
    close(ratio, 1.0136, abs=5e-5)


@pytest.mark.parametrize("b", [0.9, -0.7, 0.9 + 1e-4])
@pytest.mark.parametrize("gap", [0.0, 1e-15, 3e-12, 1e-9, 1e-5, 0.01])
@pytest.mark.parametrize("steps", [0, 1, 2, 40, 2000])
def test_sums_of_two_geometric_factors(b, gap, steps):
    """Against exact fractions; the plain quotient is off by 1e-4 at a gap of 3e-12."""
    a = b + gap
    x, y = Fraction(a), Fraction(b)
    # The sum for gaps of a float's last digits, where the fractions' own quotient is exact.
    exact = (x**steps - y**steps) / (x - y) if x != y else steps * y ** max(steps - 1, 0)
    found = float(_geometric(jnp.asarray(a), jnp.asarray(b), jnp.asarray(float(steps))))
    assert found == pytest.approx(float(exact), rel=1e-12, abs=1e-80)


def test_geometric_sums_of_zeros():
    zero = jnp.zeros(())
    assert [float(_geometric(zero, zero, jnp.asarray(n))) for n in (0.0, 1.0, 2.0)] == [0, 1, 0]
    assert float(_geometric(zero, jnp.ones(()), jnp.asarray(5.0))) == 1


@pytest.mark.nightly(by_day=["0.0-hard tanh"])
@pytest.mark.parametrize(
    ("activation", "slope", "kinks"),
    [
        (lambda x: jnp.clip(x, -1, 1), lambda x: 1.0 * (np.abs(x) < 1), (-1, 1)),
        (
            jax.nn.selu,
            lambda x: 1.0507009873554805 * np.where(x > 0, 1.0, 1.6732632423543772 * np.exp(x)),
            (0,),
        ),
        (lambda x: jnp.where(x > 0.3, x, jnp.tanh(x)), None, (0.3,)),
    ],
    ids=["hard tanh", "selu", "half a tanh"],
)
@pytest.mark.parametrize("bias", [0.0, 0.2])
def test_small_rate_with_kinks(activation, slope, kinks, bias):
    """Against SciPy's adaptive quadrature; Gauss and Hermite's 96 nodes are off by up to 5 %."""
    slope = slope or (lambda x: np.where(x > 0.3, 1.0, 1 / np.cosh(x) ** 2))
    density = lambda x: norm.pdf(x - bias, scale=1.2**0.5)
    ends = [-12, *kinks, 12]
    pieces = [quad(lambda x: slope(x) ** 2 * density(x), *pair)[0] for pair in pairwise(ends)]
    state = ld.Overlaps([[1.2]], [[1.2]], [[1.2]], b=[bias], b_teacher=[bias])
    problem = ld.Problem(activation, activation, noise=0.2)
    found = asymptotics.eg_zero_error_small_lr(problem, ld.SGD(lr=0.03), state)
    assert float(found) == pytest.approx(0.03 * 0.04 / 4 * sum(pieces), rel=1e-10)


@pytest.mark.nightly
def test_small_rates_of_every_zero_error_state():
    erf, relu = ld.Problem(noise=0.2), ld.Problem(ld.ReLU(), ld.ReLU(), noise=0.2)
    rule = ld.SGD(lr=0.03)
    special = asymptotics.specialised_state(3, 2)
    general = asymptotics.eg_zero_error_small_lr(erf, rule, special)
    close(general, asymptotics.eg_specialised_small_lr(3, 2, 0.03, 0.2), rel=1e-12)
    shared = asymptotics.denoising_state(2, 3, 1.5)
    general = asymptotics.eg_zero_error_small_lr(erf, rule, shared)
    closed = asymptotics.eg_denoising_small_lr(2, 3, 1.5, 0.03, 0.2)
    close(general, closed, rel=1e-12)
    close(
        asymptotics.eg_zero_error_small_lr(relu, rule, shared),
        0.03 * 0.04 / 8 * 6 * 0.25,
        rel=1e-12,
    )
    # An activation without a closed form goes by quadrature; erf under another name checks it.
    unnamed = ld.Problem(lambda x: jax.scipy.special.erf(x / 2**0.5), noise=0.2)
    by_nodes = asymptotics.eg_zero_error_small_lr(unnamed, rule, shared)
    close(by_nodes, closed, rel=1e-12)
    batch = ld.SGD(lr=0.03, batch_size=4, momentum=0.5)
    quicker = asymptotics.eg_zero_error_small_lr(erf, batch, special)
    close(quicker, 0.5 * asymptotics.eg_specialised_small_lr(3, 2, 0.03, 0.2))


def test_small_rates_of_each_unit_and_of_node_perturbation():
    """eg = 1/4 sum_i lr_i <F_i**2>, for node perturbation K + 2 or K times that of SGD."""
    problem, state = ld.Problem(noise=0.01), asymptotics.specialised_state(2)
    of = lambda rule: float(asymptotics.eg_zero_error_small_lr(problem, rule, state))
    plain = of(ld.SGD(0.005))
    assert of(ld.SGD([0.005, 0.005])) == pytest.approx(plain, rel=1e-12)
    assert of(ld.SGD([0.01, 0.0])) == pytest.approx(plain, rel=1e-12)
    normal, signs = (ld.rules.NodePerturbation(law=law, lr=0.005) for law in ("normal", "sign"))
    assert of(normal) == pytest.approx(4 * plain, rel=1e-12)
    assert of(signs) == pytest.approx(2 * plain, rel=1e-12)
    # eg / noise**2 where the ODE ends, by an independent solution at lr = 0.005
    assert of(normal) / 1e-4 == pytest.approx(0.003705, rel=0.01)
    for wrong in (ld.SGD([0.1, 0.2, 0.3]), ld.rules.NodePerturbation(0.1, lr=0.1)):
        with pytest.raises(ValueError, match=r"one for each of the 2|formula for gradient descent"):
            of(wrong)


@pytest.mark.nightly
def test_normalised_committees():
    for name, problem in (
        ("erf", ld.Problem(noise=0.1)),
        ("relu", ld.Problem(ld.ReLU(), ld.ReLU(), noise=0.1)),
        ("linear", ld.Problem(ld.Linear(), ld.Linear(), noise=0.1)),
    ):
        state = asymptotics.denoising_state(2, 3, 0.5)  # v = 1/6 for each of 6 units
        general = asymptotics.eg_zero_error_small_lr(problem, ld.SGD(lr=0.05), state)
        closed = asymptotics.eg_normalised_small_lr(6, 0.05, 0.1, activation=name)
        close(closed, general, rel=1e-12)
    exact = asymptotics.eg_linear(0.05, 0.1, v=jnp.full(6, 1 / 6))
    # Averaging erf units, exactly: a teacher with v = 1/m whose units z students share.
    for m, z in ((2, 1), (1, 2)):
        state = asymptotics.denoising_state(m, z, 1 / m)
        response = asymptotics.eg_response(ld.Problem(), ld.SGD(lr=1.0), state)
        close(asymptotics.eg_denoising(m, z, 1 / m, 1.0), response, rel=1e-10)
    slope = jax.grad(lambda lr: asymptotics.eg_denoising(2, 3, 1 / 2, lr, 0.1))(0.0)
    close(slope, asymptotics.eg_normalised_small_lr(6, 1.0, 0.1), rel=1e-12)
    small = asymptotics.eg_normalised_small_lr(6, 0.05, 0.1, activation="linear")
    close(exact, small / (1 - 0.05 / 12), rel=1e-12)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_linear_committee_against_the_ode(batch_size):
    start = ld.Overlaps(jnp.diag(jnp.array([0.5, 0.3, 0.4])), jnp.zeros((3, 2)), jnp.eye(2))
    rule = ld.SGD(lr=0.3, batch_size=batch_size)
    ode = linear_ode(rule, start)
    curve = asymptotics.eg_linear_curve(TS, ode.eg[0], 0.3, 0.3, k=3, batch_size=batch_size)
    close(ode.eg, np.asarray(curve), abs=1e-10)
    end = asymptotics.eg_linear(0.3, 0.3, k=3, batch_size=batch_size)
    close(
        asymptotics.eg_linear_curve(1e3, 1.0, 0.3, 0.3, k=3, batch_size=batch_size), end, abs=1e-14
    )


def test_linear_committee_is_unstable_exactly_at_two():
    late = asymptotics.eg_linear_curve(1e5, 1.0, jnp.array([0.6666, 0.6667]), k=3)
    assert late[0] < 1e-8
    assert late[1] > 1e2
    assert asymptotics.critical_lr_linear(k=3) == pytest.approx(2 / 3, rel=1e-15)
    # At H = 2 itself the error neither grows nor shrinks without noise.
    assert asymptotics.eg_linear_curve(1e5, 1.0, 1.0, k=2) == 1.0
    with pytest.raises(ValueError, match="diverges"):
        asymptotics.eg_linear(lr=2 / 3, k=3)


def test_linear_error_at_small_rates():
    slope = jax.grad(lambda lr: asymptotics.eg_linear(lr, 0.7, k=4))(0.0)
    close(slope, asymptotics.eg_linear_small_lr(1.0, 0.7, k=4), rel=1e-12)


def test_linear_mean_at_finite_n_is_the_recursion():
    n, batch, gain, noise = 3, 2, 0.9, 0.2
    e = 0.5
    for _ in range(11):
        e *= 1 - 2 * gain / n + gain**2 * (n + batch + 1) / (batch * n**2)
        e += gain**2 * noise**2 / (2 * n * batch)
    mean = asymptotics.eg_linear_finite_n(11, 0.5, n, 0.3, noise, k=3, batch_size=batch)
    close(mean, e, rel=1e-13)
    # One step of SGD, averaged over inputs by brute force.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400_000, n))
    w = np.array([0.3, -0.5, 0.8])
    moved = w - 0.7 / n * (x @ w - 0.1 * rng.normal(size=len(x)) * n**0.5)[:, None] * x
    sampled = 0.5 * np.sum(moved**2, axis=1) / n
    closed = asymptotics.eg_linear_finite_n(1, 0.5 * w @ w / n, n, 0.7, 0.1, k=1)
    assert abs(sampled.mean() - closed) < 4 * sampled.std() / len(x) ** 0.5


def test_linear_variance_condition():
    rates = jnp.array([0.87, 0.879, 0.881, 1.0])
    assert asymptotics.linear_variance_is_finite(3, rates, k=1).tolist() == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("kappa", [0.0, 0.1, 0.5, 2.0])
def test_ridge_against_the_ode(kappa):
    start = ld.Overlaps([[0.7]], [[0.1]], [[1.3]])
    ode = linear_ode(ld.SGD(lr=0.8, weight_decay=kappa), start)
    curve = asymptotics.ridge_curve(TS, 0.8, kappa, 0.3, rho=1.3, m_start=0.1, q_start=0.7)
    close(curve.m, ode.R[:, 0, 0], abs=1e-10)
    close(curve.q, np.asarray(ode.Q[:, 0, 0]), abs=1e-10)
    close(curve.eg, np.asarray(ode.eg), abs=1e-10)
    end = asymptotics.ridge(0.8, kappa, 0.3, rho=1.3)
    late = asymptotics.ridge_curve(1e4, 0.8, kappa, 0.3, rho=1.3)
    close(np.array(end), np.array(late), abs=1e-13)


def test_ridge_where_its_two_rates_meet():
    # lr = 1 + kappa: exp(-slow alpha) and exp(-fast alpha) coincide.
    below, at, above = (
        asymptotics.ridge_curve(2.0, lr, 0.2, 0.1, m_start=0.3)
        for lr in (1.2 - 1e-7, 1.2, 1.2 + 1e-7)
    )
    close(at.q, 0.5 * (below.q + above.q), rel=1e-10)


def test_ridge_measured_and_printed_forms_rejected():
    # A direct simulation, n = 1000, gave m = 0.661 and q = 0.516.
    end = asymptotics.ridge(0.8, 0.5, 0.1**0.5)
    close(end.m, 0.667, abs=5e-4)
    close(end.q, 0.521, abs=5e-4)
    wrong_q = 1 / 1.5 + 0.8 * 0.1 / (2 * 1.5 - 0.8 * 1.5**2)
    close(wrong_q, 0.733, abs=5e-4)
    assert abs(end.q - wrong_q) > 0.2
    # Decay raises the critical rate; the printed 2 / (1 + kappa) would lower it.
    assert asymptotics.critical_lr_ridge(0.5) == 3.0
    assert asymptotics.ridge_curve(1e4, 2.9, 0.5, 0.1).q < 10
    assert asymptotics.ridge_curve(1e3, 3.1, 0.5, 0.1).q > 1e10


def test_ridge_means_at_finite_n_are_the_recursion():
    lr, kappa, noise, n, rho = 0.8, 0.5, 0.3, 7, 1.3
    m, q, a = 0.1, 0.7, lr * kappa / n
    for _ in range(13):
        squared = (n + 2) * (q - 2 * m + rho) + n * noise**2
        q = (1 - a) ** 2 * q - 2 * (1 - a) * (lr / n) * (q - m) + (lr / n) ** 2 * squared
        m = (1 - a) * m - (lr / n) * (m - rho)
    means = asymptotics.ridge_finite_n(13, n, lr, kappa, noise, rho=rho, m_start=0.1, q_start=0.7)
    close(means.m, m, rel=1e-13)
    close(means.q, q, rel=1e-13)


def test_relu_committee():
    close(asymptotics.eg_relu(1, 0.5, 0.1), 0.01 * 0.5 / 6, rel=1e-14)
    # The two linear equations it solves, written out for m = 3.
    m, lr = 3, 0.2
    matrix = np.array([[-1 / 2, -(m - 1) / 4], [-1 / 4, -m / 4]])
    matrix += lr / 2 * np.array([[(m + 1) / 4, (m - 1) * (m + 2) / 8], [(m + 2) / 8, 16 / 16]])
    p, c = np.linalg.solve(matrix, [-lr / 4, -lr / 8])
    close(asymptotics.eg_relu(m, lr), m * p / 4 + m * (m - 1) * c / 8, rel=1e-12)
    slope = jax.grad(lambda lr: asymptotics.eg_relu(4, lr, z=2, v_teacher=3.0))(0.0)
    close(slope, 4 * 9 / 2 / 8, rel=1e-12)
    assert asymptotics.critical_lr_relu(1) == 2.0
    assert asymptotics.eg_relu(3, asymptotics.critical_lr_relu(3) * (1 - 1e-9)) > 1e7
    with pytest.raises(ValueError, match="diverges"):
        asymptotics.eg_relu(1, 2.0)


def zero_error(state, problem=None, **options):
    problem = ld.Problem(noise=0.1) if problem is None else problem
    return asymptotics.eg_zero_error_small_lr(problem, ld.SGD(lr=0.1, **options), state)


def test_small_rates_near_zero_error():
    # A state that a run with noise has reached is as good; a traced one is not judged.
    exact = asymptotics.specialised_state(2, 1)
    near = ld.Overlaps(1.01 * exact.Q, exact.R, exact.T)
    close(zero_error(near), zero_error(exact), rel=0.01)
    noisy = ld.Problem(noise=2.0)  # eg of such states is mostly noise
    far = ld.Overlaps(exact.Q.at[2, 2].set(0.15), exact.R, exact.T)
    assert zero_error(far, noisy) > 0.02
    with pytest.raises(ValueError, match="eg is zero"):
        zero_error(far)
    start = ld.Overlaps(jnp.eye(2), jnp.zeros((2, 2)), jnp.eye(2))
    close(jax.jit(zero_error)(start), 0.1 * 0.01 / (np.pi * 3**0.5), rel=1e-12)


START = asymptotics.symmetric_state(2, 2, q=0.3, c=0.0, r=0.1)
PLATEAU = asymptotics.symmetric_state(2, 2, q=1 / 3, c=1 / 3, r=6**-0.5)
NAN, PAIR = float("nan"), asymptotics.specialised_state(2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: zero_error(START), "eg is zero"),
        (lambda: zero_error(PLATEAU), "eg is zero"),
        (lambda: zero_error(PAIR, weight_decay=0.1), "weight_decay"),
        (lambda: zero_error(PAIR, ld.Problem(loss=ld.Hinge())), "squared loss"),
        (lambda: asymptotics.eg_linear(0.1, v=[1.0, NAN]), "v must be finite"),
        (lambda: asymptotics.eg_linear(0.1, k=1.5), "integer"),
        (lambda: asymptotics.eg_linear_curve(1.0, -1.0, 0.1, k=1), "eg_start must"),
        (lambda: asymptotics.eg_linear_curve(1.0, NAN, 0.1, k=1), "eg_start must"),
        (lambda: asymptotics.eg_linear_curve(-1.0, 1.0, 0.1, k=1), "alpha must"),
        (lambda: asymptotics.eg_linear_finite_n(5, -1.0, 3, 0.1, k=1), "eg_start must"),
        (lambda: asymptotics.eg_linear_finite_n(2.5, 1.0, 3, 0.1, k=1), "whole"),
        (lambda: asymptotics.ridge_finite_n(2.5, 3, 2.0, 1.0, 0.1), "whole"),
        (lambda: asymptotics.ridge_finite_n(2, 3, 2.0, 1.0, m_start=NAN), "m_start must be finite"),
        (lambda: asymptotics.ridge_curve(1.0, 0.1, 0.1, m_start=NAN), "m_start must be finite"),
        (lambda: asymptotics.ridge_curve(1.0, 0.1, 0.1, q_start=-1.0, m_start=3.0), "q_start"),
        (lambda: asymptotics.ridge_curve(1.0, 0.1, 0.1, q_start=1.0, m_start=3.0), "some weights"),
        (lambda: asymptotics.ridge_curve(-1.0, 0.1, 0.1), "alpha must"),
        (lambda: asymptotics.eg_relu(1.5, 0.1), "integer"),
        (lambda: asymptotics.eg_relu(1, 0.1, z=1.5), "integer"),
        (lambda: asymptotics.eg_relu(1, 0.1, v_teacher=NAN), "v_teacher must be finite"),
        (lambda: asymptotics.critical_lr_relu(1.5), "integer"),
        (lambda: asymptotics.eg_specialised_small_lr(1.5, 0, 0.1), "integer"),
        (lambda: asymptotics.eg_denoising_small_lr(1, 1.5, 1.0, 0.1), "integer"),
        (lambda: asymptotics.eg_denoising(1, 1, NAN, 0.1), "v_teacher must be finite"),
        (lambda: asymptotics.eg_normalised_small_lr(1.5, 0.1), "integer"),
        (lambda: asymptotics.critical_lr_specialised(1.5), "integer"),
        (lambda: asymptotics.eg_specialised(0, 1, 0.1), "m must be"),
        (lambda: asymptotics.eg_specialised(2, -1, 0.1), "l must be"),
        (lambda: asymptotics.eg_specialised(2, 0.5, 0.1), "integer"),
        (lambda: asymptotics.eg_specialised(2, 3, 0.75), "critical rate 0.745684"),
        (lambda: asymptotics.eg_specialised(2, 3, -0.1), "lr must be"),
        (lambda: asymptotics.eg_denoising(1, 0, 1.0, 0.1), "z must be"),
        (lambda: asymptotics.eg_linear(0.1, k=2, v=jnp.ones(2)), "either k"),
        (lambda: asymptotics.eg_linear(0.1, -1.0, k=2), "noise"),
        (lambda: asymptotics.ridge(3.0, 0.5), "diverges"),
        (lambda: asymptotics.ridge(0.5, -0.5), "weight_decay"),
        (lambda: asymptotics.eg_normalised_small_lr(2, 0.1, activation="tanh"), "activation"),
        (lambda: asymptotics.specialised_state(0), "m must be a Python integer"),
        (lambda: asymptotics.denoising_state(2, 2, 1.0, shares=[0.5, 0.6]), "sum to 1"),
        (lambda: asymptotics.symmetric_state(2, 2, q=0.1, c=0.5, r=0.1), "semi-definite"),
    ],
    ids=range(40),
)
def test_bad_values(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_states():
    state = asymptotics.specialised_state(2, 1, v_superfluous=0.3)
    assert state.Q.tolist() == np.diag([1.0, 1, 0]).tolist()
    assert state.R.tolist() == [[1.0, 0], [0, 1], [0, 0]]
    assert state.v.tolist() == [1.0, 1.0, 0.3]
    state = asymptotics.denoising_state(2, 2, v_teacher=3.0, shares=[0.25, 0.75])
    assert state.v.tolist() == [0.75, 2.25, 0.75, 2.25]
    assert state.R.tolist() == [[1.0, 0], [1, 0], [0, 1], [0, 1]]
    assert ld.generalisation_error(ld.Problem(), state) == pytest.approx(0.0, abs=1e-15)
    state = asymptotics.symmetric_state(2, 3, q=0.5, c=0.2, r=0.1, t=2.0)
    assert state.Q.tolist() == [[0.5, 0.2], [0.2, 0.5]]
    assert state.T.tolist() == (2 * np.eye(3)).tolist()
