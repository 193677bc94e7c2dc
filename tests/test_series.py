"""Averages of smooth additive networks by series and conditioning, and what they change."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn.averages import (
    ClosedForm,
    NodeAverages,
    QuasiMonteCarlo,
    SeriesAverages,
    at_level,
    averages_error,
    choose_averages,
    estimated,
    misfits,
    sampled,
)
from learndyn.integrals.smooth import LEVELS
from learndyn.problems import as_module, error_function, parity, polynomial_degree, squared_scale

ONE = np.eye(2)
RULE = ld.SGD(lr=0.5)
LEVEL = 4  # the default one


def gelu(x):
    return jax.nn.gelu(x, approximate=False)


def own_erf(x):
    return jax.scipy.special.erf(x / np.sqrt(2))


def plateau_start(r11=1e-6, T=ONE, **layers):
    R = np.zeros((2, 2))
    R[0, 0] = r11
    return ld.Overlaps(0.25 * ONE, R, T, **layers)


# Reference numbers: 200 terms of the plain series, and products from a lattice four levels finer;
# eg, G and h agree with a product lattice of 46**4 nodes to 4e-10.

C = np.array([[1.2, 0.3, 0.5, 0.2], [0.3, 0.8, 0.1, 0.4], [0.5, 0.1, 1, 0.2], [0.2, 0.4, 0.2, 1]])
B = [0.2, -0.1, 0.3, 0.0]
REFERENCE = {
    "tanh": (jnp.tanh, jnp.tanh, None),
    "tanh with biases": (jnp.tanh, jnp.tanh, B),
    "gelu of tanh": (gelu, jnp.tanh, B),
    "swish": (jax.nn.swish, jax.nn.swish, None),
}
# eg, G_11, G_12, h_1, <F_1>, Phi_11, Phi_12, Phi_22, without v, with v* = (1, 0.9)
EXPECTED = {
    "tanh": [0.436212449808, 0.240140294873, 0.263216938363, 0.267329018788, 0.0,
             0.355827711, 0.221683352, 0.211653693],
    "tanh with biases": [0.435011657762, 0.244788205082, 0.258807338807, 0.252995465451,
                         -0.0852021799333, 0.357869317, 0.219811028, 0.208653916],
    "gelu of tanh": [0.547587841752, 0.568063961839, 0.221144231792, 0.514373875681,
                     0.353058467914, 0.802686995774, 0.368480721918, 0.280910271455],
    "swish": [0.364400270011, 0.345413125093, 0.201083114285, 0.244364520357, 0.105562537,
              0.438513568113, 0.237103101962, 0.17709534116],
}  # fmt: skip


@pytest.mark.nightly(by_day=["gelu of tanh", "tanh with biases"])
@pytest.mark.parametrize("name", REFERENCE)
def test_reference_numbers(name):
    student, teacher, b = REFERENCE[name]
    layers = {} if b is None else {"b": b[:2], "b_teacher": b[2:]}
    state = ld.Overlaps(C[:2, :2], C[:2, 2:], C[2:, 2:], [1.0, 0.7], [1.0, 0.9], **layers)
    problem = ld.Problem(student, teacher)
    averages = choose_averages(problem, 2, 2, rule=RULE, biases=b is not None)
    assert isinstance(averages, SeriesAverages)
    assert averages.level == LEVEL
    found, eg, error = everything(averages, problem, state)
    pairs = [eg, found.G[0, 0], found.G[0, 1], found.h[0], found.f[0]]
    # The rule's averages have v_1 = 1 and v_2 = 0.7 in them.
    products = [found.Phi[0, 0], found.Phi[0, 1], found.Phi[1, 1]]
    np.testing.assert_allclose(pairs, EXPECTED[name][:5], atol=2e-9)
    np.testing.assert_allclose(products, EXPECTED[name][5:], atol=1e-5)
    assert np.abs(np.array(products) - EXPECTED[name][5:]).max() < error < 5e-5


@eqx.filter_jit
def everything(averages, problem, state):
    found = averages.field_averages(problem, RULE, state)
    return (
        found,
        averages.generalisation_error(problem, state),
        averages_error(problem, RULE, state, averages),
    )


@eqx.filter_jit
def fields_and_error(averages, problem, state):
    eg = averages.generalisation_error(problem, state)
    return averages.field_averages(problem, RULE, state), eg


@eqx.filter_jit
def both(averages, problem, state, exact=ClosedForm()):  # noqa: B008
    of = lambda a: [
        *sampled(a.field_averages(problem, RULE, state), state),
        a.generalisation_error(problem, state),
    ]
    known = [*misfits(averages.misfit(problem, state), state), 0.0]
    estimate = estimated(averages, of, 4.0, known)
    return of(exact), estimate


SINGULAR = {
    "student = teacher": np.tile(ONE, (2, 2)),
    "duplicated students": np.block([[np.ones((2, 2)), 0.3 * np.ones((2, 2))],
                                     [0.3 * np.ones((2, 2)), ONE]]),
    "opposite students": np.array([[1, -1, 0.4, 0.1], [-1, 1, -0.4, -0.1],
                                   [0.4, -0.4, 1, 0], [0.1, -0.1, 0, 1]]),
    "student at rest": np.kron(np.diag([0.0, 1.0]), ONE),
    "close to the teacher": np.tile(ONE, (2, 2)) + 1e-8 * np.kron(np.diag([1.0, 0]), ONE),
}  # fmt: skip


@pytest.mark.parametrize("name", SINGULAR)
def test_series_are_the_closed_form_at_singular_overlaps(name):
    c = SINGULAR[name]
    state = ld.Overlaps(c[:2, :2], c[:2, 2:], c[2:, 2:])
    problem = ld.Problem()
    closed, estimate = both(at_level(LEVEL, even=True), problem, state)
    errors = [np.abs(x - y).max() for x, y in zip(closed, estimate.values, strict=True)]
    with_fields, products, h, eg = errors
    assert max(with_fields, h, eg) < 1e-13
    assert products < 2e-5 * np.abs(closed[1]).max() + 1e-16


def random_states(count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        w = rng.normal(size=(4, 6))
        if rng.random() < 0.5:  # students on their way to the teachers
            share = rng.random()
            w[:2] = (1 - share) * w[:2] + share * w[2:]
        w *= 10 ** rng.uniform(-1.5, 1.5, size=(4, 1)) / np.linalg.norm(w, axis=1)[:, None]
        c = w @ w.T
        yield ld.Overlaps(c[:2, :2], c[:2, 2:], c[2:, 2:])


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.nightly)])
def test_reported_errors_bound_the_true_ones(count):
    """Overlaps from 1e-3 to 1e3. Where overlaps are large the lattices may be too coarse for an
    error function: then they must say that they are not resolved."""
    tried = list(compared(ld.Problem(), at_level(LEVEL, even=True), ClosedForm(), count))
    unresolved = require_bounds(tried)
    near = [errors for largest, errors, _ in tried if largest < 5]
    # Beyond, 64 orders are few where students are close to teachers.
    assert max(errors[i] for errors in near for i in (0, 2, 3)) < 1e-9
    assert unresolved(0, 5) < 0.01
    assert unresolved(100, np.inf) > 0.9


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "finest"), [("tanh", 9), ("swish", 7)])
def test_reported_errors_bound_those_against_the_finest_level(name, finest):
    """The averages are those that are chosen for overlaps up to 5."""
    units = REFERENCE[name][:2]
    problem = ld.Problem(*units)
    chosen = choose_averages(problem, 2, 2, rule=RULE, biases=False, reach=np.sqrt(5))
    assert chosen.level < finest - 1
    exact = at_level(finest, even=name == "tanh")
    unresolved = require_bounds(list(compared(problem, chosen, exact, 1000)))
    assert unresolved(0, 5) < 0.025


def compared(problem, averages, exact, count):
    """The facts of random states: the largest overlap, the true errors, and what is reported."""
    for state in random_states(count, seed=count):
        values, estimate = both(averages, problem, state, exact)
        pairs = zip(values, estimate.values, strict=True)
        errors = [float(np.abs(x - y).max()) for x, y in pairs]
        yield max(float(state.Q.max()), float(state.T.max())), errors, estimate


def require_bounds(tried):
    """Errors of resolved averages are below what is reported, and of that order; returns the share
    of those unresolved between two sizes."""
    ratios = []
    for largest, errors, estimate in tried:
        if not estimate.resolved:
            continue
        for true, value, reported in zip(errors, estimate.values, estimate.errors, strict=True):
            # Both round, and more where outputs of order 1 cancel.
            rounding = 1e-13 * float(np.abs(value).max()) + 4e-14
            assert true <= float(reported) + rounding, (true, float(reported), largest)
        products = 1
        if errors[products] > 1e-12:
            ratios.append(float(estimate.errors[products]) / errors[products])
    assert np.median(ratios) < 10
    sizes, failed = np.array([(largest, not estimate.resolved) for largest, _, estimate in tried]).T
    return lambda least, most: failed[(sizes > least) & (sizes < most)].mean()


def test_permutations_and_signs_to_rounding():
    problem, averages = ld.Problem(jnp.tanh, jnp.tanh), at_level(LEVEL, even=True)
    state = ld.Overlaps(C[:2, :2], C[:2, 2:], C[2:, 2:], [1.0, 0.7], [1.0, 0.9])
    found, _ = fields_and_error(averages, problem, state)
    swap, turn = np.array([1, 0]), np.array([-1.0, 1.0])
    swapped = ld.Overlaps(C[:2, :2][swap][:, swap], C[:2, 2:][swap], C[2:, 2:], [0.7, 1], [1, 0.9])
    turned = ld.Overlaps(
        turn[:, None] * C[:2, :2] * turn, turn[:, None] * C[:2, 2:], C[2:, 2:], [-1, 0.7], [1, 0.9]
    )
    exchanged, _ = fields_and_error(averages, problem, swapped)
    np.testing.assert_allclose(exchanged.Phi, found.Phi[swap][:, swap], rtol=0, atol=5e-16)
    np.testing.assert_allclose(exchanged.G[:, :2], found.G[swap][:, swap], rtol=0, atol=5e-16)
    reversed_, _ = fields_and_error(averages, problem, turned)
    np.testing.assert_allclose(reversed_.Phi, turn[:, None] * found.Phi * turn, atol=5e-16)


def test_derivatives_are_those_of_the_closed_form():
    """Also where student and teacher coincide, and units are duplicates of each other."""
    problem, series = ld.Problem(), at_level(8, even=True)

    @eqx.filter_jit
    def derivatives(averages, state):
        def of(q, r):
            at = ld.Overlaps(q, r, state.T)
            found = averages.field_averages(problem, RULE, at)
            return found.G, found.Phi, averages.generalisation_error(problem, at)

        return jax.jacfwd(of, (0, 1))(state.Q, state.R)

    generic = ld.Overlaps(C[:2, :2], C[:2, 2:], C[2:, 2:])
    alike = [SINGULAR["student = teacher"], SINGULAR["duplicated students"]]
    for state in [generic, *(ld.Overlaps(c[:2, :2], c[:2, 2:], c[2:, 2:]) for c in alike)]:
        ours, theirs = (jax.tree.leaves(derivatives(a, state)) for a in (series, ClosedForm()))
        # A covariance may be changed within symmetric matrices alone.
        for x, y in zip(ours, theirs, strict=True):
            x, y = (z + np.swapaxes(z, -1, -2) if z.shape[-2:] == (2, 2) else z for z in (x, y))
            np.testing.assert_allclose(x, y, atol=1e-10)


# Polynomials


def test_polynomials_are_exact():
    """Products of degree up to 10 in four fields, against Gauss and Hermite's nodes."""
    g, dg = (lambda x: x**3 - 3 * x + x**2), (lambda x: 3 * x**2 - 3 + 2 * x)
    problem = ld.Problem(g, lambda x: x**2, noise=0.3)
    state = ld.Overlaps(C[:2, :2], C[:2, 2:], C[2:, 2:], [1.0, 0.7], [1.0, 0.9])
    averages = choose_averages(problem, 2, 2, rule=RULE, biases=False)
    assert averages.level is None
    found, eg = fields_and_error(averages, problem, state)
    x, w = np.polynomial.hermite_e.hermegauss(8)
    z = np.stack(np.meshgrid(x, x, x, x), -1).reshape(-1, 4)
    weight = np.prod(np.meshgrid(w, w, w, w), axis=0).ravel() / w.sum() ** 4
    f = z @ np.linalg.cholesky(C).T
    error = g(f[:, :2]) @ [1.0, 0.7] - f[:, 2:] ** 2 @ [1.0, 0.9]
    slope = dg(f[:, :2]) * [1.0, 0.7]
    signal = slope * error[:, None]
    phi = (signal.T * weight) @ signal + 0.09 * (slope.T * weight) @ slope
    np.testing.assert_allclose(found.Phi, phi, rtol=1e-12)
    np.testing.assert_allclose(found.G @ C, (signal.T * weight) @ f, rtol=1e-12, atol=1e-12)
    assert float(eg) == pytest.approx(0.5 * weight @ error**2, rel=1e-12)


