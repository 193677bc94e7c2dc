"""Where programs run, and how they are compiled: most take longer to compile than to run.

On a machine with an accelerator ensembles run there, and all else on its CPU: a solve of an ODE of
a few numbers, step after step, would wait for the accelerator all the time.
"""

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jaxlib
import numpy as np

ACCELERATOR = None if jax.default_backend() == "cpu" else jax.devices()[0]
"""Where ensembles run; None where there is only the CPU."""


class XlaOptions(NamedTuple):
    """How XLA compiles for CPUs. Results change in their last bits, so that claims name these.

    fusion_emitters: use the newer code generator. optimization_level: 0 to 3, XLA's own is 3.
    parts: into how many parts, compiled by as many threads, a program is split.
    """

    fusion_emitters: bool
    optimization_level: int
    parts: int = 1

    @property
    def by_name(self) -> dict[str, bool | int]:
        """The options under XLA's names."""
        return {
            "xla_cpu_use_fusion_emitters": self.fusion_emitters,
            "xla_cpu_parallel_codegen_split_count": self.parts,
            "xla_backend_optimization_level": self.optimization_level,
        }


FOR_CHAINS = XlaOptions(fusion_emitters=False, optimization_level=1)
"""Chains are compiled in half of the time, and run as fast."""

FOR_SGD = XlaOptions(fusion_emitters=True, optimization_level=1)
"""SGD on weights would take twice as long with the older code generator."""

FOR_ODES = XlaOptions(fusion_emitters=False, optimization_level=0)
"""ODEs with closed forms then run several times as long, which is far less than the second of
compiling that it saves. With averages over thousands of nodes it is not: take `FOR_CHAINS`."""

FOR_LEVEL = {"sgd": FOR_SGD, "chain": FOR_CHAINS}
"""How the runs of a curve are compiled, by level. Next to chains there is one run on weights: it
takes less time than compiling it for speed would."""

SIDE_BY_SIDE = 2048
"""The most runs of SGD on weights in one call on an accelerator: more would need more than 2 GB
for a block of inputs."""


def use_host() -> None:
    """Let everything run on the CPU that is not sent to an accelerator.

    Raises: RuntimeError where JAX was told to leave the CPU out.
    """
    if ACCELERATOR is None:
        return
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise RuntimeError(
            "the validation needs the CPU in addition to the accelerator: set JAX_PLATFORMS to "
            f"'{ACCELERATOR.platform},cpu', or leave it unset; JAX says: {error}"
        ) from error
    jax.config.update("jax_default_device", host)


def wide(runs: int, least: int) -> int:
    """The number of runs: on an accelerator at least `least`, which take no longer there."""
    return runs if ACCELERATOR is None else max(runs, least)


def compiled(function: Callable, xla: XlaOptions | None = None, **static: Any) -> Callable:
    """`jax.jit` for the CPU.

    xla: how to compile, where this version of XLA knows these options; None: as XLA does.
    """
    known = jaxlib.__version__.startswith("0.10.")  # options come and go with XLA's versions
    options = xla.by_name if xla and known else None
    return jax.jit(function, compiler_options=options, **static)


def ensemble(
    function: Callable, xla: XlaOptions | None = None, static_argnames: str = ""
) -> Callable:
    """`compiled` for a program with many runs: on the accelerator where there is one.

    Returns NumPy arrays from there, so that what follows runs on the CPU.
    static_argnames: a keyword that is not data; empty: there is none.
    """
    if ACCELERATOR is None:
        return compiled(function, xla, static_argnames=static_argnames or None)
    return _Accelerated(function, static_argnames)


class _Accelerated:
    """A function's programs on the accelerator, compiled while others may run there.

    Only one process at a time runs there: taking turns at every step, four of them would take four
    times as long together as one after another.
    """

    def __init__(self, function: Callable, static: str):
        self._function, self._static = function, static
        self._programs: dict[Any, Callable] = {}

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        static = {self._static: keywords.pop(self._static, None)} if self._static else {}
        with jax.default_device(ACCELERATOR):
            run = self._program(static, *arguments, **keywords)
            with _turn():
                return jax.device_get(run(*arguments, **keywords))

    def _program(self, static: dict[str, Any], *arguments: Any, **keywords: Any) -> Callable:
        leaves, structure = jax.tree.flatten((arguments, keywords))
        key = structure, *static.values(), *(jax.typeof(leaf) for leaf in leaves)
        if key not in self._programs:
            program = jax.jit(functools.partial(self._function, **static))
            self._programs[key] = program.lower(*arguments, **keywords).compile()
        return self._programs[key]


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """The time in which this process alone uses the accelerator."""
    import fcntl

    with (Path(tempfile.gettempdir()) / f"learndyn-accelerator-{os.getuid()}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Runs:
    """run(key, *data) for many keys: one after another on a CPU, whose caches stay warm, in groups
    of `batch`; side by side on an accelerator."""

    def __init__(self, run: Callable, xla: XlaOptions | None = None, batch: int | None = None):
        self.one = compiled(run, xla)
        """On the CPU."""
        self._batch = batch
        in_groups = lambda keys, *data: jax.lax.map(
            lambda key: run(key, *data), keys, batch_size=batch
        )
        together = lambda keys, *data: jax.vmap(lambda key: run(key, *data))(keys)
        self._many = ensemble(in_groups if ACCELERATOR is None else together, xla)

    def __call__(self, keys: jax.Array, *data: Any) -> Any:
        """The results of all runs: each array gets a leading axis of runs."""
        if ACCELERATOR is not None:
            return self._side_by_side(keys, *data)
        if self._batch:
            return jax.device_get(self._many(keys, *data))
        return _stacked(np.stack, [self.one(key, *data) for key in keys])

    def _side_by_side(self, keys: jax.Array, *data: Any) -> Any:
        parts = -(-len(keys) // SIDE_BY_SIDE)
        size = -(-len(keys) // parts)  # one size is one program: some of the last are made twice
        starts = [min(i * size, len(keys) - size) for i in range(parts)]
        found = [self._many(keys[start : start + size], *data) for start in starts]
        again = parts * size - len(keys)
        found[-1] = jax.tree.map(lambda x: x[again:], found[-1])
        return _stacked(np.concatenate, found)


def _stacked(join: Callable, parts: list) -> Any:
    """The parts' arrays, joined."""
    return jax.tree.map(lambda *x: join([np.asarray(one) for one in x]), *parts)
