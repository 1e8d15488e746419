// The requests that are kept, slow and failed ones first, and what one of them did at services.

import { breakable, h } from "./dom.js";
import { ms } from "./format.js";
import { badge, empty, panel, table } from "./parts.js";

const KINDS = { failed: ["bad", "failed"], slow: ["warn", "slow"], asked: ["idle", "asked"], sampled: ["good", "sample"] };
const named = (each) => each.operation ?? `${each.method} ${each.path}`;
const link = (each) => h("a", { href: `#/requests/${encodeURIComponent(each.request_id)}` }, breakable(named(each)));
const time = (began) => new Date(began).toLocaleTimeString("en-GB");

export function listed(found) {
  return table(
    "Requests that are kept", [["kept as", ""], ["request", ""], ["status", "n narrow-off"], ["waited most for", "narrow-off"], ["calls", "n narrow-off"], ["took", "n"], ["at", "n narrow-off"]],
    found.map((each) =>
      h("tr", { "data-key": each.request_id },
        h("td", { class: "kind" }, badge(...(KINDS[each.kind] ?? ["idle", each.kind]))),
        h("th", { scope: "row" }, link(each), each.code ? h("span", { class: "why" }, each.code) : null),
        h("td", { class: "n narrow-off" }, each.status ?? "–"),
        h("td", { class: "narrow-off" }, each.slowest_service ?? "–"),
        h("td", { class: "n narrow-off" }, each.calls),
        h("td", { class: "n" }, ms(each.ms)),
        h("td", { class: "n narrow-off" }, time(each.began)))),
  );
}

export function requests({ snapshot, loaded, argument }) {
  if (argument) return one(loaded.request, argument);
  const found = snapshot.requests;
  return [panel("Requests", "failed ones first, then slow ones, then those that were asked for and a sample", found.length
    ? listed(found)
    : empty("None is kept yet: none has failed or was slow (observability.requests), and none was drawn for the sample."))];
}

function one(request, id) {
  if (request === undefined || (request && request.request_id !== id && request.trace_id !== id)) return [empty("Loading")];
  if (request === null) return [panel("Request", null, empty("It is not kept: it was neither slow nor failed, or others came after it."))];
  return [head(request), waterfall(request), panel("Why", null, h("dl", { class: "facts" }, facts(request)))];
}

function head(request) {
  const state = KINDS[request.kind]?.[0] ?? "idle";
  return h(
    "section", { class: "panel request", "data-key": "head", "aria-labelledby": "request-title" },
    h("p", { class: "note" }, h("a", { href: "#/requests" }, "Requests"), " / ", h("code", {}, request.request_id)),
    h("div", { class: "caption" }, h("h2", { id: "request-title" }, named(request)), badge(state, `${request.status ?? "–"}${request.code ? ` ${request.code}` : ""}`), h("p", {}, time(request.began))),
    verdict(request),
  );
}

// The sentence that one came for.
function verdict(request) {
  const path = request.critical_path.calls.map((at) => request.waterfall[at]);
  if (!path.length) return h("p", { class: "verdict" }, `${ms(request.ms)}, without any call to a service.`);
  const slowest = path.reduce((most, each) => (each.ms > most.ms ? each : most));
  const service = h("a", { class: "slowest", href: `#/services/${encodeURIComponent(slowest.service)}` }, slowest.service);
  if (request.gateway_ms > slowest.ms) {
    return h(
      "p", { class: "verdict" }, `${ms(request.ms)}, of which `, h("strong", {}, ms(request.gateway_ms)),
      " were the gateway's own; the longest call was to ", service, ` (${slowest.call}), ${ms(slowest.ms)}.`,
    );
  }
  return h(
    "p", { class: "verdict" }, `${ms(request.ms)}, of which `, h("strong", {}, ms(slowest.ms)), " were waited for ",
    service, ` (${slowest.call}); the gateway itself took ${ms(request.gateway_ms)}.`,
  );
}

