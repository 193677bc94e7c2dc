"""Piecewise linear activations of any origin: recognised by value, averaged in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from averages_reference import STATE, averages_of, chosen, pieces
from scipy.stats import norm, qmc

import learndyn as ld
from learndyn.averages._piecewise_linear import PiecewiseLinearAverages, _resolution
from learndyn.integrals import relu
from learndyn.integrals.piecewise_linear import PiecewiseLinear, first_layer, second_moments
from learndyn.integrals.piecewise_linear.conditioned import Resolution
from learndyn.integrals.piecewise_linear.steps import step_averages
from learndyn.problems import piecewise_linear
from learndyn.problems._functions import as_module

RULE_OF_LEVEL_0 = Resolution(14, 36, 6)


def hard_tanh(x):
    return jnp.clip(x, -1, 1)


HARD_TANH = PiecewiseLinear(-1.0, 0.0, (-1.0, 1.0), (1.0, -1.0))
RELU = PiecewiseLinear(0.0, 0.0, (0.0,), (1.0,))
ABS = PiecewiseLinear(0.0, -1.0, (0.0,), (2.0,))
SHIFTED_ABS = PiecewiseLinear(1.0, -1.0, (1.0,), (2.0,))
LEAKY = PiecewiseLinear(0.0, 0.1, (0.0,), (0.9,))


def recognised(g):
    return piecewise_linear(as_module(g, "g"))


LINEAR_IN_PIECES = {
    "jax.nn.relu": (jax.nn.relu, RELU),
    "jax.nn.leaky_relu": (jax.nn.leaky_relu, PiecewiseLinear(0.0, 0.01, (0.0,), (0.99,))),
    "jnp.abs": (jnp.abs, ABS),
    "clip": (hard_tanh, HARD_TANH),
    "jax.nn.hard_tanh": (jax.nn.hard_tanh, HARD_TANH),
    "jax.nn.relu6": (jax.nn.relu6, PiecewiseLinear(0.0, 0.0, (0.0, 6.0), (1.0, -1.0))),
    "shifted": (lambda x: jnp.maximum(x, 0) - 0.3, PiecewiseLinear(-0.3, 0.0, (0.0,), (1.0,))),
    "mirrored": (lambda x: jax.nn.relu(-x), PiecewiseLinear(0.0, -1.0, (0.0,), (1.0,))),
    "beside 0": (lambda x: jnp.abs(x - 1), SHIFTED_ABS),
    "far out": (
        lambda x: jnp.clip(x, -50, 50),
        PiecewiseLinear(-50.0, 0.0, (-50.0, 50.0), (1.0, -1.0)),
    ),
    "odd numbers": (
        lambda x: 3 * jax.nn.relu(x + 0.123456789) + jnp.abs(x - np.pi),
        PiecewiseLinear(np.pi, -1.0, (-0.123456789, np.pi), (3.0, 2.0)),
    ),
    "linear": (lambda x: 2 * x + 1, PiecewiseLinear(1.0, 2.0)),
    "ReLU": (ld.ReLU(), RELU),
    "LeakyReLU": (ld.LeakyReLU(0.1), LEAKY),
}


@pytest.mark.parametrize(("g", "right"), LINEAR_IN_PIECES.values(), ids=LINEAR_IN_PIECES)
def test_recognised_to_rounding(g, right):
    found = recognised(g)
    for value, expected in zip(found, right, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-14, atol=1e-15)


def straight_through(x):
    """Linear in pieces by value, with another derivative."""
    return x + jax.lax.stop_gradient(jax.nn.relu(x) - x)


OTHERS = {
    "tanh": jnp.tanh,
    "elu": jax.nn.elu,
    "jump": lambda x: jnp.where(x > 0, x + 1, x),
    "sign": ld.Sign(),
    "steps": jnp.round,
    "corner rounded off within 1e-6": lambda x: jax.nn.softplus(1e6 * (x - 0.1)) / 1e6,
    "a little curved": lambda x: jax.nn.relu(x) + 1e-9 * x**2,
    "a small bump at 30": lambda x: jax.nn.relu(x) + 1e-9 * jnp.exp(-((x - 30) ** 2)),
    "falls to 0 beyond 1e5": lambda x: jnp.where(x > 1e5, 0.0, jax.nn.relu(x)),
    "not a number for x < 0": lambda x: x + 0 * jnp.log(x),
    "saw": lambda x: jnp.abs(x - 2 * jnp.round(x / 2)),
    "another derivative": straight_through,
}


@pytest.mark.parametrize("g", OTHERS.values(), ids=OTHERS)
def test_what_differs_is_not_taken(g):
    assert recognised(g) is None


def test_asked_once_and_not_of_traced_parameters():
    asked, found = [], []

    def g(x):
        asked.append(x)
        return jax.nn.relu(x)

    assert recognised(g) == recognised(g) == RELU
    assert len(asked) <= 2  # the value, and the derivative
    jax.jit(lambda s: found.append(recognised(lambda x: s * jax.nn.relu(x))) or s)(2.0)
    assert found == [None]


def brute_force(h, k, r):
    """<[x > h][y > k]>, <[x > h](y - k)_+>, <(x - h)_+(y - k)_+>, and given x = h <(y - k)_+> and
    <[y > k]>."""
    q = np.sqrt(1 - r * r)
    bend = k / r + q / abs(r) * np.array([-8, -4, -2, -1, 0, 1, 2, 4, 8])
    x, weight = pieces(np.append(bend[np.abs(bend) < 9], h), 10)
    weight = np.where(x > h, weight, 0) * norm.pdf(x)
    mean = lambda x: (r * x - k) * norm.cdf((r * x - k) / q) + q * norm.pdf((r * x - k) / q)
    steps = weight @ norm.cdf((r * x - k) / q)
    at_h = norm.cdf((r * h - k) / q)
    return [steps, weight @ mean(x), (weight * (x - h)) @ mean(x), mean(h), at_h]


@jax.jit
def with_derivatives(p):
    values = lambda p: jnp.stack(step_averages(*p, jnp.sqrt((1 - p[2]) * (1 + p[2]))))
    return values(p), jax.jacfwd(values)(p)


POINTS = [
    (0.3, -0.2, 0.6), (0.0, 0.0, 0.3), (0.0, 0.7, -0.4), (-1.1, 0.0, 0.9), (2.5, 2.4, -0.95),
    (0.4, 0.4, 0.99999), (-0.7, 0.7001, -0.99999), (-3.0, 1.0, 0.2), (0.5, 0.6, 1e-3),
]  # fmt: skip


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_steps_and_relus_with_thresholds(point):
    values, slopes = with_derivatives(jnp.array(point))
    np.testing.assert_allclose(values, brute_force(*point), rtol=0, atol=3e-15)
    step = 1e-4 * (1 - abs(point[2])) * np.eye(3)
    ends = [[np.array(brute_force(*(point + s * d))) for s in (-2, -1, 1, 2)] for d in step]
    # Central differences of fourth order
    change = [(a - 8 * b + 8 * c - d) / (12 * step[0, 0]) for a, b, c, d in ends]
    np.testing.assert_allclose(slopes, np.array(change).T, rtol=1e-6, atol=1e-14 / step[0, 0])


C = np.array(
    [[1, -0.01927528, 0.51003021, 0.08175197], [0, 1, -0.23225028, 0.7151433],
     [0, 0, 1, -0.29829206], [0, 0, 0, 1]]
)  # fmt: skip
C = jnp.asarray(np.triu(C) + np.triu(C, 1).T)
U = jnp.array([1.0, 1.0, -1.0, -1.0])


@eqx.filter_jit
def two_of_each(g, teacher, c, b=None, u=U, resolution=RULE_OF_LEVEL_0):
    """The averages of two students and two teachers, and eg."""
    found = first_layer(g, teacher, c, b, u, 2, jnp.zeros(()), resolution)
    return found, 0.5 * u @ second_moments(g, teacher, c, b, 2) @ u


@eqx.filter_jit
def without_products(g):
    """G and eg at the covariance C, by the formulas for any knots."""
    b = jnp.zeros(4)
    found = first_layer(g, g, C, b, U, 2, jnp.zeros(()), Resolution(2, 2, 2))
    return found.G, 0.5 * U @ second_moments(g, g, C, b, 2) @ U


REFERENCE = {
    "hard tanh": (HARD_TANH, 0.36128445, 0.41189035, -0.49938463),
    "leaky relu": (LEAKY, 0.28107600, 0.39452006, None),
    "abs": (ABS, 0.48014499, 0.45442005, None),
}


@pytest.mark.nightly(by_day=["hard tanh"])
@pytest.mark.parametrize(("g", "eg", "g_11", "g_13"), REFERENCE.values(), ids=REFERENCE)
def test_reference_numbers(g, eg, g_11, g_13):
    """C has eight digits, so have these; Mehler's series with 2048 terms agrees to 3e-6."""
    gradient, error = without_products(g)
    np.testing.assert_allclose([error, gradient[0, 0]], [eg, g_11], rtol=0, atol=1e-8)
    if g_13 is not None:
        np.testing.assert_allclose(gradient[0, 2], g_13, rtol=0, atol=1e-8)


