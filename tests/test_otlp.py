"""What a collector gets by OTLP over HTTP: one tree for each request, by the names of OpenTelemetry's conventions."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from bff.core.telemetry import otlp
from tests import shop as fake
from tests.harness import FOUR_SERVICES, Gateway, customer, gateway, operator

SERVER, CLIENT, INTERNAL = Sent.SPAN_KIND_SERVER, Sent.SPAN_KIND_CLIENT, Sent.SPAN_KIND_INTERNAL


@dataclass
class Node:
    """A span and what hangs below it, in the order in which it began."""

    span: Sent
    below: list[Node] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def attributes(self) -> dict[str, Any]:
        values = {each.key: each.value for each in self.span.attributes}
        return {name: getattr(value, value.WhichOneof("value")) for name, value in values.items()}

    @property
    def all(self) -> list[Node]:
        return [self, *(each for child in self.below for each in child.all)]


# Where a collector listens and what it reads there (https://opentelemetry.io/docs/specs/otlp/#otlphttp).
TAKEN = {("/v1/traces", "application/x-protobuf", coding) for coding in ("identity", "gzip")}


def named(resource: Resource) -> bool:
    return any(each.key == "service.name" and each.value.string_value for each in resource.attributes)


def malformed(span: Sent) -> Iterator[str]:
    """What the protocol does not allow of a span, by the comments in trace.proto."""
    if len(span.trace_id) != 16 or not any(span.trace_id):
        yield f"{span.name}: no trace id"
    if len(span.span_id) != 8 or not any(span.span_id) or len(span.parent_span_id) not in {0, 8}:
        yield f"{span.name}: no span id"
    if not span.name or span.kind == Sent.SPAN_KIND_UNSPECIFIED:
        yield f"{span.name}: no name or kind"
    if not 0 < span.start_time_unix_nano <= span.end_time_unix_nano:
        yield f"{span.name}: ends before it begins"
    for given in (span.attributes, *(each.attributes for each in (*span.events, *span.links))):
        keys = [each.key for each in given]
        if len(set(keys)) < len(keys) or not all(each.key and each.value.WhichOneof("value") for each in given):
            yield f"{span.name}: attributes that come twice, or are nothing: {keys}"
    for link in span.links:
        if len(link.trace_id) != 16 or len(link.span_id) != 8:
            yield f"{span.name}: a link to nothing"


class Collector:
    """Takes spans as Jaeger does, on a port of this machine; more strictly: by all that the protocol says of them.

    Attributes:
        spans: that came.
        complaints: of what the protocol has otherwise.
    """

    def __init__(self) -> None:
        self.spans: list[Sent] = []
        self.complaints: list[str] = []
        spans, complaints = self.spans, self.complaints

        class Take(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                said = self.path, self.headers["content-type"], self.headers["content-encoding"] or "identity"
                if said not in TAKEN:
                    complaints.append(f"not what a collector takes: {said}")
                body = self.rfile.read(int(self.headers["content-length"]))
                sent = ExportTraceServiceRequest.FromString(gzip.decompress(body) if said[2] == "gzip" else body)
                came = [span for each in sent.resource_spans for scope in each.scope_spans for span in scope.spans]
                complaints.extend(complaint for each in came for complaint in malformed(each))
                if not all(named(each.resource) for each in sent.resource_spans):
                    complaints.append("a resource without a service.name")
                spans.extend(came)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Take)

    def tree(self) -> Node:
        """The one tree that they make, whoever is above it being elsewhere."""
        assert len({span.trace_id for span in self.spans}) == 1
        nodes = {span.span_id: Node(span) for span in sorted(self.spans, key=lambda span: span.start_time_unix_nano)}
        roots = []
        for node in nodes.values():
            above = nodes.get(node.span.parent_span_id)
            (above.below if above else roots).append(node)
        (root,) = roots
        return root


@pytest.fixture
def collector(monkeypatch) -> Iterator[Collector]:
    taking = Collector()
    thread = threading.Thread(target=taking.server.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{taking.server.server_port}")
    try:
        yield taking
    finally:
        taking.server.shutdown()
        thread.join()
        taking.server.server_close()
        assert taking.complaints == []


def sending(**settings: Any) -> Gateway:
    one = gateway(**settings)
    for each in otlp(os.environ):
        one.telemetry.spans.add_span_processor(each)
    return one


async def test_a_query_of_four_services_is_one_tree_of_nodes_batches_and_attempts(collector):
    one = sending()
    await one.query(FOUR_SERVICES, headers=operator())
    one.telemetry.spans.force_flush()
    root = collector.tree()
    assert (root.name, root.span.kind) == ("POST /graphql", SERVER)
    assert root.attributes == {
        "http.request.method": "POST",
        "url.path": "/graphql",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "http.route": "/graphql",
        "http.response.status_code": 200,
    }
    assert [each.name for each in root.below] == ["graphql.prepare", "query"]
    query = root.below[1]
    assert query.attributes == {"graphql.operation.type": "query", "graphql.operation.name": "Shop"}
    nodes = {
        each.name: each.attributes["bff.node.objects"] for each in query.all if "bff.node.objects" in each.attributes
    }
    assert nodes == {"Query.users": 1, "User.orders": 10, "OrderItem.product": 60, "Order.payment": 30}
    batches = [each for each in query.all if each.name == "dataloader.batch"]
    assert {each.attributes["bff.loader.name"] for each in batches} == {
        "orders.orders_by_user",
        "products.product_by_id",
        "payments.payment_by_order",
    }
    by_id = {each.span.span_id: each for each in root.all}
    for each in batches:
        # Whoever waited for it.
        assert [by_id[link.span_id].attributes["bff.node.objects"] for link in each.span.links]
        (attempt,) = each.below
        assert attempt.span.kind == CLIENT
    attempts = [each for each in root.all if each.span.kind == CLIENT]
    assert sorted(each.attributes["bff.service"] for each in attempts) == ["orders", "payments", "products", "users"]
    for each in attempts:
        assert each.name == "GET"
        assert each.attributes["http.request.method"] == "GET"
        assert each.attributes["http.response.status_code"] == 200
        assert each.attributes["server.address"] == f"{each.attributes['bff.service']}.internal"
        assert each.attributes["url.full"].startswith("http://")


async def test_nodes_that_ask_for_the_same_in_one_tick_are_linked_to_the_batch_that_both_wait_for(collector):
    one = sending()
    await one.query('{ a: product(id: "prd_1") { id } b: product(id: "prd_2") { id } }')
    one.telemetry.spans.force_flush()
    root = collector.tree()
    (batch,) = (each for each in root.all if each.name == "dataloader.batch")
    nodes = [each for each in root.all if each.name == "Query.product"]
    assert batch.attributes["bff.batch.size"] == 2
    assert {link.span_id for link in batch.span.links} == {each.span.span_id for each in nodes}
    assert len(nodes) == 2


async def test_a_rest_request_is_its_attempt_below_it(collector):
    one = sending()
    await one.client.get("/api/orders/ord_1?token=s3cret", headers=customer())
    one.telemetry.spans.force_flush()
    root = collector.tree()
    assert (root.name, root.attributes["http.route"]) == ("GET /api/orders/{rest*}", "/api/orders/{rest*}")
    (attempt,) = root.below
    assert (attempt.span.kind, attempt.attributes["bff.service"]) == (CLIENT, "orders")
    assert "s3cret" not in repr(collector.spans)


async def test_a_call_that_failed_and_was_made_again_is_two_spans_of_which_the_second_says_so(collector):
    one = sending()
    failures = iter([True])

    async def fails_once(request: Any, call: Any) -> None:
        if next(failures, False):
            await fake.refused(request, call)

    one.services.payments.fail(fails_once)
    assert (await one.client.get("/api/payments/pay_1", headers=customer())).status_code == 200
    one.telemetry.spans.force_flush()
    root = collector.tree()
    first, second = root.below
    assert first.span.status.code == Status.STATUS_CODE_ERROR
    assert first.attributes["error.type"] == "ConnectError"
    assert second.attributes["http.request.resend_count"] == 1
    assert second.attributes["http.response.status_code"] == 200
    assert [event.name for event in root.span.events] == ["retry"]
    assert root.span.status.code == Status.STATUS_CODE_UNSET


async def test_what_a_service_cannot_answer_is_an_error_of_its_node_and_not_of_the_request(collector):
    one = sending()
    one.services.payments.fail(fake.refused)
    await one.query(FOUR_SERVICES, headers=operator())
    one.telemetry.spans.force_flush()
    root = collector.tree()
    assert root.span.status.code == Status.STATUS_CODE_UNSET
    failed = {each.name for each in root.all if each.span.status.code == Status.STATUS_CODE_ERROR}
    assert failed >= {"query", "GET"}
    assert "User.orders" not in failed


async def test_a_request_that_failed_is_an_error_with_its_code(collector):
    one = sending()
    one.services.payments.fail(fake.refused)
    await one.client.get("/api/payments/pay_1", headers=customer())
    one.telemetry.spans.force_flush()
    root = collector.tree()
    assert root.span.status.code == Status.STATUS_CODE_ERROR
    assert root.attributes["error.type"] == "UPSTREAM_UNAVAILABLE"


async def test_a_client_that_was_refused_is_no_error_of_the_server(collector):
    one = sending()
    await one.client.get("/api/users/usr_1")
    one.telemetry.spans.force_flush()
    root = collector.tree()
    assert root.attributes["http.response.status_code"] == 401
    assert root.span.status.code == Status.STATUS_CODE_UNSET


NOT_SAMPLED = {"traces": {"sample": 0.0}}


async def test_a_request_that_failed_is_kept_though_it_was_not_sampled(collector):
    one = sending(observability=NOT_SAMPLED)
    one.services.payments.fail(fake.refused)
    await one.client.get("/api/payments/pay_1", headers=customer())
    one.telemetry.spans.force_flush()
    root = collector.tree()
    assert (root.name, root.span.kind) == ("GET /api/payments/{rest*}", SERVER)
    assert root.attributes["bff.kept"] is True
    assert root.span.trace_id.hex() == one.access[0]["trace_id"]
    # The parent that the service was told of.
    assert {call.header("traceparent").split("-")[2] for call in one.services.calls} == {root.span.span_id.hex()}
    assert [each.attributes.get("http.request.resend_count", 0) for each in root.below] == [0, 1]
    for each in root.below:
        assert each.span.kind == CLIENT
        assert each.span.status.code == Status.STATUS_CODE_ERROR
        assert each.attributes["bff.service"] == "payments"
        assert root.span.start_time_unix_nano <= each.span.start_time_unix_nano
        assert each.span.end_time_unix_nano <= root.span.end_time_unix_nano


async def test_so_is_one_whose_answer_lacks_what_a_service_could_not_give(collector):
    one = sending(observability=NOT_SAMPLED)
    one.services.payments.fail(fake.refused)
    await one.query(FOUR_SERVICES, headers=operator())
    one.telemetry.spans.force_flush()
    assert {each.attributes["bff.service"] for each in collector.tree().below} == {
        "users",
        "orders",
        "products",
        "payments",
    }


async def test_so_is_a_slow_one(collector):
    one = sending(observability={"traces": {"sample": 0.0, "keep": {"slow": "1ms"}}})
    await one.query(FOUR_SERVICES, headers=operator())
    one.telemetry.spans.force_flush()
    assert len(collector.tree().below) == 4


async def test_nothing_is_kept_of_those_that_went_well_or_that_nobody_wants():
    one = gateway(observability=NOT_SAMPLED)
    await one.query(FOUR_SERVICES, headers=operator())
    await one.client.get("/api/users/usr_1")
    assert one.spans == ()
    off = gateway(observability={"traces": {"sample": 0.0, "keep": {"errors": False}}})
    off.services.payments.fail(fake.refused)
    await off.client.get("/api/payments/pay_1", headers=customer())
    assert off.spans == ()


async def test_only_so_many_are_kept_a_second():
    one = gateway(observability={"traces": {"sample": 0.0, "keep": {"per_second": 2}}})
    one.services.products.fail(fake.refused)
    for _ in range(5):
        await one.client.get("/api/products/prd_1")
    assert 2 <= len([span for span in one.spans if "bff.kept" in span.attributes]) <= 4


async def test_recorded_or_not_the_answer_is_the_same():
    one = gateway(observability=NOT_SAMPLED)
    recorded = {"traceparent": f"00-{'1' * 32}-{'1' * 16}-01"}
    plain = await one.query(FOUR_SERVICES, headers=operator())
    again = await one.query(FOUR_SERVICES, headers=operator() | recorded)
    assert plain.data == again.data
    assert plain.errors == again.errors == []
