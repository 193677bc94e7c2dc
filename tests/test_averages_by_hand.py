"""Averages over a handful of nodes, written once more in NumPy, with their derivatives."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.special

import learndyn as ld
from learndyn.averages import GaussHermite, _rare
from learndyn.averages._beyond_constant import BeyondConstant, beyond_constant
from learndyn.averages._nodes import NodeAverages
from learndyn.averages._samples import (
    modulations,
)
from learndyn.averages._series import at_level
from learndyn.integrals.smooth import Exact
from learndyn.rules import Modulation

Q, R, T = np.array([[0.9, 0.2], [0.2, 0.6]]), np.array([[0.3], [-0.1]]), np.array([[1.4]])
V, V_TEACHER, B, B_TEACHER = (
    np.array([0.7, -1.3]),
    np.array([1.1]),
    np.array([0.2, -0.3]),
    np.array([0.4]),
)
STATE = ld.Overlaps(Q, R, T, V, V_TEACHER, B, B_TEACHER)
NOISE = 0.3
SQUARES = ld.Problem(ld.Quadratic(), ld.Linear(), noise=NOISE)


def same(found, wanted, rtol=1e-11):
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=1e-13)


def root(c, variances):
    """The symmetric root of a covariance in units of its fields' scales."""
    scale = np.sqrt(variances)
    return scale[:, None] * scipy.linalg.sqrtm(c / scale / scale[:, None]).real


def fields_of(z, q, r, t, *, student_first):
    """S z, one network's fields by themselves, the other's given those."""
    k = len(q)
    if student_first:
        first, rest = z[:, :k], z[:, k:]
        own, other, cross = q, t, r.T
    else:
        first, rest = z[:, k:], z[:, :k]
        own, other, cross = t, q, r
    white = root(own, np.diagonal(own))
    mixing = cross @ np.linalg.inv(white).T
    fields = (
        first @ white.T,
        first @ mixing.T + rest @ root(other - mixing @ mixing.T, np.diagonal(other)).T,
    )
    return np.concatenate(fields if student_first else fields[::-1], axis=1)


def gradient(lam, y, v=V, b=B):
    """(c, dv) of squares learning by squared loss."""
    error = (lam + b) ** 2 @ v - y
    return v * 2 * (lam + b) * error[:, None], (lam + b) ** 2 * error[:, None]


def summed(z, weight, *, student_first):
    """<F f>, <F F>, <H> and <F> of SQUARES: a label has its noise of either sign."""
    f = fields_of(z, Q, R, T, student_first=student_first)
    clean = (f[:, 2:] + B_TEACHER) @ V_TEACHER
    found = [0.0] * 4
    for sign in (-1, 1):
        c, dv = gradient(f[:, :2], clean + sign * NOISE)
        w = 0.5 * weight
        parts = (w * c.T) @ f, (w * c.T) @ c, w @ dv, w @ c
        found = [x + part for x, part in zip(found, parts, strict=True)]
    return found


@pytest.fixture
def nodes(rng):
    """(2, 3, 3): two replicates of three nodes, and their weights."""
    return rng.normal(size=(2, 3, 3)), np.array([0.5, 0.2, 0.3])


@pytest.mark.parametrize(
    ("how", "student_first"),
    [
        ({"score": True}, True),
        ({"score": True, "for_label": True}, False),
        ({"score": False, "smooth": True}, True),
        ({"score": False, "still_labels": True}, False),
        ({"score": False, "still_labels": True, "smooth_student": True}, False),
        ({"score": False}, True),
    ],
    ids=["score", "label", "smooth", "still", "still smooth", "nodes"],
)
def test_sums_over_nodes(nodes, how, student_first):
    z, weight = nodes
    found = NodeAverages(jnp.asarray(z), jnp.asarray(weight), **how).field_averages(
        SQUARES, ld.SGD(0.1), STATE
    )
    fields, phi, h, mean = summed(
        z.reshape(-1, 3), np.tile(weight, 2) / 2, student_first=student_first
    )
    same(found.fields, fields)
    same(found.G, fields @ np.linalg.inv(STATE.covariance))
    same(found.Phi, phi)
    same(found.h, h)
    same(found.f, mean)


