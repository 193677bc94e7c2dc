"""ReLU averages against quadrature that shares nothing with the closed forms.

The oracle integrates over the positive wedge of the fields with steps, in polar coordinates with
panels refined towards every edge and kink, and takes the conditional average of the two ReLUs
from Owen's T function. It works on vectors whose scalar products are the covariance, so that
nearly parallel fields lose no digits.
"""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import root
from scipy.special import ndtr, owens_t

from learndyn.averages._cones import cone
from learndyn.averages._relu import I2, I3, I4, J2, first_layer, pair
from learndyn.averages._relu_quadruples import average_by_way

PATTERNS = (
    (0, 1, 2, 3),
    (0, 1, 2, 2),
    (0, 1, 0, 2),
    (0, 1, 2, 1),
    (0, 1, 0, 0),
    (0, 1, 1, 1),
    (0, 1, 0, 1),
    (0, 0, 1, 2),
    (0, 0, 1, 1),
    (0, 0, 0, 1),
    (0, 0, 0, 0),
)
"""Every way in which indices of I4(i, k, a, b) can coincide."""

I3_PATTERNS = ((0, 1, 2), (0, 0, 1), (0, 1, 1), (0, 1, 0), (0, 0, 0))
PAIRS = ((0, 1), (0, 0))


@jax.jit
def every(c):
    """All averages of four fields, by name, one entry per pattern."""
    return {
        "J2": jnp.stack([J2(c, *index) for index in PAIRS]),
        "I2": jnp.stack([I2(c, *index) for index in PAIRS]),
        "I3": jnp.stack([I3(c, *index) for index in I3_PATTERNS]),
        "I4": jnp.stack([I4(c, *index) for index in PATTERNS]),
    }


all_pairs = jax.jit(pair)


@partial(jax.jit, static_argnums=2)
def layer(c, u, k, noise_variance):
    return first_layer(c, jnp.asarray(u), k, jnp.asarray(noise_variance))


# ----------------------------------------------------------------------------- the oracle


def density(x):
    return np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)


