// The first page: how much passes, how fast, and what is wrong.

import { bars } from "./chart.js";
import { h } from "./dom.js";
import { count, ms, rate, share, size, span } from "./format.js";
import { badge, empty, figures, panel } from "./parts.js";
import { listed } from "./requests.js";
import { stateOf } from "./services.js";

const figure = (word, value, note, bad) =>
  h("div", { class: bad ? "figure bad-text" : "figure" }, h("dt", {}, word), h("dd", {}, value, h("small", {}, note)));

export function traffic({ snapshot }) {
  const { all, routes, operations, services, seconds, slot } = snapshot.traffic;
  const now = all.counts.slice(-3, -1).reduce((sum, each) => sum + each, 0) / (2 * slot);
  const bad = snapshot.requests.filter((each) => each.kind === "failed" || each.kind === "slow").slice(0, 5);
  const window = `in the last ${span(seconds)}`;
  return [
    wrong(snapshot),
    h(
      "dl", { class: "figures", "data-key": "figures" },
      figure("Requests", rate(now), "a second now"),
      figure("Failed", share(all.failed, all.count), `${all.failed} ${window}`, all.failed),
      figure("Refused", share(all.refused, all.count), "4xx"),
      figure("Median", ms(all.p50_ms), window),
      figure("p95", ms(all.p95_ms), window),
      figure("p99", ms(all.p99_ms), window),
    ),
    panel(
      "Requests", "every five seconds, five minutes back; failures are drawn from below",
      h("div", { class: "chart" }, bars(all.counts, all.failures, { label: "Requests", height: 40 }),
        h("p", { class: "axis", "aria-hidden": "true" }, h("span", {}, "5 min ago"), h("span", {}, `at most ${Math.max(...all.counts)} in 5 s`), h("span", {}, "now"))),
    ),
    panel("Failed and slow requests", "open one to see what it waited for",
      bad.length ? listed(bad) : empty("None of those that are kept has failed or was slow.")),
    panel("Services", "calls to them, each attempt by itself",
      Object.keys(services).length ? figures("Service", services, { link: (name) => !(name in snapshot.services) ? name : h("a", { href: `#/services/${encodeURIComponent(name)}` }, name) }) : empty("No calls yet.")),
    panel("Routes", null, Object.keys(routes).length ? figures("Route", routes) : empty("No requests in the last five minutes. They appear here as they come.")),
    panel("Operations", "of GraphQL, by the name that clients give them",
      Object.keys(operations).length ? figures("Operation", operations) : empty("No named operations yet.")),
    snapshot.cache ? cache(snapshot.cache) : null,
  ];
}

function cache({ answers, bytes, max_bytes: most, requests }) {
  const asked = Object.values(requests).reduce((sum, each) => sum + each, 0);
  const saved = (requests.hit ?? 0) + (requests.stale ?? 0);
  const outcomes = Object.entries(requests).filter(([, number]) => number).map(([name, number]) => `${count(number)} ${name}`).join(", ");
  return panel(
    "Cache", `${count(answers)} ${answers === 1 ? "answer" : "answers"}, ${size(bytes)} of ${size(most)}`,
    h("p", {}, asked ? [h("strong", {}, share(saved, asked)), ` of reads did without their service: ${outcomes}.`] : "Nothing has been asked of it yet."),
    h("p", { class: "row" },
      h("button", { type: "button", "data-do": "purge" }, "Purge…"),
      h("button", { type: "button", class: "danger", "data-do": "purgeAll" }, "Purge everything…")),
  );
}

function wrong({ services, traffic: seen, draining }) {
  const found = Object.entries(services).map(([name, service]) => [name, stateOf(service, seen.services[name])]);
  const bad = found.filter(([, { state }]) => state === "bad" || state === "warn");
  if (!bad.length && !draining) return null;
  return panel(
    "What is wrong", null,
    h("ul", { class: "list" },
      draining ? h("li", {}, badge("warn", "draining"), h("span", {}, "Load balancers are told to send nothing more: /readyz answers 503.")) : null,
      bad.map(([name, { state, word, why }]) => h("li", { "data-key": name }, badge(state, word), h("span", {}, h("a", { href: `#/services/${encodeURIComponent(name)}` }, name), why ? `: ${why}` : ""))),
    ),
  );
}
