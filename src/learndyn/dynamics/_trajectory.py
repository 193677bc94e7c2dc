"""What every level of description returns."""

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from learndyn._checks import is_concrete
from learndyn.states import Overlaps


class Trajectory(eqx.Module):
    """Overlaps and generalisation error at the requested times.

    alpha: (times,) true times = steps / n (the requested ones for the ODE), dimensionless.
    Q (times, k, k), R (times, k, m), v (times, k), b (times, k) or None, eg (times,): NaN
        after a run stopped early. T (m, m), v_teacher (m,), b_teacher (m,) or None: constant.
    Q_field, R_field (times, ...), T_field (m, m): second moments of the fields, w Omega w^T / n,
        where the inputs' covariance Omega is not 1; else None.
    result: a `Result` code, 0 for success. stats: numbers about the run, by name.
    A vmapped function returns one with batch axes in front of all of these.
    """

    alpha: Float[Array, "*batch times"]
    Q: Float[Array, "*batch times k k"]
    R: Float[Array, "*batch times k m"]
    T: Float[Array, "*batch m m"]
    v: Float[Array, "*batch times k"]
    v_teacher: Float[Array, "*batch m"]
    b: Float[Array, "*batch times k"] | None
    b_teacher: Float[Array, "*batch m"] | None
    eg: Float[Array, "*batch times"]
    result: Int[Array, "*batch"]
    stats: dict[str, Array]
    Q_field: Float[Array, "*batch times k k"] | None = None
    R_field: Float[Array, "*batch times k m"] | None = None
    T_field: Float[Array, "*batch m m"] | None = None

    def at(self, index: int) -> Overlaps:
        """The state at saved time number `index`, for example -1 for the last one.

        Raises: ValueError where that state is not finite (a run that stopped earlier).
        """
        if is_concrete(self.Q) and not np.isfinite(np.asarray(self.Q[..., index, :, :])).all():
            raise ValueError(
                f"no state at saved time number {index}: the run stopped before (result "
                f"{np.asarray(self.result)}; learndyn.Result says why)."
            )
        b = None if self.b is None else self.b[..., index, :]
        return Overlaps(
            self.Q[..., index, :, :],
            self.R[..., index, :, :],
            self.T,
            self.v[..., index, :],
            self.v_teacher,
            b,
            self.b_teacher,
        )
