"""How queries are executed: breadth first, each field once for all objects of its level.

Depends on graphql-core, strawberry and msgspec, and on nothing of the gateway.
"""

from bff.engine.authoring import Parents, batched, batched_resolver
from bff.engine.checks import CHECK, Check
from bff.engine.executor import BreadthExecutor, StandardExecutor, Weighed
from bff.engine.kernels import unpacked
from bff.engine.objects import RECORD
from bff.engine.operation import Operation
from bff.engine.pending import Pending, then
from bff.engine.plan import Field, Selection, Weigh, Wrap
from bff.engine.plans import Reason
from bff.engine.run import GUARD, Guard

__all__ = [
    "CHECK",
    "GUARD",
    "RECORD",
    "BreadthExecutor",
    "Check",
    "Field",
    "Guard",
    "Operation",
    "Parents",
    "Pending",
    "Reason",
    "Selection",
    "StandardExecutor",
    "Weigh",
    "Weighed",
    "Wrap",
    "batched",
    "batched_resolver",
    "then",
    "unpacked",
]