def in_two_dimensions(student, teacher, state):
    """G C, Phi, h, f and eg for k = m = 1 by quadrature between all knots."""
    b, b_teacher = (0.0 if x is None else float(x[0]) for x in (state.b, state.b_teacher))
    c = np.asarray(state.covariance)
    x, wx = pieces(np.array(student.knots) - b, 9 * np.sqrt(c[0, 0]))
    y, wy = pieces(np.array(teacher.knots) - b_teacher, 9 * np.sqrt(c[1, 1]))
    x, y = np.meshgrid(x, y, indexing="ij")
    f = np.stack([x.ravel(), y.ravel()])
    density = np.exp(-0.5 * np.sum(f * np.linalg.solve(c, f), axis=0))
    weight = np.outer(wx, wy).ravel() * density / (2 * np.pi * np.sqrt(np.linalg.det(c)))
    g, g_teacher = student(f[0] + b), teacher(f[1] + b_teacher)
    steps = np.searchsorted(np.array(student.knots), f[0] + b)
    delta = float(state.v[0]) * g - float(state.v_teacher[0]) * g_teacher
    pull = float(state.v[0]) * student.slopes[steps] * delta
    return [(pull * f) @ weight, pull**2 @ weight, g * delta @ weight, pull @ weight,
            0.5 * delta**2 @ weight]  # fmt: skip