def both_below(h, k, rho, rest):
    """P(X < h, Y < k) at correlation rho = +-sqrt(1 - rest**2), by Owen (1956)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (k - rho * h) / (h * rest), (h - rho * k) / (k * rest)
    opposite = h * k < 0
    return 0.5 * (ndtr(h) + ndtr(k) - opposite) - owens_t(h, first) - owens_t(k, second)


def relu_mean(mean, deviation):
    """E max(0, X)."""
    if deviation == 0:
        return np.maximum(mean, 0)
    return mean * ndtr(mean / deviation) + deviation * density(mean / deviation)


def relu_square_mean(mean, deviation):
    """E max(0, X)**2."""
    if deviation == 0:
        return np.maximum(mean, 0) ** 2
    alpha = mean / deviation
    return (mean**2 + deviation**2) * ndtr(alpha) + mean * deviation * density(alpha)


def relu_relu_mean(mean_x, mean_y, x, y):
    """E max(0, X) max(0, Y) with deviations of vectors x and y from the means; Rosenbaum (1961)."""
    s_x, s_y = np.linalg.norm(x), np.linalg.norm(y)
    if s_x == 0 or s_y == 0:
        return relu_mean(mean_x, s_x) * relu_mean(mean_y, s_y)
    rho = x @ y / (s_x * s_y)
    rest = np.linalg.norm(y / s_y - rho * x / s_x)
    a, b = mean_x / s_x, mean_y / s_y
    total = (a * b + rho) * both_below(a, b, rho, rest)
    total += a * density(b) * ndtr((a - rho * b) / rest)
    total += b * density(a) * ndtr((b - rho * a) / rest)
    total += rest * density(a) * density((b - rho * a) / rest)
    return s_x * s_y * total


def legendre(ends, count=16):
    """Nodes and weights of Gauss-Legendre panels between consecutive ends."""
    x, w = np.polynomial.legendre.leggauss(count)
    half = np.diff(ends)[:, None] / 2
    return (ends[:-1, None] + half * (1 + x)).ravel(), (half * w).ravel()


def towards(edges, depth=12, ratio=0.1):
    """Ends of panels that shrink towards every edge."""
    fine = 0.5 * ratio ** np.arange(depth)
    cuts = np.concatenate([[0], fine[::-1], (1 - fine)[1:], [1]])
    panels = [low + (high - low) * cuts for low, high in pairwise(np.unique(edges))]
    return np.unique(np.concatenate(panels))


def radii():
    """Nodes and weights of the integral over rho from 0 to infinity, times exp(-rho**2 / 2)."""
    rho, weight = legendre(np.append(0, 10 * 0.4 ** np.arange(12)[::-1]), count=20)
    return rho, weight * np.exp(-0.5 * rho**2)


def plane(x, i, k):
    """An orthonormal basis (2, d) of fields i and k."""
    e1 = x[i] / np.linalg.norm(x[i])
    e2 = x[k] - (x[k] @ e1) * e1
    e2 = e2 - (e2 @ e1) * e1
    return np.stack([e1, e2 / np.linalg.norm(e2)])


def wedge(basis, x_k, kinks=()):
    """Where basis[0] and x_k are positive: points (2, n) in the basis, and weights.

    kinks: vectors whose zeros need refinement.
    """

    def angle(v):
        return np.arctan2(basis[1] @ v, basis[0] @ v)

    low, high = angle(x_k) - np.pi / 2, np.pi / 2
    zeros = np.array([angle(v) + side * np.pi / 2 for v in kinks for side in (-1, 1)])
    zeros = (zeros + np.pi) % (2 * np.pi) - np.pi
    inside = zeros[(zeros > low + 1e-12) & (zeros < high - 1e-12)]
    (phi, w_phi), (rho, w_rho) = legendre(towards([low, *inside, high])), radii()
    points = rho * np.stack([np.cos(phi), np.sin(phi)])[:, :, None]
    weight = w_phi[:, None] * w_rho * rho / (2 * np.pi)
    return points.reshape(2, -1), weight.ravel()


def half_line():
    """Where one field is positive: points (1, n), and weights."""
    rho, weight = radii()
    return rho[None], weight / np.sqrt(2 * np.pi)


def domain(x, i, k, *others):
    """Basis of fields i and k, points where both are positive, and weights."""
    if i == k:
        return x[i][None] / np.linalg.norm(x[i]), *half_line()
    basis = plane(x, i, k)
    return basis, *wedge(basis, x[k], kinks([(x[a], left(x[a], basis)) for a in others]))


def left(v, basis):
    """What a vector has beside the basis, exactly 0 where that is rounding."""
    rest = v - (basis @ v) @ basis
    rest = rest - (basis @ rest) @ basis
    return np.where(np.linalg.norm(rest) < 1e-13, 0.0, rest)


def kinks(fields):
    """Where a field changes sign, and where two change which one is the larger in deviations."""
    vectors = [v for v, _ in fields]
    units = [v / np.linalg.norm(rest) for v, rest in fields if rest.any()]
    if len(units) == 2:
        vectors += [units[0] - units[1], units[0] + units[1]]
    return vectors


def oracle_I4(x, i, k, a, b):
    """<theta_i theta_k a_+ b_+> of the fields with vectors x."""
    basis, points, weight = domain(x, i, k, *sorted({a, b} - {i, k}))
    mean_a, mean_b = (basis @ x[a]) @ points, (basis @ x[b]) @ points
    rest_a, rest_b = left(x[a], basis), left(x[b], basis)
    if a == b:
        return weight @ relu_square_mean(mean_a, np.linalg.norm(rest_a))
    return weight @ relu_relu_mean(mean_a, mean_b, rest_a, rest_b)


def oracle_I3(x, i, a, b):
    """<theta_i a b_+>, over the wedge where i and b are positive."""
    basis, points, weight = domain(x, i, b)
    return weight @ ((basis @ x[a] @ points) * (basis @ x[b] @ points))


def oracle_I2(x, a, b):
    """<a_+ b_+>."""
    basis, points, weight = domain(x, a, b)
    return weight @ ((basis @ x[a] @ points) * (basis @ x[b] @ points))


def oracle_J2(x, i, k):
    """<theta_i theta_k>."""
    return domain(x, i, k)[2].sum()


def oracles(x):
    """What `every` should give for the covariance x x^T."""
    return {
        "J2": np.array([oracle_J2(x, *index) for index in PAIRS]),
        "I2": np.array([oracle_I2(x, *index) for index in PAIRS]),
        "I3": np.array([oracle_I3(x, *index) for index in I3_PATTERNS]),
        "I4": np.array([oracle_I4(x, *index) for index in PATTERNS]),
    }


def errors(x):
    """Errors of `every`, in units of the deviations of the fields that are not steps."""
    s = np.linalg.norm(x, axis=1)
    scale = {
        "J2": 1.0,
        "I2": np.array([s[a] * s[b] for a, b in PAIRS]),
        "I3": np.array([s[a] * s[b] for _, a, b in I3_PATTERNS]),
        "I4": np.array([s[a] * s[b] for _, _, a, b in PATTERNS]),
    }
    values, expected = every(covariance(x)), oracles(x)
    return {name: np.abs(values[name] - expected[name]) / scale[name] for name in values}


# ----------------------------------------------------------------------------- covariances


def covariance(x):
    return jnp.array(x @ x.T)


def nearly(v, size, rng):
    """A vector at about this angle to v, of another length."""
    other = rng.normal(size=v.shape)
    other -= (other @ v) / (v @ v) * v
    return rng.uniform(0.5, 2.0) * (v + size * np.linalg.norm(v) / np.linalg.norm(other) * other)


def singular_cases(rng, size):
    """Vectors of four fields, of which some are dependent but for `size`."""
    x = rng.normal(size=(4, 5))
    yield "student = teacher", [x[0], x[1], nearly(x[0], size, rng), x[3]]
    yield "both students", [x[0], x[1], nearly(x[0], size, rng), nearly(x[1], size, rng)]
    yield "parallel students", [x[0], nearly(x[0], size, rng), x[2], x[3]]
    yield "all parallel", [x[0], *(nearly(x[0], size, rng) for _ in range(3))]
    yield "antiparallel", [x[0], x[1], nearly(x[0], size, rng), -nearly(x[0], size, rng)]
    for rank in (2, 3):
        y = rng.normal(size=(4, 4))
        y[:, rank:] *= size
        yield f"rank {rank}", list(y)


# ----------------------------------------------------------------------------- values


@pytest.mark.parametrize("dims", [4, 7])
def test_every_average_at_random_covariances(rng, dims):
    for _ in range(3):
        error = errors(rng.normal(size=(4, dims)))
        assert error.pop("I4").max() < 1e-11
        assert max(e.max() for e in error.values()) < 1e-13


@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-5, 1e-7])
def test_nearly_singular_covariances(rng, size):
    # 1 - |r| = size**2 / 2, down to 5e-15. There rounding of C moves the probability of two
    # parallel steps by 1e-10 and more, whatever the formula.
    steps = 2e-9 if size < 1e-6 else 1e-10
    for name, x in singular_cases(rng, size):
        error = errors(np.array(x))
        assert error["J2"].max() < steps, name
        assert error["I4"].max() < steps, name
        assert max(error["I2"].max(), error["I3"].max(), error["I4"][2:].max()) < 1e-12, name


def test_equal_fields_give_the_form_of_equal_indices(rng):
    """Continuity: at exactly singular covariances the general form has the right limit.

    Parallel steps lose digits, since J2 and I4 have infinite slopes there.
    """
    x = np.append(rng.normal(size=(3, 3)), np.ones((1, 3)), axis=0)
    for four, pattern in (
        ([0, 1, 2, 2], (0, 1, 2, 2)),
        ([0, 1, 0, 2], (0, 1, 0, 2)),
        ([0, 1, 0, 1], (0, 1, 0, 1)),
        ([0, 1, 1, 1], (0, 1, 1, 1)),
        ([0, 0, 1, 2], (0, 0, 1, 2)),
        ([0, 0, 0, 1], (0, 0, 0, 1)),
        ([0, 0, 0, 0], (0, 0, 0, 0)),
    ):
        value = every(covariance(x[four]))["I4"][0]
        expected = every(covariance(x))["I4"][PATTERNS.index(pattern)]
        assert float(value) == pytest.approx(float(expected), abs=1e-8)


@pytest.mark.parametrize("last", [[0.8, 0.6], [0.28, 0.96], [-0.6, 0.8]])
def test_four_vectors_in_one_plane(last):
    """Free of rounding, so that all conditional variances are exactly zero."""
    x = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], last])
    value = jax.jit(lambda x: average_by_way(cone(x)))(jnp.array(x))
    assert float(value[0]) == pytest.approx(oracle_I4(x, 0, 1, 2, 3), abs=1e-12)
    assert float(value[1]) == pytest.approx(oracle_I4(x, 2, 3, 0, 1), abs=1e-12)


def test_symmetries_of_the_four_field_average(rng):
    x = rng.normal(size=(4, 6))
    value = every(covariance(x))["I4"][0]
    for order in ([1, 0, 2, 3], [0, 1, 3, 2], [1, 0, 3, 2]):
        assert float(every(covariance(x[order]))["I4"][0]) == pytest.approx(float(value), abs=1e-11)


def test_pair_average_without_pi_half_is_wrong(rng):
    """A known misprint, <a_+ b_+> = [sqrt(D) + C_ab arcsin r] / 2 pi, is told apart."""
    x = rng.normal(size=(2, 3))
    (s_a, s_b), c = np.linalg.norm(x, axis=1), x[0] @ x[1]
    area, angle = np.sqrt((s_a * s_b) ** 2 - c**2), np.arcsin(c / (s_a * s_b))
    right, misprint = ((area + c * (angle + more)) / (2 * np.pi) for more in (np.pi / 2, 0.0))
    assert all_pairs(covariance(x))[0, 1] == pytest.approx(right, abs=1e-13)
    assert oracle_I2(x, 0, 1) == pytest.approx(right, abs=1e-13)
    assert abs(misprint - right) > 1e-3


# ----------------------------------------------------------------------------- first_layer


def find(patterns, *equivalent):
    """Fields, in order of appearance, and number of the pattern that one of these indices has."""
    for indices in equivalent:
        fields = list(dict.fromkeys(indices))
        pattern = tuple(fields.index(x) for x in indices)
        if pattern in patterns:
            return fields, patterns.index(pattern)
    raise AssertionError(f"no pattern for {equivalent}")


def first_four(c, fields):
    """The covariance of these fields and, up to four, of others."""
    order = [*fields, *(x for x in range(len(c)) if x not in fields)][:4]
    return c[np.ix_(order, order)]


def direct_sums(c, u, k, noise_variance):
    """first_layer's results with c as its own probe, from the averages one at a time."""
    d = range(len(u))
    c = np.pad(c, (0, max(0, 4 - len(u))))  # fields that vanish fill up to four

    def one_I3(i, p, b):
        fields, number = find(I3_PATTERNS, (i, p, b))
        return every(first_four(c, fields))["I3"][number]

    def one_I4(i, j, a, b):
        fields, number = find(PATTERNS, (i, j, a, b), (i, j, b, a), (j, i, a, b), (j, i, b, a))
        return every(first_four(c, fields))["I4"][number]

    def one_J2(i, j):
        return every(first_four(c, list(dict.fromkeys((i, j)))))["J2"][int(i == j)]

    def product(i, j):
        errors = sum(u[a] * u[b] * one_I4(i, j, a, b) for a in d for b in d)
        return u[i] * u[j] * (errors + noise_variance * one_J2(i, j))

    gradient = [[u[i] * sum(u[b] * one_I3(i, p, b) for b in d) for p in d] for i in range(k)]
    return np.array(gradient), np.array([[product(i, j) for j in range(k)] for i in range(k)])


