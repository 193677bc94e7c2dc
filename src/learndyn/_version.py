"""The version, written once: the build reads it from here, so no git tag is ever needed."""

__version__ = "0.2.0"

STACK = ("jax", "jaxlib", "equinox", "diffrax", "numpy", "scipy", "xarray")
"""The packages that decide numbers."""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers, without loading any of them."""
    import importlib.metadata
    import platform

    found = {"python": platform.python_version()}
    for name in STACK:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
