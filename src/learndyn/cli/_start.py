"""Where a run of the command line starts: random weights, or a file."""

from typing import Any

import jax

from learndyn.datasets import read_state
from learndyn.states import Overlaps, Weights, init_weights

_DEFAULT_N = 784
"""The input dimension of MNIST, which the literature takes for its figures."""


def initial_state(
    options: Any, key: jax.Array, input_size: int | None
) -> tuple[Weights | Overlaps, int]:
    """The start and the input dimension.

    input_size: that of the inputs where they decide it.
    """
    n = input_size if options.n is None else options.n
    if options.init_file is not None:
        state = read_state(options.init_file, options.init_alpha)
        if not isinstance(state, Weights):
            return state, _DEFAULT_N if n is None else n
        if n not in (None, state.n):
            raise ValueError(
                f"the weights in {str(options.init_file)!r} have n = {state.n}, but n = {n} was "
                "asked for; leave out --n, or give overlaps instead of weights."
            )
        return state, state.n
    n = _DEFAULT_N if n is None else n
    biased = options.b is not None or options.b_teacher is not None
    weights = init_weights(
        key,
        n,
        options.k,
        options.m,
        start=options.init,
        scale=options.init_scale,
        teacher_scale=options.teacher_scale,
        orthonormal_teacher=options.orthonormal_teacher,
        v=options.v,
        v_teacher=options.v_teacher,
        b=0.0 if biased and options.b is None else options.b,
        b_teacher=0.0 if biased and options.b_teacher is None else options.b_teacher,
    )
    return weights, n
