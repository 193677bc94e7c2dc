"""The command line. Importing it does not load JAX, so that `--help` answers at once."""

from learndyn.cli._door import main as main
