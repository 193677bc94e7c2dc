"""How programs are compiled: most of them take longer to compile than to run."""

from typing import Any

import jax
import jaxlib

ON_CPU = jax.default_backend() == "cpu"

FOR_CHAINS = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
    "xla_backend_optimization_level": 1,
}
"""Options by which XLA compiles chains for CPUs in half of the time; they run as fast."""

FOR_SGD = FOR_CHAINS | {"xla_cpu_use_fusion_emitters": True}
"""With the older code generator SGD on weights would take twice as long."""

FOR_ODES = FOR_CHAINS | {"xla_backend_optimization_level": 0}
"""ODEs run several times as long with these, which is nothing beside the second that they save."""


def compiled(function: Any, options: dict[str, Any] = FOR_CHAINS, **static: Any) -> Any:
    """`jax.jit`, on CPUs with these options of XLA, which its other versions may not know."""
    known = ON_CPU and jaxlib.__version__.startswith("0.10.")
    return jax.jit(function, compiler_options=options if known else None, **static)
