"""Each probe looks at training by one mechanism; a mistake that is in no list shows in one of them too.

A probe is a class with methods named like the events of hooks.py; each may yield Findings.
"""

from .guessing import Guessing
from .labels import Labels
from .leaving import Leaving
from .live import Live
from .modes import Modes
from .order import Order
from .reading import Reading
from .weights import Weights

PROBES = [Labels, Reading, Weights, Order, Live, Guessing, Modes, Leaving]