function waterfall(request) {
  const whole = Math.max(request.ms, 0.001);
  const percent = (value) => `${((100 * value) / whole).toFixed(2)}%`;
  const slowest = request.waterfall.reduce((most, each, at) => (each.critical && (most < 0 || each.ms > request.waterfall[most].ms) ? at : most), -1);
  const rows = request.waterfall.map((each, at) =>
    h(
      "li", { "data-key": String(at), class: at === slowest ? "call slowest-call" : "call" },
      h("div", { class: "call-name" }, h("strong", {}, each.service), h("code", {}, each.call), h("small", {}, batch(each)),
        each.failed || each.status >= 400 ? h("span", { class: "why" }, each.failed ?? `status ${each.status}`) : null),
      h("div", { class: "lane" },
        h("svg", { class: "lane-bars", "aria-hidden": "true" },
          each.attempts.length > 1 ? h("rect", { class: "waits", x: percent(each.start_ms), width: percent(each.ms), y: 9, height: 2 }) : null,
          (each.attempts.length ? each.attempts : [each]).map((attempt) =>
            h("rect", { class: attempt.failed || attempt.status >= 500 ? "span-failed" : each.critical ? "span-critical" : "span-other", x: percent(attempt.start_ms), width: percent(attempt.ms), y: 3, height: 14, rx: 2 })))),
      h("div", { class: "call-ms" }, ms(each.ms)),
      each.attempts.length ? detail(each) : null,
    ),
  );
  return panel(
    "Waterfall", `${request.waterfall.length + request.left_out} calls in ${request.waves} waves; solid calls are the ones that were waited for (critical path, ${ms(request.critical_path.ms)})`,
    rows.length ? [h("p", { class: "axis call-axis", "aria-hidden": "true" }, h("span", {}, "0"), h("span", {}, ms(whole / 2)), h("span", {}, ms(whole))), h("ol", { class: "calls" }, rows)] : empty("It made no call to a service."),
    request.left_out ? h("p", { class: "note" }, `${request.left_out} more calls are past observability.requests.max_calls.`) : null,
  );
}

function batch(each) {
  const said = [each.read, each.keys ? `${each.keys} keys` : null, each.hits ? `${each.hits} read before` : null, each.cached ? `${each.cached} from the cache` : null, each.joined ? "shared another request's call" : null, each.critical ? "critical" : null];
  return said.filter(Boolean).join(" · ");
}

function detail(each) {
  return h(
    "details", { class: "attempts" },
    h("summary", {}, each.attempts.length > 1 ? `${each.attempts.length} attempts` : "1 attempt"),
    table("Attempts", [["target", ""], ["outcome", ""], ["took", "n"], ["phases", ""]], each.attempts.map((attempt, at) =>
      h("tr", { "data-key": String(at) },
        h("th", { scope: "row" }, h("code", {}, attempt.target ?? "–"), attempt.arm ? h("small", {}, ` ${attempt.arm}`) : null),
        h("td", {}, attempt.failed ? badge("bad", attempt.failed) : attempt.status ?? "–", attempt.reused ? h("small", {}, " connection reused") : null),
        h("td", { class: "n" }, ms(attempt.ms)),
        h("td", {}, Object.entries(attempt.phases).map(([name, took]) => `${name} ${ms(took)}`).join(", ") || "–")))),
  );
}

function facts({ route, caller, cost, limits, arms, cache, trace_id: trace }) {
  const said = (value) => (value && typeof value === "object" ? Object.entries(value).filter(([, each]) => each !== null && each.length !== 0).map(([name, each]) => `${name} ${typeof each === "object" ? JSON.stringify(each) : each}`).join(", ") : String(value));
  const all = { route, caller, cost, limits, arms: Object.keys(arms ?? {}).length ? arms : null, cache, trace };
  return Object.entries(all).filter(([, value]) => value !== null && value !== undefined).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, said(value))));
}
