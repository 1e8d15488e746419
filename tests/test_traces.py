"""One trace id leads from the client through the log, every span and every service, and back on the answer."""

from __future__ import annotations

import re

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from bff import __version__
from bff.core.telemetry import tracer_provider
from tests import shop as fake
from tests.harness import FOUR_SERVICES, customer, gateway, operator

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def traced(call: fake.Call) -> tuple[str, str, bool]:
    """Trace id and parent id of an upstream request, and whether it is recorded."""
    match = TRACEPARENT.fullmatch(call.header("traceparent") or "")
    assert match, call.headers
    return match[1], match[2], bool(int(match[3], 16) & 1)


async def test_the_clients_trace_id_goes_through_log_spans_and_every_upstream_request():
    shop = gateway()
    await shop.query(FOUR_SERVICES, headers=operator() | {"traceparent": SAMPLED, "tracestate": "vendor=1"})
    assert [line["trace_id"] for line in shop.access] == [TRACE]
    assert {f"{span.context.trace_id:032x}" for span in shop.spans} == {TRACE}
    assert len(shop.services.calls) == 4
    for call in shop.services.calls:
        assert traced(call)[0] == TRACE
        assert traced(call)[2]
        assert call.header("tracestate") == "vendor=1"


async def test_spans_hang_below_each_other_from_the_client_down_to_the_services():
    shop = gateway()
    await shop.query(FOUR_SERVICES, headers=operator() | {"traceparent": SAMPLED})
    (server,) = [span for span in shop.spans if span.kind is SpanKind.SERVER]
    (operation,) = [span for span in shop.spans if span.name == "query"]
    clients = [span for span in shop.spans if span.kind is SpanKind.CLIENT]
    assert len(clients) == 4
    assert f"{server.parent.span_id:016x}" == PARENT
    assert operation.parent.span_id == server.context.span_id
    by_id = {span.context.span_id: span for span in shop.spans}
    for span in clients:
        above = by_id[span.parent.span_id]
        while above is not operation:
            assert above.kind is SpanKind.INTERNAL
            above = by_id[above.parent.span_id]
    # Each service is told the span of the very attempt that called it.
    assert {traced(call)[1] for call in shop.services.calls} == {f"{span.context.span_id:016x}" for span in clients}


async def test_a_trace_that_the_client_does_not_record_goes_on_all_the_same():
    shop = gateway()
    await shop.query(FOUR_SERVICES, headers=operator() | {"traceparent": UNSAMPLED})
    assert shop.spans == ()
    assert [line["trace_id"] for line in shop.access] == [TRACE]
    assert len(shop.services.calls) == 4
    for call in shop.services.calls:
        assert traced(call)[0] == TRACE
        assert traced(call)[1] != PARENT
        assert not traced(call)[2]


@pytest.mark.parametrize("traceparent", [SAMPLED, UNSAMPLED])
async def test_rest_is_traced_as_graphql_is(traceparent):
    shop = gateway()
    await shop.client.get("/api/orders/ord_1", headers=customer() | {"traceparent": traceparent})
    assert [line["trace_id"] for line in shop.access] == [TRACE]
    assert {f"{span.context.trace_id:032x}" for span in shop.spans} == ({TRACE} if traceparent == SAMPLED else set())
    (call,) = shop.services.calls
    assert traced(call)[0] == TRACE


@pytest.mark.parametrize("share", [0.0, 1.0])
async def test_without_a_trace_of_the_client_one_begins_here(share):
    shop = gateway(observability={"traces": {"sample": share}})
    await shop.query(FOUR_SERVICES, headers=operator())
    ids = {traced(call)[0] for call in shop.services.calls}
    assert ids == {line["trace_id"] for line in shop.access}
    assert len(ids) == 1
    assert bool(shop.spans) == bool(share)
    assert {f"{span.context.trace_id:032x}" for span in shop.spans} <= ids


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}",
    ],
)
async def test_a_traceparent_that_is_none_is_replaced(traceparent):
    shop = gateway()
    await shop.query('{ product(id: "prd_1") { id } }', headers={"traceparent": traceparent})
    (call,) = shop.services.calls
    assert traced(call)[0] not in {TRACE, TRACE.upper(), "0" * 32}


async def test_two_requests_have_two_traces_and_two_ids():
    shop = gateway()
    answers = [await shop.query('{ product(id: "prd_1") { id } }') for _ in range(2)]
    assert len({traced(call)[0] for call in shop.services.calls}) == 2
    assert len({answer.headers["x-request-id"] for answer in answers}) == 2


async def test_a_request_id_is_the_clients_or_ours_and_on_everything():
    shop = gateway()
    answer = await shop.query(FOUR_SERVICES, headers=operator() | {"x-request-id": "from-the-client.1"})
    assert answer.headers["x-request-id"] == "from-the-client.1"
    assert {call.header("x-request-id") for call in shop.services.calls} == {"from-the-client.1"}
    assert [line["request_id"] for line in shop.access] == ["from-the-client.1"]


