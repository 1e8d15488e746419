"""How queries are executed: breadth first, whole levels at a time.

It depends on graphql-core and strawberry, and on nothing of the gateway.
"""

from bff.breadth.authoring import Parents, batched, resolver_of
from bff.breadth.columns import RECORD
from bff.breadth.executor import BreadthExecutor
from bff.breadth.plan import GUARD, Guard

__all__ = ["GUARD", "RECORD", "BreadthExecutor", "Guard", "Parents", "batched", "resolver_of"]