PAIRS = {
    "hard tanh of |x - 1|, biases": (hard_tanh, lambda x: jnp.abs(x - 1), 0.4, -0.3, 1e-8),
    "relu of leaky relu with a bias": (jax.nn.relu, lambda x: jax.nn.leaky_relu(x, 0.1), 0.2, 0.7,
                                       1e-8),
    "relu - 0.3 of |x|": (lambda x: jnp.maximum(x, 0) - 0.3, jnp.abs, None, None, 1e-12),
    "relu(-x) of -2 relu(x)": (lambda x: jax.nn.relu(-x), lambda x: -2 * jax.nn.relu(x), None,
                               None, 1e-12),
    "a line of relu": (lambda x: 0.5 * x + 0.1, jax.nn.relu, None, None, 1e-12),
}  # fmt: skip


@pytest.mark.nightly(by_day=["hard tanh of |x - 1|, biases", "relu(-x) of -2 relu(x)"])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_student_and_teacher_that_differ(pair):
    """One unit each, with quadrature; the last number is the error of <F F> that is allowed."""
    student, teacher, b, b_teacher, phi_error = pair
    biases = {} if b is None else {"b": [b], "b_teacher": [b_teacher]}
    state = ld.Overlaps([[0.8]], [[0.35]], [[1.1]], [0.9], [1.2], **biases)
    problem = ld.Problem(student, teacher)
    averages = chosen(problem, state)
    assert isinstance(averages, PiecewiseLinearAverages)
    assert (averages.neighbours() is None) is (b is None)
    found, eg = averages_of(averages, problem, state)
    right = in_two_dimensions(recognised(student), recognised(teacher), state)
    values = [(found.G @ state.covariance)[0], found.Phi[0, 0], found.h[0], found.f[0], eg]
    for n, (value, expected) in enumerate(zip(values, right, strict=True)):
        atol = phi_error if n == 1 else 1e-13
        np.testing.assert_allclose(value, expected, rtol=0, atol=atol)


