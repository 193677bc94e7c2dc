"""Fluctuations of linear networks with two students and a teacher. A sample's increments are
quadratic forms of Gaussian numbers, whose means and covariances stand here in NumPy by Wick's
theorem."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import learndyn as ld
from learndyn.dynamics._diffusion import diffusion, noise_averages

NOISE, V, V_TEACHER = 0.3, np.array([0.8, -0.6]), np.array([1.2])
B, B_TEACHER = np.array([0.3, -0.1]), np.array([0.2])
S, F = np.array([0.4, 1.7]), np.array([0.6, 0.4])
"""Eigenvalues and shares of two groups of directions."""

UNSEEN = 0.35
"""Variance of what the teacher sees beyond the inputs."""

VECTORS = np.random.default_rng(0).normal(size=(2, 3, 5)) * np.sqrt(F)[:, None, None] / 2
C = np.einsum("gin,gjn->gij", VECTORS, VECTORS)
"""Overlaps of two students and a teacher in each group."""

PROBLEM = ld.Problem(ld.Linear(), ld.Linear(), noise=NOISE)


def increments(rows, taught, v, rates, batch, sizes, b=None):
    """Forms A of all increments x^T A x, n times what a sample does to overlaps and layers.

    x: Gaussian numbers, of which the last is the label's noise, and 1. rows: those of the fields
    in each group, (groups, 3, x). taught: the row of the teacher's output. sizes: |x|**2/n in each
    group. Forms are (groups, 2, 2, x, x), (groups, 2, x, x) and two of (2, x, x).
    """
    form = lambda x, y: (
        0.5 * (x[..., :, None] * y[..., None, :] + y[..., :, None] * x[..., None, :])
    )
    lr, lr_second, lr_bias = rates
    one, noise = np.eye(len(taught))[[-1, -2]]
    fields = sum(rows)[:2] + (0.0 if b is None else b[:, None] * one)
    error = v @ fields - taught - NOISE * noise
    pull = lr * v[:, None, None, None] * form(error, rows)[:, None]  # (groups, 2, 3, x, x)
    square = np.einsum("g,i,j,xy->gijxy", sizes, v, v, form(error, error)) * lr**2 / batch
    q = square - pull[:, :, :2] - pull[:, :, :2].swapaxes(1, 2)
    dv, db = -lr_second * form(error, fields), -lr_bias * v[:, None, None] * form(error, one)
    return q, -pull[:, :, 2], dv, db


def ordered(q, r, *vectors):
    """In the order of the coordinates."""
    triangle = q[:, [0, 0, 1], [0, 1, 1]]
    return np.concatenate([x.reshape(-1, *q.shape[3:]) for x in (triangle, r, *vectors)])


def moments(forms, covariance):
    """<x^T A x> and Cov(x^T A x, x^T B x), where x has the covariance and then a 1."""
    c = np.zeros((len(covariance) + 1,) * 2)
    c[:-1, :-1] = covariance
    turned = forms @ c
    half = forms[:, :, -1] @ c  # of A m, with the mean m
    mean = np.trace(turned, axis1=1, axis2=2) + forms[:, -1, -1]
    return mean, 2 * np.einsum("pxy,qyx->pq", turned, turned) + 4 * half @ forms[:, :, -1].T


def of_groups(c, b_teacher=0.0):
    """Rows of the fields in two groups, that of the teacher's output, and the covariance of x."""
    unit = np.eye(9)  # three fields of each group, what is unseen of the teacher's, noise, 1
    covariance = np.zeros((8, 8))
    covariance[:3, :3], covariance[3:6, 3:6] = S[:, None, None] * c
    covariance[6, 6], covariance[7, 7] = UNSEEN, 1.0
    rows = np.stack([unit[:3], unit[3:6]])
    taught = V_TEACHER[0] * (rows[0, 2] + rows[1, 2] + unit[6] + b_teacher * unit[8])
    return rows, taught, covariance


def grouped(c, **biases):
    q, r, t = c[:, :2, :2], c[:, :2, 2:], c[:, 2:, 2:]
    return ld.GroupedOverlaps(q, r, t, ld.Spectrum(S, F), [[UNSEEN]], V, V_TEACHER, **biases)


def noise_of(rule, start):
    flow = ld.ode_term(PROBLEM, rule, start).vector_field
    nodes = noise_averages(PROBLEM, rule, flow.start)
    return diffusion(flow, nodes, jnp.zeros(()), flow.pack(start))


def test_noise_of_groups_on_the_sphere():
    """With all layers trained. That each w_i is brought back to its length takes its growth h_i
    from the overlaps that it is in."""
    c = C.copy()
    length = np.sqrt(np.diagonal(c[:, :2, :2].sum(0)))
    c[:, :2] /= length[:, None]
    c[:, :, :2] /= length
    rows, taught, covariance = of_groups(c, B_TEACHER[0])
    q, r, dv, db = increments(rows, taught, V, (0.4, 0.7, 0.5), 3, S * F, B)
    h = q.sum(axis=0)[[0, 1], [0, 1]] / 2
    q = q - c[:, :2, :2, None, None] * (h[:, None] + h)
    r = r - c[:, :2, 2, None, None] * h
    right = moments(ordered(q, r, dv, db), covariance)[1] / 3

    rule = ld.SGD(0.4, 0.7, 0.5, weight_decay=0.2, batch_size=3, spherical=True)
    found = noise_of(rule, grouped(c, b=B, b_teacher=B_TEACHER))
    np.testing.assert_allclose(found, right, rtol=1e-10, atol=1e-13)


