"""`bff explain`: what an operation does and costs at worst, as a tree for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from graphql import (
    GraphQLError,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    parse,
    validate,
)

from bff.graphql.aggregates import without_rest
from bff.graphql.cost import Costs, Estimate
from bff.graphql.demands import NOTHING, Demands
from bff.graphql.worst import Group, Row


class ExplainError(Exception):
    """Nothing can be explained; the message says what is wrong, and where."""


class Budget(NamedTuple):
    """What an operation may come to; None is anything that has a bound."""

    calls: int | None = None
    cost: int | None = None

    @classmethod
    def read(cls, text: str) -> Budget:
        """`calls=12,cost=5000`, or one of the two.

        Raises:
            ExplainError: it is something else.
        """
        given: dict[str, int] = {}
        for part in text.split(","):
            name, _, value = part.strip().partition("=")
            if name not in cls._fields or not (value.isascii() and value.isdigit()):
                raise ExplainError(f"--budget {text}: write it as calls=12,cost=5000")
            given[name] = int(value)
        return cls(**given)


@dataclass(frozen=True)
class Explained:
    """One operation, and where it was found."""

    file: Path
    name: str
    kind: str
    estimate: Estimate
    needs: Mapping[str, Demands]
    max_batch: Mapping[str, int]

    @property
    def title(self) -> str:
        return f"{self.kind} {self.name}".strip()

    @property
    def demands(self) -> Demands:
        """What its caller needs for all of it."""
        found = NOTHING
        for each in self.needs.values():
            found &= each
        return found

    def over(self, budget: Budget) -> Iterator[str]:
        """In what it is over a budget."""
        if self.estimate.unbounded:
            yield f"unbounded, since nothing says how long {', '.join(self.estimate.unbounded)} can get"
        for name, allowed in budget._asdict().items():
            found = getattr(self.estimate, name)
            if found is not None and allowed is not None and found > allowed:
                yield f"{name} {found}, {allowed} allowed"

    def as_text(self) -> str:
        """The tree."""
        estimate = self.estimate
        lines = [f"{self.title}: {_summary(estimate)}"]
        if self.demands:
            lines.append(f"needs {self.demands}")
        cells = [("", "AT MOST", "COST", "WAVE", "CALLS", ""), *self._cells()]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for first, *numbers, last in cells:
            middle = "  ".join(cell.rjust(width) for cell, width in zip(numbers, widths[1:-1], strict=True))
            lines.append(f"{first.ljust(widths[0])}  {middle}  {last}".rstrip())
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """The same, as values."""
        estimate = self.estimate
        return {
            "file": str(self.file),
            "operation": self.name or None,
            "type": self.kind,
            "cost": estimate.cost,
            "calls": estimate.calls,
            "waves": estimate.waves,
            "unbounded": list(estimate.unbounded),
            "needs": self.demands.as_json(),
            "calls_by_read": {name: count for name, count in sorted(estimate.by_source.items()) if count},
            "fields": [
                {
                    "depth": row.depth,
                    "field": row.field.coordinate,
                    "key": row.field.key,
                    "at_most": None if estimate.unbounded else row.objects,
                    "cost": None if estimate.unbounded else row.cost,
                    "wave": row.wave or None,
                    "reads": [group.source.name for group in row.groups],
                }
                for row in estimate.rows
                if _is_shown(row)
            ],
        }

    def _cells(self) -> Iterator[tuple[str, ...]]:
        has_bound = not self.estimate.unbounded
        seen: set[int] = set()
        above: list[Row] = []
        for row in self.estimate.rows:
            del above[row.depth :]
            several = bool(above) and len(above[-1].field.selections) > 1
            above.append(row)
            if not _is_shown(row):
                continue
            name = row.field.coordinate if several else row.field.name
            said = f"({row.field.said})" if row.field.said else ""
            alias = f"{row.field.key}: " if row.field.key != row.field.name else ""
            calls, shared = self._calls(row.groups, seen)
            reads = ", ".join(dict.fromkeys(group.source.name for group in row.groups))
            yield (
                f"{'  ' * row.depth}{alias}{name}{said}",
                (f"{row.objects:,}" if has_bound else "?"),
                (f"{row.cost:,.0f}" if has_bound else "?"),
                str(row.wave or ""),
                "" if not row.groups else "" if shared else f"{calls:,}" if has_bound else "?",
                f"{reads} (with one above)" if shared else reads,
            )

    def _calls(self, groups: list[Group], seen: set[int]) -> tuple[int, bool]:
        """How many they make, and whether all of them have been counted above already."""
        new = [group for group in groups if id(group) not in seen]
        seen |= {id(group) for group in groups}
        return sum(group.calls(self.max_batch) for group in new), bool(groups) and not new


def explain(
    costs: Costs, paths: list[Path], variables: Mapping[str, Any], operation: str | None = None
) -> list[Explained]:
    """The operations in these files, and in the `.graphql` files of these folders.

    Raises:
        ExplainError: there is none, or one does not fit the schema.
    """
    found = [each for path in paths for file in _files(path) for each in _operations(costs, file, variables)]
    chosen = [each for each in found if operation is None or each.name == operation]
    if not chosen:
        what = f"operation named {operation}" if operation else "operation"
        raise ExplainError(f"There is no {what} in {', '.join(map(str, paths))}")
    return chosen


def _operations(costs: Costs, file: Path, variables: Mapping[str, Any]) -> Iterator[Explained]:
    try:
        document = without_rest(parse(file.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise ExplainError(f"{file}: {getattr(error, 'strerror', None) or error}") from None
    except GraphQLSyntaxError as error:
        raise ExplainError(_located(file, error)) from None
    operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    if errors := validate(costs.schema, document) if operations else []:
        raise ExplainError("\n".join(_located(file, each) for each in errors))
    for each in operations:
        cost = costs.of(document, each)
        name = each.name.value if each.name else ""
        needs = cost.all_needs(variables)
        yield Explained(file, name, each.operation.value, cost.explain(variables), needs, costs.known.max_batch)


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.graphql")) if path.is_dir() else [path]


def _located(file: Path, error: GraphQLError) -> str:
    line = f":{error.locations[0].line}" if error.locations else ""
    return f"{file}{line}: {error.message}"


def _summary(estimate: Estimate) -> str:
    if estimate.unbounded:
        return f"unbounded, since nothing says how long {', '.join(estimate.unbounded)} can get"
    calls, waves = f"{estimate.calls:,} calls", f"{estimate.waves} waves"
    return f"cost {estimate.cost:,}, at most {calls} in {waves}".replace(" 1 calls", " 1 call").replace(
        " 1 waves", " 1 wave"
    )


def _is_shown(row: Row) -> bool:
    """Scalars that cost nothing are left out."""
    return bool(row.field.selections or row.groups or row.cost)
