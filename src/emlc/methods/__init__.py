"""One file a method; all are trained by the same loop."""

from emlc.methods.augdesc import AugDesc
from emlc.methods.base import Losses, Method, NoisyEstimate
from emlc.methods.c2d import C2D
from emlc.methods.cross_entropy import CrossEntropy
from emlc.methods.dividemix import DivideMix
from emlc.methods.elr_plus import ELRPlus
from emlc.methods.emlc import EMLC
from emlc.methods.famus import FaMUS
from emlc.methods.fasten import FasTEN
from emlc.methods.fine_tuning import FineTuning
from emlc.methods.joint_optim import JointOptim
from emlc.methods.mlc import MLC
from emlc.methods.mlnt import MLNT
from emlc.methods.mslc import MSLC
from emlc.methods.mslg import MSLG
from emlc.methods.mw_net import MWNet
from emlc.methods.pencil import Pencil
from emlc.methods.smp import SMP
from emlc.methods.true_labels import TrueLabels
from emlc.methods.trusted_only import TrustedOnly

_ALL: tuple[type[Method], ...] = (
    EMLC,
    CrossEntropy,
    TrustedOnly,
    FineTuning,
    TrueLabels,
    MLC,
    MWNet,
    MSLC,
    MLNT,
    FasTEN,
    DivideMix,
    ELRPlus,
    C2D,
    JointOptim,
    Pencil,
    AugDesc,
    FaMUS,
    MSLG,
    SMP,
)

METHODS: dict[str, type[Method]] = {method.name: method for method in _ALL}
"""By name, in the order of :data:`emlc.config.methods.CATALOGUE`."""

__all__ = ["EMLC", "METHODS", "MLC", "CrossEntropy", "Losses", "Method", "NoisyEstimate", "TrustedOnly"]
