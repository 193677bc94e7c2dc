"""Where a run of the command line starts: random weights, or a file."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from learndyn.datasets import read_state
from learndyn.states import GroupedOverlaps, Overlaps, Weights, init_weights

_DEFAULT_N = 784
"""The input dimension of MNIST, which the literature takes for its figures."""


_UNITS = 4
"""Units of student and teacher where nobody says how many."""

_IN_FILE = ("init", "init_scale", "teacher_scale", "v", "v_teacher", "b", "b_teacher")
"""Options that say what a file says, too."""


def initial_state(
    options: Any, key: jax.Array, input_size: int | None, *, spherical: bool = False
) -> tuple[Weights | Overlaps | GroupedOverlaps, int]:
    """The start and the input dimension.

    input_size: that of the inputs where they decide it. spherical: whether the student's random
    weights are brought to |w_i| = sqrt n.
    """
    n = input_size if options.n is None else options.n
    if options.init_file is not None:
        state = _read(options)
        if not isinstance(state, Weights):
            return state, _DEFAULT_N if n is None else n
        if n not in (None, state.n):
            raise ValueError(
                f"the weights in {str(options.init_file)!r} have n = {state.n}, but n = {n} was "
                "asked for; leave out --n, or give overlaps instead of weights."
            )
        return state, state.n
    if options.init_alpha is not None:
        raise ValueError("--init-alpha is a time of --init-file, which is not given.")
    n = _DEFAULT_N if n is None else n
    biased = options.b is not None or options.b_teacher is not None
    weights = init_weights(
        key,
        n,
        _UNITS if options.k is None else options.k,
        _UNITS if options.m is None else options.m,
        start="random" if options.init is None else options.init,
        scale=options.init_scale,
        teacher_scale=1.0 if options.teacher_scale is None else options.teacher_scale,
        orthonormal_teacher=options.orthonormal_teacher,
        v=1.0 if options.v is None else options.v,
        v_teacher=1.0 if options.v_teacher is None else options.v_teacher,
        b=0.0 if biased and options.b is None else options.b,
        b_teacher=0.0 if biased and options.b_teacher is None else options.b_teacher,
    )
    return (_on_sphere(weights) if spherical else weights), n


def _on_sphere(weights: Weights) -> Weights:
    norms = jnp.sqrt(jnp.mean(weights.w**2, axis=1, keepdims=True))
    return eqx.tree_at(lambda weights: weights.w, weights, weights.w / norms)


def _read(options: Any) -> Weights | Overlaps | GroupedOverlaps:
    """The state of the file. Raises: ValueError for options that it contradicts or overrules."""
    file = str(options.init_file)
    given = [name for name in _IN_FILE if getattr(options, name) is not None]
    given += ["orthonormal_teacher"] if options.orthonormal_teacher else []
    if given:
        option = given[0].replace("_", "-")
        raise ValueError(
            f"--{option} would be ignored next to --init-file {file!r}, which has the whole state; "
            "leave one of them out."
        )
    if options.init_alpha is not None and options.init_file.suffix != ".nc":
        raise ValueError(f"--init-alpha is a time of an .nc file; got --init-file {file!r}.")
    state = read_state(options.init_file, options.init_alpha or 0.0)
    for name in ("k", "m"):
        asked, found = getattr(options, name), getattr(state, name)
        if asked not in (None, found):
            raise ValueError(
                f"{file!r} has {name} = {found} units, but --{name} {asked} was asked for; leave "
                f"out --{name}, or give another file."
            )
    return state
