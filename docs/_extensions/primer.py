"""Lets the pages of the primer compile quickly when they run: most of their time is compilation."""

import importlib.metadata
import os

from sphinx.application import Sphinx

QUICKLY = (
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 "
    "--xla_backend_optimization_level=0"
)
"""XLA's older code generator for CPUs without LLVM's optimisations, as the tests have it: the whole
primer takes half of the time."""


def setup(app: Sphinx) -> dict:
    # After the extension `tutorial` has run its notebooks, which are long runs of few programs.
    app.connect("builder-inited", compile_quickly)
    return {"parallel_read_safe": True}


def compile_quickly(app: Sphinx) -> None:
    # Other versions may not know these flags, and would then not start.
    if importlib.metadata.version("jaxlib").startswith("0.10."):
        os.environ["XLA_FLAGS"] = f"{QUICKLY} {os.environ.get('XLA_FLAGS', '')}".strip()
