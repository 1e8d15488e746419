"""How queries are resolved: whole levels at a time."""

from bff.engine.authoring import Parents, batched

__all__ = ["Parents", "batched"]
