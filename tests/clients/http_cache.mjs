// The published tests of HTTP caches through the gateway that is given, in front of their own service at the port that is given.
// Prints those that must hold and do not, but for those that are left out; one that fails, as their times do on a busy machine, is tried again.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { setBaseUrl, setFetch } from "http-cache-tests/client/config.mjs";
import { makeCacheTest, testResults } from "http-cache-tests/client/test.mjs";
import handleConfig from "http-cache-tests/server/handle-config.mjs";
import handleState from "http-cache-tests/server/handle-state.mjs";
import handleTest from "http-cache-tests/server/handle-test.mjs";
import suites from "http-cache-tests/tests/index.mjs";

const [port, gateway, ...leftOut] = process.argv.slice(2);
const say = console.log;
console.log = () => {}; // they tell each request
const handlers = { config: handleConfig, state: handleState, test: handleTest };
const origin = createServer((request, response) => {
  const [, kind, ...rest] = new URL(request.url, "http://origin").pathname.split("/");
  handlers[kind](rest, request, response);
});
origin.keepAliveTimeout = 60_000;
await new Promise((resolve) => origin.listen(Number(port), "127.0.0.1", resolve));

const require = createRequire(import.meta.url);
setFetch(createRequire(require.resolve("http-cache-tests/package.json"))("node-fetch"));
setBaseUrl(gateway);
const all = suites.flatMap(({ tests }) => tests).filter(({ kind = "required", browser_only }) => kind === "required" && !browser_only);
const known = new Set(all.map(({ id }) => id));
for (const id of leftOut) if (!known.has(id)) say(`${id}: there is no such test`);

let failing = all.filter(({ id }) => !leftOut.includes(id));
const number = failing.length;
for (let tries = 0; tries < 4 && failing.length; tries++) {
  for (const { id } of failing) delete testResults[id];
  await Promise.all(failing.map((test) => makeCacheTest(structuredClone(test))));
  failing = failing.filter(({ id }) => testResults[id] !== true);
}
for (const { id } of failing) say(`${id}: ${testResults[id].join(": ")}`);
say(`${number - failing.length} of ${number}`);
process.exit(0);