@pytest.mark.parametrize("given", ["with space", "x" * 129, "line\tbreak", "{}"])
async def test_a_request_id_that_could_do_harm_is_replaced(given):
    shop = gateway()
    response = await shop.client.get("/api/products/prd_1", headers={"x-request-id": given})
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


async def test_every_answer_has_a_request_id_and_one_line_in_the_log():
    shop = gateway()
    answers = [
        await shop.client.get("/nowhere"),
        await shop.client.get("/api/users/usr_1"),
        await shop.client.put("/graphql"),
        await shop.client.post("/graphql", content=b"{"),
        await shop.client.get("/api/products/..%2fusers"),
    ]
    assert [answer.status_code for answer in answers] == [404, 401, 405, 415, 400]
    assert [line["status"] for line in shop.access] == [answer.status_code for answer in answers]
    assert [line["request_id"] for line in shop.access] == [answer.headers["x-request-id"] for answer in answers]


async def test_the_access_line_says_who_asked_what_and_how_it_went():
    shop = gateway()
    await shop.query("query Names { me { name } }", headers=customer("usr_3"))
    (line,) = shop.access
    assert {key: line[key] for key in ("method", "path", "route", "status", "credential", "operation", "level")} == {
        "method": "POST",
        "path": "/graphql",
        "route": "graphql",
        "status": 200,
        "credential": "jwt",
        "operation": "Names",
        "level": "info",
    }
    assert line["duration_ms"] > 0
    assert line["bytes"] > 0


async def test_no_secret_is_ever_logged_or_recorded():
    shop = gateway()
    headers = customer()
    secret = headers["authorization"].split(".")[2]
    await shop.query("{ me { email } }", headers=headers | {"traceparent": SAMPLED})
    await shop.client.get("/api/users/usr_1?token=s3cret", headers=headers | {"traceparent": SAMPLED})
    seen = repr(shop.log) + repr([(span.name, dict(span.attributes)) for span in shop.spans])
    assert secret not in seen
    assert "s3cret" not in seen
    assert "user1@example.com" not in seen


async def test_a_failed_call_is_a_span_and_a_measurement_too():
    shop = gateway()
    shop.services.payments.fail(fake.refused)
    await shop.client.get("/api/payments/pay_1", headers=customer() | {"traceparent": SAMPLED})
    clients = [span for span in shop.spans if span.kind is SpanKind.CLIENT]
    (server,) = [span for span in shop.spans if span.kind is SpanKind.SERVER]
    assert [client.status.status_code for client in clients] == [StatusCode.ERROR] * 2  # it was tried again
    assert server.status.status_code is StatusCode.ERROR
    assert server.attributes["http.response.status_code"] == 503
    assert await shop.attempts() == {"payments": 2}


async def test_spans_are_named_after_routes_and_operations_not_after_what_clients_make_up():
    shop = gateway()
    await shop.query("query Mine { me { id } }", headers=customer() | {"traceparent": SAMPLED})
    await shop.client.get("/api/users/usr_1", headers=customer() | {"traceparent": SAMPLED})
    names = {span.kind: set() for span in shop.spans}
    for span in shop.spans:
        names[span.kind].add(span.name)
    assert names[SpanKind.SERVER] == {"POST /graphql", "GET /api/users/{rest*}"}
    assert names[SpanKind.INTERNAL] == {"graphql.prepare", "query", "Query.me", "dataloader.batch"}
    (operation,) = [span for span in shop.spans if span.name == "query"]
    assert dict(operation.attributes) == {"graphql.operation.type": "query", "graphql.operation.name": "Mine"}


async def test_requests_are_measured_by_route_status_and_operation():
    shop = gateway()
    await shop.query("query Mine { me { id } }", headers=customer())
    await shop.client.get("/api/users/usr_1")
    counts = await shop.metrics("http_server_request_duration_seconds_count")
    seen = {tuple(value for _, value in labels): count for labels, count in counts.items()}
    assert seen == {("Mine", "POST", "200", "graphql"): 1, ("", "GET", "401", "users"): 1}
    assert list((await shop.metrics("http_server_active_requests")).values()) == [0]


async def test_labels_that_clients_make_up_are_bounded():
    shop = gateway()
    for n in range(150):
        await shop.query(f"query Q{n} {{ __typename }}")
    counts = await shop.metrics("http_server_request_duration_seconds_count")
    operations = {dict(labels)["graphql_operation"] for labels in counts}
    assert len(operations) == 101
    assert "other" in operations


async def test_how_many_values_a_label_may_have_is_configured():
    shop = gateway(observability={"metrics": {"max_values": 2}})
    for n in range(4):
        await shop.query(f"query Q{n} {{ __typename }}")
    counts = await shop.metrics("http_server_request_duration_seconds_count")
    assert {dict(labels)["graphql_operation"]: count for labels, count in counts.items()} == {
        "Q0": 1,
        "Q1": 1,
        "other": 2,
    }


def test_spans_say_which_version_of_the_gateway_they_are_of():
    assert tracer_provider().resource.attributes["service.version"] == __version__
