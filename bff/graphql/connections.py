"""Relay connections over a service's pages: cursors are ids, so a cursor from one page is good for any other."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec
import strawberry

from bff.core.errors import BadUserInput

T = TypeVar("T")

MAX_PAGE = 200


class Page(msgspec.Struct, Generic[T], gc=False):
    """What services answer: items, and the id after which the next page begins; None on the last one."""

    items: list[T]
    next_cursor: str | None = None


@strawberry.type
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type
class Edge(Generic[T]):
    cursor: str
    node: T


@strawberry.type
class Connection(Generic[T]):
    """The GraphQL type; what resolvers return for it is a `Slice` of records."""

    edges: list[Edge[T]]
    nodes: list[T]
    page_info: PageInfo


class Slice(Generic[T]):
    """A page seen as a connection. Edges are made only for those who ask for them.

    Args:
        page: of records that have an `id`.
        after: the cursor that the caller gave.
    """

    __slots__ = ("_after", "_page", "nodes")

    def __init__(self, page: Page[T], after: str | None) -> None:
        self._page = page
        self._after = after
        self.nodes = page.items

    @classmethod
    def of(cls, page: Page[T] | BaseException | None, after: str | None) -> Slice[T] | BaseException:
        """For one value of a column: an error stays one, no page is an empty one."""
        return page if isinstance(page, BaseException) else cls(page or Page([]), after)

    def cut(self, most: int) -> Slice[T]:
        """Its first `most` items; the next page begins after them."""
        kept = self.nodes[:most]
        return Slice(Page(kept, _cursor(kept[-1]) if kept else None), self._after)

    @property
    def edges(self) -> list[_Edge]:
        return [_Edge(_cursor(node), node) for node in self.nodes]

    @property
    def page_info(self) -> PageInfo:
        nodes = self.nodes
        return PageInfo(
            has_next_page=self._page.next_cursor is not None,
            has_previous_page=self._after is not None,
            start_cursor=_cursor(nodes[0]) if nodes else None,
            end_cursor=_cursor(nodes[-1]) if nodes else None,
        )


class _Edge(msgspec.Struct):
    cursor: str
    node: Any


def _cursor(node: Any) -> str:
    cursor: str = node.id
    return cursor


def page_size(first: int) -> int:
    """`first`, if it is a size that services serve.

    Raises:
        BadUserInput: it is not from 1 to 200.
    """
    if not 1 <= first <= MAX_PAGE:
        raise BadUserInput(f"`first` must be from 1 to {MAX_PAGE}")
    return first
