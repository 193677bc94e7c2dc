"""The solver for groups of directions with a stiff spectrum, against dense Jacobians and Tsit5."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn.dynamics import _stiff_groups as rodas
from learndyn.dynamics._split_jacobian import SplitJacobian
from learndyn.dynamics._stiff_groups import chosen_solver

NOISY = ld.Problem(noise=0.1)
BOTH = ld.SGD(0.3, 0.2, weight_decay=0.1)


def power_law(directions=64, exponent=1.0):
    """One group for each of some directions."""
    s = np.arange(1, directions + 1.0) ** -exponent
    split = lambda x: np.broadcast_to(np.asarray(x) / directions, (directions, 2, 2))
    q, r = [[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]]
    spectrum = ld.Spectrum(s / s.mean(), np.full(directions, 1 / directions))
    return ld.GroupedOverlaps(split(q), split(r), split(np.eye(2)), spectrum)


FEW = power_law(6, 2.0)


@pytest.fixture(scope="module")
def flow():
    return ld.ode_term(NOISY, BOTH, FEW).vector_field


def test_the_split_jacobian_divides_as_the_whole_one_does(flow, rng):
    """With a trained second layer and weight decay, where no overlaps are symmetric."""
    y = flow.pack(FEW) * (1 + 0.1 * jnp.asarray(rng.normal(size=6 * 7 + 2)))
    b, t = jnp.asarray(rng.normal(size=len(y))), jnp.zeros(())

    @jax.jit
    def left(c):
        x = SplitJacobian(flow, t, y).divider(c)(b)
        return c * x - jax.jvp(lambda y: flow(t, y, None), (y,), (x,))[1]

    for c in (0.5, 20.0):
        np.testing.assert_allclose(left(c), b, atol=1e-11)


def linear_drift(t, y):
    """One linear unit with a trained second layer and a rate that falls, in two groups, by hand."""
    (q, r, v), teacher = (y[:2], y[2:4], y[4]), np.array([0.5, 0.7])
    s, shares, lr = np.array([0.4, 6.0]), np.array([0.6, 0.4]), 0.4 / (1 + t)
    error = np.sum(s * (v**2 * q - 2 * 1.2 * v * r + 1.44 * teacher)) + 0.09
    dq = -2 * lr * (s * v * (v * q - 1.2 * r) + 0.2 * q) + lr**2 * s * shares * v**2 * error
    dr = -lr * (s * v * (v * r - 1.2 * teacher) + 0.2 * r)
    return np.array([*dq, *dr, -0.3 * np.sum(s * (v * q - 1.2 * r))])


def test_a_step_is_that_of_the_table_with_the_whole_jacobian():
    """Rosenbrock's method in NumPy, with derivatives by complex steps."""
    t, h, y = 0.5, 0.7, np.array([0.3, 0.4, 0.1, 0.3, 0.8])
    jacobian = np.stack([linear_drift(t, y + 1e-30j * x).imag for x in np.eye(5)], axis=1) / 1e-30
    in_time = linear_drift(t + 1e-30j, y).imag / 1e-30
    stages = np.zeros((8, 5))
    for i in range(8):
        right = linear_drift(t + h * rodas._TIMES[i], y + rodas._STARTS[i] @ stages)
        right = right + rodas._PAST[i] @ stages / h + h * rodas._SLOPES[i] * in_time
        stages[i] = np.linalg.solve(np.eye(5) / (rodas._GAMMA * h) - jacobian, right)
    end, bends = y + rodas._STARTS[7] @ stages + stages[7], rodas._DENSE @ stages
    between = lambda x: (
        (1 - x) * y + x * (end + (1 - x) * (bends[0] + x * (bends[1] + x * bends[2])))
    )

    column = lambda *x: np.array(x)[:, None, None]
    start = ld.GroupedOverlaps(
        column(0.3, 0.4), column(0.1, 0.3), column(0.5, 0.7),
        ld.Spectrum([0.4, 6.0], [0.6, 0.4]), v=[0.8], v_teacher=[1.2],
    )  # fmt: skip
    rule = ld.SGD(lambda alpha: 0.4 / (1 + alpha), 0.3, weight_decay=0.2)
    term, solver = (
        ld.ode_term(ld.Problem(ld.Linear(), ld.Linear(), noise=0.3), rule, start),
        ld.StiffGroups(),
    )

    @jax.jit
    def step(t1, y0):
        y1, error, dense, state, _ = solver.step(term, jnp.asarray(t), t1, y0, None, None, False)
        assert state is None
        inside = rodas.Dense(t0=jnp.asarray(t), t1=t1, **dense)
        return y1, error, inside.evaluate(t + 0.3 * h), inside.evaluate(t + 0.3 * h, t + 0.8 * h)

    found = step(t + h, y)
    right = end, stages[7], between(0.3), between(0.8) - between(0.3)
    for one, wanted in zip(found, right, strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-9, atol=1e-13)
    # A step of no time, of a run that has ended, stays finite and is nothing between its ends.
    still = step(t, y)
    assert np.isfinite(still[0]).all()
    np.testing.assert_array_equal(still[2], y)
    assert solver.order(term) == 5
    np.testing.assert_allclose(
        solver.func(term, t, jnp.asarray(y), None), linear_drift(t, y), rtol=1e-11
    )