@pytest.mark.parametrize(
    "how", [{"score": True}, {"score": False, "still_labels": True}], ids=["score", "still"]
)
def test_biases_of_zero_are_none(nodes, how):
    zero = ld.Overlaps(Q, R, T, V, V_TEACHER, 0 * B, 0 * B_TEACHER)
    averages = NodeAverages(*map(jnp.asarray, nodes), **how)
    at = lambda state: averages.field_averages(SQUARES, ld.SGD(0.1), state).Phi
    same(at(zero), at(ld.Overlaps(Q, R, T, V, V_TEACHER)))


def test_label_noise_in_nodes_of_its_own(rng):
    """The number after the fields, for a rule that draws none itself."""
    z, weight = rng.normal(size=(1, 3, 4)), np.array([0.5, 0.2, 0.3])
    rule = ld.LocalRule(lambda p, s, layers: Modulation(s.lam * s.y, s.lam), 0.1)
    averages = NodeAverages(jnp.asarray(z), jnp.asarray(weight), score=True)
    found = averages.field_averages(SQUARES, rule, STATE)
    f = fields_of(z[0, :, :3], Q, R, T, student_first=True)
    y = (f[:, 2] + B_TEACHER) * V_TEACHER + NOISE * z[0, :, 3]
    same(found.f, weight @ (f[:, :2] * y[:, None]))


def test_replicates_and_neighbours_are_other_nodes(nodes):
    z, weight = map(jnp.asarray, nodes)
    pairs = [(x * z, x * weight) for x in (2.0, 3.0, 5.0)]
    keywords = dict(zip(("coarsest_nodes", "coarse", "fine"), pairs, strict=True))
    averages = NodeAverages(z, weight, score=True, **keywords)
    assert (averages.replicates, averages.is_stepwise) == (2, True)
    assert not averages.holds_at_singular
    one = averages.replicate(jnp.asarray(1))
    same(one.z, z[1:])
    same(one.weight, weight)
    own = NodeAverages(z, jnp.stack([weight, 7.0 * weight]), score=False, coarse=pairs[0])
    same(own.replicate(jnp.asarray(1)).weight, 7.0 * weight)
    assert (own.neighbours(), own.coarsest(), own.is_stepwise) == (None, None, False)
    ready = averages.coarsest(), *averages.neighbours()
    for other, (at, w) in zip(ready, pairs, strict=True):
        same(other.z, at)
        same(other.weight, w)
        assert (other.coarsest(), other.neighbours(), other.score) == (None, None, True)


def test_generalisation_errors_over_nodes(nodes):
    z, weight = nodes
    f = fields_of(z.reshape(-1, 3), Q, R, T, student_first=True)
    phi, clean = (f[:, :2] + B) ** 2 @ V, (f[:, 2] + B_TEACHER) * V_TEACHER
    arrays = jnp.asarray(z), jnp.asarray(weight)
    averages = NodeAverages(*arrays, score=False)
    same(
        averages.generalisation_error(SQUARES, STATE),
        0.5 * np.tile(weight, 2) / 2 @ (phi - clean) ** 2,
    )
    signs = ld.Problem(ld.Quadratic(), ld.Linear(), ld.Logistic(), noise=NOISE)
    wrong = np.tile(weight, 2) / 2 @ ((phi >= 0) != (clean >= 0))
    assert 0 < wrong < 1
    same(averages.generalisation_error(signs, STATE), wrong)
    # In closed form: <erf(u / sqrt 2)**2> is 2 asin(q / (1 + q)) / pi, likewise for two fields.
    exact = NodeAverages(*arrays, score=False, exact_error=True)
    c, u = np.asarray(STATE.covariance), np.array([*V, *-V_TEACHER])
    scale = np.sqrt(1 + np.diagonal(c))
    wanted = 0.5 * u @ (2 / np.pi * np.arcsin(c / scale / scale[:, None])) @ u
    same(exact.generalisation_error(ld.Problem(), ld.Overlaps(Q, R, T, V, V_TEACHER)), wanted)


def both(lam, rho, found):
    return jnp.concatenate([lam, rho, found.c, found.dv])


def covariance(values, weight):
    mean = weight @ values
    return (weight * values.T) @ values - np.outer(mean, mean)