@pytest.mark.parametrize(("k", "m"), [(1, 1), (2, 1), (2, 2), (4, 1)])
def test_first_layer_is_the_sum_of_its_averages(rng, k, m):
    x, u = rng.normal(size=(k + m, k + m)), rng.normal(size=k + m)
    c = covariance(x)
    gradient, product = layer(c, u, k, 0.3)
    expected = direct_sums(c, u, k, 0.3)
    np.testing.assert_allclose(gradient @ c, expected[0], atol=1e-12)
    np.testing.assert_allclose(product, expected[1], atol=1e-10)


def test_first_layer_against_monte_carlo(rng):
    """9 + 24 comparisons, three of the probes outside the network, at 5 standard errors."""
    k, m, p, samples = 3, 2, 3, 200_000
    x, u = rng.normal(size=(k + m + p, 6)) / 2, rng.normal(size=k + m)
    fields = rng.normal(size=(samples, 6)) @ x.T
    f, probe = fields[:, : k + m], fields[:, k + m :]
    errors = np.maximum(f, 0) @ u - 0.5 * rng.normal(size=samples)
    c_i = u[:k] * (f[:, :k] > 0) * errors[:, None]
    c = covariance(x)
    gradient, product = layer(c[: k + m, : k + m], u, k, 0.25)
    for value, other in ((product, c_i), (gradient @ c[: k + m], np.hstack([f, probe]))):
        each = c_i[:, :, None] * other[:, None, :]
        z = (each.mean(axis=0) - value) / (each.std(axis=0) / np.sqrt(samples))
        assert np.abs(z).max() < 5


