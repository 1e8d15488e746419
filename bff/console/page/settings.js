// The configuration in force, and the schema.

import { breakable, h } from "./dom.js";
import { empty, panel, table } from "./parts.js";

export function configuration({ loaded, sought, snapshot }) {
  const found = loaded.config;
  if (!found) return [empty("Loading")];
  const words = sought.toLowerCase();
  const said = (each) => each.from && each.from !== "default";
  const rows = [...found.filter(said), ...found.filter((each) => !said(each))].filter((each) => `${each.key} ${shown(each.value)} ${each.from ?? ""}`.toLowerCase().includes(words));
  const drain = h("button", { type: "button", "data-do": snapshot?.draining ? "undrain" : "drain" }, snapshot?.draining ? "End the drain…" : "Drain…");
  return [
    panel("This gateway", "takes itself out of its load balancers, and puts itself back", h("p", { class: "row" }, drain)),
    panel(
      "Configuration", `${rows.length} of ${found.length} values`,
      h("label", { class: "search" }, "Filter", h("input", { type: "search", id: "search", "data-seek": true, placeholder: "routes[0], default, bff.yaml…" })),
      table("Configuration", [["key", ""], ["value", ""], ["from", "narrow-off"]], rows.map((each) =>
        h("tr", { "data-key": each.key, class: said(each) ? "set" : "" },
          h("th", { scope: "row" }, h("code", {}, breakable(each.key))), h("td", {}, h("code", {}, shown(each.value))),
          h("td", { class: "narrow-off" }, each.from ?? "–")))),
    ),
  ];
}

const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));

export function schema({ loaded }) {
  return [panel("Schema", "of GraphQL, as it is composed", loaded.schema === undefined ? empty("Loading") : loaded.schema ? h("pre", { tabindex: "0", "aria-label": "Schema" }, loaded.schema) : empty("There is no GraphQL schema."))];
}
