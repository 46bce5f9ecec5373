"""Implicit differentiation: gradients of a solver's answer without going through its steps.

`root` gives a solver's answer its derivative, `hypergradient` and `jacobian` are that derivative
with a report, `custom_root` and `custom_fixed_point` are decorators. The methods (`CG`, `GMRES`,
`Dense`, …) say how the inverse Jacobian is applied, and `gradcheck` tells whether the gradient is
right. The constraint is h(w, θ, *aux), zero at the solution. Usable alone: no reinforcement
learning in it.
"""

from omd.implicit import problems, projections
from omd.implicit.comparison import GradCheck, gradcheck
from omd.implicit.constrained import KKT, kkt, on_host
from omd.implicit.decorators import FromFunction, custom_fixed_point, custom_root
from omd.implicit.direct import Dense, PseudoInverse
from omd.implicit.gauss_newton import GaussNewton
from omd.implicit.iterative import CG, GMRES, NormalCG, Refinement
from omd.implicit.least_squares import LeastSquares
from omd.implicit.methods import AbstractMethod, Identity, Neumann, Nystrom
from omd.implicit.registry import get
from omd.implicit.report import Report, Status, judge
from omd.implicit.roots import from_fixed_point, hypergradient, jacobian, root
from omd.implicit.stochastic import Saba, Soba, stochastic_neumann
from omd.implicit.unrolled import Unrolled

__all__ = [
    "CG",
    "GMRES",
    "KKT",
    "AbstractMethod",
    "Dense",
    "FromFunction",
    "GaussNewton",
    "GradCheck",
    "Identity",
    "LeastSquares",
    "Neumann",
    "NormalCG",
    "Nystrom",
    "PseudoInverse",
    "Refinement",
    "Report",
    "Saba",
    "Soba",
    "Status",
    "Unrolled",
    "custom_fixed_point",
    "custom_root",
    "from_fixed_point",
    "get",
    "gradcheck",
    "hypergradient",
    "jacobian",
    "judge",
    "kkt",
    "on_host",
    "problems",
    "projections",
    "root",
    "stochastic_neumann",
]
