"""Parts of the ODE: finer averages where they help, what is told of them, other coordinates, and
what a trajectory knows."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn.averages._types import AbstractAverages
from learndyn.dynamics import _integrate
from learndyn.dynamics._aligned_flow import aligned_flow
from learndyn.dynamics._averages_errors import _ratio, refined, warn_of_averages
from learndyn.dynamics._levels import LEVELS
from learndyn.dynamics._ode import _meeting
from learndyn.dynamics._prepare import require_sizes, require_whole_sizes, sizes_hold

LINEAR = ld.Problem(ld.Linear(), ld.Linear(), noise=0.3)
ONE = ld.Overlaps([[0.7]], [[0.3]], [[1.4]])


@pytest.fixture(scope="module")
def run():
    """A run of one time with three students and a teacher."""
    start = ld.Overlaps(np.diag([0.7, 0.5, 0.2]), np.full((3, 1), 0.1), [[1.4]])
    return ld.solve_ode(LINEAR, ld.SGD(0.4), start, [0.0])


def with_stats(run, **stats):
    stats = {name: np.asarray(x) for name, x in stats.items()}
    return eqx.tree_at(lambda run: (run.stats, run.alpha), run, (stats, np.array([0.0, 2.0])))


# Finer averages


class Level(AbstractAverages):
    """Averages that know which they are, and up to which finer ones there are."""

    level: int = eqx.field(static=True)
    top: int = eqx.field(static=True, default=9)

    def finer(self, k, m):
        assert (k, m) == (3, 1)
        return Level(self.level + 1, self.top) if self.level < self.top else None

    @property
    def replicates(self):
        return 0

    def replicate(self, index):
        raise NotImplementedError

    def field_averages(self, problem, rule, state):
        raise NotImplementedError

    def generalisation_error(self, problem, state):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("errors", "drift", "options", "levels"),
    [
        ([1e-3], [0.01], {"chosen": False}, [0]),
        ([1e-3, 4e-4, 1.9e-4], [0.01], {}, [0, 1, 2]),
        ([1e-3, 4.9e-4, 2.6e-4], [0.01], {}, [0, 1, 2]),  # the second step did not help
        ([1e-3, 6e-4], [0.01], {}, [0, 1]),  # nor did the first
        ([1e-3], [0.0009], {}, [0]),  # nobody sees it
        ([1.9e-4], [0.01], {}, [0]),  # fine enough
        ([2.1e-4, 1e-5], [0.0011], {}, [0, 1]),
        ([1e-2, 4e-3, 1e-3], [0.01], {"top": 2}, [0, 1, 2]),  # there are no finer ones
        ([[1e-5, 1e-2], [1e-5, 1e-3]], [0.01, 1e-4], {}, [0]),  # never both at one time
        ([[1e-5, 1e-2], [1e-5, 1e-5]], [1e-4, 0.01], {}, [0, 1]),
        ([[math.nan, 1e-2], [math.nan, 1e-5]], [math.nan, 0.01], {}, [0, 1]),  # of a run that ended
    ],
)
def test_a_run_is_made_again_with_finer_averages_as_long_as_they_help(
    run, errors, drift, options, levels
):
    solved = []

    def solve(averages):
        solved.append(averages[0].level)
        error = errors[len(solved) - 1]
        told = {"averages_error_relative": error, "averages_error_drift": drift}
        return with_stats(run, **told, level=averages[0].level)

    averages = (Level(0, options.get("top", 9)),)
    last = refined(solve, averages, options.get("chosen", True))
    assert solved == levels
    assert last.stats["level"] == levels[-1]


def test_averages_without_finer_ones_stay_beside_others(run):
    solved = []

    def solve(averages):
        solved.append(tuple(x.level for x in averages))
        return with_stats(run, averages_error_relative=10.0 ** -len(solved), averages_error_drift=1)

    refined(solve, (Level(3, 3), Level(0, 2)), True)
    assert solved == [(3, 0), (3, 1), (3, 2)]


def test_errors_over_sizes_that_may_vanish():
    found = _ratio(jnp.array([0.0, 0.3, 0.3, 0.0, -1.0]), jnp.array([0.0, 1.5, 0.0, 2.0, 0.5]))
    np.testing.assert_allclose(found, [0.0, 0.2, 3e299, 0.0, -2.0], rtol=1e-12)


def test_what_is_told_of_averages(run):
    silent = {"averages_error_relative": [3e-4, 0.1], "averages_error_drift": [0.019, 1e-3]}
    warn_of_averages(with_stats(run, **silent, averages_resolved=True))  # a warning is an error
    fine = {"averages_error_relative": [1.9e-4, 1e-5], "averages_error_drift": [3.0, 1e-3]}
    warn_of_averages(with_stats(run, **fine, averages_resolved=False))
    warn_of_averages(with_stats(run, averages_error=1.0))
    with pytest.warns(RuntimeWarning, match="averages have not converged: from one level"):
        warn_of_averages(with_stats(run, **silent, averages_resolved=False))
    coarse = {"averages_error_relative": [3e-4, 1e-4], "averages_error_drift": [0.021, 0.5]}
    with pytest.warns(
        RuntimeWarning, match="averages is 0.021 of the drift at alpha = 0: plateaus"
    ):
        warn_of_averages(with_stats(run, **coarse, averages_resolved=True))
    coarse = {"averages_error_relative": [3e-4, 3e-4], "averages_error_drift": [0.021, 0.5]}
    with pytest.warns(RuntimeWarning, match="averages is 0.5 of the drift at alpha = 2: plateaus"):
        warn_of_averages(with_stats(run, **coarse, averages_resolved=False))


# Other settings and coordinates


def test_a_batch_of_all_samples_adds_no_noise():
    flow = ld.ode_term(LINEAR, ld.SGD(0.4, batch_size=math.inf), ONE).vector_field
    np.testing.assert_allclose(flow(0.0, jnp.array([0.7, 0.3]), None), [-0.32, 0.44], rtol=1e-12)
    assert flow.euclidean is flow.start


def test_the_sphere_in_coordinates_that_keep_the_angle():
    """Q does not move, so that S = Q - R**2/T does by -2 R dR/T; here by perceptrons."""
    problem = ld.Problem(ld.Linear(), ld.Sign(), ld.Perceptron())
    start = ld.Overlaps([[1.0]], [[0.3]], [[1.4]])
    flow = ld.ode_term(problem, ld.SGD(0.8, spherical=True), start).vector_field
    aligned = aligned_flow(flow)
    s, r = 0.9, 0.6
    ds, dr = np.asarray(aligned(0.0, jnp.array([s, r]), None))
    assert ds == pytest.approx(-2 * r * dr / 1.4, rel=1e-10)
    # dR without the sphere less R dQ/(2 Q): <F lambda> and <F rho> of a perceptron by hand
    q = s + r**2 / 1.4
    cosine = r / np.sqrt(q * 1.4)
    pull = lambda norm, other: (norm * cosine - norm) / np.sqrt(2 * np.pi) * other
    of_lam, of_rho = pull(np.sqrt(q), -1.0), pull(np.sqrt(1.4), 1.0)
    dq = -1.6 * of_lam + 0.64 * np.arccos(cosine) / np.pi
    assert dr == pytest.approx(-0.8 * of_rho - r * dq / (2 * q), rel=1e-10)


SPECTRUM = ld.Spectrum([0.5, 1.5], [0.25, 0.75])
HALVES = np.array([[[0.1]], [[0.2]]])


def test_a_rule_meets_inputs_as_long_as_their_mean_eigenvalue():
    lengths = ld.LocalRule(
        lambda problem, x, _: ld.Modulation(x.lam * x.size, jnp.zeros(1)), lr=0.1
    )
    fields = ld.LocalRule(lambda problem, x, _: ld.Modulation(x.lam * x.y, jnp.zeros(1)), lr=0.1)

    def averaged(rule, spectrum=SPECTRUM):
        start = ld.GroupedOverlaps(HALVES, 0.5 * HALVES, 4 * HALVES, spectrum)
        return _meeting(LINEAR, rule, start)

    assert averaged(fields) is fields
    assert averaged(lengths, ld.Spectrum([0.4, 1.2], [0.25, 0.75])) is lengths
    assert float(averaged(lengths).size) == pytest.approx(0.5 * 0.25 + 1.5 * 0.75, rel=1e-12)
    sample = ld.rules.Sample(jnp.array([2.0]), jnp.array(1.0), jnp.zeros(0), jnp.array(3.0))
    found = averaged(lengths).modulation(LINEAR, sample, ONE.layers)
    np.testing.assert_allclose(found.c, [2.0 * 3.0 * 1.25], rtol=1e-12)


def test_groups_that_are_whole_numbers_of_directions_with_room():
    vectors = np.split(np.random.default_rng(0).normal(size=(3, 8)), [2], axis=1)
    c = np.stack([x @ x.T for x in vectors])  # of rank 2 in the first group
    start = ld.GroupedOverlaps(c[:, :2, :2], c[:, :2, 2:], c[:, 2:, 2:], SPECTRUM)
    full = np.stack([c[1], c[1]])
    wide = ld.GroupedOverlaps(full[:, :2, :2], full[:, :2, 2:], full[:, 2:, 2:], SPECTRUM)
    holds = jax.jit(sizes_hold)
    for n, own, others in (
        (8.0, True, False),
        (12.0, True, True),
        (10.0, False, False),
        (2.0,) + 2 * (False,),
        (4.0,) + 2 * (False,),
    ):
        assert bool(holds(start, jnp.asarray(n))) == own, n
        assert bool(holds(wide, jnp.asarray(n))) == others, n
    with pytest.raises(ValueError, match=r"got k \+ m = 3 vectors .* the smallest having 2"):
        require_sizes(wide, jnp.asarray(8.0))
    with pytest.raises(ValueError, match=r"got 2.5 in group 1, with the share 0.25 of n = 10"):
        require_whole_sizes(start, jnp.asarray(10.0))

    def traced(n):
        require_whole_sizes(start, n)
        require_sizes(wide, n)
        return n

    assert jax.jit(traced)(10.0) == 10.0


def test_coordinates_of_groups_with_slow_momentum_start_at_rest():
    q, r = (
        np.array([[[0.7, 0.1], [0.1, 0.5]], [[0.3, 0.2], [0.2, 0.6]]]),
        np.array([[[0.1], [0.2]], [[0.3], [0.4]]]),
    )
    start = ld.GroupedOverlaps(q, r, [[[0.8]], [[0.9]]], SPECTRUM, v=[0.8, -0.6], b=[0.3, 0.2])
    rule = ld.SGD(0.4, 0.3, 0.2, momentum=ld.SlowMomentum(2.0))
    flow = ld.ode_term(LINEAR, rule, start).vector_field
    y = np.concatenate(
        [
            [0.7, 0.1, 0.5, 0.3, 0.2, 0.6],
            r.ravel(),
            np.zeros(8 + 6 + 4),
            [0.8, -0.6, 0.3, 0.2],
            np.zeros(4),
        ]
    )
    look = lambda flow: (flow.pack(start), flow.pack(flow.start), flow.parts(jnp.arange(36.0)))
    own, other, (matrices, vectors) = eqx.filter_jit(look)(flow)
    np.testing.assert_array_equal(own, y)
    np.testing.assert_array_equal(other, y)
    np.testing.assert_array_equal(matrices.Q[1], [[3, 4], [4, 5]])
    np.testing.assert_array_equal(matrices.R[1, :, 0], [8, 9])
    np.testing.assert_array_equal(matrices.S[1], [[14, 15], [16, 17]])
    np.testing.assert_array_equal(matrices.U[1], [[21, 22], [22, 23]])
    np.testing.assert_array_equal(matrices.V[1, :, 0], [26, 27])
    np.testing.assert_array_equal(np.concatenate(vectors), np.arange(28, 36))
    np.testing.assert_allclose(flow.euclidean.Q, q.sum(axis=0), rtol=1e-15)


# Trajectories


def test_a_single_run_knows_of_no_tasks_and_is_not_taken_apart(run):
    by_hand = eqx.tree_at(lambda run: run.given, run, None)
    for one in (run, by_hand):
        assert (one.tasks, one.schedule, one.drift) == (None, None, None)
    with pytest.raises(ValueError, match="single run, so there is no run to take out"):
        run[0]
    assert "1 times, alpha 0 … 0, k=3, m=1" in repr(run)
    batch = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), run)
    assert "k=3, m=1" in repr(batch)
    np.testing.assert_array_equal(batch[1].Q, 2 * run.Q)


def test_levels_have_names_for_people():
    assert [level.title for level in LEVELS.values()] == ["ODE", "SGD", "overlap chain", "Langevin"]


class Stepwise(Level):
    """Averages whose values jump, or their slopes alone."""

    values_jump: bool = eqx.field(static=True, default=False)

    @property
    def is_stepwise(self):
        return self.values_jump

    @property
    def has_stepwise_slopes(self):
        return True


@pytest.mark.parametrize(
    ("jumps", "slopes", "error", "expected"),
    [
        (True, False, 0.03, (2e-3 * 0.03 / 1.2, 2e-3 * 0.03 / 1.2)),
        (True, True, 0.03, (2e-3 * 0.03 / 1.2, 2e-3 * 0.03 / 1.2)),
        (True, False, 1e-9, (1e-9, 1e-10)),  # they are finer than what is asked
        (True, False, math.nan, (1e-9, 1e-10)),
        (False, False, 0.03, (1e-9, 1e-10)),
        (False, True, 1.2e-4, (2e-7, 1e-10)),
        (False, True, 0.03, (2e-6, 1e-10)),
    ],
)
def test_tolerances_are_no_finer_than_averages_that_jump(
    monkeypatch, jumps, slopes, error, expected
):
    """Values up to 1.2, of which an error is a fraction."""
    told = [jnp.array([0.5, -1.2]), jnp.array(0.0)], [jnp.asarray(error), jnp.asarray(0.1 * error)]
    monkeypatch.setattr(_integrate, "estimated", lambda averages, of, terms: (*told, True))
    flow = ld.ode_term(LINEAR, ld.SGD(0.4), ONE).vector_field
    flow = eqx.tree_at(lambda flow: flow.averages, flow, Stepwise(0, values_jump=jumps))
    found = _integrate.capped((jnp.asarray(1e-9), jnp.asarray(1e-10)), flow, slopes=slopes)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
