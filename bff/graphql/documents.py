"""Documents: parsed and validated once for each text, however often they are sent."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from graphql import (
    REMOVE,
    DirectiveNode,
    DocumentNode,
    GraphQLDeferDirective,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    Visitor,
    parse,
    specified_rules,
    strip_ignored_characters,
    validate,
    visit,
)
from graphql.validation import OverlappingFieldsCanBeMergedRule, ValidationContext
from prometheus_client import Counter

from bff.core.durations import Distribution, Tally
from bff.core.entitlements import Entitlements
from bff.core.errors import Code
from bff.core.expressions import of_caller
from bff.core.identity import Caller
from bff.core.policies import NO_POLICIES, Policies
from bff.core.telemetry import Telemetry
from bff.graphql import GraphQLSettings, Mode, RuleModes
from bff.graphql.aggregates import without_rest
from bff.graphql.coordinates import Asks
from bff.graphql.cost import Costs, Estimate, too_expensive
from bff.graphql.demands import refuse_operation
from bff.graphql.document import Document, DocumentRefused, Operation
from bff.graphql.request import Request
from bff.graphql.rules import DEEPEST, Broken, broken, broken_by, dangerous, survey, too_deep, too_many_tokens
from bff.graphql.trusted import DocumentsError, Trusted, sha256_of
from bff.graphql.views import view

_SET = tuple(RuleModes.model_fields)
_RULES = ("cycle", *_SET)
_PARSED, _REMEMBERED, _TRUSTED = ("parsed",), ("memory",), ("trusted",)
_MOST_ERRORS = 5
_NAMED = 20  # operations of a document, in a line of the log
_COMPARISONS = 50_000  # of fields with each other: some 50 ms of work, and far more than applications' documents need


class _Undeferred(Visitor):
    def enter_directive(self, node: DirectiveNode, *_: Any) -> Any:
        return REMOVE if node.name.value == GraphQLDeferDirective.name else None


class _Counts:
    """What is counted of documents, whichever view of the schema they are for."""

    def __init__(self, telemetry: Telemetry) -> None:
        over = Counter(
            "graphql_documents_over_limit", "Documents that break a rule.", ["rule"], registry=telemetry.registry
        )
        self.over = {rule: over.labels(rule) for rule in _RULES}
        self.found = Tally(
            "graphql_documents",
            "Documents of requests, by where they were had: parsed, in memory, or trusted ones by id.",
            ["source"],
            telemetry.registry,
        )
        for source in (_PARSED, _REMEMBERED, _TRUSTED):
            self.found.add(source, 0)
        self.cost = Distribution(
            "graphql_operation_cost",
            "What operations that have a bound may cost.",
            [],
            telemetry.registry,
            buckets=(1, 10, 100, 1000, 10_000, 100_000),
        )
        self.untrusted = Counter(
            "graphql_untrusted_documents",
            "Requests whose document is not trusted, where that is logged or refused.",
            registry=telemetry.registry,
        )


class Documents:
    """One bounded memory of documents for one schema.

    Args:
        schema: that they are to fit.
        settings: their bounds, and whether `__schema` and `__type` may be asked for.
        telemetry: where documents that break a rule, and those that are not trusted, are counted.
        trusted: documents that are served by id, and are exempt from what only bounds strangers.
        max_batch: keys in one batched read, by service.
        policies: that callers are judged by.
        counts: those of the whole schema, where this is a view of it: what does not fit it is refused when it is asked
            for, and no error now.

    Raises:
        DocumentsError: a trusted document cannot be executed.
    """

    def __init__(
        self,
        schema: GraphQLSchema,
        settings: GraphQLSettings,
        telemetry: Telemetry,
        trusted: Iterable[Trusted] = (),
        *,
        max_batch: Mapping[str, int] | None = None,
        policies: Policies = NO_POLICIES,
        counts: _Counts | None = None,
    ) -> None:
        self.schema = schema
        trusted = tuple(trusted)
        self._over = partial(
            Documents, settings=settings, telemetry=telemetry, trusted=trusted, max_batch=max_batch, policies=policies
        )
        self._counts = counts or _Counts(telemetry)
        self._costs = Costs(schema, max_batch or {}, settings.limits.list_size)
        self._memory = settings.memory
        self._limits = settings.limits
        self._modes = {rule: settings.limits.mode_of(rule) for rule in _SET}
        self._introspection = settings.introspection
        self._refuses_whole = settings.authorization == "reject"
        self._policies = policies
        # They tell a stranger what there is to ask for, as introspection does.
        self.hides_suggestions = settings.introspection is not True
        self._known: OrderedDict[str, Document | DocumentRefused] = OrderedDict()
        self._bytes = 0
        self._mode = settings.documents.mode
        self._id_required = settings.documents.require_id and self._mode == "enforce"
        self._registers = settings.apq and self._mode != "enforce"
        self._log = telemetry.log
        self._registered: dict[str, str] = {}
        self._by_id: dict[str, Document | DocumentRefused] = {}  # refused where a view leaves too little of it
        self._by_text: dict[str, Document | DocumentRefused] = {}
        self._trust(trusted, is_view=counts is not None)

    def left_by(self, table: Entitlements) -> Documents | None:
        """The same over the view that a table leaves, with a memory of its own; None if that is nothing of GraphQL.

        Raises:
            UnknownCoordinate: the table names what is not in the schema.
        """
        left = view(self.schema, table)
        return self._over(left, counts=self._counts) if left else None

    def find(self, request: Request) -> Document:
        """The document of a request, by its text or by what stands for it.

        Raises:
            DocumentRefused: there is none, or it may not be executed.
        """
        if request.id is not None:
            document = self._identified(request)
        elif self._id_required:
            raise DocumentRefused.since(
                Code.PERSISTED_QUERY_ID_REQUIRED, "Only trusted documents are served here: send the id of one"
            )
        else:
            document = self.document(request.query)
        if self._mode == "log" and not document.trusted:
            self._counts.untrusted.inc()
        return document

    def _identified(self, request: Request) -> Document:
        id = request.id or ""
        if request.hashed and request.query and sha256_of(request.query) != id.lower():
            raise DocumentRefused.since(Code.PERSISTED_QUERY_HASH_MISMATCH, "The hash is not the SHA-256 of the query")
        trusted = self._by_id.get(id) or self._by_id.get(id.removeprefix("sha256:"))
        if trusted is not None:
            self._counts.found.add(_TRUSTED)
            return _unless_refused(trusted)
        if request.query and not self._id_required:
            document = self.document(request.query)
            if request.hashed and self._registers:
                self._registered[id.lower()] = request.query
            return document
        text = self._registered.get(id.lower())
        if text is not None:
            return self.document(text)
        if self._mode == "enforce":
            self._counts.untrusted.inc()
            raise DocumentRefused.since(Code.QUERY_NOT_IN_SAFELIST, "No trusted document has this id")
        # The two messages that clients of automatic persisted queries know: send the text too; never mind hashes.
        said = "PersistedQueryNotFound" if self._registers else "PersistedQueryNotSupported"
        raise DocumentRefused.since(Code.PERSISTED_QUERY_NOT_FOUND, said)

    def document(self, text: str) -> Document:
        """What `text` says.

        Raises:
            DocumentRefused: it cannot be parsed, breaks a rule, or does not fit the schema.
        """
        known = self._known.get(text)
        self._counts.found.add(_PARSED if known is None else _REMEMBERED)
        if known is None:
            try:
                known = self._prepare(text)
            except DocumentRefused as refused:
                refused.__context__ = None
                known = refused
            # What strangers send is not to drive out what applications do.
            if not isinstance(known, DocumentRefused) or known.code is not Code.QUERY_NOT_IN_SAFELIST:
                self._keep(text, known)
        else:
            self._known.move_to_end(text)
        if isinstance(known, DocumentRefused):
            if known.code is Code.QUERY_NOT_IN_SAFELIST:
                self._counts.untrusted.inc()
            if known.rule is not None:
                self._counts.over[known.rule].inc()
            # It is raised many times: without this it would hold on to the frames of all of them.
            raise known.with_traceback(None)
        for rule in known.broken:
            self._counts.over[rule].inc()
        return known

    def judge(self, document: Document, operation: Operation, variables: dict[str, Any], caller: Caller) -> Estimate:
        """Judge what one request adds to its document, and say what it comes to at worst.

        Raises:
            DocumentRefused: with its variables it breaks a rule, or this caller may not ask for the schema.
            Unauthenticated, Forbidden: the caller may not have all of it, where that refuses the operation.
        """
        if document.survey.extent.introspects and not self._may_introspect(caller):
            raise _no_introspection()
        for found in broken_by(variables, document.survey, self._limits) if variables else ():
            self._break(found, "enforce" if found.always else self._modes[found.rule])
        if self._refuses_whole:
            refuse_operation(operation.cost.needs(variables), caller, self._policies)
        estimate = operation.cost.estimate(variables)
        if estimate.cost is not None:
            self._counts.cost.observe(estimate.cost)
        if expensive := too_expensive(estimate, self._limits.cost):
            self._break(expensive, self._modes["cost"])
        return estimate

    def _break(self, rule: Broken, mode: Mode) -> None:
        if mode != "off":
            self._counts.over[rule.rule].inc()
        if mode == "enforce":
            raise DocumentRefused.by(rule)

    def _may_introspect(self, caller: Caller) -> bool:
        allowed = self._introspection
        return allowed if isinstance(allowed, bool) else allowed.holds({"caller": of_caller(caller)})

    def _trust(self, documents: Iterable[Trusted], *, is_view: bool) -> None:
        problems: dict[str, None] = {}
        for each in documents:
            found: Document | DocumentRefused
            try:
                found = self._by_text.get(each.text) or self._fitting(each)
            except (DocumentRefused, GraphQLSyntaxError) as error:
                if not is_view or isinstance(error, GraphQLSyntaxError):
                    reasons = error.errors if isinstance(error, DocumentRefused) else [error]
                    problems |= dict.fromkeys(f"{each.where}: {reason.message}" for reason in reasons)
                    continue
                found = error.with_traceback(None)
            self._by_text[each.text] = self._by_text[strip_ignored_characters(each.text)] = found
            for id in {each.id or "", sha256_of(each.text)} - {""}:
                other = self._by_id.setdefault(id, found)
                if isinstance(other, Document) and isinstance(found, Document) and other.node != found.node:
                    problems[f"{each.where}: another document has the id {id}"] = None
        if problems:
            raise DocumentsError(problems)

    def _fitting(self, trusted: Trusted) -> Document:
        return replace(self._valid(without_rest(parse(trusted.text)), None), trusted=True)

    def _prepare(self, text: str) -> Document:
        if self._by_text:
            trusted = self._by_text.get(text) or self._by_text.get(_stripped(text))
            if trusted is not None:
                return _unless_refused(trusted)
        if self._mode == "enforce":
            raise DocumentRefused.since(Code.QUERY_NOT_IN_SAFELIST, "Only trusted documents are served here")
        over: list[Broken] = []
        node = self._parsed(text, over)
        document = self._valid(node, over)
        if self._mode == "log":
            self._log.warning(
                "untrusted document", hash=sha256_of(text), operations=sorted(document.operations)[:_NAMED]
            )
        return document

    def _valid(self, node: DocumentNode, over: list[Broken] | None) -> Document:
        found = survey(node)
        if found.extent.introspects and self._introspection is False:
            raise _no_introspection()
        if over is not None:
            over += (each for each in broken(found, self._limits) if self._modes[each.rule] != "off")
            for each in over:
                if self._modes[each.rule] == "enforce":
                    raise DocumentRefused.by(each)
        if danger := dangerous(found):
            raise DocumentRefused.by(danger)
        errors = validate(
            self.schema, node, _VALIDATION, max_errors=_MOST_ERRORS, hide_suggestions=self.hides_suggestions
        )
        if errors:
            if errors[-1].message == "Validation aborted.":
                errors[-1] = GraphQLError("Too many fields have the same name: whether they can be merged is not tried")
            raise DocumentRefused(Code.GRAPHQL_VALIDATION_FAILED, errors)
        whole: DocumentNode = visit(node, _Undeferred()) if found.extent.directives else node
        deferring = None if whole is node else node
        operations = [each for each in whole.definitions if isinstance(each, OperationDefinitionNode)]
        named = {each.name.value if each.name else "": each for each in operations}
        kinds = {
            name: Operation(name, each.operation, self._costs.of(whole, each), Asks(self.schema, whole, each))
            for name, each in named.items()
        }
        return Document(whole, found, kinds, frozenset(each.rule for each in over or ()), deferring)

    def _parsed(self, text: str, over: list[Broken]) -> DocumentNode:
        try:
            return parse(text, max_tokens=None if self._modes["tokens"] == "off" or over else self._limits.tokens)
        except GraphQLSyntaxError as error:
            if error.message.startswith("Syntax Error: Document is nested too deeply"):
                raise DocumentRefused.by(too_deep(None, DEEPEST)) from None
            if not error.message.startswith("Syntax Error: Document contains more"):
                raise DocumentRefused(Code.GRAPHQL_PARSE_FAILED, [error.with_traceback(None)]) from None
        over.append(too_many_tokens(self._limits.tokens))
        if self._modes["tokens"] == "enforce":
            raise DocumentRefused.by(over[0])
        return self._parsed(text, over)

    def _keep(self, text: str, document: Document | DocumentRefused) -> None:
        self._known[text] = document
        self._bytes += len(text)
        while len(self._known) > self._memory.max_documents or self._bytes > self._memory.max_size:
            oldest, _ = self._known.popitem(last=False)
            self._bytes -= len(oldest)
            if self._registered:
                self._registered.pop(sha256_of(oldest), None)


def _stripped(text: str) -> str:
    """The text as it would be without comments and spacing; nothing, if it cannot be read."""
    try:
        return strip_ignored_characters(text)
    except GraphQLSyntaxError:
        return ""


def _unless_refused(found: Document | DocumentRefused) -> Document:
    if isinstance(found, DocumentRefused):
        raise found.with_traceback(None)
    return found


def _no_introspection() -> DocumentRefused:
    return DocumentRefused(Code.INTROSPECTION_DISABLED, [GraphQLError("Introspection is off in this gateway")])


class _Overlaps(OverlappingFieldsCanBeMergedRule):
    """Whether fields of one name can be merged: the one rule whose work grows faster than the document."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self.rule_context.remaining_complexity_budget = _COMPARISONS


_VALIDATION = [_Overlaps if rule is OverlappingFieldsCanBeMergedRule else rule for rule in specified_rules]
