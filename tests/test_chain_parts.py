"""Parts of the overlap chain: draws of a block, lanes, what is saved of groups of directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn.dynamics.chain import _draws
from learndyn.dynamics.chain._draws import draw_block, draw_inputs
from learndyn.dynamics.chain._factor import rank_one_update
from learndyn.dynamics.chain._lanes import by_lanes, inner
from learndyn.dynamics.chain._loop import side_by_side
from learndyn.dynamics.chain._random import lane_seeds
from learndyn.dynamics.chain._simulate import _prepared
from learndyn.dynamics.chain._step import Draw, _sample

SIZES, S = np.array([2, 6]), np.array([0.4, 1.7])
"""Directions of two groups, and their eigenvalues."""

VECTORS = np.split(np.random.default_rng(0).normal(size=(3, 8)), [2], axis=1)
C = np.stack([x @ x.T for x in VECTORS]) / 8
V, V_TEACHER, B_TEACHER = np.array([0.8, -0.6]), np.array([1.2]), np.array([0.3])
UNSEEN, NOISE, LANES = 0.35, 0.3, 3
LINEAR = ld.Problem(ld.Linear(), ld.Linear(), noise=NOISE)


def grouped(v=V, **layers):
    spectrum = ld.Spectrum(S, SIZES / 8)
    q, r, t = C[:, :2, :2], C[:, :2, 2:], C[:, 2:, 2:]
    return ld.GroupedOverlaps(q, r, t, spectrum, [[UNSEEN]], v, V_TEACHER, **layers)


def in_lanes(rule, start, lanes=LANES):
    given = _prepared(LINEAR, rule, start, jnp.asarray(8.0), jnp.asarray(True))
    frames, state = jax.tree.map(lambda x: x[..., None], given)
    state = jax.tree.map(lambda x: jnp.broadcast_to(x, (*x.shape[:-1], lanes)), state)
    return side_by_side(frames, state, lanes)


SEEDS = lane_seeds(jax.random.split(jax.random.key(0), LANES))


def test_draws_and_labels_of_a_block_in_groups(monkeypatch):
    """A group of two directions has no third coordinate, and labels are those of all groups and of
    what the inputs do not show."""
    start = grouped(b=[0.0, 0.0], b_teacher=B_TEACHER)

    @jax.jit
    def draw(block):
        setting, _ = in_lanes(ld.SGD(0.5, batch_size=2), start)
        inputs = draw_inputs(setting, SEEDS, block, k=2, rows=2)
        monkeypatch.setattr(_draws, "draw_inputs", lambda *x, **sizes: inputs)
        return inputs, draw_block(setting, SEEDS, block, k=2, rows=2)

    inputs, block = draw(4)
    z = np.asarray(block.z).reshape(-1, 3, 2, LANES)
    assert (z[:, 2, 0] == 0).all()
    assert (z[:, :2, 0] != 0).all()
    assert (z[:, :, 1] != 0).all()
    rho = np.sqrt(UNSEEN) * np.asarray(inputs.unseen)[:, 0]
    for group in (0, 1):
        rho += np.sqrt(S[group] * C[group, 2, 2]) * z[:, 0, group]
    y = V_TEACHER[0] * (rho + B_TEACHER[0]) + NOISE * np.asarray(inputs.zeta)
    np.testing.assert_allclose(block.y.reshape(y.shape), y, rtol=1e-11)


def test_what_inputs_do_not_show_has_a_number_for_each_teacher():
    groups = [[np.eye(2), np.zeros((2, 2)), np.eye(2)]] * 2
    q, r, t = (np.stack(x) for x in zip(*groups, strict=True))
    start = ld.GroupedOverlaps(q, r, t, ld.Spectrum(S, SIZES / 8), UNSEEN * np.eye(2))

    def draw():
        setting, _ = in_lanes(ld.SGD(0.5, batch_size=2), start)
        return draw_inputs(setting, SEEDS, jnp.asarray(4), k=2, rows=2)

    shapes = jax.eval_shape(draw)
    assert shapes.unseen.shape == (shapes.zeta.shape[0], 2, LANES)
    assert shapes.along.shape[:2] == (shapes.zeta.shape[0], 2)


def test_noise_on_inputs_adds_to_coordinates_and_lengthens_what_is_left():
    """The labels stay those of the clean inputs."""
    vectors = np.random.default_rng(2).normal(size=(4, 8))
    c = vectors @ vectors.T / 8
    start = ld.Overlaps(c[:3, :3], c[:3, 3:], c[3:, 3:])

    @jax.jit
    def draw(std):
        setting, _ = in_lanes(ld.rules.InputNoise(std, 0.5, batch_size=3), start)
        return draw_block(setting, SEEDS, jnp.asarray(4), k=3, rows=3)

    clean, noisy = draw(0.0), draw(0.8)
    np.testing.assert_array_equal(noisy.y, clean.y)
    np.testing.assert_allclose(noisy.outside, np.sqrt(1.64) * clean.outside, rtol=1e-12)
    # Triangles of three samples' products, beyond the four vectors: 4 + 4 + 4 chi-square numbers
    assert clean.outside.shape == (*clean.z.shape[:1], 3, 3, LANES)
    square = np.sum(np.asarray(clean.outside) ** 2, axis=(1, 2))
    assert abs(square.mean() - 12) < 4 * np.sqrt(24 / square.size)  # four standard errors
    added = np.ravel(noisy.z - clean.z) / 0.8
    # Normal numbers, to four standard errors, and independent of the coordinates
    allowed = 4 / np.sqrt(len(added))
    assert abs(added.mean()) < allowed
    assert abs(added.var() - 1) < 2**0.5 * allowed
    assert abs((added * np.ravel(clean.z)).mean()) < allowed


def test_a_rule_reads_the_sums_over_groups():
    def reads(problem, sample, layers):
        return ld.Modulation(sample.lam * sample.overlaps.Q[0, 0], jnp.zeros(2))

    rule = ld.LocalRule(reads, lr=0.5, needs_overlaps=True)
    rng = np.random.default_rng(1)
    z, outside = rng.normal(size=(1, 3, 2 * LANES)), rng.normal(size=(1, 1, 2 * LANES))

    @jax.jit
    def sampled(z, outside):
        setting, state = in_lanes(rule, grouped())
        draw = Draw(z, jnp.zeros((1, LANES)), outside)
        return _sample(setting, state, draw, 0), state.rows_t, state.columns

    sample, rows_t, columns = sampled(z, outside)
    for lane in range(LANES):
        np.testing.assert_allclose(sample.overlaps.Q[..., lane], C[:, :2, :2].sum(0), rtol=1e-11)
        np.testing.assert_allclose(sample.overlaps.R[..., lane], C[:, :2, 2:].sum(0), rtol=1e-11)
    # Along the frame: one direction of the teacher, and two more
    rows = np.stack([rows_t[:, 0], *columns])
    lam = np.einsum("fkl,fl->kl", rows, z[0]).reshape(2, 2, LANES)
    np.testing.assert_allclose(sample.lam, np.einsum("g,kgl->kl", np.sqrt(S), lam), rtol=1e-12)


def test_a_chain_of_groups_with_weights_that_only_decay():
    """Where the second layer is 0 nothing is learned: w <- (1 - lr kappa / n) w at each step."""
    rule = ld.SGD(lambda alpha: 0.8 / (1 + alpha), weight_decay=0.5)
    start, ts = grouped(np.zeros(2)), [0.0, 0.5, 1.25]
    run = ld.simulate_chain(LINEAR, rule, start, ts, n=8, key=jax.random.key(0))
    factor = np.cumprod([1.0, *(1 - 0.8 / (1 + np.arange(10) / 8) * 0.5 / 8)])[[0, 4, 10]]
    q, r = (np.multiply.outer(factor**p, x) for p, x in ((2, C[:, :2, :2]), (1, C[:, :2, 2:])))
    np.testing.assert_allclose(run.Q_groups, q, rtol=1e-11)
    np.testing.assert_allclose(run.R_groups, r, rtol=1e-11)
    np.testing.assert_allclose(run.Q, q.sum(axis=1), rtol=1e-11)
    np.testing.assert_allclose(run.R_field, np.tensordot(r, S, (1, 0)), rtol=1e-11)
    taught = V_TEACHER[0] ** 2 * (S @ C[:, 2, 2] + UNSEEN) / 2
    np.testing.assert_allclose(run.eg, np.full(3, taught), rtol=1e-11)
    np.testing.assert_allclose(run.alpha, ts)
    assert run.result == ld.Result.SUCCESS
    assert run.level == "chain"


# Lanes


def test_nested_batches_are_lanes_of_one_call():
    calls = []

    def fn(tree):
        calls.append(jax.tree.map(lambda x: x.shape, tree))
        a, b, c = tree
        return {"x": a - 2 * b + c[0] * c[1]}

    a, b, c = jnp.arange(3.0), jnp.array([0.3, 0.7]), jnp.array([1.5, -2.0])
    on_both = jax.vmap(lambda b: jax.vmap(lambda a: by_lanes(fn)((a, b, c)))(a))(b)
    np.testing.assert_allclose(on_both["x"], a - 2 * b[:, None] - 3.0)
    assert ((6,), (6,), (2, 1)) in calls or ((6,), (2,), (2, 1)) in calls
    on_one = jax.vmap(lambda a: jax.vmap(lambda b: by_lanes(fn)((a, b, c)))(b))(a)
    np.testing.assert_allclose(on_one["x"], a[:, None] - 2 * b - 3.0)


@pytest.mark.parametrize("terms", [5, 64, 65])
def test_inner_products_of_few_and_many_terms(terms):
    a, b = np.random.default_rng(0).normal(size=(2, 4, terms, 3))
    found = inner(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(found, np.einsum("ipl,ipl->il", a, b), rtol=1e-11, atol=1e-13)


def test_numbers_whose_squares_overflow_end_a_run():
    """A rotation over their infinite length would make zeros of them."""
    columns = [jnp.array([[3.0], [1.0]]), jnp.array([[0.0], [2.0]])]
    for size in (4.0, 1e160):
        extra = jnp.array([[size], [0.5]])
        new = rank_one_update(columns, extra, jnp.asarray(True))
        b, q = (
            np.concatenate([np.stack(columns)[..., 0].T, np.asarray(extra)], axis=1),
            np.stack(new),
        )
        if size == 4.0:
            np.testing.assert_allclose(q[..., 0].T @ q[..., 0], b @ b.T, rtol=1e-13)
        else:
            assert np.isnan(q).any()
