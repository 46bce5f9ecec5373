"""Implicit differentiation: gradients of a solver's answer without going through its steps.

See the README beside this file for which equation of the paper each module serves.
"""

from omd.implicit import problems
from omd.implicit.comparison import GradCheck, gradcheck
from omd.implicit.direct import Dense, PseudoInverse
from omd.implicit.gauss_newton import GaussNewton
from omd.implicit.iterative import CG, GMRES, NormalCG
from omd.implicit.least_squares import LeastSquares
from omd.implicit.methods import AbstractMethod, Identity, Neumann, Nystrom
from omd.implicit.registry import METHODS, get
from omd.implicit.report import Report, Status
from omd.implicit.roots import from_fixed_point, hypergradient, root
from omd.implicit.unrolled import Unrolled

__all__ = [
    "CG",
    "GMRES",
    "METHODS",
    "AbstractMethod",
    "Dense",
    "GaussNewton",
    "GradCheck",
    "Identity",
    "LeastSquares",
    "Neumann",
    "NormalCG",
    "Nystrom",
    "PseudoInverse",
    "Report",
    "Status",
    "Unrolled",
    "from_fixed_point",
    "get",
    "gradcheck",
    "hypergradient",
    "problems",
    "root",
]
