"""Parts of jumps from saddle to saddle, called by themselves, against numbers by hand and SciPy."""

import types

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

from learndyn.flow.jumps import _phases
from learndyn.flow.jumps._data import Samples, samples
from learndyn.flow.jumps._entropy import _largest_at, most_even
from learndyn.flow.jumps._linear import Task, blocks
from learndyn.flow.jumps._network import network
from learndyn.flow.jumps._signed_least_squares import SignedLeastSquares

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(5, 3)), RNG.normal(size=5)


def close(found, wanted, rel=1e-12, abs=0.0):
    np.testing.assert_allclose(found, wanted, rtol=rel, atol=abs)


# Jumps


@pytest.mark.parametrize("seed", range(4))
def test_least_squares_with_signs(seed):
    """Against SciPy's bounded least squares, with a column that depends on others, and again with
    other signs from where it was."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(7, 5)), rng.normal(size=7)
    x[:, 4] = x[:, 0] - 2 * x[:, 1]
    fit, signs = SignedLeastSquares(x, y), np.array([1.0, 1.0, -1.0, 0.5, 1.0])
    for _ in range(3):
        beta, residual = fit.solve(signs, 1e-12)
        low, high = np.where(signs == -1, -np.inf, -1e-300), np.where(signs == 1, np.inf, 1e-300)
        right = scipy.optimize.lsq_linear(x, y, (low, high), tol=1e-14)
        close(np.linalg.norm(residual) ** 2 / 2, right.cost, rel=1e-9)
        close(residual, y - x @ beta, rel=1e-9, abs=1e-12)
        assert (signs * beta >= 0).all()
        assert (beta[np.abs(signs) < 1] == 0).all()
        turned = np.array([-1.0, -1.0, 1.0, -1.0, -1.0]) * np.sign(signs)
        signs = np.where(np.isin(np.arange(5), fit.members), signs, turned)


def test_speeds_of_sleepers_stay_finite_beyond_their_jump():
    """d theta/dt = (slope across theta) / (1/|theta_0| - U) for degree 3; the divisor is half of
    1/threshold at least, that of a norm twice as large."""
    slope = np.array([[0.3, 0.4], [0.5, 0.6]])
    programs = types.SimpleNamespace(utility=lambda *arguments: (np.array([0.2, 0.7]), slope))
    net = _phases.Network(Samples(np.ones((1, 2)), np.ones((1, 1)), 1.0), 3, programs, None)
    for utility, divisor in ((9.0, 1.0), (9.9, 0.25)):
        numbers = np.array([utility, 1.0]), np.array([10.0, 5.0]), np.array([0.1, 0.2])
        state = _phases.Sleepers(np.eye(2), *numbers)
        speed = _phases.Speed(net, state, np.array([True, False]), np.zeros((1, 1)), 2.0)
        found = speed(0.0, speed.pack())
        close(found, [0.0, 0.4 / divisor, 0.0, 0.0, 0.6, 0.0])


def leaving(x, y, values, signs):
    """The step of Lawson and Hanson by NumPy's own least squares: who leaves, in turn, and the
    solution of the others."""
    members, gone = list(range(len(values))), []
    while True:
        goal = np.linalg.lstsq(x[:, members], y)[0]
        if (signs[members] * goal > 0).all():
            return gone, members, goal
        shares = [v / (v - g) if v * g <= 0 else 2.0 for v, g in zip(values, goal, strict=True)]
        values = values + min(shares) * (goal - values)
        first = int(np.argmin(shares))
        gone.append(members.pop(first))
        values = np.delete(values, first)


def test_members_leave_in_the_order_in_which_they_vanish():
    rng, orders = np.random.default_rng(1), set()
    for _ in range(30):
        x, y, signs = rng.normal(size=(6, 5)), rng.normal(size=6), rng.choice([-1.0, 1.0], 5)
        fit = SignedLeastSquares(x, y)
        assert all(fit._join(n) for n in range(5))
        fit.values = signs * rng.uniform(0.1, 1.0, 5)
        gone, members, goal = leaving(x, y, fit.values, signs)
        assert fit._shrink(signs) == gone
        assert fit.members == members
        close(fit.values, goal, rel=1e-9)
        orders.add(len(gone))
    assert orders >= {1, 2, 3}


def test_a_dependent_column_does_not_join_and_the_last_one_leaves():
    x = np.array([[1.0, 2.0, 0.5], [1.0, 2.0, -0.5], [0.0, 0.0, 1.0]])
    fit = SignedLeastSquares(x, np.array([2.0, 1.0, 0.3]))
    assert fit._join(0)
    assert not fit._join(1)
    assert fit.members == [0]
    fit._leave([0])
    assert (fit.members, fit.q.shape, fit.r.shape, len(fit.values)) == ([], (3, 0), (0, 0), 0)
    assert fit._join(2)
    close(fit._least_squares(), [(0.5 * 2.0 - 0.5 * 1.0 + 0.3) / 1.5])
    assert fit._join(1)
    close(
        x[:, [2, 1]] @ fit._least_squares(), x[:, [2, 1]] @ np.linalg.lstsq(x[:, [2, 1]], fit.y)[0]
    )


def test_the_most_even_of_equally_good_coefficients():
    """Two columns alike share what they have; where all differ there is one solution."""
    columns = np.array([[1.0, 1.0, 0.0], [0.5, 0.5, 2.0]])
    close(
        most_even(columns, np.array([0.9, 0.1, -0.4]), np.array([1.0, 1.0, -1.0])), [0.5, 0.5, -0.4]
    )
    apart = np.array([0.9, 0.1])
    assert most_even(np.eye(2), apart, np.ones(2)) is apart
    # b = (1, 0) + s (1, -2)... between 0 and where another vanishes: the largest first entry is 1.5
    null = np.array([[1.0], [-2.0]])
    close(_largest_at(0, null, np.array([1.0, 1.0])), [1.5, 0.0], abs=1e-9)
    close(_largest_at(1, null, np.array([1.0, 1.0])), [0.0, 3.0], abs=1e-9)
    unbounded = np.array([[1.0], [2.0]])
    close(_largest_at(0, unbounded, np.array([1.0, 1.0])), [1.0, 1.0])


def test_blocks_of_inputs_that_do_not_vary():
    task = Task(np.zeros((3, 3)), np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 2)))
    (only,) = blocks(task)
    close(only, np.eye(2))


class Product:
    """A neuron that cannot be hashed, so that its programs are not kept."""

    __hash__ = None

    def __call__(self, theta, x):
        return theta[0] * (theta[1:] @ x)


def test_a_neuron_without_hash_has_programs_all_the_same():
    start = RNG.normal(size=(2, 4))
    net = network(Product(), 2, samples(X, Y, "mean", "this"), start, None)
    f = start[:, :1] * (start[:, 1:] @ X.T)
    close(net.outputs(start)[:, :, 0], f, rel=1e-11)
    close(net.loss(start)[0], np.mean((Y - f.sum(0)) ** 2) / 2, rel=1e-11)


class Waiting(_phases.Speed):
    """One neuron that turns first and then has the utility 0.3; what it has accumulated grows at a
    rate of 0.02 until t = 25, and then of 1."""

    def __init__(self):
        self.asleep, self.evaluations = np.array([True]), 0
        self.state = types.SimpleNamespace(limit=np.array([1.0]), utility=np.zeros(1))
        self.net = types.SimpleNamespace(degree=2)

    def pack(self):
        return np.array([0.2, 0.0])

    def slopes(self, z):
        turns = z[-1] < 0.1
        return np.array([0.0 if turns else 0.3]), np.array([[0.6 if turns else 0.0]])

    def __call__(self, t, z):
        return np.array([0.1, 0.02 if t < 25.0 else 1.0])


def test_the_wait_for_a_jump_goes_on_from_where_it_was(monkeypatch):
    """With a patience of 6 it is 6 (1 + 2) / (2 * 0.6), and then 6 (1 + 2) / (2 * 0.3)."""
    monkeypatch.setattr(_phases, "_PATIENCE", 6.0)
    asked, integrate = [], scipy.integrate.solve_ivp

    def solve(f, span, z, **options):
        asked.append([*span, *z])
        return integrate(f, span, z, **options)

    monkeypatch.setattr(_phases.scipy.integrate, "solve_ivp", solve)
    time, z = _phases.maximise_utility(Waiting(), 1.0)
    close(asked[:2], [[0.0, 15.0, 0.2, 0.0], [15.0, 30.0, 1.7, 0.3]], rel=1e-9)
    assert time == pytest.approx(25.5, rel=1e-7)
    close(z, [0.2 + 2.55, 1.0], rel=1e-6)


def test_phases_that_use_up_their_evaluations(monkeypatch):
    monkeypatch.setattr(_phases, "_MAX_EVALUATIONS", 3)
    net = network(Product(), 2, samples(X, Y, "mean", "this"), RNG.normal(size=(2, 4)), None)
    theta = np.array([[0.5, 0.1, -0.2, 0.3], [0.4, 0.2, 0.2, -0.1]])
    with pytest.raises(_phases.Stalled):
        _phases.minimise_cost(net, theta, np.full(2, 1e-3), 1.0)
