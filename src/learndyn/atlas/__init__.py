"""The atlas: published figures and tables, each one command away.

Settings and published numbers are data; every run computes its numbers anew. Importing this loads
neither JAX nor xarray.
"""

from learndyn.atlas._entry import Entry as Entry
from learndyn.atlas._entry import Panel as Panel
from learndyn.atlas._entry import Publication as Publication
from learndyn.atlas._entry import Published as Published
from learndyn.atlas._outcome import Measured as Measured
from learndyn.atlas._outcome import Outcome as Outcome
from learndyn.atlas._outcome import Row as Row
from learndyn.atlas._registry import entries as entries
from learndyn.atlas._registry import entry_of as entry_of
from learndyn.atlas._reproduce import reproduce as reproduce
from learndyn.atlas._starts import drawn_start as drawn_start
from learndyn.atlas._starts import start as start