@pytest.mark.nightly
def test_quadratic_committees_stay_where_they_cannot_see():
    """R = 0 and stays 0, since x**2 is even."""
    start = ld.Overlaps(0.25 * ONE, 0 * ONE, ONE, v=[0.5, 0.5], v_teacher=[0.5, 0.5])
    problem = ld.Problem(ld.Quadratic(), ld.Quadratic())
    run = ld.solve_ode(problem, ld.SGD(lr=0.04), start, [0.0, 100.0, 200.0])
    assert np.abs(run.R).max() < 1e-20
    assert float(run.eg[-1]) == pytest.approx(0.75023472, abs=1e-7)


# What a function is, by value


@pytest.mark.parametrize(
    ("g", "expected"),
    [
        (own_erf, (1.0, 1.0)),
        (lambda x: -2 * own_erf(1.7 * x), (-2.0, 1.7)),
        (lambda x: jnp.where(jnp.abs(x) > 6, 2 * jnp.sign(x), own_erf(x)), None),
        (lambda x: own_erf(x) + 1e-9, None),
        (lambda x: own_erf(x) * (1 + 1e-9 * jnp.cos(x)), None),
        (jnp.tanh, None),
        (lambda x: 0.0 * x, None),
        (jnp.exp, None),
    ],
    ids=["erf", "scaled", "other beyond 6", "shifted", "wavy", "tanh", "zero", "exp"],
)
def test_error_functions_are_recognised(g, expected):
    found = error_function(as_module(g, "g"))
    assert found == expected if expected is None else found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("g", "degree"),
    [
        (lambda x: x**10 - 45 * x**8, 10),
        (lambda x: 1.0 + 0 * x, 0),
        (lambda x: x**3 + jnp.where(jnp.abs(x) > 9, 1.0, 0.0), None),
        (jnp.sin, None),
        (lambda x: x**20, None),
    ],
    ids=["degree 10", "constant", "jumps at 9", "sine", "degree 20"],
)
def test_polynomials_are_recognised(g, degree):
    assert polynomial_degree(as_module(g, "g")) == degree


