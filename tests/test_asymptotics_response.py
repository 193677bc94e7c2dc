"""Perturbation theory against closed forms and the ODE."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn import asymptotics

ERF = ld.Problem()
TANH = ld.Problem(ld.Tanh(), ld.Tanh())
ONE = asymptotics.specialised_state(1)


def close(actual, expected, *, rel=0.0, abs=0.0):
    np.testing.assert_allclose(actual, expected, rtol=rel, atol=abs)


@pytest.mark.nightly
@pytest.mark.parametrize(("m", "l", "neutral"), [(2, 0, 0), (2, 3, 7), (3, 3, 9)])
def test_response_of_the_specialised_state_is_the_rational_function(m, l, neutral):
    state = asymptotics.specialised_state(m, l)
    for lr in (0.01, 0.05, 0.5):
        response = asymptotics.perturb(ERF, ld.SGD(lr=lr), state)
        close(response.eg, asymptotics.eg_specialised(m, l, lr), rel=1e-9)
        assert response.neutral == neutral
        close(response.drift.Q, 0.0, abs=1e-12)


def test_response_to_batches_and_momentum():
    state, rule = asymptotics.specialised_state(1, 1), ld.SGD(lr=0.4, batch_size=4, momentum=0.5)
    # Only lr / (B (1 - beta)) matters.
    close(
        asymptotics.eg_response(ERF, rule, state), asymptotics.eg_specialised(1, 1, 0.2), rel=1e-9
    )


@pytest.mark.nightly(by_day=["2-2-0.2"])
@pytest.mark.parametrize(("m", "z", "lr"), [(1, 4, 0.01), (2, 2, 0.2)])
def test_response_with_both_layers_trained(m, z, lr):
    state = asymptotics.denoising_state(m, z, 2.0)
    eg = asymptotics.eg_response(ERF, ld.SGD(lr=lr, lr_second=0.3), state)
    close(eg, asymptotics.eg_denoising(m, z, 2.0, lr), rel=1e-9)


def test_an_unequal_split_drifts_to_the_equal_one():
    state = asymptotics.denoising_state(1, 2, 2.0, shares=[0.3, 0.7])
    rule = ld.SGD(lr=0.01, lr_second=0.02)
    response = asymptotics.perturb(ERF, rule, state)
    # Without noise any split is as good; noise moves weight to the lighter unit, slowly.
    assert response.drift.v[0] > 1e-6
    close(response.drift.v.sum(), 0.0, abs=1e-12)
    noisy = ld.Problem(noise=1.0)
    close(response.eg, asymptotics.eg_zero_error_small_lr(noisy, rule, state), rel=0.01)


@pytest.mark.nightly
@pytest.mark.slow
def test_relu_response_is_its_closed_form():
    relu = ld.Problem(ld.ReLU(), ld.ReLU())
    for m, lr in ((2, 0.5), (2, 0.05)):
        eg = asymptotics.eg_response(relu, ld.SGD(lr=lr), asymptotics.specialised_state(m))
        close(eg, asymptotics.eg_relu(m, lr), rel=1e-9)
    for m, z in ((2, 3), (3, 2)):  # four parallel fields, and three directions
        eg = asymptotics.eg_response(relu, ld.SGD(lr=1.0), asymptotics.denoising_state(m, z))
        close(eg, asymptotics.eg_relu(m, 1.0, z=z), rel=1e-9)
    rule = ld.SGD(lr=0.2, lr_second=0.1)
    shared = asymptotics.denoising_state(1, 2, 1.5)
    eg = asymptotics.eg_response(relu, rule, shared)
    close(eg, asymptotics.eg_relu(1, 0.2, z=2, v_teacher=1.5), rel=1e-9)


@pytest.mark.nightly
def test_relu_dynamics_stay_at_shared_teacher_units():
    """Little noise, six units on two teacher units: eg is of the order of what averages near
    parallel fields must resolve. The correction to the closed form is linear in the noise."""
    noises = jnp.array([0.01, 0.005])
    start = asymptotics.denoising_state(2, 3)
    ts = jnp.array([0.0, 1000.0])

    @jax.jit
    @jax.vmap
    def end(noise):
        problem = ld.Problem(ld.ReLU(), ld.ReLU(), noise=noise)
        return ld.solve_ode(problem, ld.SGD(lr=1.0), start, ts, rtol=1e-8, atol=1e-13).eg[-1]

    np.testing.assert_allclose(end(noises) / noises**2, asymptotics.eg_relu(2, 1.0, z=3), rtol=2e-3)


@pytest.mark.nightly
@pytest.mark.slow
def test_response_by_nodes_where_student_equals_teacher():
    # C has half as many directions as fields, where derivatives through nodes are wrong.
    state, rule = asymptotics.specialised_state(1, 1), ld.SGD(lr=0.3)
    nodes = ld.averages.QuasiMonteCarlo()
    eg = asymptotics.eg_response(ERF, rule, state, averages=nodes)
    close(eg, asymptotics.eg_specialised(1, 1, 0.3), rel=1e-9)
    state = asymptotics.specialised_state(1)
    for lr in (0.001, 0.01):
        eg = asymptotics.eg_response(TANH, ld.SGD(lr=lr), state)
        small = asymptotics.eg_zero_error_small_lr(
            ld.Problem(ld.Tanh(), noise=1.0), ld.SGD(lr=lr), state
        )
        close(eg, small, rel=1.2 * lr)


@pytest.mark.nightly
def test_response_to_other_parameters():
    # Ridge regression at finite noise, where everything is known.
    lr, kappa, noise = 0.8, 0.5, 0.3
    end = asymptotics.ridge(lr, kappa, noise)
    problem = ld.Problem(ld.Linear(), ld.Linear(), noise=noise)
    rule = ld.SGD(lr=lr, weight_decay=kappa)
    state = ld.Overlaps([[end.q]], [[end.m]], [[1.0]])
    for parameter, argument in (("lr", 0), ("weight_decay", 1)):
        response = asymptotics.perturb(problem, rule, state, parameter, observable=lambda s: s.R)
        exact = jax.jacfwd(asymptotics.ridge, argument)(lr, kappa, noise)
        close(response.eg, exact.eg, rel=1e-12)
        close(response.Q[0, 0], exact.q, rel=1e-12)
        close(response.observable[0, 0], exact.m, rel=1e-12, abs=1e-15)
    variance = asymptotics.perturb(problem, rule, state)
    by_sigma = jax.grad(lambda s: asymptotics.ridge(lr, kappa, s).eg)(noise)
    close(variance.eg, by_sigma / (2 * noise), rel=1e-12)

    def both(e):
        return problem, ld.SGD(lr=lr + 2 * e, weight_decay=kappa)

    response = asymptotics.perturb(problem, rule, state, both)
    close(response.eg, 2 * asymptotics.perturb(problem, rule, state, "lr").eg, rel=1e-12)


@eqx.filter_jit
def noisy_end(noise, rule, start):
    ts = jnp.array([0.0, 600.0])
    return ld.solve_ode(ld.Problem(noise=noise), rule, start, ts, rtol=1e-10, atol=1e-13).eg[-1]


@pytest.mark.nightly
def test_the_ode_ends_there_up_to_the_fourth_power_of_the_noise():
    start, rule = asymptotics.specialised_state(2, 1), ld.SGD(lr=0.4)
    theory = asymptotics.eg_specialised(2, 1, 0.4)
    noises = jnp.array([0.02, 0.01])
    ends = jax.vmap(noisy_end, (0, None, None))(noises, rule, start) / noises**2
    misses = np.abs(np.asarray(ends - theory))
    assert misses[1] < 1e-3 * theory
    assert misses[0] / misses[1] == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: asymptotics.eg_response(RELU, ld.SGD(lr=0.1), s(2, 1)), "Q_ii > 0"),
        (lambda s: asymptotics.linearise(RELU, ld.SGD(lr=0.1), s(2, 1)), "Q_ii > 0"),
        (lambda s: asymptotics.perturb(NOISY, ld.SGD(lr=0.1), s(2, 1)), "needs a fixed point"),
        (lambda s: asymptotics.stability(NOISY, ld.SGD(lr=0.1), s(2, 1)), "needs a fixed point"),
        (lambda s: asymptotics.linearise(ERF, ld.SGD(lr=lambda a: 0.1), s(1)), "constant learning"),
        (lambda s: asymptotics.perturb(ERF, ld.SGD(lr=0.1), s(1), "temperature"), "parameter must"),
        (lambda s: asymptotics.perturb(ERF, ld.SGD(lr=0.1), s(1), "lr_second"), "not trained"),
        (lambda s: asymptotics.eg_response(HINGE, ld.SGD(lr=0.1), s(2)), "singular overlaps"),
        (lambda s: asymptotics.fixed_point(ERF, ld.SGD(lr=0.1), s(1), tolerance=0), "tolerance"),
    ],
    ids=range(9),
)
def test_bad_calls(call, words):
    with pytest.raises(ValueError, match=words):
        call(asymptotics.specialised_state)


RELU = ld.Problem(ld.ReLU(), ld.ReLU())
NOISY = ld.Problem(noise=0.1)
HINGE = ld.Problem(loss=ld.Hinge())


def test_traced_states_that_do_not_rest_give_nan():
    rule = ld.SGD(lr=0.1)

    @jax.jit
    def answers(q):
        state = ld.Overlaps(q * jnp.eye(1), 0.3 * jnp.ones((1, 1)), jnp.eye(1))
        found = asymptotics.stability(ERF, rule, state)
        response = asymptotics.perturb(ERF, rule, state, "weight_decay")
        return asymptotics.eg_response(ERF, rule, state), response.Q, found.growth, found.stable

    eg, q, growth, stable = answers(0.5)
    assert np.isnan([eg, growth]).all()
    assert np.isnan(q).all()
    assert not stable
    noisy = jax.jit(lambda s: asymptotics.perturb(ld.Problem(noise=s), rule, ONE).eg)
    assert np.isnan(noisy(0.5))
    close(noisy(0.0), asymptotics.eg_specialised(1, 0, 0.1), rel=1e-9)


def test_no_negative_errors_beyond_the_critical_rate():
    state = asymptotics.specialised_state(2, 1)
    with pytest.raises(ValueError, match="a state that attracts"):
        asymptotics.eg_response(ERF, ld.SGD(lr=1.5), state)
    traced = jax.jit(lambda lr: asymptotics.eg_response(ERF, ld.SGD(lr=lr), state))
    assert np.isnan(traced(1.5))
    close(traced(1.3), asymptotics.eg_specialised(2, 1, 1.3), rel=1e-9)