@pytest.mark.nightly
def test_orders_of_steps_and_between_them(flow):
    """Errors fall as h**5, and between steps as h**4 at least, at times that no step ends at."""
    ts, y0 = jnp.array([0.1, 0.55, 1.0]), flow.pack(FEW)
    solve = lambda n: diffrax.diffeqsolve(
        diffrax.ODETerm(flow), ld.StiffGroups(), 0.0, 1.0, 1.0 / n, y0,
        saveat=diffrax.SaveAt(ts=ts), stepsize_controller=diffrax.ConstantStepSize(),
    ).ys  # fmt: skip
    right = solve(256)
    coarse, fine = (np.abs(solve(n) - right).max(axis=1) for n in (16, 32))
    assert np.log2(coarse[2] / fine[2]) == pytest.approx(5.0, abs=0.4)
    assert np.log2(coarse[:2] / fine[:2]).min() > 3.5


def solved(start, **given):
    return ld.solve_ode(ld.Problem(), ld.SGD(0.3), start, [0.0, 1.0, 20.0, 100.0], **given)


@pytest.mark.nightly
def test_a_stiff_spectrum_takes_no_more_steps_than_a_smooth_one():
    """A spectrum whose largest eigenvalue is half of all; the choice is made from the start."""
    smooth, stiff = power_law(1024, 0.5), power_law(1024, 2.0)
    right = solved(stiff, solver=diffrax.Dopri8(), rtol=1e-12, atol=1e-14)
    run = solved(stiff)
    np.testing.assert_allclose(run.eg, right.eg, rtol=1e-7)
    np.testing.assert_allclose(run.Q_groups[:, 0], right.Q_groups[:, 0], rtol=1e-6, atol=1e-9)
    assert run.stats["steps"] < 150 < 5000 < right.stats["steps"]
    assert solved(smooth).stats["steps"] > 200  # by Tsit5
    assert solved(smooth, solver=ld.StiffGroups()).stats["steps"] < 150


@pytest.mark.nightly
def test_derivatives_schedules_and_batches_are_those_of_tsit5():
    """A schedule makes the drift depend on time."""

    def final(lr, solver):
        rule = ld.SGD(lambda alpha: lr / (1 + alpha), 0.1)
        return ld.solve_ode(NOISY, rule, FEW, [0.0, 2.0], solver=solver).eg[-1]

    both = lambda solver: jax.jit(jax.vmap(jax.value_and_grad(lambda lr: final(lr, solver))))(
        jnp.array([0.3, 0.1])
    )
    for found, right in zip(both(ld.StiffGroups()), both(diffrax.Tsit5()), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-7)


@pytest.mark.parametrize(
    ("rule", "start", "message"),
    [
        (ld.SGD(0.3), ld.Overlaps([[0.2]], [[0.1]], [[1.0]]), "got a start without groups"),
        (ld.SGD(0.3, momentum=ld.SlowMomentum(2.0)), FEW, "got slow momentum"),
        (ld.SGD([0.3, 0.2]), FEW, "got a rate for each unit"),
    ],
)
def test_what_the_solver_cannot_do_is_told(rule, start, message):
    with pytest.raises(ValueError, match=message):
        ld.solve_ode(NOISY, rule, start, [0.0, 1.0], solver=ld.StiffGroups())


def test_rules_that_follow_no_gradient_stay_with_the_explicit_solver():
    """Feedback along other weights has a G_lambda that is not symmetric."""
    start, ts = power_law(1024, 2.0), jnp.array([0.0, 100.0])
    choose = lambda rule: chosen_solver(ld.ode_term(NOISY, rule, start).vector_field, ts)
    assert isinstance(choose(ld.SGD(0.3)), ld.StiffGroups)
    for feedback in ([1.0, -0.7], [1.0, 0.9]):
        rule = ld.rules.FeedbackAlignment(feedback, lr=0.3)
        assert isinstance(choose(rule), diffrax.Tsit5)
    assert isinstance(choose(ld.SGD(0.003)), diffrax.Tsit5)
