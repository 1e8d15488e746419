// Each service: how it does, why it is left alone, and how its calls are split.

import { bars } from "./chart.js";
import { h } from "./dom.js";
import { count, ms, rate, share, span } from "./format.js";
import { badge, empty, table } from "./parts.js";

const WHY = {
  connect: "cannot be connected to", connect_timeout: "does not accept a connection in time", dns: "its name cannot be found",
  tls: "no TLS handshake", first_byte: "no answer in time", body: "its answer broke off", send: "takes no request",
  failed: "cannot be reached", pool: "all connections are taken", "5xx": "answers 5xx",
};
const LATELY = 3; // slots: fifteen seconds

// What a service is, in a word, with the reason.
export function stateOf(service, seen) {
  const down = service.targets.filter((each) => !each.up);
  const whys = [...new Set(down.map((each) => each.why || each.breaker?.why).filter(Boolean))].join("; ");
  if (down.length && down.length === service.targets.length) return { state: "bad", word: "down", why: whys };
  if (down.length) return { state: "warn", word: `${down.length} of ${service.targets.length} down`, why: whys };
  if (!seen) return { state: "idle", word: "no calls", why: "" };
  const lately = (values) => values.slice(-LATELY).reduce((sum, each) => sum + each, 0);
  const failed = lately(seen.failures);
  if (failed) {
    const last = WHY[seen.last_failure] ?? seen.last_failure;
    return { state: "bad", word: "failing", why: `${failed} of ${lately(seen.counts)} calls failed in the last 15 s: ${last}` };
  }
  return { state: "good", word: "up", why: "" };
}

export function services({ snapshot, argument }) {
  const found = Object.entries(snapshot.services);
  if (!found.length) return [empty("No service is configured.")];
  return [h("div", { class: "cards", "data-key": "cards" }, found.map(([name, service]) => card(name, service, snapshot.traffic.services[name], name === argument)))];
}

function card(name, service, seen, chosen) {
  const { state, word, why } = stateOf(service, seen);
  const line = (term, value) => h("div", {}, h("dt", {}, term), h("dd", {}, value));
  return h(
    "section", { class: `panel card ${state}`, "data-key": name, "aria-labelledby": `service-${name}`, "data-chosen": chosen },
    h("div", { class: "caption" }, h("h2", { id: `service-${name}` }, name), badge(state, word)),
    why ? h("p", { class: "why" }, why) : null,
    seen ? bars(seen.counts, seen.failures, { label: name, height: 24 }) : h("div", { class: "bars none" }),
    h(
      "dl", { class: "pairs" },
      line("per second", seen ? rate(seen.rate) : "–"), line("failed", seen ? share(seen.failed, seen.count) : "–"),
      line("p50", ms(seen?.p50_ms)), line("p95", ms(seen?.p95_ms)),
      line("in flight", count(service.in_flight)), line("waiting", count(service.waiting)),
    ),
    service.split ? split(name, service.split) : null,
    targets(name, service.targets),
  );
}

function split(name, { weights, set_until: until }) {
  const whole = Object.values(weights).reduce((sum, each) => sum + each, 0) || 1;
  let from = 0;
  return h(
    "div", { class: "split" },
    h("svg", { class: "shares", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
      Object.values(weights).map((weight, at) => {
        const part = h("rect", { class: `arm-${at % 4}`, x: from, width: Math.max(0, (100 * weight) / whole - 0.6), height: 6 });
        from += (100 * weight) / whole;
        return part;
      })),
    h("p", {},
      Object.entries(weights).map(([arm, weight], at) => h("span", { class: "arm" }, h("span", { class: `swatch arm-${at % 4}`, "aria-hidden": "true" }), `${arm} ${((100 * weight) / whole).toFixed(0)} %`)),
      h("button", { type: "button", "data-do": "split", "data-name": name }, "Change…")),
    until ? h("p", { class: "note" }, `Set by an operator for another ${span(until - Date.now() / 1000)}.`) : null,
  );
}

const BREAKERS = { closed: "closed", open: "open", half_open: "half open", ramp: "ramp" };

function targets(name, found) {
  return table(
    `Targets of ${name}`, [["target", ""], ["breaker", ""], ["in flight", "n"]],
    found.map((each) =>
      h("tr", { "data-key": each.url },
        h("th", { scope: "row" }, h("code", {}, each.url), each.arm ? h("span", { class: "note" }, ` ${each.arm}`) : null,
          each.up ? null : h("span", { class: "why" }, each.why || each.breaker?.why || "gets no calls")),
        h("td", {}, each.breaker ? badge(each.breaker.state === "closed" ? "good" : each.breaker.state === "open" ? "bad" : "warn", BREAKERS[each.breaker.state] ?? each.breaker.state) : "off"),
        h("td", { class: "n" }, count(each.in_flight)))),
  );
}
