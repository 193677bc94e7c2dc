"""Trajectories as labelled datasets: the only place that knows the schema.

The names stand in `__init__.pyi`. Each is imported when it is first used, so that a file is read
and drawn without JAX. xarray is imported inside functions, here and above: it takes as long to load
as JAX, and who simulates without datasets should not wait for it. Where it is loaded,
`dataset.learndyn` works.
"""

import sys

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

if "xarray" in sys.modules:
    from learndyn.datasets._derived import register as _register

    _register()
