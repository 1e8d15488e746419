// Who spends what, and the keys that there are.

import { h } from "./dom.js";
import { count } from "./format.js";
import { badge, empty, panel, table } from "./parts.js";

export function callers({ snapshot, loaded }) {
  const keys = loaded.keys;
  return [
    panel("Limits by caller", "who asked last, and what is left", snapshot.callers.length
      ? table("Limits by caller", [["caller", ""], ["tier", "narrow-off"], ["spent", ""], ["under way", "n narrow-off"]], snapshot.callers.map(caller))
      : empty("Nobody has asked for anything yet, or the store that has their accounts is away.")),
    panel("API keys", "by how they begin; none is kept whole", !keys ? empty("Loading") : keys.length
      ? table("API keys", [["key", ""], ["consumer", ""], ["tier", "narrow-off"], ["expires", "narrow-off"], ["", "n"]], keys.map(key))
      : empty("There are no API keys.")),
  ];
}

function caller({ id, caller: name, tier, windows, under_way: held }) {
  return h(
    "tr", { "data-key": id },
    h("th", { scope: "row" }, name), h("td", { class: "narrow-off" }, tier),
    h("td", {}, windows.length ? windows.map(gauge) : "no limit"),
    h("td", { class: "n narrow-off" }, count(held)),
  );
}

function gauge({ name, limit, left }) {
  const spent = Math.min(limit, limit - left);
  const state = left <= 0 ? "bad" : left < limit * 0.2 ? "warn" : "good";
  return h(
    "div", { class: `gauge ${state}` },
    h("svg", { viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
      h("rect", { class: "whole", width: 100, height: 6 }), h("rect", { class: "part", width: (100 * spent) / limit, height: 6 })),
    h("span", {}, `${count(spent)} of ${count(limit)}`, h("small", {}, ` ${name}${left <= 0 ? ": nothing left" : ""}`)),
  );
}

function key(each) {
  const expires = each.expired ? badge("bad", "expired") : each.expires ? new Date(each.expires * 1000).toLocaleDateString("en-CA") : "never";
  return h(
    "tr", { "data-key": each.key },
    h("th", { scope: "row" }, h("code", {}, each.key)), h("td", {}, each.consumer), h("td", { class: "narrow-off" }, each.tier),
    h("td", { class: "narrow-off" }, expires),
    h("td", { class: "n" }, each.revocable
      ? h("button", { type: "button", class: "danger", "data-do": "revoke", "data-name": each.key, "data-consumer": each.consumer, "aria-label": `Revoke ${each.key} of ${each.consumer}` }, "Revoke…")
      : h("span", { class: "note" }, each.revoked ? "revoked" : "in the configuration")),
  );
}