def sobol(student, teacher, c, b, u, power=15, replicates=8):
    """<s_i s_k>, <s_i f_p> by scrambled Sobol points, each with its standard error."""
    found = []
    for seed in range(replicates):
        z = norm.ppf(qmc.Sobol(4, seed=seed).random_base2(power))
        f = z @ np.linalg.cholesky(c).T
        x = f + b
        g = np.concatenate([student(x[:, :2]), teacher(x[:, 2:])], axis=1)
        slope = student.slopes[np.searchsorted(np.array(student.knots), x[:, :2])]
        signal = slope * (g @ u)[:, None]
        found.append(np.concatenate([signal.T @ signal, signal.T @ f], axis=1) / len(f))
    return np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(replicates)


MIXED = {
    "leaky relu of |x|": (LEAKY, ABS, None),
    "relu - 0.3 of leaky relu": (PiecewiseLinear(-0.3, 0.0, (0.0,), (1.0,)), LEAKY, None),
    "hard tanh of |x - 1|": (HARD_TANH, SHIFTED_ABS, np.array([0.2, -0.1, 0.3, 0.0])),
}


@pytest.mark.nightly
@pytest.mark.parametrize("mixed", MIXED.values(), ids=MIXED)
def test_four_directions_against_sobol_points(mixed):
    """Products and <s f> of two students; 12 numbers, each within 6 standard errors (1e-4)."""
    student, teacher, b = mixed
    u = np.array([0.7, -1.3, -1.1, -0.4])
    c = np.asarray(STATE.covariance)
    found, _ = two_of_each(
        student, teacher, jnp.asarray(c), None if b is None else jnp.asarray(b), jnp.asarray(u),
    )  # fmt: skip
    right, error = sobol(student, teacher, c, np.zeros(4) if b is None else b, u)
    values = np.concatenate([found.product, found.G @ c], axis=1)
    assert error.max() < 1e-3
    assert (np.abs(values - right) < 6 * error + 1e-5).all()


def near(width):
    """Two students at this distance from two teachers that are not orthogonal."""
    rng = np.random.default_rng(3)
    teachers = np.array([[1.0, 0, 0, 0, 0, 0], [0.3, 0.9, 0, 0, 0, 0]])
    x = np.concatenate([teachers + width * rng.normal(size=(2, 6)) / 6**0.5, teachers])
    return jnp.asarray(x @ x.T)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("width", "allowed"), [(1.0, 2e-5), (0.3, 5e-4), (0.03, 2e-3), (1e-3, 1e-3), (1e-5, 1e-3)]
)
def test_products_by_conditioning_against_closed_form(width, allowed):
    """ReLU with biases that are all 0: the rule for any knots against the closed form.

    Relative to the largest entry, which falls with the square of the distance.
    """
    c = near(width)
    found, _ = two_of_each(RELU, RELU, c, jnp.zeros(4), U)
    _, right = first_relu(c)
    np.testing.assert_allclose(found.product, right, rtol=0, atol=allowed * np.abs(right).max())


