"""The subcommand `doctor`: what learndyn runs on, and whether it computes what it should."""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import learndyn as ld
from learndyn._extras import require_extra
from learndyn._version import __version__, versions

_EXTRAS = {
    "plot": "matplotlib",
    "film": "imageio_ffmpeg",
    "sweep": "zarr",
    "cluster": "distributed",
    "images": "sklearn",
    "optimise": "optax",
    "report": "jinja2",
}
"""What each extra brings."""

_ALPHA, _EG = 16.123148028, 0.0293935059746
"""A time, and eg there, of an erf committee of two units at lr = 0.2, from an independent program
(DOP853 at rtol 1e-11), whose eg is right to 4e-8."""

_RTOL = 1e-6
"""How far the ODE may be from it: five times what the default tolerances were measured to give."""

_NORMALS = (-0.20584214, -0.78476578, 1.81608667, 0.18784401)
"""The first normal numbers of seed 0 in float64, as JAX 0.10 draws them."""


def doctor() -> int:
    """Print device, float type, versions, cache and extras, and run a self-test of seconds.

    Returns: 0, or 1 where the self-test fails.
    """
    print(f"learndyn {__version__}")
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    for name, text in (*_machine().items(), *_cache().items()):
        print(f"{name + ':':<10}{text}")
    for extra, module in _EXTRAS.items():
        print(f"{extra + ':':<10}{_installed(module, extra)}")
    failed = [name for name, check in _CHECKS.items() if not _holds(name, check)]
    print("all is well" if not failed else f"FAILED: {', '.join(failed)}")
    return 1 if failed else 0


def _machine() -> dict[str, str]:
    devices = jax.devices()
    kinds = sorted({device.device_kind for device in devices})
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = f"CPU with {threads} threads"
    several = f"{len(devices)} devices" if len(devices) > 1 else "one device"
    device = cpu if devices[0].platform == "cpu" else f"{several} ({', '.join(kinds)}), {cpu}"
    on = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    return {"device": device, "x64": "on" if on else "off: theory needs JAX_ENABLE_X64=1"}


def _cache() -> dict[str, str]:
    folder = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if not folder:
        return {"cache": "off: every run compiles anew; JAX_COMPILATION_CACHE_DIR names a folder"}
    files = [file for file in Path(folder).rglob("*") if file.is_file()]
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    return {"cache": f"{folder}: {len(files)} files, {megabytes:.0f} MB"}


def _installed(module: str, extra: str) -> str:
    try:
        require_extra(module, extra, f"the extra {extra}")
    except ImportError as error:
        return str(error)
    return "installed"


def _holds(name: str, check: Any) -> bool:
    try:
        said, right = check()
    except ValueError as error:
        said, right = str(error), False
    print(f"{name + ':':<10}{'passed' if right else 'FAILED'}, {said}")
    return right


def _ode() -> tuple[str, bool]:
    """An ODE, solved as a user does, against a stored solution of another program."""
    start = ld.Overlaps([[1.0, 0.1], [0.1, 0.8]], [[0.12, 0.02], [-0.03, 0.07]], np.eye(2))
    solve = partial(ld.solve_ode, ld.Problem(), ld.SGD(lr=0.2), start, np.array([0.0, _ALPHA]))
    cold, eg = _timed(lambda: float(solve().eg[-1]))
    warm, _ = _timed(lambda: float(solve().eg[-1]))
    error = abs(eg / _EG - 1.0)
    said = f"eg = {eg:.10f}, stored {_EG:.10f}, relative error {error:.1g}; the first solve took "
    said += f"{cold:.1f} s, compilation included, the second {1e3 * warm:.0f} ms"
    return said, error < _RTOL


def _timed(call: Callable[[], float]) -> tuple[float, float]:
    """Seconds that a call takes, and what it returns."""
    began = time.perf_counter()
    found = call()
    return time.perf_counter() - began, found


def _random() -> tuple[str, bool]:
    """Random numbers, by which stored seeds give the same runs."""
    drawn = np.asarray(jax.random.normal(jax.random.key(0), (len(_NORMALS),)))
    right = bool(np.allclose(drawn, _NORMALS, rtol=0, atol=1e-7))
    return f"seed 0 draws {', '.join(f'{x:.4f}' for x in drawn)}", right


_CHECKS = {"theory": _ode, "random": _random}