def test_covariances_over_nodes(nodes):
    """Label noise by three points, 0 and sqrt 3 in either direction with probability 1/6 each: they
    know its fourth moment, which squares of a modulation need."""
    z, weight = nodes
    averages = NodeAverages(jnp.asarray(z), jnp.asarray(weight), score=True)
    squares = lambda lam, rho, found: jnp.concatenate([both(lam, rho, found), found.c**2])
    found = averages.covariance_of(SQUARES, ld.SGD(0.1), STATE, squares)
    f = fields_of(z.reshape(-1, 3), Q, R, T, student_first=True)
    clean = (f[:, 2] + B_TEACHER) * V_TEACHER
    rows = []
    for x in (0.0, 3**0.5, -(3**0.5)):
        c, dv = gradient(f[:, :2], clean + x * NOISE)
        rows.append(np.column_stack([f, c, dv, c**2]))
    chances = np.concatenate([np.tile(weight, 2) / 2 * p for p in (2 / 3, 1 / 6, 1 / 6)])
    same(found, covariance(np.concatenate(rows), chances))


def test_covariances_of_noisy_inputs(rng):
    """The student's field is along x + s n, and so are the teacher's that go with it: those have
    the covariance (1 + s**2) R with the student's, T with the clean ones."""
    s, q, r, t = 0.6, np.array([[0.9]]), np.array([[0.3, -0.4]]), np.array([[1.4, 0.2], [0.2, 0.8]])
    state = ld.Overlaps(q, r, t, [0.7], [1.1, -0.6])
    z, weight = rng.normal(size=(1, 4, 6)), np.array([0.1, 0.4, 0.2, 0.3])
    rule = ld.rules.InputNoise(s, 0.1)
    averages = NodeAverages(jnp.asarray(z), jnp.asarray(weight), score=True, draws=2)
    found = averages.covariance_of(SQUARES, rule, state, both)
    wide = 1 + s**2
    f = fields_of(z[0, :, :3], wide * q, r, t, student_first=True)
    seen = np.block([[wide * q, r], [r.T, t]])
    told = np.column_stack([wide * r.T, t])
    left = wide * t - told @ np.linalg.solve(seen, told.T)
    along = f @ np.linalg.solve(seen, told.T) + z[0, :, 4:] @ root(left, np.diagonal(t)).T
    clean = f[:, 1:] @ [1.1, -0.6]
    rows = [
        np.column_stack(
            [f[:, :1], along, *gradient(f[:, :1], clean + x * NOISE, np.array([0.7]), 0.0)]
        )
        for x in (0.0, 3**0.5, -(3**0.5))
    ]
    chances = np.concatenate([weight * p for p in (2 / 3, 1 / 6, 1 / 6)])
    same(found, covariance(np.concatenate(rows), chances))


def test_a_student_of_noisy_inputs_meets_longer_ones():
    def lengths(problem, sample, layers):
        return Modulation(sample.lam * sample.size, sample.lam)

    rule = ld.LocalRule(lengths, 0.1)
    assert modulations(SQUARES, rule, jnp.ones((2, 2)), jnp.ones(2), STATE.layers).c[0, 0] == 1.0


# Episodes: a node is several samples, one after the other


def centred(problem, samples, layers):
    """Each sample's field, from which the episode's mean is taken, times its label and its draw."""
    lam = samples.lam - jnp.mean(samples.lam, axis=0)
    return Modulation(
        lam * samples.y[:, None] * samples.draws, samples.lam * samples.overlaps.Q[0, 1]
    )


EPISODES = ld.LocalRule(centred, 0.1, episode=True, batch_size=2, draws=1, needs_overlaps=True)


def episodes(rng):
    """Three nodes of two samples, each of three fields, label noise and a draw."""
    z, weight = rng.normal(size=(1, 3, 10)), np.array([0.5, 0.2, 0.3])
    averages = NodeAverages(jnp.asarray(z), jnp.asarray(weight), score=True, draws=1, copies=2)
    samples = z.reshape(6, 5)
    f = fields_of(samples[:, :3], Q, R, T, student_first=True)
    y = (f[:, 2] + B_TEACHER) * V_TEACHER + NOISE * samples[:, 3]
    mean = np.repeat(f[:, :2].reshape(3, 2, 2).mean(axis=1), 2, axis=0)
    c = (f[:, :2] - mean) * (y * samples[:, 4])[:, None]
    return averages, weight, f, c, f[:, :2] * Q[0, 1]


