"""What went wrong during one execution, and the errors that are reported of it."""

from __future__ import annotations

from typing import NamedTuple

from graphql import FieldNode, GraphQLError, located_error

from bff.engine.places import Step


class Failure(NamedTuple):
    """One, as it was found: they are found level by level, and reported as they would be read, top to bottom."""

    steps: list[Step]
    error: BaseException
    nodes: list[FieldNode]


def reported(failures: list[Failure]) -> list[GraphQLError] | None:
    """Located errors in the order of the response, without those in what is null already because of an earlier one.

    That is what an executor reports that goes depth first and stops at the first error of an object; the
    specification (§6.4.4) allows no more than one error for each null.
    """
    if not failures:
        return None
    nulled: set[tuple[str | int, ...]] = set()
    errors: list[GraphQLError] = []
    for steps, error, nodes in sorted(failures, key=_printed):
        path = [step.key for step in steps]
        if not any(tuple(path[:length]) in nulled for length in range(len(path) + 1)):
            nulled.add(tuple(path[: _null_at(steps)]))
            errors.append(located_error(error, nodes, path))  # type: ignore[arg-type]
    return errors


def _printed(failure: Failure) -> list[int]:
    return [step.order for step in failure.steps]


def _null_at(steps: list[Step]) -> int:
    """How many steps lead to the null that this failure makes: the nearest place that may be null, else the root."""
    return next((length for length in range(len(steps), 0, -1) if steps[length - 1].nullable), 0)
