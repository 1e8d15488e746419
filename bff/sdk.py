"""All that `services/` and `schema/` may import from the gateway: the surface that teams extend it with."""

from bff.core.errors import BadUserInput, Conflict, Forbidden, NotFound, Unprocessable, UpstreamError
from bff.core.record import Record
from bff.engine import Parents, batched
from bff.graphql.compose import extend
from bff.graphql.connections import Connection, Page, Slice, page_size
from bff.graphql.context import Context, Info
from bff.graphql.directives import Authenticated, Cost, ListSize, Policy, RequiresScopes
from bff.graphql.node import Node, entity
from bff.graphql.sources import reads
from bff.upstream.batch import Batch, Column, batch, call
from bff.upstream.client import Upstream
from bff.upstream.feeds import stream

__all__ = [
    "Authenticated",
    "BadUserInput",
    "Batch",
    "Column",
    "Conflict",
    "Connection",
    "Context",
    "Cost",
    "Forbidden",
    "Info",
    "ListSize",
    "Node",
    "NotFound",
    "Page",
    "Parents",
    "Policy",
    "Record",
    "RequiresScopes",
    "Slice",
    "Unprocessable",
    "Upstream",
    "UpstreamError",
    "batch",
    "batched",
    "call",
    "entity",
    "extend",
    "page_size",
    "reads",
    "stream",
]
