"""Identity with forward derivatives alone: simulations answer reverse ones with a sentence."""

import contextlib
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array


def forward_only(tree: Any, function: str) -> Any:
    """`tree` itself. Its reverse derivatives (`jax.grad`, `vjp`, `jacrev`) raise a ValueError.

    function: whose result it is. The loops of simulations have a number of steps that depends on
    data, so that JAX cannot run them backwards; its own message speaks of loops that no user wrote.
    """

    def guarded(leaf: Any) -> Any:
        return _forward_only.bind(leaf, function=function) if eqx.is_inexact_array(leaf) else leaf

    return jax.tree.map(guarded, tree)


@contextlib.contextmanager
def reverse_refused(function: str) -> Iterator[None]:
    """JAX's word on what it cannot linearise, `jax.custom_batching` for example, in a sentence."""
    try:
        yield
    except ValueError as error:
        if "Linearization failed" not in str(error):
            raise
        raise ValueError(_sentence(function)) from error


def _sentence(function: str) -> str:
    return (
        f"{function} has forward derivatives only; got a reverse one (jax.grad, jax.vjp or "
        "jax.jacrev). Use jax.jvp or jax.jacfwd; solve_ode has reverse derivatives."
    )


def _same(x: Any, *, function: str) -> Any:
    return x


def _refused(cotangent: Array, x: Any, *, function: str) -> Any:
    raise ValueError(_sentence(function))


_forward_only = Primitive("forward_only")
_forward_only.def_impl(_same)
_forward_only.def_abstract_eval(_same)
mlir.register_lowering(_forward_only, mlir.lower_fun(_same, multiple_results=False))
ad.deflinear2(_forward_only, _refused)
batching.defvectorized(_forward_only)