def test_parity_and_squared_losses_are_recognised():
    found = [parity(as_module(g, "g")) for g in (jnp.tanh, jnp.cos, jnp.exp, jax.nn.relu)]
    assert found == ["odd", "even", None, None]
    squared = [lambda p, y: 0.5 * (p - y) ** 2, lambda p, y: (p - y) ** 2 + 3.0]
    assert [squared_scale(as_module(loss, "loss")) for loss in squared] == [1.0, 2.0]
    huber = lambda p, y: jnp.where(jnp.abs(p - y) < 9, 0.5 * (p - y) ** 2, 9 * jnp.abs(p - y))
    assert squared_scale(as_module(huber, "loss")) is None


def test_a_function_with_traced_parameters_is_nothing_known():
    class Scaled(eqx.Module):
        gain: jax.Array

        def __call__(self, x):
            return self.gain * own_erf(x)

    known = []
    jax.jit(lambda gain: known.append(error_function(Scaled(gain))) or gain)(2.0)
    assert known == [None]
    assert error_function(Scaled(jnp.asarray(2.0))) == (2.0, 1.0)


def test_a_rescaled_erf_has_the_closed_form_of_rescaled_fields():
    """gain and slope of the student are those of v and w."""
    problem = ld.Problem(lambda x: -2 * own_erf(1.5 * x), ld.Erf(), noise=0.2)
    state = ld.Overlaps(C[:2, :2], C[:2, 2:], C[2:, 2:], [1.0, 0.7], [1.0, 0.9])
    averages = choose_averages(problem, 2, 2, rule=RULE, biases=False)
    assert isinstance(averages, ClosedForm)
    found, own_eg = fields_and_error(averages, problem, state)
    nodes = choose_averages(problem, 2, 2, rule=RULE, biases=False, averages=QuasiMonteCarlo())
    expected, _ = fields_and_error(nodes, problem, state)
    np.testing.assert_allclose(found.Phi, expected.Phi, rtol=0.02)
    np.testing.assert_allclose(found.G @ C, expected.with_fields(jnp.asarray(C)), atol=0.02)
    np.testing.assert_allclose(found.h, expected.h, rtol=0.02)
    scaled = ld.Overlaps(2.25 * C[:2, :2], 1.5 * C[:2, 2:], C[2:, 2:], [-2.0, -1.4], [1.0, 0.9])
    eg = ld.generalisation_error(ld.Problem(), scaled)
    assert float(own_eg) == pytest.approx(float(eg), rel=1e-13)