def test_first_layer_of_one_unit_ends_at_the_known_error():
    """k = m = 1 with label noise: eg -> lr sigma**2 / 4 (2 - lr) for every lr, up to a
    correction that is linear in sigma (Goldt et al. 2020 have it quadratic for erf)."""
    lr = 0.7
    u = np.array([1.0, -1.0])

    def drift(state, sigma):
        q, r = 1 + sigma**2 * state[0], 1 + sigma**2 * state[1]
        c = jnp.array([[q, r], [r, 1.0]])
        gradient, product = layer(c, u, 1, sigma**2)
        c_lambda, c_rho = (gradient @ c)[0]
        return np.array([-2 * c_lambda + lr * product[0, 0], -c_rho]) / sigma**2

    def excess(sigma):
        q, r = 1 + sigma**2 * root(drift, [0.5, 0.1], args=(sigma,), tol=1e-12).x
        averages = all_pairs(jnp.array([[q, r], [r, 1.0]]))
        eg = 0.5 * (averages[0, 0] - 2 * averages[0, 1] + averages[1, 1])
        return float(eg) / (lr * sigma**2 / (4 * (2 - lr))) - 1

    assert abs(excess(1e-3)) < 1e-4
    assert excess(1e-2) / excess(1e-3) == pytest.approx(10, rel=0.01)