def test_noise_of_white_inputs_that_are_noisy():
    """The students see x + 0.8 n and move along it; labels are those of x."""
    s, c, unit = 0.8, C[0], np.eye(8)  # three fields of x, three of n, noise, 1
    covariance = np.zeros((7, 7))
    covariance[:3, :3], covariance[3:6, 3:6], covariance[6, 6] = c, s**2 * c, 1.0
    rows = (unit[:3] + unit[3:6])[None]
    forms = increments(rows, V_TEACHER[0] * unit[2], V, (0.4, 0.7, 0.0), 3, [1 + s**2])
    right = moments(ordered(*forms[:3]), covariance)[1] / 3

    start = ld.Overlaps(c[:2, :2], c[:2, 2:], c[2:, 2:], V, V_TEACHER)
    rule = ld.rules.InputNoise(s, lr=0.4, lr_second=0.7, batch_size=3)
    np.testing.assert_allclose(noise_of(rule, start), right, rtol=1e-10, atol=1e-13)


@pytest.fixture(scope="module")
def both():
    """A run of groups, and its overlaps and their covariances by Lyapunov's equation in SciPy, with
    derivatives by differences, exact for quadratic drifts."""
    ts, rates, batch = np.array([0.0, 0.4, 1.1]), (0.4, 0.3, 0.0), 2

    def step(y):
        c = C.copy()
        for own, q, r in zip(c, y[:6].reshape(2, 3), y[6:10].reshape(2, 2), strict=True):
            own[:2, :2] = q[[[0, 1], [1, 2]]]
            own[:2, 2] = own[2, :2] = r
        rows, taught, covariance = of_groups(c)
        q, r, dv, _ = increments(rows, taught, y[10:], rates, batch, S * F)
        return moments(ordered(q, r, dv), covariance)

    def growth(t, state):
        y, sigma = state[:12], state[12:].reshape(12, 12)
        mean, noise = step(y)
        slopes = [step(y + x)[0] - step(y - x)[0] for x in 1e-3 * np.eye(12)]
        stretched = np.stack(slopes, axis=-1) / 2e-3 @ sigma
        return np.concatenate([mean, (stretched + stretched.T + noise / batch).ravel()])

    first = np.concatenate([ordered(C[:, :2, :2], C[:, :2, 2]), V, np.zeros(12**2)])
    right = scipy.integrate.solve_ivp(growth, (0, 1.1), first, "DOP853", ts, rtol=1e-7, atol=1e-10)
    rule = ld.SGD(*rates[:2], batch_size=batch)
    found = ld.fluctuations(PROBLEM, rule, grouped(C), ts)
    return found, right.y[:12].T, right.y[12:].T.reshape(3, 12, 12)


def near(found, right):
    """To a hundred times the tolerance of the library's solver, 1e-7."""
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-7)


def test_covariances_along_a_run_of_groups(both):
    found, ys, sigma = both
    near(found.mean.Q_groups[:, 1, 0], ys[:, 3:5])
    near(found.mean.v, ys[:, 10:])
    near(found.covariance, sigma)


SUMS = [(0, 3), (1, 4), (2, 5), (6, 8), (7, 9), (10,), (11,)]
"""Coordinates of all groups whose sums are Q_11, Q_12, Q_22, R_1, R_2, v_1, v_2."""


def test_spreads_of_groups_of_their_sums_and_of_the_error(both):
    found, ys, sigma = both
    sums = np.array([np.isin(np.arange(12), own) for own in SUMS], float)
    deviations = lambda sigma: np.sqrt(np.diagonal(sigma, axis1=1, axis2=2))
    q, r, v = np.split(deviations(sums @ sigma @ sums.T), [3, 5], axis=1)
    near(found.std.Q, q[:, [[0, 1], [1, 2]]])
    near(found.std.R[:, :, 0], r)
    near(found.std.v, v)
    of_groups = deviations(sigma)
    near(found.std.Q_groups, of_groups[:, :6].reshape(3, 2, 3)[:, :, [[0, 1], [1, 2]]])
    near(found.std.R_groups[..., 0], of_groups[:, 6:10].reshape(3, 2, 2))

    # eg = (v Q v - 2 v R v* + ...) / 2 with the fields' Q and R, and its gradient
    for y, covariance, std in zip(ys, sigma, found.std.eg, strict=True):
        q, r, v = S @ y[:6].reshape(2, 3), S @ y[6:10].reshape(2, 2), y[10:]
        of_v = q[[[0, 1], [1, 2]]] @ v - V_TEACHER[0] * r
        of_q = np.array([v[0] ** 2, 2 * v[0] * v[1], v[1] ** 2]) / 2
        gradient = np.concatenate([*np.outer(S, of_q), *np.outer(S, -V_TEACHER[0] * v), of_v])
        near(std, np.sqrt(gradient @ covariance @ gradient))


def test_the_norm_counts_overlaps_off_the_diagonal_of_Q_twice(both):
    """E sqrt(X) is int (1 - E exp(-s X)) s**(-3/2) ds / (2 sqrt(pi)), with s = u**-2, in SciPy."""
    found, _, sigma = both
    sums = np.array([np.isin(np.arange(12), own) for own in [*SUMS[:2], *SUMS[1:]]], float)
    norms = []
    for covariance in sums @ sigma[1:] @ sums.T:
        eigenvalues = np.linalg.eigvalsh(covariance)
        rest = lambda u, e: 2 - 2 * np.prod(1 + 2 * u**-2 * e) ** -0.5
        whole = scipy.integrate.quad(rest, 0, np.inf, (eigenvalues,))[0]
        norms.append(whole / (2 * np.sqrt(np.pi)))
    near(found.mean_norm, [0.0, *norms])
    near(found.constant, max(norms))