def test_a_doubled_squared_loss_learns_twice_as_fast():
    doubled = ld.Problem(loss=lambda phi, y: (phi - y) ** 2, noise=0.3)
    start = plateau_start(0.1)
    terms = [
        ld.ode_term(problem, ld.SGD(lr=lr), start).vector_field
        for problem, lr in ((doubled, 0.2), (ld.Problem(noise=0.3), 0.4))
    ]
    found, expected = (flow(0.0, flow.pack(start), None) for flow in terms)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


# Plateaus last as long as they should


@pytest.mark.nightly
def test_zero_biases_that_are_trained_keep_a_symmetric_plateau():
    """Symmetric to rounding at alpha = 400, at the height without biases."""
    start = plateau_start(0.0, b=[0.0, 0.0], b_teacher=[0.0, 0.0])
    run = ld.solve_ode(ld.Problem(), ld.SGD(lr=0.5, lr_bias=0.5), start, [0.0, 400.0])
    assert np.ptp(run.R[-1]) < 1e-12
    assert float(run.eg[-1]) == pytest.approx(0.0146531, abs=2e-6)
    still = ld.solve_ode(ld.Problem(), RULE, start, [0.0, 400.0])
    assert float(still.eg[-1]) == pytest.approx(0.0146531, abs=1e-7)
    assert float(still.stats["averages_error"].max()) == 0  # closed forms: no biases


