"""Guards: what a schema demands of a caller is put before its fields, when it is composed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    GraphQLUnionType,
)

from bff.core.policies import Policies
from bff.engine import GUARD
from bff.graphql.demands import DEMANDS, NOTHING, BadDemand, Demands, demanded_by
from bff.graphql.directives import Authenticated, Policy, RequiresScopes
from bff.graphql.views import entity_behind


class Guards:
    """The guards of one schema.

    A field demands what is said of it, what the interfaces of its type say of it, and what the type of the objects or
    values demands that it gives. What an interface or union stands for is asked for its own type's demands, too.

    Raises:
        BadDemand: a directive makes no sense, or stands where it would not be looked at; the message says where.
    """

    def __init__(self, schema: GraphQLSchema, policies: Policies) -> None:
        self._schema = schema
        self._policies = policies
        for place, directives in _elsewhere(schema):
            for each in directives:
                if isinstance(each, Authenticated | RequiresScopes | Policy):
                    raise BadDemand(f"{place}: put what is demanded on a field or on the type that fields give")
        for type_ in schema.type_map.values():
            if not isinstance(type_, GraphQLUnionType | GraphQLInputObjectType):
                self._guard_type(type_)

    def guard(self, type_: GraphQLObjectType, name: str, field: GraphQLField) -> Demands:
        """Put a guard before a field, and say what it demands."""
        of_type: Demands = entity_behind(field.type).extensions.get(DEMANDS, NOTHING)
        demands = self._own(type_, name, field) & of_type
        if demands and type_ is self._schema.subscription_type:
            self._guard_stream(field, demands)
        elif demands:
            field.extensions[GUARD] = self._judge(demands)
        return demands

    def _own(self, type_: GraphQLObjectType, name: str, field: GraphQLField) -> Demands:
        found = self._said(f"{type_.name}.{name}", getattr(_definition(field), "directives", ()))
        for interface in type_.interfaces:
            if name in interface.fields:
                found &= self._said(
                    f"{interface.name}.{name}", getattr(_definition(interface.fields[name]), "directives", ())
                )
        return found

    def _guard_type(self, type_: GraphQLNamedType) -> None:
        demands = self._said(type_.name, directives_of(_definition(type_)))
        if demands:
            type_.extensions[DEMANDS] = demands
        if demands and isinstance(type_, GraphQLObjectType):
            type_.extensions[GUARD] = self._judge(demands, f"A {type_.name}")

    def _said(self, place: str, directives: Iterable[object]) -> Demands:
        try:
            return demanded_by(directives, self._policies.expressions)
        except BadDemand as error:
            raise BadDemand(f"{place}: {error}") from None

    def _judge(self, demands: Demands, what: str = "This field") -> Any:
        """Judged once for a level, whatever the number of its objects."""
        policies, scopes = self._policies, demands.plain

        def judge(info: GraphQLResolveInfo[Any]) -> None:
            caller = info.context.caller
            if scopes is None or not scopes <= caller.scopes:
                demands.check(caller, policies, what)

        return judge

    def _guard_stream(self, field: GraphQLField, demands: Demands) -> None:
        """Judged once for a subscription, before its stream begins, whatever the number of its events."""
        subscribe, policies = field.subscribe, self._policies

        def judge_and_subscribe(source: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
            demands.check(info.context.caller, policies)
            return subscribe(source, info, **arguments) if subscribe else None

        field.subscribe = judge_and_subscribe


def directives_of(definition: Any) -> Iterator[object]:
    """Those of a type, and of the interfaces that it has."""
    yield from getattr(definition, "directives", None) or ()
    for interface in getattr(definition, "interfaces", ()):
        yield from interface.directives or ()


def _definition(described: Any) -> Any:
    """What strawberry knows of a type, field or argument."""
    return described.extensions.get("strawberry-definition")


def _elsewhere(schema: GraphQLSchema) -> Iterator[tuple[str, Iterable[object]]]:
    """The directives that stand where none of ours would do anything, each with its place."""
    for name, type_ in schema.type_map.items():
        parts: Mapping[str, Any] = {}
        if isinstance(type_, GraphQLUnionType):
            parts = {"": type_}
        elif isinstance(type_, GraphQLInputObjectType):
            parts = {"": type_, **{f".{key}": each for key, each in type_.fields.items()}}
        elif isinstance(type_, GraphQLEnumType):
            parts = {f".{key}": each for key, each in type_.values.items()}
        elif isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            parts = {
                f".{key}({argument}:)": each
                for key, field in type_.fields.items()
                for argument, each in field.args.items()
            }
        for part, each in parts.items():
            yield f"{name}{part}", getattr(_definition(each), "directives", None) or ()
