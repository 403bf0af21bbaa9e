"""Each probe looks at training by one mechanism; a mistake that is in no list shows in one of them too.

A probe is a class with methods named like the events of senses.py; each may yield Findings.
"""

from handrail.doctor.probes.guessing import Guessing
from handrail.doctor.probes.labels import Labels
from handrail.doctor.probes.leaving import Leaving
from handrail.doctor.probes.live import Live
from handrail.doctor.probes.modes import Modes
from handrail.doctor.probes.order import Order
from handrail.doctor.probes.reading import Reading
from handrail.doctor.probes.weights import Weights

PROBES = [Labels, Reading, Weights, Order, Live, Guessing, Modes, Leaving]