TANH = {
    20.0: 0.03191345, 50.0: 0.03130454, 100.0: 0.03109296, 150.0: 0.03104736, 200.0: 0.02978142
}  # fmt: skip


@pytest.mark.nightly
def test_the_plateau_of_tanh():
    run = ld.solve_ode(ld.Problem(ld.Tanh(), ld.Tanh()), RULE, plateau_start(), [0.0, *TANH])
    np.testing.assert_allclose(run.eg[1:], list(TANH.values()), atol=3e-7)
    assert run.stats["averages_resolved"]
    assert run.stats["averages_error_relative"].max() < 2e-4


@pytest.mark.nightly
def test_trained_biases_leave_late():
    start = plateau_start(b=[0.0, 0.0], b_teacher=[0.3, 0.3])
    start = eqx.tree_at(lambda s: s.Q, start, jnp.diag(jnp.array([0.3, 0.2])))
    run = ld.solve_ode(ld.Problem(), ld.SGD(lr=0.5, lr_bias=0.5), start, [0.0, 300.0])
    assert float(run.eg[-1]) == pytest.approx(0.01548, abs=1e-5)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:the error of the Gaussian averages:RuntimeWarning")
@pytest.mark.parametrize("T", [ONE, np.diag([1.0, 2.0])])
def test_escape_is_at_the_time_of_the_closed_form(T):
    """A start with an asymmetry of 1e-6 keeps it: nothing is projected onto symmetric states."""
    ts = np.linspace(0.0, 700.0, 701)
    start = plateau_start(T=T)
    series = ld.solve_ode(ld.Problem(), RULE, start, ts, averages=at_level(LEVEL, even=True))
    closed = ld.solve_ode(ld.Problem(own_erf, own_erf), RULE, start, ts)
    times = [escape(run) for run in (series, closed)]
    assert times[1] > 150
    assert times[0] == pytest.approx(times[1], rel=0.01)
    nodes = ld.solve_ode(ld.Problem(), RULE, start, ts, averages=QuasiMonteCarlo(), rtol=1e-6)
    assert escape(nodes) < 0.6 * times[1]


def escape(run):
    """eg first below half of its value on the plateau, at alpha = 100."""
    eg = np.asarray(run.eg)
    return float(run.alpha[np.argmax(eg < 0.5 * eg[100])])


