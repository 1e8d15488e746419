"""Operations for fuzzing: broad and deep ones of our own, and what is done to any operation to make it harder.

What matters is that documents are executed several times with other variables: a plan that is used again is where a
planning executor goes wrong.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

from graphql import (
    ArgumentNode,
    BooleanValueNode,
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLArgument,
    GraphQLField,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    NamedTypeNode,
    NameNode,
    OperationDefinitionNode,
    SelectionSetNode,
    TypeInfo,
    TypeInfoVisitor,
    VariableNode,
    Visitor,
    get_named_type,
    is_abstract_type,
    is_composite_type,
    is_enum_type,
    is_input_object_type,
    is_union_type,
    parse,
    print_ast,
    validate,
    visit,
)


class Case(NamedTuple):
    """A document, and the sets of variables to execute it with."""

    document: DocumentNode
    variables: list[dict[str, Any]]


def written(
    schema: GraphQLSchema,
    random: Random,
    root: GraphQLObjectType,
    allowed: Callable[[str], bool],
    prefixes: Sequence[str] = ("",),
) -> str:
    """An operation of our own, of fields whose names are allowed, with ids that begin with one of the prefixes."""
    kind = "mutation" if root is schema.mutation_type else "query"
    return f"{kind} {{ {_Writer(schema, random, allowed, prefixes).selected(root, 0)} }}"


class _Writer:
    def __init__(
        self, schema: GraphQLSchema, random: Random, allowed: Callable[[str], bool], prefixes: Sequence[str]
    ) -> None:
        self._prefixes = prefixes
        self._schema = schema
        self._random = random
        self._allowed = allowed
        self._aliases = 0
        self._left = random.choice((15, 40, 90))

    def selected(self, of: GraphQLNamedType, depth: int) -> str:
        fields = [] if is_union_type(of) else [each for each in of.fields.items() if self._allowed(each[0])]  # type: ignore[attr-defined]
        self._random.shuffle(fields)
        fields = fields[: self._random.choice((2, 4, 7)) if depth else 5]
        types = [each for each in self._possible(of) if self._random.random() < 0.6]
        parts = [
            self._field(name, definition, depth) for name, definition in fields if self._goes_on(definition, depth)
        ]
        parts += [f"... on {each.name} {{ {self.selected(each, depth + 1)} }}" for each in types]
        return " ".join(parts) or "__typename"

    def _possible(self, of: GraphQLNamedType) -> list[GraphQLObjectType]:
        return self._schema.get_possible_types(of) if is_abstract_type(of) else []

    def _goes_on(self, definition: GraphQLField, depth: int) -> bool:
        return not is_composite_type(get_named_type(definition.type)) or (depth <= 3 and self._left > 0)

    def _field(self, name: str, definition: GraphQLField, depth: int) -> str:
        self._left -= 1
        # Text, such as a cursor, is hardly ever what a resolver can use.
        given = [each for each in definition.args.items() if self._random.random() < self._likelihood(each[1])]
        arguments = f"({', '.join(f'{each}: {self._literal(of.type)}' for each, of in given)})" if given else ""
        # Fields that differ in their arguments must not share a name.
        alias = ""
        if given or self._random.random() < 0.1:
            self._aliases += 1
            alias = f"a{self._aliases}: "
        below = get_named_type(definition.type)
        selection = f" {{ {self.selected(below, depth + 1)} }}" if is_composite_type(below) else ""
        return f"{alias}{name}{arguments}{selection}"

    def _likelihood(self, argument: GraphQLArgument) -> float:
        return 0.1 if get_named_type(argument.type).name == "String" else 0.6

    def _literal(self, of: Any) -> str:
        random, named = self._random, get_named_type(of)
        if "[" in str(of):
            return f"[{', '.join(self._literal(named) for _ in range(random.randrange(4)))}]"
        if is_enum_type(named):
            return random.choice(list(named.values))
        if is_input_object_type(named):
            return f"{{limit: {random.randrange(5)}}}"
        plain = {"Int": str(random.randrange(60)), "Boolean": random.choice(("true", "false")), "String": '"x"'}
        return plain.get(named.name, f'"{random.choice(self._prefixes)}{random.randrange(40)}"')


def harder(schema: GraphQLSchema, random: Random, text: str) -> Case | None:
    """The operation with directives, fragments, merged fields and variables in it; None if it is not valid so."""
    changes = _Changes(schema, random)
    document = visit(parse(text), TypeInfoVisitor(changes.types, changes))
    (operation,) = (each for each in document.definitions if isinstance(each, OperationDefinitionNode))
    declared = [f"$if_{name}: Boolean! = {random.choice(('true', 'false'))}" for name in sorted(changes.conditions)]
    declared += [f"${name}: Int! = 1" for name in changes.numbers]
    head = f"{operation.operation.value} Q{'(' + ', '.join(declared) + ')' if declared else ''} "
    parts = [head + print_ast(operation.selection_set), *map(print_ast, changes.fragments)]
    document = parse("\n".join(parts))
    if validate(schema, document):
        return None
    return Case(document, [_values(changes, random) for _ in range(3)])


def _values(changes: "_Changes", random: Random) -> dict[str, Any]:
    conditions = {f"if_{name}": random.random() < 0.5 for name in sorted(changes.conditions)}
    numbers = {name: random.randrange(9) for name in changes.numbers}
    return {name: value for name, value in (conditions | numbers).items() if random.random() < 0.7}


class _Changes(Visitor):
    def __init__(self, schema: GraphQLSchema, random: Random) -> None:
        super().__init__()
        self.types = TypeInfo(schema)
        self.fragments: list[FragmentDefinitionNode] = []
        self.conditions: set[str] = set()
        self.numbers: list[str] = []
        self._random = random

    def _sometimes(self, likelihood: float) -> bool:
        return self._random.random() < likelihood

    def _condition(self) -> DirectiveNode:
        value: Any = BooleanValueNode(value=self._sometimes(0.5))
        if self._sometimes(0.6):
            name = self._random.choice("abc")
            self.conditions.add(name)
            value = VariableNode(name=NameNode(value=f"if_{name}"))
        name = self._random.choice(("skip", "include"))
        return DirectiveNode(
            name=NameNode(value=name), arguments=(ArgumentNode(name=NameNode(value="if"), value=value),)
        )

    def _conditions(self, likelihood: float) -> tuple[DirectiveNode, ...]:
        return (self._condition(),) if self._sometimes(likelihood) else ()

    def leave_field(self, node: FieldNode, *_: Any) -> FieldNode:
        return FieldNode(
            alias=node.alias,
            name=node.name,
            arguments=tuple(map(self._argument, node.arguments or ())),
            directives=node.directives or self._conditions(0.12),
            selection_set=node.selection_set,
        )

    def _argument(self, node: ArgumentNode) -> ArgumentNode:
        if not isinstance(node.value, IntValueNode) or self._sometimes(0.4):
            return node
        self.numbers.append(f"n{len(self.numbers)}")
        return ArgumentNode(name=node.name, value=VariableNode(name=NameNode(value=self.numbers[-1])))

    def leave_selection_set(self, node: SelectionSetNode, *_: Any) -> SelectionSetNode:
        parent = self.types.get_parent_type()
        selections = list(node.selections)
        if parent is None or not selections:
            return node
        if self._sometimes(0.2):
            selections.append(FieldNode(name=NameNode(value="__typename"), arguments=(), directives=()))
        if self._sometimes(0.25):
            selections.append(self._random.choice(selections))
        if self._sometimes(0.25):
            cut = self._random.randrange(len(selections))
            name = NameNode(value=f"F{len(self.fragments)}")
            self.fragments.append(
                FragmentDefinitionNode(
                    name=name,
                    type_condition=NamedTypeNode(name=NameNode(value=parent.name)),
                    directives=(),
                    selection_set=SelectionSetNode(selections=tuple(selections[cut:])),
                )
            )
            spread = FragmentSpreadNode(name=name, directives=self._conditions(0.3), arguments=())
            selections = selections[:cut] + [spread] * self._random.choice((1, 1, 2))
        if self._sometimes(0.2):
            below = SelectionSetNode(selections=tuple(selections))
            selections = [InlineFragmentNode(directives=self._conditions(0.4), selection_set=below)]
        return SelectionSetNode(selections=tuple(selections))
