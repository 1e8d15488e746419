// Which view is shown, what it is given, and what its buttons do.

import { Refused, follow, json, text, token } from "./api.js";
import { callers } from "./callers.js";
import { asked } from "./dialog.js";
import { h, patchChildren } from "./dom.js";
import { requests } from "./requests.js";
import { stateOf, services } from "./services.js";
import { configuration, schema } from "./settings.js";
import { empty } from "./parts.js";
import { traffic } from "./traffic.js";
import { usage } from "./usage.js";

const VIEWS = {
  traffic: { name: "Traffic", draw: traffic, live: true },
  requests: { name: "Requests", draw: requests, live: true, load: request },
  services: { name: "Services", draw: services, live: true },
  callers: { name: "Callers", draw: callers, live: true, load: async () => ({ keys: await json("keys") }) },
  usage: { name: "Usage", draw: usage, load: async () => ({ usage: await json("usage") }) },
  config: { name: "Configuration", draw: configuration, load: async () => ({ config: await json("config") }) },
  schema: { name: "Schema", draw: schema, load: async () => ({ schema: await text("schema") }) },
};

const main = document.getElementById("main");
const state = { view: "traffic", argument: "", snapshot: null, loaded: {}, sought: "", problem: "" };

const say = (words) => (document.getElementById("said").textContent = words);

function draw() {
  const { draw: drawn, live } = VIEWS[state.view];
  const waiting = live && !state.snapshot;
  const content = state.problem && (waiting || !live)
    ? [h("section", { class: "panel", role: "alert" }, h("h2", {}, "Nothing to see yet"), h("p", {}, state.problem))]
    : waiting ? [empty("Loading")] : drawn(state);
  patchChildren(main, content.filter(Boolean));
}

