"""Critical learning rates, the symmetric plateau and the escape from it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn import asymptotics

ERF = ld.Problem()
LINEAR = ld.Problem(ld.Linear(), ld.Linear())
RELU = ld.Problem(ld.ReLU(), ld.ReLU())

FINITE = [  # m, lr, Q, C, R, eg, rate / lr
    (2, 0.05, 0.33601292, 0.33269563, 0.40872979, 0.0118416421, 0.0655361),
    (2, 0.2, 0.34488656, 0.33061229, 0.41032175, 0.0126150390, 0.0648534),
    (3, 0.2, 0.23162922, 0.19494758, 0.26186976, 0.0237630543, 0.0444824),
]


def close(actual, expected, *, rel=0.0, abs=0.0):
    np.testing.assert_allclose(actual, expected, rtol=rel, atol=abs)


@pytest.mark.nightly(by_day=["1-1-1.892594"])
@pytest.mark.parametrize(
    ("m", "l", "lr"),
    [(1, 0, 4.055779), (1, 1, 1.892594), (3, 0, 1.620675), (2, 3, 0.745684)],
)
def test_critical_rate_of_the_specialised_state(m, l, lr):
    # By the pencil, whatever the rule's own rate; the pole of the error is the same number.
    found = asymptotics.critical_lr(ERF, ld.SGD(lr=0.1), asymptotics.specialised_state(m, l))
    close(found, lr, abs=5.1e-7)
    close(found, asymptotics.critical_lr_specialised(m, l), rel=1e-10)


@pytest.mark.nightly
def test_critical_rates_of_other_networks():
    rule, state = ld.SGD(lr=0.3), asymptotics.specialised_state(1, 2)
    close(asymptotics.critical_lr(LINEAR, rule, state), 2 / 3, rel=1e-12)
    paired = asymptotics.specialised_state(2)
    close(asymptotics.critical_lr(RELU, rule, paired), asymptotics.critical_lr_relu(2), rel=1e-10)


def test_critical_rate_sees_batches_momentum_and_noise():
    # Only lr / (B (1 - beta)) matters, and the noise is set to 0.
    rule = ld.SGD(lr=0.1, batch_size=4, momentum=0.5)
    state = asymptotics.specialised_state(1)
    found = asymptotics.critical_lr(ld.Problem(noise=0.3), rule, state)
    close(found, 2 * asymptotics.critical_lr_specialised(1, 0), rel=1e-10)


def test_critical_rate_by_continuation():
    # With decay the fixed point moves with the rate; ridge regression: 2 (1 + kappa).
    lr, kappa = 0.8, 0.5
    end = asymptotics.ridge(lr, kappa)
    state = ld.Overlaps([[end.q]], [[end.m]], [[1.0]])
    found = asymptotics.critical_lr(LINEAR, ld.SGD(lr=lr, weight_decay=kappa), state)
    close(found, 2 * (1 + kappa), rel=1e-8)
    # Printed elsewhere, and wrong: 2 / (1 + kappa).
    assert abs(found - 2 / (1 + kappa)) > 1


@pytest.mark.parametrize("lr", [0.1, 5.0])
def test_critical_rate_with_slow_momentum(lr):
    # These rates have their own velocities: found by continuation, from below and from above.
    momentum, state = ld.SlowMomentum(2.0), asymptotics.specialised_state(1)
    found = asymptotics.critical_lr(LINEAR, ld.SGD(lr=lr, momentum=momentum), state)
    for factor, stable in ((1 - 1e-5, True), (1 + 1e-5, False)):
        rule = ld.SGD(lr=factor * found, momentum=momentum)
        assert asymptotics.stability(LINEAR, rule, state).stable == stable


@pytest.mark.parametrize("m", [2, 3, 4, 6])
def test_plateau_at_small_rates(m):
    point = asymptotics.plateau(m)
    close(point.q, 1 / (2 * m - 1), rel=1e-13)
    close(point.c, 1 / (2 * m - 1), rel=1e-13)
    close(point.r, (m * (2 * m - 1)) ** -0.5, rel=1e-13)
    close(point.eg, m / np.pi * (np.pi / 6 - m * np.arcsin(1 / (2 * m))), abs=1e-13)
    rate = 2 / np.pi * m / ((2 * m - 1) ** 0.5 * (2 * m + 1) ** 1.5)
    close(point.rate_over_lr, rate, rel=1e-11)
    assert point.multiplicity == (m - 1) ** 2
    assert point.neutral == m * (m + 1) // 2 - 1


def test_plateau_at_small_rates_in_the_full_equations():
    point, lr = asymptotics.plateau(3), 1e-14
    near = ld.ode_term(ERF, ld.SGD(lr=lr), point.state)
    y = near.vector_field.pack(point.state)
    close(near.vector_field(jnp.zeros(()), y, None) / lr, 0.0, abs=1e-12)


def test_what_is_neutral_is_small_beside_the_largest_eigenvalue():
    """Not beside 1: at a rate of 1e-9 the plateau's escape, at lr 2 m/pi / ((2m - 1)**(1/2)
    (2m + 1)**(3/2)), is as unstable as at any other."""
    found = asymptotics.stability(ERF, ld.SGD(1e-9), asymptotics.plateau(2).state)
    assert (int(found.unstable), int(found.neutral), bool(found.stable)) == (1, 2, False)
    close(found.growth, 1e-9 * 4 / np.pi / (3**0.5 * 5**1.5), rel=1e-6)


@pytest.mark.parametrize(("m", "lr", "q", "c", "r", "eg", "rate"), FINITE)
def test_plateau_at_finite_rates(m, lr, q, c, r, eg, rate):
    point = asymptotics.plateau(m, lr)
    for found, digits in ((point.q, q), (point.c, c), (point.r, r)):
        close(found, digits, abs=5.1e-9)
    close(point.eg, eg, abs=5.1e-11)
    close(point.rate_over_lr, rate, abs=5.1e-8)
    close(point.rate, lr * point.rate_over_lr, rel=1e-15)
    assert point.residual < 1e-12


@pytest.mark.parametrize("m", [2, 3, 6, 20, 100, 1000, 10_000])
def test_plateau_at_any_small_rate(m):
    # From the limit on, q, c, r, eg and rate / lr are smooth: each lies on its own tangent.
    names = ("q", "c", "r", "eg", "rate_over_lr")
    limit = asymptotics.plateau(m)
    errors = dict.fromkeys(names, 1e-12) | {"q": max(1e-12, 5e-17 * m**2)}
    close(limit.q, 1 / (2 * m - 1), abs=errors["q"])
    unit = 1e-3 / m**2
    step = asymptotics.plateau(m, 1e-3 * unit)
    for small in (1e-12, 1e-8, 1e-5):
        point = asymptotics.plateau(m, small * unit)
        assert point.residual < 1e-12
        for name in names:
            base = getattr(limit, name)
            expected = base + 1e3 * small * (getattr(step, name) - base)
            close(getattr(point, name), expected, rel=1e-12, abs=errors[name])


@pytest.mark.nightly
def test_plateau_at_a_small_rate_under_jit_and_differentiation():
    c = lambda lr: asymptotics.plateau(2, lr).c
    close(jax.jit(c)(1e-8), 1 / 3 - 1.25e-10, abs=1e-12)
    # At lr = 0, too, the slope agrees with a difference quotient of neighbouring points.
    slope = jax.jit(jax.grad(c))
    close(slope(0.0), (c(1e-4) - c(0.0)) / 1e-4, rel=1e-4)
    close(slope(1e-9), slope(0.0), rel=1e-7)


@pytest.mark.parametrize("m", [100, 1000])
def test_plateau_of_many_units(m):
    # Where lr m**2 is not small the branch has bent, and Newton's method still follows it.
    point = asymptotics.plateau(m, 0.01 / m)
    assert point.residual < 1e-12
    assert point.q > 2 * point.c
    limit = asymptotics.plateau(m, 1e-3 / m**2)
    close(limit.rate_over_lr, 1 / (2 * np.pi * m), rel=0.01)


@pytest.fixture(scope="module")
def plateau_3():
    return asymptotics.plateau(3, 0.2)


def test_modes_of_the_plateau(plateau_3):
    found = asymptotics.stability(ERF, ld.SGD(lr=0.2), plateau_3.state)
    assert not found.stable
    assert found.unstable == plateau_3.multiplicity == 4
    close(found.eigenvalues[:4].real, plateau_3.rate, rel=1e-9)
    # The modes that are neutral as lr -> 0 are slow at finite lr, the rest fast.
    decay = -np.sort(-np.asarray(found.eigenvalues.real[4:]) / 0.2)
    assert plateau_3.neutral == 5
    assert decay[4] > -0.01
    assert decay[5] < -1


def test_stability_of_the_specialised_state():
    state = asymptotics.specialised_state(2, 3)
    below = asymptotics.stability(ERF, ld.SGD(lr=0.745), state)
    above = asymptotics.stability(ERF, ld.SGD(lr=0.747), state)
    assert below.stable
    assert not above.stable
    assert below.neutral == 7
    assert below.growth < 1e-12 < above.growth


@eqx.filter_jit
def run(problem, start, ts):
    return ld.solve_ode(problem, ld.SGD(lr=0.2), start, ts, rtol=1e-11, atol=1e-14)


def test_growth_from_the_plateau_in_the_ode(plateau_3):
    # R moved in a pattern whose rows and columns sum to 0.
    pattern = np.outer([1.0, -1, 0], [1, 0, -1])
    state = plateau_3.state
    start = ld.Overlaps(state.Q, state.R + 1e-6 * pattern, state.T)
    grown = run(ERF, start, jnp.array([0.0, 200.0, 400.0])).R - state.R
    sizes = np.abs(np.asarray(grown)).max(axis=(1, 2))
    close(np.log(sizes[2] / sizes[1]) / 200, plateau_3.rate, rel=1e-5)


@pytest.mark.nightly
def test_derivatives_through_the_plateau():
    def rate(lr):
        return asymptotics.plateau(2, lr).rate_over_lr

    h = 1e-4
    slope = jax.jit(jax.grad(rate))(0.1)
    close(slope, (rate(0.1 + h) - rate(0.1 - h)) / (2 * h), rel=1e-5)


@pytest.fixture(scope="module")
def escapes():
    noisy = ld.Problem(noise=0.01)
    state = asymptotics.plateau(2, 0.2, noise=0.01).state
    return asymptotics.escape_time(noisy, ld.SGD(lr=0.2), state, [400, 4e4], runs=128)


@pytest.mark.nightly
def test_escape_time_grows_with_the_logarithm_of_n(escapes):
    growth = asymptotics.plateau(2, 0.2, noise=0.01).rate
    close(escapes.rate, growth, rel=1e-9)
    close(escapes.mean[1] - escapes.mean[0], np.log(100) / (2 * growth), rel=1e-12)
    close(escapes.mean[0], np.log(400) / (2 * growth) + escapes.constant, rel=1e-12)


@pytest.mark.nightly
def test_escape_time_against_chains(escapes):
    n, runs = 400, 40
    state = asymptotics.plateau(2, 0.2, noise=0.01).state
    ts = jnp.linspace(0.0, 1100.0, 221)

    @eqx.filter_jit
    @eqx.filter_vmap
    def chain(key):
        return ld.simulate_chain(ld.Problem(noise=0.01), ld.SGD(lr=0.2), state, ts, n=n, key=key).eg

    eg = np.asarray(chain(jax.random.split(jax.random.key(0), runs)))
    times = np.asarray(ts)[np.argmax(eg < 0.5 * eg[0, 0], axis=1)]
    assert times.min() > 0
    error = times.std() / runs**0.5
    assert abs(times.mean() - escapes.mean[0]) < 4 * error
    assert 0.6 < times.std() / escapes.std[0] < 1.5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: asymptotics.critical_lr(NOISY_RIDGE, DECAY, s(1)), "needs a fixed point"),
        (lambda s: asymptotics.critical_lr(ERF, ld.SGD(lr=0.0), s(1)), "must be > 0"),
        (lambda s: asymptotics.critical_lr(RELU, ld.SGD(lr=0.1), s(1, 1)), "Q_ii > 0"),
        (lambda s: asymptotics.critical_lr(ERF, ld.SGD(lr=lambda a: 0.1), s(1)), "constant"),
        (lambda s: asymptotics.plateau(1, 0.1), "m must be"),
        (lambda s: asymptotics.plateau(2, -0.1), "lr must be"),
        (lambda s: asymptotics.plateau(2, 50.0), "no symmetric fixed point"),
        (lambda s: asymptotics.plateau(2, np.array([0.1, 0.2])), "jax.vmap"),
        (lambda s: asymptotics.plateau(2, 0.1, noise=np.array([0.1, 0.2])), "jax.vmap"),
        (lambda s: escape(1.5), "0 < fraction < 1"),
        (lambda s: escape(1.0), "0 < fraction < 1"),
        (lambda s: escape(0.0), "0 < fraction < 1"),
        (lambda s: escape(np.array([0.5, 0.6])), "one number"),
        (lambda s: asymptotics.escape_time(ERF, ld.SGD(lr=0.1), s(1), 100), "unstable fixed point"),
    ],
    ids=range(14),
)
def test_bad_calls(call, words):
    with pytest.raises(ValueError, match=words):
        call(asymptotics.specialised_state)


def escape(fraction):
    state = asymptotics.specialised_state(1)
    return asymptotics.escape_time(ERF, ld.SGD(lr=0.1), state, 100, fraction=fraction)


NOISY_RIDGE = ld.Problem(ld.Linear(), ld.Linear(), noise=0.1)
DECAY = ld.SGD(lr=0.1, weight_decay=0.5)