@pytest.mark.parametrize("norm_squared", [0.02, 1e-2, 1e-4])
def test_products_of_small_students(norm_squared):
    """Hard tanh whose students do not come near their knots: there they are linear, so that
    <s_i s_k> = <(lam_1 + lam_2 - clip(rho_1) - clip(rho_2))**2> for all i and k."""
    r, mutual = 0.4, 0.3
    s = np.sqrt(norm_squared)
    c = np.array(
        [
            [s * s, mutual * s * s, r * s, 0.0],
            [mutual * s * s, s * s, 0.1 * s, -0.2 * s],
            [r * s, 0.1 * s, 1.0, 0.0],
            [0.0, -0.2 * s, 0.0, 1.0],
        ]
    )
    found, _ = two_of_each(HARD_TANH, HARD_TANH, jnp.asarray(c))
    inside = norm.cdf(1) - norm.cdf(-1)  # <clip'>, by Stein's lemma <clip(rho) lam> over R
    clipped = inside - 2 * norm.pdf(1) + 2 * norm.sf(1)  # <clip**2>; teachers are independent
    right = c[:2, :2].sum() - 2 * inside * c[:2, 2:].sum() + 2 * clipped
    # 2e-5 is what the rule is right to at generic states; knots are at 7 deviations and more.
    np.testing.assert_allclose(found.product, np.full((2, 2), right), rtol=2e-5)


@jax.jit
def first_relu(c):
    return relu.first_layer(c, U, 2, jnp.zeros(()))


OWN = ld.Problem(jax.nn.relu, lambda x: jnp.maximum(x, 0))


@pytest.mark.nightly
def test_the_users_relu_is_relu():
    """The same integrals: G and Phi agree to the last digit, h and eg to rounding."""
    declared = ld.Problem(ld.ReLU(), ld.ReLU())
    exact, eg = averages_of(chosen(declared, STATE), declared, STATE)
    found, eg_found = averages_of(chosen(OWN, STATE), OWN, STATE)
    assert chosen(OWN, STATE).neighbours() is None
    for value, right in ((found.G, exact.G), (found.Phi, exact.Phi)):
        np.testing.assert_allclose(value, right, rtol=1e-14)
    np.testing.assert_allclose(found.h, exact.h, rtol=1e-13)
    np.testing.assert_allclose(eg_found, eg, rtol=1e-13)


@pytest.mark.nightly
def test_feedback_alignment_takes_the_same_averages():
    rule = ld.rules.FeedbackAlignment([1, -0.7], 0.5)
    averages = chosen(OWN, STATE, rule=rule)
    assert isinstance(averages, PiecewiseLinearAverages)
    own, _ = averages_of(averages, OWN, STATE, rule)
    sgd, _ = averages_of(averages, OWN, STATE)
    ratio = np.array([1, -0.7]) / np.asarray(STATE.v)
    np.testing.assert_allclose(own.G, ratio[:, None] * sgd.G, rtol=1e-14)


@pytest.mark.parametrize(
    "problem",
    [
        ld.Problem(jax.nn.relu, jnp.tanh),
        ld.Problem(jax.nn.relu, jnp.round),
        ld.Problem(jax.nn.relu, jax.nn.relu, loss=ld.Hinge()),
        ld.Problem(jax.nn.relu, ld.MultiIndex(lambda rho, zeta: jax.nn.relu(rho[0]))),
    ],
    ids=["smooth teacher", "teacher with many jumps", "another loss", "multi-index"],
)
def test_other_problems_are_not_taken(problem):
    assert not isinstance(chosen(problem, STATE), PiecewiseLinearAverages)


@pytest.mark.nightly
def test_units_have_no_order():
    """Both orders of students, of teachers; 1e-15 is rounding."""
    b, u = jnp.array([0.2, -0.1, 0.3, 0.0]), jnp.array([0.7, -1.3, -1.1, -0.4])
    found, eg = two_of_each(HARD_TANH, HARD_TANH, C, b, u)
    p = np.array([1, 0, 3, 2])
    other, eg_other = two_of_each(HARD_TANH, HARD_TANH, C[p][:, p], b[p], u[p])
    np.testing.assert_allclose(other.product, found.product[::-1, ::-1], rtol=0, atol=2e-15)
    np.testing.assert_allclose(other.G, found.G[::-1][:, p], rtol=0, atol=2e-15)
    np.testing.assert_allclose(eg_other, eg, rtol=1e-15)


