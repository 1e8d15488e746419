"""How queries are executed: breadth first, whole levels at a time.

It depends on graphql-core and strawberry, and on nothing of the gateway.
"""

from bff.engine.authoring import Parents, batched, resolver_of
from bff.engine.columns import RECORD
from bff.engine.executor import BreadthExecutor
from bff.engine.plan import GUARD, Guard

__all__ = ["GUARD", "RECORD", "BreadthExecutor", "Guard", "Parents", "batched", "resolver_of"]