def products_in_a_plane(angle, length, u, k):
    """<c_i c_k> of fields with these polar coordinates: the integral over the angle of x, with
    Gauss-Legendre between kinks, in which nothing cancels."""
    zeros = np.sort((angle[:, None] + [-np.pi / 2, np.pi / 2]).ravel() % (2 * np.pi))
    phi, weight = legendre(np.append(zeros, zeros[0] + 2 * np.pi))
    fields = length[:, None] * np.cos(phi - angle[:, None])
    c = u[:k, None] * (fields[:k] > 0) * (u @ np.maximum(fields, 0))
    return c * weight / np.pi @ c.T  # <|x|**2> = 2


@pytest.mark.parametrize("size", [1e-2, 1e-3, 1e-4])
def test_first_layer_close_to_zero_error(rng, size):
    """Three units on each of two teacher units, up to `size`: the products are of order size**2,
    sums of hundreds of averages of order 1."""
    near = size * rng.normal(size=(2, 6))
    angle = np.append([0.3, 1.9] + near[0].reshape(3, 2), [[0.3, 1.9]], axis=0).ravel()
    length = np.append(1 + near[1], [1, 1])
    u = np.append(np.full(6, 1 / 3), [-1, -1])
    x = length[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    exact = products_in_a_plane(angle, length, u, 6)
    error = layer(covariance(x), u, 6, 0.0)[1] - exact
    assert np.abs(error).max() < 1e-4 * np.abs(exact).max()


@pytest.mark.parametrize(("m", "z"), [(2, 2), (2, 3), (3, 2)])
def test_first_layer_vanishes_at_zero_error(m, z):
    x, u = np.tile(np.eye(m), (z + 1, 1)), np.append(np.full(m * z, 1 / z), np.full(m, -1.0))
    gradient, product = layer(covariance(x), u, m * z, 0.0)
    assert np.abs(gradient @ covariance(x)).max() < 1e-15
    assert np.abs(product).max() < 1e-15


def test_first_layer_of_a_matrix_that_is_not_quite_positive():
    """What an ODE solver may hand over: units parallel, and then an error of 1e-9."""
    c = np.tile(np.eye(2), (3, 3))
    c[0, 2] = c[2, 0] = 1 + 1e-9
    gradient, product = layer(c, np.array([0.5, 0.5, 0.5, 0.5, -1.0, -1.0]), 4, 0.0)
    assert np.abs(gradient @ c).max() < 1e-8
    assert np.abs(product).max() < 1e-8
    assert np.linalg.eigvalsh(product).min() > -1e-15


def test_first_layer_under_jit_and_vmap(rng):
    x = rng.normal(size=(3, 4, 4))
    c, u = jnp.array(x @ x.swapaxes(1, 2)), jnp.array(rng.normal(size=4))
    batched = jax.jit(jax.vmap(lambda c: first_layer(c, u, 2, jnp.array(0.1))))(c)
    for n in range(3):
        single = layer(c[n], u, 2, 0.1)
        for one, many in zip(single, batched, strict=True):
            np.testing.assert_allclose(many[n], one, atol=1e-12)


# ----------------------------------------------------------------------------- derivatives


def symmetric_directions(d):
    directions = []
    for a, b in zip(*np.triu_indices(d), strict=True):
        e = np.zeros((d, d))
        e[a, b] = e[b, a] = 1.0
        directions.append(e)
    return jnp.array(directions)


def differences(f, c, direction, step=2e-3):
    """Central difference with two steps of Richardson's extrapolation."""

    def central(h):
        return (f(c + h * direction) - f(c - h * direction)) / (2 * h)

    first, second, third = central(step), central(step / 2), central(step / 4)
    return (16 * (4 * third - second) - (4 * second - first)) / 45


def flat_first_layer(c, u, k):
    return jnp.concatenate([part.ravel() for part in first_layer(c, u, k, jnp.array(0.3))])


def well_conditioned(rng, d):
    """A covariance whose correlations and eigenvalues stay away from their limits."""
    x = rng.normal(size=(d, 4 * d))
    return jnp.array(x @ x.T / (4 * d))


@pytest.mark.parametrize("name", ["every", "pair", "first_layer"])
def test_derivatives_against_differences(rng, name):
    d = 4
    u = jnp.array(rng.normal(size=d))
    f = {
        "every": jax.jit(lambda c: jnp.concatenate(list(every(c).values()))),
        "pair": all_pairs,
        "first_layer": jax.jit(lambda c: flat_first_layer(c, u, 3)),
    }[name]
    c = well_conditioned(rng, d)
    forward = jax.jit(jax.jacfwd(f))(c)
    if name == "first_layer":
        np.testing.assert_allclose(jax.jit(jax.jacrev(f))(c), forward, atol=1e-13)
    for direction in symmetric_directions(d):
        exact = jnp.sum(forward * direction, axis=(-2, -1))
        np.testing.assert_allclose(exact, differences(f, c, direction), atol=1e-9)


@pytest.mark.parametrize(
    ("order", "bound"),
    [([0, 1, 0, 1], 20), ([0, 1, 2, 2], 20), ([0, 0, 1, 2], 1e8), ([0, 0, 0, 0], 1e8)],
    ids=["student = teacher", "parallel teachers", "parallel students", "all parallel"],
)
def test_finite_with_bounded_derivatives_at_singular_covariances(rng, order, bound):
    """Four fields, two students; the true slopes of parallel students are infinite."""
    x = rng.normal(size=(3, 3))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True))[order]
    value, slopes = value_and_slopes(covariance(x), jnp.array([1.0, 0.7, -1.2, -0.4]))
    assert np.isfinite(value).all()
    assert np.abs(slopes).max() < bound


