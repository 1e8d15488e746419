// Who uses what: fields and arguments of GraphQL, and routes, by client and day.

import { bars } from "./chart.js";
import { breakable, h } from "./dom.js";
import { count } from "./format.js";
import { empty, panel, table } from "./parts.js";

const MOST = 200;
const NAMED = 3;
const DAY = 86400000;
const LEAST = 14;

export function usage({ loaded, sought }) {
  if (!loaded.usage) return [empty("Loading")];
  const kept = Object.keys(loaded.usage.days).sort();
  const days = drawn(kept);
  const { things, clients } = added(loaded.usage.days, days);
  if (!things.length) return [panel("Usage", null, empty("Nothing has been counted yet, or observability.usage.enabled is false."), again())];
  const words = sought.toLowerCase();
  const found = things.filter((each) => `${each.kind} ${each.name} ${[...each.clients.keys()].join(" ")}`.toLowerCase().includes(words));
  const shown = found.slice(0, MOST);
  return [
    panel(
      "Usage", `${shown.length === things.length ? count(things.length) : `${count(shown.length)} of ${count(things.length)}`} fields, arguments and routes, ${kept.length === 1 ? `of ${kept[0]}` : `${kept[0]} to ${kept.at(-1)}`}`,
      h("label", { class: "search" }, "Filter", h("input", { type: "search", id: "search", "data-seek": true, placeholder: "Product.name, rest, a client…" })),
      shown.length
        ? table("Usage", [["what", ""], ["clients", ""], ["by day", "bar narrow-off"], ["requests", "n"], ["last", "n narrow-off"]], shown.map(thing))
        : empty("Nobody has used anything that is called so."),
      again(),
    ),
    panel("Clients", "who holds the key, or asked for the token; never a person",
      table("Clients", [["client", ""], ["of GraphQL", "n"], ["routes", "n"], ["last", "n narrow-off"]], clients.map(client))),
  ];
}

const again = () => h("p", { class: "row" }, h("button", { type: "button", "data-do": "reload" }, "Look again"));

function thing({ kind, name, clients, counts, total, last }) {
  const first = [...clients].sort(([, one], [, other]) => other - one).slice(0, NAMED);
  return h(
    "tr", { "data-key": `${kind} ${name}` },
    h("th", { scope: "row" }, h("code", {}, breakable(name)), kind === "rest" ? h("small", {}, " route") : null),
    h("td", {}, first.map(([each, number], at) => [at ? ", " : "", each, h("small", {}, ` ${count(number)}`)]),
      clients.size > NAMED ? h("small", {}, ` and ${clients.size - NAMED} more`) : null),
    h("td", { class: "bar narrow-off" }, bars(counts, [], { label: name, every: "a day" })),
    h("td", { class: "n" }, count(total)), h("td", { class: "n narrow-off" }, last),
  );
}

function client({ name, graphql, rest, last }) {
  return h("tr", { "data-key": name }, h("th", { scope: "row" }, name),
    h("td", { class: "n" }, count(graphql)), h("td", { class: "n" }, count(rest)), h("td", { class: "n narrow-off" }, last));
}

function added(kept, days) {
  const things = new Map(), clients = new Map();
  for (const [at, day] of days.entries()) {
    for (const [kind, named] of Object.entries(kept[day] ?? {})) {
      for (const [name, users] of Object.entries(named)) {
        const key = `${kind} ${name}`;
        if (!things.has(key)) things.set(key, { kind, name, clients: new Map(), counts: days.map(() => 0), total: 0 });
        const one = things.get(key);
        for (const [who, number] of Object.entries(users)) {
          if (!clients.has(who)) clients.set(who, { name: who, graphql: 0, rest: 0 });
          const user = clients.get(who);
          if (!one.clients.has(who)) user[kind] += 1;
          one.clients.set(who, (one.clients.get(who) ?? 0) + number);
          one.counts[at] += number;
          one.total += number;
          one.last = user.last = day;
        }
      }
    }
  }
  const byName = (one, other) => (one.name < other.name ? -1 : 1);
  return {
    things: [...things.values()].sort((one, other) => other.total - one.total || byName(one, other)),
    clients: [...clients.values()].sort(byName),
  };
}

// Every day from the first to the last that anything was counted on, and some before: one bar alone says nothing.
function drawn(kept) {
  const days = [], last = Date.parse(kept.at(-1));
  for (let at = Math.min(Date.parse(kept[0]), last - (LEAST - 1) * DAY); at <= last; at += DAY) days.push(new Date(at).toISOString().slice(0, 10));
  return days;
}
