"""The version, written once: the build reads it from here, so no git tag is ever needed."""

__version__ = "0.2.0"
