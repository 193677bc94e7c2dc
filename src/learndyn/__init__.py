"""Exact learning dynamics of simple neural networks: simulate, predict, compare.

The public names stand in `__init__.pyi`, on one page. A name is imported when it is first used,
so `import learndyn` loads neither JAX nor anything else and leaves JAX's configuration alone.
Theory needs float64: `jax.config.update("jax_enable_x64", True)`.
"""

import sys
from typing import Any

import lazy_loader

from learndyn._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

if "xarray" in sys.modules:

    def _derived(dataset: Any) -> object:
        """`dataset.learndyn`; what it does is loaded when it is first asked for."""
        from learndyn.datasets import Derived

        return Derived(dataset)

    _xarray = sys.modules["xarray"]
    # A second import, or `learndyn.datasets`, may have come before.
    if "learndyn" not in vars(_xarray.Dataset):
        _xarray.register_dataset_accessor("learndyn")(_derived)