def test_averages_of_episodes_are_means_over_their_samples(rng):
    averages, weight, f, c, dv = episodes(rng)
    found = averages.field_averages(SQUARES, EPISODES, STATE)
    w = np.repeat(weight, 2) / 2
    same(found.fields, (w * c.T) @ f)
    same(found.Phi, (w * c.T) @ c)
    same(found.h, w @ dv)
    same(found.f, w @ c)


def test_covariances_of_episodes_are_those_of_their_means(rng):
    averages, weight, f, c, dv = episodes(rng)
    found = averages.covariance_of(SQUARES, EPISODES, STATE, both)
    same(found, covariance(np.column_stack([f, c, dv]).reshape(3, 2, -1).mean(axis=1), weight))


# Derivatives: product rules are exact for polynomials, at every covariance


def exact(x):
    """<F f>, <F F>, <H> and <F> of one square that learns another one, for complex overlaps as
    well: then an imaginary step is a derivative to all digits."""
    q, r, t, v, v_teacher, b, b_teacher = x
    nodes, weight = np.polynomial.hermite_e.hermegauss(8)
    weight = np.outer(weight, weight).ravel() / (2 * np.pi)
    first, second = (z.ravel() for z in np.meshgrid(nodes, nodes, indexing="ij"))
    lam, rho = q**0.5 * first, r / q**0.5 * first + (t - r**2 / q) ** 0.5 * second
    error = v * (lam + b) ** 2 - v_teacher * (rho + b_teacher) ** 2
    c, slope = v * 2 * (lam + b) * error, v * 2 * (lam + b)
    return np.array(
        [
            *(weight @ (c * lam), weight @ (c * rho), weight @ (c**2 + (NOISE * slope) ** 2)),
            *(weight @ ((lam + b) ** 2 * error), weight @ c),
        ]
    )


AT = np.array([0.9, 0.3, 1.4, 0.7, 1.2, 0.2, -0.4])
ALONG = np.array([0.5, -0.3, 0.7, 1.1, -0.6, 0.9, 0.4])


@pytest.mark.parametrize(
    "how",
    [
        {"score": False, "smooth": True},
        {"score": True},
        {"score": False, "still_labels": True},
        {"score": False, "still_labels": True, "smooth_student": True},
        {"score": False},
    ],
    ids=["smooth", "score", "still", "still smooth", "nodes"],
)
def test_derivatives_over_nodes(how):
    problem = ld.Problem(ld.Quadratic(), ld.Quadratic(), noise=NOISE)
    averages = NodeAverages(*map(jnp.asarray, GaussHermite(6).nodes(2)), **how)

    def of(x):
        matrices = (y.reshape(1, 1) for y in x[:3])
        state = ld.Overlaps(*matrices, *(y.reshape(1) for y in x[3:]))
        found = averages.field_averages(problem, ld.SGD(0.1), state)
        parts = found.with_fields(state.covariance), found.Phi, found.h, found.f
        return jnp.concatenate([part.ravel() for part in parts])

    value, change = jax.jit(lambda x, dx: jax.jvp(of, (x,), (dx,)))(AT, ALONG)
    same(value, exact(AT))
    same(change, exact(AT + 1e-30j * ALONG).imag / 1e-30, rtol=1e-9)


def test_layers_alone_change_over_nodes():
    """A covariance that stays has no derivative to add."""
    problem = ld.Problem(ld.Quadratic(), ld.Quadratic(), noise=NOISE)
    averages = NodeAverages(*map(jnp.asarray, GaussHermite(6).nodes(2)), score=False, smooth=True)
    state = ld.Overlaps(*(x.reshape(1, 1) for x in AT[:3]), *(x.reshape(1) for x in AT[3:]))

    @eqx.filter_jit
    def along(v):
        layers = lambda v: eqx.tree_at(lambda s: s.v, state, v)
        of = lambda v: averages.field_averages(problem, ld.SGD(0.1), layers(v)).Phi
        return eqx.filter_jvp(of, (v,), (jnp.ones(1),))[1]

    step = np.array([0, 0, 0, 1e-30j, 0, 0, 0])
    same(along(jnp.asarray(AT[3:4]))[0], exact(AT + step)[2:3].imag / 1e-30, rtol=1e-9)


# Beyond a constant label


