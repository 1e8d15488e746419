"""Trusted documents: what applications' own builds have written down, read from `.graphql` files or their manifests.

A manifest is Apollo's (`generate-persisted-query-manifest`) or Relay's (`relay-compiler`, a JSON object from id to
text). Of `.graphql` files each operation is a document, with the fragments that it needs from any of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from graphql import (
    DefinitionNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSyntaxError,
    NameNode,
    Node,
    OperationDefinitionNode,
    SelectionSetNode,
    Visitor,
    parse,
    print_ast,
    visit,
)

from bff.graphql.compose import SchemaError

Format = Literal["apollo", "relay"]
APOLLO: Final = "apollo-persisted-query-manifest"
MOST: Final = 20_000
LARGEST: Final = 64 * 1024 * 1024
_LONGEST_ID = 256


class Trusted(NamedTuple):
    """A document that may be sent by its id, the hash of its text, or its text.

    Attributes:
        text: what it says.
        id: what its manifest calls it; None: only its hash.
        where: file and operation, for messages.
    """

    text: str
    id: str | None
    where: str


class DocumentsError(SchemaError):
    """The trusted documents cannot be read, or do not fit the schema; the message has a line for each problem."""

    def __init__(self, problems: Iterable[str]) -> None:
        super().__init__("\n".join(problems))


def sha256_of(text: str) -> str:
    """The hash that automatic persisted queries and manifests go by."""
    return sha256(text.encode()).hexdigest()


def read(path: Path) -> tuple[Trusted, ...]:
    """The documents of a manifest, a `.graphql` file, or a folder of either.

    Raises:
        DocumentsError: a file cannot be read or makes no sense.
    """
    return _documents(path, tuple((file, _text(file)) for file in _files(path)))


@lru_cache(maxsize=1)  # a configuration that is read again mostly has the same
def _documents(path: Path, texts: tuple[tuple[Path, str | Exception], ...]) -> tuple[Trusted, ...]:
    problems: list[str] = []
    sources: dict[Path, DocumentNode] = {}
    found: list[Trusted] = []
    for file, text in texts:
        try:
            if isinstance(text, Exception):
                problems.append(f"{file}: {text}")
            elif file.suffix == ".json":
                found += _from_manifest(file, text)
            else:
                sources[file] = parse(text)
        except ValueError as error:
            problems.append(f"{file}: {error}")
        except GraphQLSyntaxError as error:
            at = error.locations[0] if error.locations else None
            problems.append(f"{file}{f':{at.line}:{at.column}' if at else ''}: {error.message}")
    found += (Trusted(print_ast(node), None, where) for where, node in _assembled(sources, problems))
    found += (
        Trusted(text, None, _first(file, sources[file]))
        for file, text in texts
        if isinstance(text, str) and file in sources and _is_whole(sources[file])
    )
    if len(found) > MOST:
        problems.append(f"{path}: there are more than {MOST} documents")
    if problems:
        raise DocumentsError(problems)
    return tuple(found)


def manifest(path: Path, format: Format) -> str:
    """The manifest of the operations under `path`, as the tools of Apollo and Relay write it.

    Raises:
        DocumentsError: a file cannot be read or makes no sense, or an operation has no name.
    """
    problems: list[str] = []
    sources: dict[Path, DocumentNode] = {}
    for file in _files(path):
        if file.suffix == ".json":
            continue
        try:
            sources[file] = parse(_readable(file))
        except (ValueError, OSError, GraphQLSyntaxError) as error:
            problems.append(f"{file}: {getattr(error, 'message', error)}")
    operations: list[tuple[str, str, str]] = []
    for where, node in _assembled(sources, problems):
        operation = next(each for each in node.definitions if isinstance(each, OperationDefinitionNode))
        if operation.name is None:
            problems.append(f"{where}: an operation needs a name")
            continue
        text = print_ast(visit(node, _WithTypename()) if format == "apollo" else node)
        operations.append((operation.name.value, operation.operation.value, text))
    if not problems and not operations:
        problems.append(f"{path}: there are no operations")
    if problems:
        raise DocumentsError(problems)
    operations.sort()
    if format == "relay":
        return _json({sha256_of(text): text for _, _, text in operations})
    entries = [{"id": sha256_of(text), "name": name, "type": kind, "body": text} for name, kind, text in operations]
    return _json({"format": APOLLO, "version": 1, "operations": entries})


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DocumentsError([f"{path}: there is no such file or folder"])
    files = [
        each for each in sorted(path.rglob("*")) if each.suffix in {".graphql", ".gql", ".json"} and each.is_file()
    ]
    if not files:
        raise DocumentsError([f"{path}: there is no .graphql file and no manifest in it"])
    return files


def _text(file: Path) -> str | Exception:
    """What is in it, or why that cannot be read."""
    try:
        return _readable(file)
    except (ValueError, OSError) as error:
        return error


def _readable(file: Path) -> str:
    if file.stat().st_size > LARGEST:
        raise ValueError(f"is larger than {LARGEST} bytes")
    return file.read_text(encoding="utf-8")


def _from_manifest(file: Path, text: str) -> Iterator[Trusted]:
    given = json.loads(text)
    if isinstance(given, dict) and "format" in given:
        if given["format"] != APOLLO or given.get("version") != 1:
            raise ValueError(
                f"is neither a manifest of the format {APOLLO}, version 1, nor a map from ids to documents"
            )
        pairs = [(each["id"], each["body"]) for each in _list_of_objects(given.get("operations"))]
    elif isinstance(given, dict):
        pairs = list(given.items())
    else:
        raise ValueError("is no manifest: it has to be a JSON object")
    for id, body in pairs:
        if not isinstance(id, str) or not 0 < len(id) <= _LONGEST_ID or not isinstance(body, str):
            raise ValueError(
                f"has an entry that is no id of at most {_LONGEST_ID} characters with a document: {id!r:.60}"
            )
        yield Trusted(body, id, f"{file}: {id}")


def _list_of_objects(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) and {"id", "body"} <= set(each) for each in value):
        raise ValueError("has no list of `operations` with `id` and `body`")
    return value


def _assembled(sources: dict[Path, DocumentNode], problems: list[str]) -> Iterator[tuple[str, DocumentNode]]:
    """Each operation with the fragments that it needs, from whichever file, in the order of Apollo's tool."""
    fragments: dict[str, FragmentDefinitionNode] = {}
    needs: dict[str, set[str]] = {}
    names: dict[tuple[type, str], Path] = {}
    for file, each in _definitions(sources):
        if not isinstance(each, FragmentDefinitionNode | OperationDefinitionNode):
            problems.append(f"{file}: there may be operations and fragments alone")
        elif each.name and (first := names.setdefault((type(each), each.name.value), file)) != file:
            problems.append(f"{file}: {each.name.value} is defined in {first} already")
        elif isinstance(each, FragmentDefinitionNode):
            fragments[each.name.value] = each
            needs[each.name.value] = _spreads(each)
    for file, each in _definitions(sources):
        if isinstance(each, OperationDefinitionNode):
            needed = _closure(_spreads(each), lambda name: needs.get(name, set()))
            where = _where(file, each)
            problems += (f"{where}: there is no fragment {name}" for name in sorted(needed - set(fragments)))
            definitions = [fragments[name] for name in sorted(needed & set(fragments))]
            yield where, DocumentNode(definitions=(each, *definitions))


