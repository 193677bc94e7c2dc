"""`python -m learndyn`, the same as the command `learndyn`."""

import sys

from learndyn.cli import main

sys.exit(main())