def test_a_flip_of_a_hard_tanh_changes_nothing():
    flip, b = jnp.array([1.0, -1.0, 1.0, 1.0]), jnp.array([0.2, -0.1, 0.3, 0.0])
    found, _ = two_of_each(HARD_TANH, HARD_TANH, C, b, U)
    other, _ = two_of_each(HARD_TANH, HARD_TANH, C * jnp.outer(flip, flip), b * flip, U * flip)
    np.testing.assert_allclose(other.product, found.product, rtol=0, atol=2e-15)


def close_to_teacher(b, distance):
    """eg of relu(x + e z + b) - relu(x + b): nothing large cancels, each layer has its piece."""
    layers = distance * np.array([-8, -4, -2, -1, 0, 1, 2, 4, 8])
    x, wx = pieces(layers - b, 9)
    z, wz = pieces(np.linspace(-8, 8, 33), 9)
    x, z = np.meshgrid(x, z, indexing="ij")
    upper = np.maximum(x + distance * z + b, 0) - np.maximum(x + b, 0)
    return 0.5 * (wx * norm.pdf(x[:, 0])) @ upper**2 @ (wz * norm.pdf(z[0]))


@pytest.mark.parametrize("distance", [1e-5, 1e-3])
def test_eg_close_to_the_teacher(distance):
    """One unit each; eg is about distance**2 / 4, and right to 1e-15."""
    c = np.array([[1 + distance**2, 1], [1, 1]])
    # Two more units without output weight, so that the program is the same.
    c = jnp.asarray(np.kron(c, np.diag([1.0, 0.5])))
    u, b = jnp.array([1.0, 0, -1, 0]), jnp.array([0.3, 0, 0.3, 0])
    _, eg = two_of_each(RELU, RELU, c, b, u)
    np.testing.assert_allclose(eg, close_to_teacher(0.3, distance), rtol=0, atol=1e-15)


SINGULAR = {
    "student = teacher": [[1, 0], [0.3, 1], [1, 0], [0.3, 1]],
    "student = -teacher": [[1, 0], [0.3, 1], [-1, 0], [0.3, 1]],
    "equal students": [[1, 0], [1, 0], [0.2, 0.9], [-0.5, 0.4]],
    "a student without weights": [[0, 0], [0.3, 1], [1, 0], [0.3, 1]],
}


@eqx.filter_jit
def slopes_of(c, b):
    """Derivatives of all averages of hard tanh with respect to C."""
    averages = lambda c: two_of_each(HARD_TANH, HARD_TANH, c, b, U, Resolution(4, 6, 3))
    return averages(c), jax.jacfwd(averages)(c)


@pytest.mark.nightly
@pytest.mark.parametrize("x", SINGULAR.values(), ids=SINGULAR)
def test_singular_covariances(x):
    """All is finite, and the limit of regular covariances."""
    x, b = np.array(x), jnp.array([0.2, -0.1, 0.2, -0.1])
    found, slopes = slopes_of(jnp.asarray(x @ x.T), b)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((found, slopes)))
    beside = np.concatenate([x, 1e-7 * np.array([[1, 0], [0, 1], [1, 1], [0, -1]])], axis=1)
    limit, _ = slopes_of(jnp.asarray(beside @ beside.T), b)
    for value, right in zip(jax.tree.leaves(found), jax.tree.leaves(limit), strict=True):
        np.testing.assert_allclose(value, right, rtol=0, atol=1e-6)


def test_derivatives_against_differences():
    b, direction = jnp.array([0.2, -0.1, 0.3, 0.0]), np.zeros((4, 4))
    direction[0, 2] = direction[2, 0] = direction[1, 1] = 1.0
    _, slopes = slopes_of(C, b)
    high, low = (slopes_of(C + s * direction, b)[0] for s in (1e-5, -1e-5))
    for slope, up, down in zip(*map(jax.tree.leaves, (slopes, high, low)), strict=True):
        change = np.tensordot(slope, direction, 2)
        np.testing.assert_allclose(change, (up - down) / 2e-5, rtol=0, atol=1e-8)


