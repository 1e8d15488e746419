"""Random operations over any schema: wide and deep, with all that selections and variables can do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLField,
    GraphQLInputType,
    GraphQLNonNull,
    GraphQLSchema,
    get_named_type,
    get_nullable_type,
    is_abstract_type,
    is_composite_type,
    is_enum_type,
    is_input_object_type,
    is_list_type,
    is_non_null_type,
    is_union_type,
    parse,
    validate,
)

MAX_DEPTH = 4
SETS_OF_VARIABLES = 4


@dataclass
class Case:
    """A document, and the variables of each time that it is run."""

    text: str
    document: DocumentNode
    variables: list[dict[str, Any]]


def cases(schema: GraphQLSchema, seed: int):
    """Valid ones, without end."""
    random = Random(seed)  # noqa: S311
    while True:
        case = _Writer(schema, random).case()
        if case:
            yield case


def executions(schema: GraphQLSchema, seed: int, count: int):
    """Documents with one set of variables, `count` of them; a document comes again with its other sets."""
    every = ((case.document, variables) for case in cases(schema, seed) for variables in case.variables)
    return islice(every, count)


class _Writer:
    def __init__(self, schema: GraphQLSchema, random: Random) -> None:
        self.schema = schema
        self.random = random
        self.variables: dict[str, tuple[str, GraphQLInputType]] = {}
        self.fragments: list[str] = []
        self.left = 60

    def case(self) -> Case | None:
        body = self.selection(self.schema.query_type, 0)
        declared = ", ".join(f"${name}: {type}" for name, (type, _) in self.variables.items())
        text = f"query Q{f'({declared})' if declared else ''} {body}\n" + "\n".join(self.fragments)
        document = parse(text)
        if validate(self.schema, document):
            return None
        return Case(text, document, [self.values() for _ in range(SETS_OF_VARIABLES if declared else 1)])

    def values(self) -> dict[str, Any]:
        given = {}
        for name, (written, type) in self.variables.items():
            may_be_missing = "=" in written or not written.endswith("!")
            if may_be_missing and self.chance(0.3):
                continue
            # The null that a default lets through to where none may be is the executor's to refuse.
            odds = 0.02 if name.startswith("b") else 0.1  # only graphql-core refuses a null in a condition
            given[name] = None if not is_non_null_type(type) and self.chance(odds) else self.value(type)
        return given

    def selection(self, parent: Any, depth: float) -> str:
        fields = {} if is_union_type(parent) else parent.fields
        parts = [part for name, each in fields.items() if (part := self.field(name, each, depth))]
        parts += [
            f"... on {each.name}{self.condition(0.2)} {self.selection(each, depth + 0.5)}"
            for each in (self.schema.get_possible_types(parent) if is_abstract_type(parent) else ())
            if self.chance(0.5)
        ]
        if self.chance(0.2) or not parts:
            parts.append(f"{self.random.choice(['', '', 'kind: '])}__typename")
        self.random.shuffle(parts)
        if self.chance(0.3):
            parts.append(self.random.choice(parts))
        if self.chance(0.2):
            parts = [f"...{self.condition(0.5)} {{ {' '.join(parts)} }}"]
        if self.chance(0.2):
            name = f"F{len(self.fragments)}"
            self.fragments.append(f"fragment {name} on {parent.name} {{ {' '.join(parts)} }}")
            parts = [f"...{name}{self.condition(0.3)}"] * self.random.choice((1, 1, 2))
        return f"{{ {' '.join(parts)} }}"

    def field(self, name: str, field: GraphQLField, depth: float) -> str | None:
        named = get_named_type(field.type)
        composite = is_composite_type(named)
        if self.left <= 0 or not self.chance(0.45 if depth else 0.6) or (composite and depth >= MAX_DEPTH):
            return None
        self.left -= 1
        arguments = [
            f"{each}: {self.argument(argument.type)}"
            for each, argument in field.args.items()
            if (is_non_null_type(argument.type) and argument.default_value is None) or self.chance(0.6)
        ]
        key = f"a{self.left}: " if arguments or self.chance(0.1) else ""
        call = f"({', '.join(arguments)})" if arguments else ""
        below = ""
        if composite:
            below = " " + self.selection(named, depth + 1)
        once = f"{key}{name}{call}{self.condition(0.12)}{below}"
        # Twice under one key, asking for other things: they are merged.
        return (
            f"{once} {key}{name}{call} {self.selection(named, depth + 1)}" if composite and self.chance(0.2) else once
        )

    def condition(self, probability: float) -> str:
        if not self.chance(probability):
            return ""
        return "".join(
            f" @{name}(if: {self.boolean()})"
            for name in self.random.sample(("skip", "include"), self.random.choice((1, 1, 2)))
        )

    def boolean(self) -> str:
        if self.chance(0.4):
            return self.random.choice(("true", "false"))
        written = self.random.choice(("Boolean!", "Boolean! = true", "Boolean = false"))
        name = f"b{len(written)}{self.random.choice('xyz')}"
        type: Any = self.schema.get_type("Boolean")
        self.variables[name] = written, (GraphQLNonNull(type) if "!" in written else type)
        return f"${name}"

    def argument(self, type: GraphQLInputType) -> str:
        if self.chance(0.4):
            return _literal(type, self.value(type))
        name = f"v{len(self.variables)}"
        self.variables[name] = str(type), type
        return f"${name}"

    def value(self, type: Any) -> Any:
        named = get_nullable_type(type)
        if is_list_type(named):
            return [self.value(named.of_type) for _ in range(self.random.randrange(4))]
        if is_enum_type(named):
            return self.random.choice(list(named.values))
        if is_input_object_type(named):
            return {
                name: self.value(each.type)
                for name, each in named.fields.items()
                if is_non_null_type(each.type) or self.chance(0.6)
            }
        if named.name == "ID":
            return self.random.choice(("usr_", "prd_", "ord_", "pay_", "")) + str(self.random.randrange(40))
        return {
            "Int": self.random.randrange(-2, 40),
            "Boolean": self.chance(0.5),
            "Float": self.random.random(),
        }.get(named.name, self.random.choice(("", "x", "tag")))

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability


def _literal(type: Any, value: Any) -> str:
    named = get_nullable_type(type)
    if is_list_type(named):
        return f"[{', '.join(_literal(named.of_type, each) for each in value)}]"
    if is_enum_type(named):
        return str(value)
    if is_input_object_type(named):
        return "{" + ", ".join(f"{key}: {_literal(named.fields[key].type, each)}" for key, each in value.items()) + "}"
    return json.dumps(value)