def _definitions(sources: dict[Path, DocumentNode]) -> Iterator[tuple[Path, DefinitionNode]]:
    return ((file, each) for file, node in sources.items() for each in node.definitions)


def _where(file: Path, operation: OperationDefinitionNode) -> str:
    return f"{file}: {operation.name.value}" if operation.name else str(file)


def _first(file: Path, node: DocumentNode) -> str:
    return _where(file, next(each for each in node.definitions if isinstance(each, OperationDefinitionNode)))


def _is_whole(node: DocumentNode) -> bool:
    """Whether a file is a document by itself: its operations need the fragments that are in it, all and no other."""
    own = {each.name.value: _spreads(each) for each in node.definitions if isinstance(each, FragmentDefinitionNode)}
    operations = [each for each in node.definitions if isinstance(each, OperationDefinitionNode)]
    needed = _closure({name for each in operations for name in _spreads(each)}, lambda name: own.get(name, set()))
    return bool(operations) and needed == set(own)


def _closure(names: set[str], more: Callable[[str], set[str]]) -> set[str]:
    found: set[str] = set()
    while names:
        found |= names
        names = {each for name in names for each in more(name)} - found
    return found


def _spreads(node: Node) -> set[str]:
    found: set[str] = set()

    class Spreads(Visitor):
        def enter_fragment_spread(self, spread: FragmentSpreadNode, *_: Any) -> None:
            found.add(spread.name.value)

    visit(node, Spreads())
    return found


class _WithTypename(Visitor):
    """Ask for `__typename` wherever Apollo Client does: in every selection set but an operation's own."""

    def leave_selection_set(self, node: SelectionSetNode, _: Any, parent: Any, *__: Any) -> SelectionSetNode | None:
        asked = [each.name.value for each in node.selections if isinstance(each, FieldNode)]
        if isinstance(parent, OperationDefinitionNode) or any(name.startswith("__") for name in asked):
            return None
        return SelectionSetNode(selections=(*node.selections, FieldNode(name=NameNode(value="__typename"))))
