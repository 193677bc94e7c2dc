"""Packages that not every user has: what is missing is named with the line that brings it."""

import importlib.util


def require_extra(module: str, extra: str, what: str) -> None:
    """Raises: ImportError where `module`, which `extra` of learndyn brings, is not installed.

    what: what needs it.
    """
    if importlib.util.find_spec(module) is None:
        raise ImportError(
            f'{what} needs {module}, which is not installed: pip install "learndyn[{extra}]".'
        )
