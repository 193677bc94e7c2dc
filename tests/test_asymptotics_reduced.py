"""Reduced dynamics against the full ODE, and at sizes that it cannot reach."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn import asymptotics

NOISY = ld.Problem(noise=0.1)
LINEAR = ld.Problem(ld.Linear(), ld.Linear(), noise=0.1)
TS = jnp.linspace(0.0, 100.0, 41)
MIXED = {"Q": 0.8, "C": 0.1, "R": 0.6, "S": 0.1, "D": 0.15, "U": 0.05, "E": 0.4, "F": 0.1}


def close(actual, expected, *, rel=0.0, abs=0.0):
    np.testing.assert_allclose(actual, expected, rtol=rel, atol=abs)


@eqx.filter_jit
def full(problem, rule, start):
    return ld.solve_ode(problem, rule, start, TS, rtol=1e-11, atol=1e-13)


def same_curves(problem, rule, start):
    few = asymptotics.solve_reduced(problem, rule, start, TS, rtol=1e-10, atol=1e-12)
    all_of_them = full(problem, rule, start.expanded())
    assert few.result == all_of_them.result == ld.Result.SUCCESS
    close(few.eg, np.asarray(all_of_them.eg), abs=1e-8)
    return few.state, all_of_them


@pytest.mark.nightly
@pytest.mark.parametrize("rule", [ld.SGD(lr=0.3), ld.SGD(lr=0.4, weight_decay=0.01, batch_size=3)])
def test_eight_equations_are_the_full_ode(rule):
    start = asymptotics.SpecialisedOverlaps(3, 2, **MIXED, v=1.1, v_superfluous=0.7)
    few, run = same_curves(NOISY, rule, start)
    for name, entry in {
        "Q": run.Q[:, 1, 1],
        "C": run.Q[:, 0, 2],
        "R": run.R[:, 2, 2],
        "S": run.R[:, 0, 1],
        "D": run.Q[:, 4, 0],
        "U": run.R[:, 3, 2],
        "E": run.Q[:, 3, 3],
        "F": run.Q[:, 3, 4],
    }.items():
        close(getattr(few, name), np.asarray(entry), abs=1e-8)


@pytest.mark.nightly
def test_one_teacher_and_no_superfluous_units():
    # Overlaps that such a committee does not have must not matter.
    start = asymptotics.SpecialisedOverlaps(1, 0, Q=0.5, R=0.3, D=0.1, F=0.2)
    few, run = same_curves(NOISY, ld.SGD(lr=0.3), start)
    close(few.Q, np.asarray(run.Q[:, 0, 0]), abs=1e-8)


def test_the_symmetric_ansatz_is_the_full_ode():
    start = asymptotics.SymmetricOverlaps(3, 2, Q=0.5, C=0.1, R=0.2, v=0.8)
    few, run = same_curves(NOISY, ld.SGD(lr=0.3), start)
    close(few.C, np.asarray(run.Q[:, 2, 0]), abs=1e-8)
    close(few.R, np.asarray(run.R[:, 2, 1]), abs=1e-8)


def test_linear_committees_of_any_size():
    # eg(alpha) is known for every k.
    for m, l in ((3, 2), (6000, 4000)):
        lr = 0.5 / (m + l)
        start = asymptotics.SpecialisedOverlaps(m, l, Q=0.9, R=0.2, E=0.3)
        run = asymptotics.solve_reduced(LINEAR, ld.SGD(lr=lr), start, TS[:9])
        curve = asymptotics.eg_linear_curve(TS[:9], run.eg[0], lr, 0.1, k=m + l)
        close(run.eg / (m + l), np.asarray(curve) / (m + l), abs=1e-8)


@pytest.mark.nightly
def test_ten_thousand_units_end_at_the_closed_form():
    m, l = 6000, 4000
    lr = 0.5 * asymptotics.critical_lr_specialised(m, l)
    noise = 0.03
    start = asymptotics.SpecialisedOverlaps(m, l)
    ts = jnp.array([0.0, 1e7])
    problem, rule, stiff = ld.Problem(noise=noise), ld.SGD(lr=lr), diffrax.Kvaerno5()
    run = asymptotics.solve_reduced(problem, rule, start, ts, rtol=1e-6, atol=1e-6, solver=stiff)
    assert run.result == ld.Result.SUCCESS
    close(run.eg[-1] / noise**2, asymptotics.eg_specialised(m, l, lr), rel=1e-5)


@pytest.mark.nightly
def test_sizes_are_data():
    # One program for every size, and the rate a user would differentiate.
    def eg(m, lr):
        start = asymptotics.SpecialisedOverlaps(m, 1, **MIXED)
        return asymptotics.solve_reduced(NOISY, ld.SGD(lr=lr), start, TS[:5]).eg[-1]

    many = jax.jit(jax.vmap(eg, (0, None)))(jnp.array([1.0, 2.0, 3.0]), 0.2)
    close(many[2], np.asarray(eg(3, 0.2)), rel=1e-7)


def test_divergence_is_said():
    start = asymptotics.SymmetricOverlaps(2, 2, Q=1.0, C=0.0, R=0.1)
    run = asymptotics.solve_reduced(LINEAR, ld.SGD(lr=2.0), start, jnp.linspace(0.0, 50.0, 6))
    assert run.result == ld.Result.DIVERGED
    assert np.isnan(run.eg[-1])
    assert np.isfinite(run.eg[0])


SYMMETRIC = asymptotics.SymmetricOverlaps(2, 2, Q=0.5, C=0.1, R=0.2)


@pytest.mark.parametrize(
    ("problem", "rule", "start", "words"),
    [
        (ld.Problem(ld.Tanh(), ld.Tanh()), ld.SGD(lr=0.1), SYMMETRIC, "erf or linear"),
        (ld.Problem(loss=ld.Hinge()), ld.SGD(lr=0.1), SYMMETRIC, "squared loss"),
        (NOISY, ld.SGD(lr=0.1, lr_second=0.1), SYMMETRIC, "first layer alone"),
        (
            NOISY,
            ld.SGD(lr=0.1),
            asymptotics.SymmetricOverlaps(2, 2, Q=0.1, C=0.1, R=0.9),
            "semi-definite",
        ),
        (NOISY, ld.SGD(lr=jnp.array([0.1, 0.2])), SYMMETRIC, "vmap"),
        (ld.Problem(noise=jnp.array([0.1, 0.2])), ld.SGD(lr=0.1), SYMMETRIC, "vmap"),
    ],
    ids=range(6),
)
def test_bad_calls(problem, rule, start, words):
    with pytest.raises(ValueError, match=words):
        asymptotics.solve_reduced(problem, rule, start, TS)


def test_bad_sizes_and_steps():
    with pytest.raises(ValueError, match="max_steps must be"):
        asymptotics.solve_reduced(NOISY, ld.SGD(lr=0.1), SYMMETRIC, TS, max_steps=0.5)
    with pytest.raises(ValueError, match="integer"):
        asymptotics.SpecialisedOverlaps(2.5, 1)
    with pytest.raises(ValueError, match="integer"):
        asymptotics.SymmetricOverlaps(2, 2.5, Q=0.5, C=0.1, R=0.1)