function route() {
  const [view, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  const before = state.view;
  state.view = view in VIEWS ? view : "traffic";
  state.argument = decodeURIComponent(rest.join("/"));
  document.title = `${VIEWS[state.view].name} – Gateway`;
  patchChildren(document.getElementById("nav"), Object.entries(VIEWS).map(([name, each]) =>
    h("a", { href: `#/${name}`, "aria-current": name === state.view ? "page" : null }, each.name)));
  if (before !== state.view || state.argument) {
    if (state.view === "requests" && state.loaded.request?.request_id !== state.argument) delete state.loaded.request;
    if (before !== state.view) state.sought = "";
    main.replaceChildren();
    scrollTo(0, 0);
  }
  draw();
  load();
  document.querySelector("[data-chosen]")?.scrollIntoView({ block: "nearest" });
}

async function request({ argument, loaded }) {
  if (!argument || loaded.request?.request_id === argument) return {};
  try {
    return { request: await json(`requests/${encodeURIComponent(argument)}`) };
  } catch (error) {
    if (error.status === 404) return { request: null };
    throw error;
  }
}

async function load() {
  const { load: loading } = VIEWS[state.view];
  if (!loading) return;
  try {
    Object.assign(state.loaded, await loading(state));
    state.problem = "";
  } catch (error) {
    state.problem = error.message;
    if (error.status === 401) return signIn();
  }
  draw();
}

// Connection: said when it changes, not each second.

function connected(kind, words) {
  const link = document.getElementById("link");
  if (link.dataset.state !== kind) say(words);
  link.dataset.state = kind;
  link.textContent = words;
}

function live({ workers }) {
  if (!workers) return "live";
  return workers.up === workers.of ? `live, ${workers.of} workers` : `live, ${workers.up} of ${workers.of} workers`;
}

const known = new Map();

function announce({ services: found, traffic: seen }) {
  for (const [name, service] of Object.entries(found)) {
    const { state: now, word, why } = stateOf(service, seen.services[name]);
    const before = known.get(name);
    if (before !== undefined && before !== now && (now === "bad" || before === "bad")) say(`${name} is ${word}${why ? `: ${why}` : ""}`);
    known.set(name, now);
  }
}

async function watch() {
  for (let wait = 1; ; wait = Math.min(wait * 2, 8)) {
    try {
      await follow((snapshot) => {
        wait = 1;
        const drained = state.snapshot?.draining;
        state.snapshot = snapshot;
        state.problem = "";
        connected("live", live(snapshot));
        announce(snapshot);
        if (VIEWS[state.view].live || drained !== snapshot.draining) draw();
      });
    } catch (error) {
      if (error instanceof Refused && error.status === 401) await signIn();
      else {
        state.problem = error instanceof Refused ? error.message : "The gateway cannot be reached. It is asked again every few seconds.";
        connected("lost", "no connection");
        draw();
      }
    }
    await new Promise((resolve) => setTimeout(resolve, wait * 1000));
  }
}

let signing = null;

function signIn() {
  signing ??= asked({
    title: "Admin token", yes: "Sign in",
    about: ["It is kept until this tab is closed, and sent to this gateway alone."],
    fields: [{ name: "token", label: "Token", input: { type: "password", required: true } }],
    act: async ({ token: given }) => {
      const before = token.get();
      token.set(given);
      try {
        await json("drain");
      } catch (error) {
        token.set(before);
        throw error.status === 401 ? new Error("This is not the token in admin.token") : error;
      }
    },
  }).then(() => {
    signing = null;
    load();
  });
  return signing;
}

// Changes: each asks first.

async function change(question, path, options, done) {
  let told;
  const answer = await asked({
    ...question,
    act: async (values) => {
      told = await json(path(values), typeof options === "function" ? options(values) : options);
    },
  });
  if (answer) {
    say(typeof done === "function" ? done(told) : done);
    load();
  }
}

const words = (given) => given.split(/[\s,]+/).filter(Boolean);
const purged = ({ purged: number }) => `${number} ${number === 1 ? "answer is" : "answers are"} purged`;

const ACTIONS = {
  reload: () => load().then(() => say("What is shown is of now")),
  revoke: ({ name, consumer }) => change(
    { title: "Revoke this key?", about: [`${consumer} is refused with ${name} from now on. This cannot be taken back: a new key has to be made.`], yes: "Revoke", dangerous: true },
    () => `keys/${encodeURIComponent(name)}`, { method: "DELETE" }, `${name} is revoked`),
  drain: () => change(
    { title: "Drain this gateway?", about: ["/readyz answers 503, so that load balancers send nothing more. Requests that come all the same are answered."], yes: "Drain", dangerous: true },
    () => "drain", { method: "PUT" }, "The gateway is drained"),
  undrain: () => change(
    { title: "End the drain?", about: ["/readyz answers by the state of the services again."], yes: "End the drain" },
    () => "drain", { method: "DELETE" }, "The drain has ended"),
  purge: () => change(
    {
      title: "Purge what is kept of answers?", yes: "Purge",
      about: ["Whoever asks from now on is given nothing that was read before. Several are written with spaces between."],
      fields: [
        { name: "paths", label: "Paths of the gateway; /* is all below", input: { placeholder: "/api/products/*" } },
        { name: "tags", label: "Tags that services gave", input: { placeholder: "catalogue" } },
        { name: "entities", label: "Services with ids", input: { placeholder: "products:prd_1" } },
      ],
    },
    () => "cache/purge",
    ({ paths, tags, entities }) => ({ method: "POST", body: { paths: words(paths), tags: words(tags), entities: words(entities) } }),
    purged),
  purgeAll: () => change(
    { title: "Purge everything?", about: ["Services are asked for all of it again, all at once if there is much traffic."], yes: "Purge everything", dangerous: true },
    () => "cache/purge", { method: "POST", body: { everything: true } }, purged),
  split: ({ name }) => {
    const { weights } = state.snapshot.services[name].split;
    const arms = Object.keys(weights);
    return change(
      {
        title: `Split the calls to ${name}`, yes: "Set", about: ["For a while; then the configuration holds again. 0 minutes ends what was set before."],
        fields: [
          ...arms.map((arm) => ({ name: `arm-${arm}`, label: `Weight of ${arm}`, input: { type: "number", min: "0", step: "any", required: true, value: weights[arm] } })),
          { name: "minutes", label: "Minutes", input: { type: "number", min: "0", max: "1440", step: "any", required: true, value: "10" } },
        ],
      },
      () => `upstreams/${encodeURIComponent(name)}/weights`,
      (values) => ({ method: "PUT", body: { weights: Object.fromEntries(arms.map((arm) => [arm, Number(values[`arm-${arm}`])])), seconds: 60 * Number(values.minutes) } }),
      `The split of ${name} is set`);
  },
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button) ACTIONS[button.dataset.do](button.dataset);
});
document.addEventListener("input", (event) => {
  if (!event.target.matches("[data-seek]")) return;
  state.sought = event.target.value;
  draw();
});
document.getElementById("sign").addEventListener("click", signIn);
addEventListener("hashchange", route);
route();
watch();