@pytest.mark.nightly
def test_the_fixed_point_of_a_symmetric_plateau_is_symmetric():
    """Four times the same R, that of the closed form."""
    start = ld.Overlaps(0.4 * np.ones((2, 2)) + 0.02 * ONE, 0.41 * np.ones((2, 2)), ONE)
    averages = at_level(LEVEL, even=True)
    series, closed = (
        ld.asymptotics.fixed_point(ld.Problem(), RULE, start, averages=a) for a in (averages, None)
    )
    assert series.result == ld.Result.SUCCESS
    assert np.ptp(series.state.R) < 1e-12
    np.testing.assert_allclose(closed.state.R, 0.41439, atol=5e-6)
    np.testing.assert_allclose(series.state.R, closed.state.R, atol=1e-6)


# Errors along a run


def test_steep_units_start_from_a_finer_level_and_say_so():
    steep = ld.Problem(lambda x: jnp.tanh(6 * x), ld.Tanh())
    levels = [
        choose_averages(problem, 1, 1, rule=RULE, biases=False, reach=1.0).level
        for problem in (ld.Problem(ld.Tanh(), ld.Tanh()), steep)
    ]
    assert levels[0] == LEVEL < levels[1]


def test_the_finest_averages_are_compared_with_a_finer_series():
    """tanh(6 x) of fields with a correlation of 0.998, by the trapezoidal rule."""
    q, t, r = 0.65, 0.9, 0.998
    state = ld.Overlaps([[q]], [[r * np.sqrt(q * t)]], [[t]])
    problem = ld.Problem(lambda x: jnp.tanh(6 * x), lambda x: jnp.tanh(6 * x))
    finest = at_level(len(LEVELS) - 2, even=True)
    of = lambda averages: [averages.generalisation_error(problem, state)]
    found = eqx.filter_jit(lambda: estimated(finest, of, 4.0))()
    z = np.arange(-8.5, 8.5, 0.02)
    weight = np.exp(-0.5 * z**2) / np.exp(-0.5 * z**2).sum()
    one, other = z[:, None], r * z[:, None] + np.sqrt(1 - r**2) * z
    error = np.tanh(6 * np.sqrt(q) * one) - np.tanh(6 * np.sqrt(t) * other)
    true = abs(float(found.values[0]) - 0.5 * weight @ error**2 @ weight)
    assert 1e-12 < true <= float(found.errors[0]) < 10 * true


def test_errors_of_units_whose_second_derivative_jumps():
    """relu(x)**2 by the arc-cosine kernel of order 2 (Cho and Saul, 2009): its coefficients come
    from nodes that do not see where the jump is, and two levels differ by less than their error."""
    q, t, r = 0.8, 1.1, 0.6
    state = ld.Overlaps([[q]], [[r * np.sqrt(q * t)]], [[t]])
    problem = ld.Problem(lambda x: jax.nn.relu(x) ** 2, lambda x: jax.nn.relu(x) ** 2)
    averages = choose_averages(problem, 1, 1, biases=False)
    assert averages.bends
    of = lambda averages: [averages.generalisation_error(problem, state)]
    found = eqx.filter_jit(lambda: estimated(averages, of, 4.0))()
    angle = np.arccos(r)
    kernel = 3 * np.sin(angle) * r + (np.pi - angle) * (1 + 2 * r**2)
    exact = 0.75 * (q**2 + t**2) - q * t * kernel / (2 * np.pi)
    true = abs(float(found.values[0]) - exact)
    assert 1e-13 < true <= float(found.errors[0]) < 1e-8


@pytest.mark.nightly
def test_far_away_fields_move_at_the_right_speed():
    start = ld.Overlaps([[1000.0]], [[300.0]], [[1000.0]])
    with pytest.warns(RuntimeWarning, match="Gaussian averages"):
        run = ld.solve_ode(ld.Problem(ld.Tanh(), ld.Tanh()), RULE, start, [0.0, 20.0])
    assert float(run.R[-1, 0, 0]) == pytest.approx(306.02, abs=0.01)
    assert not run.stats["averages_resolved"]


def test_coarse_averages_are_told_of():
    problem = ld.Problem(ld.Tanh(), ld.Tanh())
    with pytest.warns(RuntimeWarning, match=r"of the drift at alpha = \d"):
        run = ld.solve_ode(problem, RULE, plateau_start(), [0.0, 5.0], averages=NODES)
    assert run.stats["averages_error_drift"].shape == (2,)
    assert isinstance(
        choose_averages(problem, 2, 2, rule=RULE, biases=False, averages=NODES), NodeAverages
    )


NODES = QuasiMonteCarlo(points=64)
