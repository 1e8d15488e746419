// What several views are made of.

import { bars } from "./chart.js";
import { h } from "./dom.js";
import { count, ms, rate, share } from "./format.js";

export function panel(title, about, ...content) {
  const id = `part-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return h(
    "section", { class: "panel", "aria-labelledby": id, "data-key": id },
    h("div", { class: "caption" }, h("h2", { id }, title), about ? h("p", {}, about) : null),
    content,
  );
}

export const empty = (words) => h("p", { class: "empty" }, words);

// A state is a word and a shape besides its colour.
const SHAPES = { good: "●", warn: "▲", bad: "■", idle: "○" };
export const badge = (state, word) => h("span", { class: `badge ${state}` }, h("span", { "aria-hidden": "true" }, SHAPES[state]), word);

export function table(name, heads, rows) {
  return h(
    "div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name },
    h("table", {}, h("thead", {}, h("tr", {}, heads.map(([word, kind]) => h("th", { scope: "col", class: kind }, word)))), h("tbody", {}, rows)),
  );
}

const FIGURES = [["", "bar narrow-off"], ["requests", "n narrow-off"], ["per s", "n"], ["failed", "n"], ["p50", "n narrow-off"], ["p95", "n"], ["p99", "n narrow-off"]];

export function figures(kind, found, { link = (name) => name } = {}) {
  const rows = Object.entries(found).map(([name, each]) =>
    h(
      "tr", { "data-key": name },
      h("th", { scope: "row" }, link(name)),
      h("td", { class: "bar narrow-off" }, bars(each.counts, each.failures, { label: name })),
      h("td", { class: "n narrow-off" }, count(each.count)),
      h("td", { class: "n" }, rate(each.rate)),
      h("td", { class: each.failed ? "n bad-text" : "n" }, share(each.failed, each.count)),
      h("td", { class: "n narrow-off" }, ms(each.p50_ms)),
      h("td", { class: "n" }, ms(each.p95_ms)),
      h("td", { class: "n narrow-off" }, ms(each.p99_ms)),
    ),
  );
  return table(`${kind}, a table`, [[kind, ""], ...FIGURES], rows);
}