def test_derivative_of_eg_where_student_equals_teacher():
    """d eg / d C_ac = u_a u_c <g'_a g'_c> / 2, also there."""
    x = np.array(SINGULAR["student = teacher"])
    (found, _), (_, slope) = slopes_of(jnp.asarray(x @ x.T), jnp.array([0.2, -0.1, 0.2, -0.1]))
    inside = lambda b: norm.cdf(1 - b) - norm.cdf(-1 - b)
    np.testing.assert_allclose(slope[0, 2] + slope[2, 0], -inside(0.2), rtol=1e-12)
    np.testing.assert_allclose(found.product, np.zeros((2, 2)), atol=1e-16)


@pytest.mark.nightly
def test_levels():
    """The nodes of a level, and that the difference from the next one is the error."""
    averages = chosen(ld.Problem(hard_tanh, hard_tanh), STATE)
    coarser, finer = averages.neighbours()
    assert [_resolution(a.level) for a in (coarser, averages, finer)] == [
        Resolution(8, 18, 4), RULE_OF_LEVEL_0, Resolution(23, 72, 9)
    ]  # fmt: skip
    c, b = near(0.3), jnp.zeros(4)
    _, right = first_relu(c)
    here, next_one = (
        two_of_each(RELU, RELU, c, b, U, resolution)[0].product
        for resolution in (RULE_OF_LEVEL_0, _resolution(1))
    )
    told, true = np.abs(here - next_one).max(), np.abs(here - right).max()
    assert 0.5 * true < told < 2 * true


def test_final_error_at_small_learning_rate():
    """lr noise**2 / 4 sum_k v_k**2 <g'**2>: Gauss and Hermite's rule was 7 % off."""
    state = ld.Overlaps(np.eye(2), np.eye(2), np.eye(2), b=[0.2, 0.0], b_teacher=[0.2, 0.0])
    problem, rule = ld.Problem(hard_tanh, hard_tanh, noise=0.1), ld.SGD(lr=0.05)
    found = ld.asymptotics.eg_zero_error_small_lr(problem, rule, state)
    inside = sum(norm.cdf(1 - b) - norm.cdf(-1 - b) for b in (0.2, 0.0))
    np.testing.assert_allclose(found, 0.05 * 0.01 / 4 * inside, rtol=1e-13)


EG_OF_RELU = [0.0951829, 0.0951829]
"""eg from the same start with ld.ReLU(), at alpha = 100 and 300; nodes escape at 223."""


@pytest.mark.nightly
def test_plateaus_stay():
    """jax.nn.relu as ReLU, and hard tanh with trained biases, from starts without any order."""
    start = ld.Overlaps(0.25 * np.eye(2), np.zeros((2, 2)), np.eye(2))
    ts = jnp.array([0.0, 100.0, 300.0])
    own = ld.solve_ode(OWN, ld.SGD(lr=0.5), start, ts)
    np.testing.assert_allclose(own.eg[1:], EG_OF_RELU, rtol=1e-5)
    biased = ld.Overlaps(start.Q, start.R, start.T, b=[0.1, 0.1], b_teacher=[0.3, 0.3])
    problem, rule = ld.Problem(hard_tanh, hard_tanh), ld.SGD(lr=0.5, lr_bias=0.3)
    run = ld.solve_ode(problem, rule, biased, ts)
    np.testing.assert_allclose(run.R[-1], np.full((2, 2), run.R[-1, 0, 0]), rtol=0, atol=1e-10)
    np.testing.assert_allclose(run.b[-1, 0], run.b[-1, 1], rtol=0, atol=1e-10)
    assert 0.9 < run.eg[-1] / run.eg[1] < 1.1