def jumping(rho, zeta):
    return jnp.where(rho[0] > 0.4, 2.0, -1.0)


def test_what_a_label_does_beyond_a_constant_one(nodes):
    """Exact averages for the usual label, -0.7, and over nodes those of both labels' difference."""
    z, weight = nodes
    problem, rule = ld.Problem(ld.Linear(), ld.MultiIndex(jumping)), ld.SGD(0.1)
    state, usual = ld.Overlaps(Q, R, T, V), -0.7
    over = NodeAverages(jnp.asarray(z), jnp.asarray(weight), score=False, for_label=True)
    over = dataclasses.replace(over, still_labels=True)
    own = at_level(Exact(1), even=False)
    ready = BeyondConstant(over, own, own, usual)
    both = eqx.filter_jit(
        lambda a: (a.field_averages(problem, rule, state), a.generalisation_error(problem, state))
    )
    found, error = both(ready)
    w = np.tile(weight, 2) / 2
    f = fields_of(z.reshape(-1, 3), Q, R, T, student_first=False)
    phi, y = f[:, :2] @ V, np.where(f[:, 2] > 0.4, 2.0, -1.0)
    assert 0 < np.mean(y > 0) < 1
    c, usual_c = np.outer(phi - y, V), np.outer(phi - usual, V)
    beyond = (w * (c - usual_c).T) @ f
    # A linear student of a constant label, by hand
    square = V @ Q @ V + usual**2
    fields = np.outer(V, np.concatenate([V @ Q, V @ R]))
    same(found.fields, beyond + fields)
    same(found.G, beyond @ np.linalg.inv(STATE.covariance) + np.outer(V, [*V, 0.0]))
    more = (w * c.T) @ c - (w * usual_c.T) @ usual_c
    same(found.Phi, more + np.outer(V, V) * square)
    same(found.h, w @ (f[:, :2] * (usual - y)[:, None]) + Q @ V)
    same(found.f, w @ (c - usual_c) - V * usual)
    same(error, max(0.5 * w @ ((phi - y) ** 2 - (phi - usual) ** 2) + 0.5 * square, 0.0))
    assert (ready.replicates, ready.is_stepwise, ready.holds_at_singular) == (2, False, False)
    one = ready.replicate(jnp.asarray(1))
    same(one.nodes.z, z[1:])
    assert one.constant == usual


def test_who_learns_what_a_label_does_beyond_a_constant_one(nodes, monkeypatch):
    monkeypatch.setattr(_rare, "_PILOT", 2**12)
    usual = NodeAverages(*map(jnp.asarray, nodes), score=False)
    sizes = {"biases": False, "teacher": None}
    jumps = ld.MultiIndex(jumping)
    linear = beyond_constant(ld.Problem(ld.Linear(), jumps), 2, 1, usual, rule=None, **sizes)
    # A unit field is above 0.4 with probability 0.34: no rare event
    above = 1 - scipy.special.ndtr(0.4)
    assert linear.constant == pytest.approx(3 * above - 1, abs=3e-3)
    same(linear.nodes.z, nodes[0] * [0, 0, 1])  # means of the student's fields given the teacher's
    assert linear.coarser is linear.own  # polynomials have no coarser averages than exact ones
    tanh = beyond_constant(ld.Problem(ld.Tanh(), jumps), 2, 1, usual, rule=None, **sizes)
    same(tanh.nodes.z, nodes[0])
    assert tanh.nodes.for_label
    assert tanh.coarser.level == tanh.own.level - 1
    replicate = tanh.replicate(jnp.asarray(0))
    assert replicate.own is replicate.coarser is tanh.coarser
    episode = ld.LocalRule(centred, 0.1, episode=True, batch_size=2)
    smooth = ld.MultiIndex(lambda rho, zeta: rho[0] * zeta)
    for problem, rule in (
        (ld.Problem(ld.Tanh(), smooth), None),
        (ld.Problem(ld.Tanh(), ld.Sign()), None),
        (ld.Problem(ld.Tanh(), jumps, lambda phi, y: jnp.abs(phi - y)), None),
        (ld.Problem(ld.Tanh(), jumps), episode),
        (ld.Problem(ld.Tanh(), jumps), ld.LocalRule(centred, 0.1, draws=1)),
    ):
        assert beyond_constant(problem, 2, 1, usual, rule=rule, **sizes) is None
