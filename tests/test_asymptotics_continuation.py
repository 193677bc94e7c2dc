"""Critical rates of fixed points that move with the rate: finite, at infinity, or none."""

import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn import asymptotics
from learndyn.asymptotics.fixed_points import _continuation

ERF = ld.Problem()


@pytest.mark.parametrize("lr", [0.3, 0.5, 1.0, 2.0, 5.0])
def test_where_the_state_runs_off_to_infinity(lr):
    # One unit cannot learn two. At large Q its g' is a peak at lambda = 0, where the teacher's
    # units cancel, so that to leading order in Q**(-1/2) dQ/dalpha = 0 reads
    # 2 <c lambda> = lr <c**2> with <c lambda> = sqrt(2) / (pi sqrt(Q)) and
    # <c**2> = 4 arcsin(1/3) / (sqrt(2) pi**2 sqrt(Q)).
    rule, start = ld.SGD(lr=lr), ld.Overlaps([[1.0]], [[0.6, 0.6]], jnp.eye(2))
    state = asymptotics.fixed_point(ERF, rule, start).state
    found = asymptotics.critical_lr(ERF, rule, state)
    np.testing.assert_allclose(found, np.pi / np.arcsin(1 / 3), rtol=1e-6)


@pytest.mark.parametrize("lr", [0.2, 2.0])
def test_decay_keeps_a_unit_stable_at_every_rate(lr):
    # Q grows like lr**(2/3), without end but at no finite rate.
    rule = ld.SGD(lr=lr, weight_decay=0.1)
    state = asymptotics.fixed_point(ERF, rule, asymptotics.specialised_state(1)).state
    assert asymptotics.critical_lr(ERF, rule, state) == np.inf


def test_a_branch_that_is_lost_is_no_critical_rate(monkeypatch):
    rule = ld.SGD(lr=2.0, weight_decay=0.1)
    state = asymptotics.fixed_point(ERF, rule, asymptotics.specialised_state(1)).state
    at = _continuation._fixed_point_at

    def lost(flow, lr, near):
        point = at(flow, lr, near)
        return point._replace(found=point.found and _continuation._size(point) < 500)

    monkeypatch.setattr(_continuation, "_fixed_point_at", lost)
    with pytest.raises(ValueError, match="lost its fixed point at lr"):
        asymptotics.critical_lr(ERF, rule, state)
