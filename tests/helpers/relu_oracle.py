"""ReLU averages by quadrature that shares nothing with the closed forms.

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
from scipy.special import ndtr, owens_t

from learndyn.integrals.relu.committee import I2, I3, I4, J2, first_layer, pair

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
    """Averages of the gradient c_i = u_i s_i, from those of the error signal s_i."""
    u = jnp.asarray(u)
    gradient, product = first_layer(c, u, k, jnp.asarray(noise_variance))
    return u[:k, None] * gradient, u[:k, None] * u[:k] * product


def covariance(x):
    return jnp.array(x @ x.T)


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
    """The part of v orthogonal to the basis, exactly 0 where it is rounding."""
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
