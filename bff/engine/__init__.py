"""How queries are resolved: whole levels at a time."""

from bff.engine.authoring import Parents, batched, resolver_of

__all__ = ["Parents", "batched", "resolver_of"]
