"""Fixed points: searches, neutral directions, derivatives through them, linearisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn import asymptotics

ERF = ld.Problem()


def close(actual, expected, *, rel=0.0, abs=0.0):
    np.testing.assert_allclose(actual, expected, rtol=rel, atol=abs)


@pytest.mark.nightly
def test_the_specialised_fixed_point_at_finite_noise():
    # Ends of the full ODE from the specialised state with noise 0.01.
    problem, rule = ld.Problem(noise=0.01), ld.SGD(lr=0.05)
    for m, l, eg in ((2, 1, 0.017786507), (2, 3, 0.035436267)):
        found = asymptotics.fixed_point(problem, rule, asymptotics.specialised_state(m, l))
        assert found.result == ld.Result.SUCCESS
        close(found.eg / 1e-4, eg, abs=6e-10)
        assert found.residual < 1e-12


def test_neutral_directions_are_named():
    state = asymptotics.specialised_state(2, 3)
    found = asymptotics.fixed_point(ERF, ld.SGD(lr=0.05), state)
    assert found.neutral == 7
    for direction in found.neutral_directions():
        # Weight vectors shared out among the superfluous units: w_a -> w_a + d_a, sum d_a = 0.
        close(direction.Q[:2, :2], 0.0, abs=1e-9)
        close(direction.R[:2], 0.0, abs=1e-9)
        close(direction.R[2:].sum(0), 0.0, abs=1e-9)
        close(direction.Q[2:, 2:].sum(0), 0.0, abs=1e-9)


def test_derivatives_through_a_fixed_point():
    state, h = asymptotics.specialised_state(1, 1), 1e-4

    @jax.jit
    def eg(noise, lr):
        return asymptotics.fixed_point(ld.Problem(noise=noise), ld.SGD(lr=lr), state).eg

    by_noise, by_lr = jax.jit(jax.grad(eg, (0, 1)))(0.1, 0.2)
    close(by_noise, (eg(0.1 + h, 0.2) - eg(0.1 - h, 0.2)) / (2 * h), rel=1e-5)
    close(by_lr, (eg(0.1, 0.2 + h) - eg(0.1, 0.2 - h)) / (2 * h), rel=1e-5)


@pytest.mark.nightly
def test_derivatives_leave_neutral_directions_where_they_are():
    # Any split of the second layer is a fixed point of a linear network: v_1 + v_2 = 1.
    problem = ld.Problem(ld.Linear(), ld.Linear())

    def ends(kappa):
        rule = ld.SGD(lr=0.2, lr_second=0.1, weight_decay=kappa)
        start = asymptotics.denoising_state(1, 2, shares=[0.4, 0.6])
        return asymptotics.fixed_point(problem, rule, start, neutral_tolerance=1e-4)

    change = jax.jacfwd(lambda kappa: ends(kappa).state)(1e-9)
    assert np.isfinite(change.v).all()
    assert ends(1e-9).neutral > 0


def test_noise_on_linear_units_ends_at_overlaps_of_weights():
    # The nearest root along neutral directions has a negative eigenvalue.
    for m, superfluous, noise in ((2, 0, 0.5), (2, 1, 2.0), (1, 1, 0.05)):
        problem = ld.Problem(ld.Linear(), ld.Linear(), noise=noise)
        state = asymptotics.specialised_state(m, superfluous)
        found = asymptotics.fixed_point(problem, ld.SGD(lr=0.3), state)
        assert found.result == ld.Result.SUCCESS
        close(found.eg, asymptotics.eg_linear(0.3, noise, k=m + superfluous), rel=1e-10)
        assert np.linalg.eigvalsh(found.state.covariance)[0] > -1e-7


def test_a_search_that_finds_nothing_says_so():
    # Beyond its critical rate, with noise, a linear network has no fixed point inside.
    problem = ld.Problem(ld.Linear(), ld.Linear(), noise=0.1)
    start = ld.Overlaps([[1.0]], [[1.0]], [[1.0]])
    found = asymptotics.fixed_point(problem, ld.SGD(lr=2.5), start)
    assert found.result != ld.Result.SUCCESS
    assert np.isnan(found.eg)
    assert np.isnan(found.state.Q).all()


def test_linearisation_of_a_linear_network():
    # eg decays with H (2 - H), R with H: one unit, H = lr.
    problem = ld.Problem(ld.Linear(), ld.Linear(), noise=0.2)
    near = asymptotics.linearise(problem, ld.SGD(lr=0.3), ld.Overlaps([[0.5]], [[0.2]], [[1.0]]))
    close(near.eigenvalues, [-0.3, -0.3 * 1.7], rel=1e-14)
    assert near.coordinates == ("Q[0,0]", "R[0,0]")
    close(near.drift, [0.6 * (0.2 - 0.5) + 0.09 * (1 - 0.4 + 0.5 + 0.04), 0.3 * 0.8], rel=1e-13)
    change = near.direction(jnp.array([1.0, 2.0]))
    assert (change.Q[0, 0], change.R[0, 0], change.v[0]) == (1.0, 2.0, 0.0)


@pytest.mark.parametrize("steps", [0, 2.5])
def test_a_search_needs_a_step(steps):
    with pytest.raises(ValueError, match="max_steps"):
        asymptotics.fixed_point(
            ld.Problem(noise=0.1),
            ld.SGD(lr=0.05),
            asymptotics.specialised_state(1),
            max_steps=steps,
        )


def test_a_search_of_one_step_has_found_nothing():
    start, rule = asymptotics.specialised_state(1), ld.SGD(lr=0.05)
    found = asymptotics.fixed_point(ld.Problem(noise=0.1), rule, start, max_steps=1)
    assert found.result == ld.Result.MAX_STEPS
    assert np.isnan(found.eg)
