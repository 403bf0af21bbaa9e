"""Each probe is one mechanism; a mistake that is in no list shows in one of them too.

A probe is a class with methods named like the events of hooks.py, and `rows_read`, `ended`; each
may yield Findings. It reads the doctor's record (`doctor.now`, `.history`, `.rows`), not another
probe.
"""

from .accumulation import Accumulation
from .adapter import Adapter
from .batches import Batches
from .broadcast import Broadcast
from .cached import Cached
from .causality import Causality
from .class_weights import ClassWeights
from .classes import Classes
from .clipping import Clipping
from .columns import Columns
from .copied_norms import CopiedNorms
from .copies import Copies
from .cropped import Cropped
from .decay import Decay
from .device import Device
from .edges import Edges
from .eval_inputs import EvalInputs
from .eval_memory import EvalMemory
from .first_loss import FirstLoss
from .flat_scores import FlatScores
from .frequencies import Frequencies
from .generation import Generation
from .gradients import Gradients
from .kinds import Kinds
from .labels import Labels
from .layout import Layout
from .learning_rate import LearningRate
from .lengths import Lengths
from .loading import Loading
from .loss_input import LossInput
from .masked_inputs import MaskedInputs
from .masks import Masks
from .membership import Membership
from .modes import Modes
from .movement import Movement
from .neighbours import Neighbours
from .non_finite import NonFinite
from .nothing_learned import NothingLearned
from .overlap import Overlap
from .pairing import Pairing
from .planned import Planned
from .precision import Precision
from .prompts import Prompts
from .ranks import Ranks
from .read_back import ReadBack
from .regression import Regression
from .repeats import Repeats
from .resuming import Resuming
from .rewards import Rewards
from .saving import Saving
from .scale import Scale
from .schedule import Schedule
from .scrambled import Scrambled
from .seeds import Seeds
from .shift import Shift
from .soft_targets import SoftTargets
from .ties import Ties
from .unheard import Unheard
from .units import Units
from .val_loss import ValLoss
from .vocabulary import Vocabulary
from .word_labels import WordLabels
from .zero_grad import ZeroGrad

# the order in which they are asked: what explains other findings first
PROBES = [
    *[ReadBack, Vocabulary, Layout, Pairing, MaskedInputs, Masks, Shift, Labels, Causality],
    *[ZeroGrad, NonFinite, Precision, Accumulation, Gradients, Membership, Movement],
    *[Schedule, Overlap, Repeats, Lengths, Ranks],
    *[Edges, Device, FirstLoss, LearningRate, ValLoss, EvalMemory, Rewards],
    *[LossInput, Broadcast, Clipping, Classes, Kinds, Frequencies, NothingLearned],
    *[Modes, Resuming, Generation, Prompts, Cached, Cropped, Saving, Unheard],
    *[Neighbours, Batches, Copies, Ties, Planned, Decay, Units, Scale],
    *[Loading, SoftTargets, Scrambled, Seeds, CopiedNorms, ClassWeights, FlatScores, Regression],
    *[Columns, Adapter, EvalInputs, WordLabels],
]