def test_fields_that_vanish(rng):
    """step(0) = 0: a student at zero does not move, a teacher at zero changes nothing."""
    x = rng.normal(size=(4, 4))
    u = jnp.array([1.0, 0.7, -1.2, -0.4])
    for zero in (0, 3):
        y = x.copy()
        y[zero] = 0.0
        value, slopes = value_and_slopes(covariance(y), u)
        gradient, product = value[:8].reshape(2, 4), value[8:].reshape(2, 2)
        assert np.isfinite(value).all()
        assert np.isfinite(slopes).all()
        if zero == 0:
            assert not gradient[0].any()
            assert not product[0].any()
            assert product[1, 1] > 0
        else:
            rest = covariance(y)[:3, :3]
            expected = layer(rest, u[:3], 2, 0.3)
            np.testing.assert_allclose(gradient[:, :3], expected[0], atol=1e-12)
            np.testing.assert_allclose(product, expected[1], atol=1e-10)


def test_nan_stays_nan():
    c = jnp.eye(4).at[1, 2].set(jnp.nan).at[2, 1].set(jnp.nan)
    for bad in (c, jnp.full((4, 4), jnp.nan)):
        gradient, product = layer(bad, np.ones(4), 2, 0.1)
        assert jnp.isnan(gradient[1, 2])
        assert jnp.isnan(product[1]).all()


@jax.jit
def value_and_slopes(c, u):
    f = partial(flat_first_layer, u=u, k=2)
    return f(c), jax.jacfwd(f)(c)


def test_derivatives_close_to_parallel_units(rng):
    """dJ2/dr = 1 / (2 pi q), q = sqrt(1 - r**2), but for rounding of r, down to q = 1e-7; then
    bounded."""
    slope = jax.jit(jax.grad(lambda r: J2(jnp.array([[1.0, r], [r, 1.0]]), 0, 1)))
    for q in (1e-1, 1e-3, 1e-5):
        r = np.sqrt((1 - q) * (1 + q))
        exact_q = np.sqrt((1 - r) * (1 + r))
        assert float(slope(r)) == pytest.approx(1 / (2 * np.pi * exact_q), rel=1e-9 + 1e-15 / q**2)
    assert float(slope(1.0)) == 0.0
    assert abs(float(slope(1.0 - 1e-16))) <= 1e7
