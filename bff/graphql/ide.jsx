// GraphiQL, as `ide.py` serves it: everything comes from the gateway, the page's settings from its own HTML.
import "monaco-graphql/esm/monaco-editor.js"; // not only when it is first needed: its styles belong into ours
import "graphiql/style.css";
import "./ide.css";

import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { createRoot } from "react-dom/client";

const settings = JSON.parse(document.getElementById("settings").textContent);

self.MonacoEnvironment = {
  getWorker(_, label) {
    const name = ["graphql", "json"].includes(label) ? label : "editor";
    return new Worker(`${settings.assets}/${name}.worker.js`, { type: "module" });
  },
};

const endpoint = location.origin + location.pathname; // which is the page's own
const fetcher = createGraphiQLFetcher({
  url: endpoint,
  subscriptionUrl: endpoint.replace(/^http/, "ws"),
});

createRoot(document.getElementById("page")).render(
  <GraphiQL
    fetcher={fetcher}
    defaultQuery={settings.query}
    defaultHeaders={settings.headers ? JSON.stringify(settings.headers, null, 2) : undefined}
    defaultEditorToolsVisibility={settings.headers && matchMedia("(min-width: 701px)").matches ? "headers" : false}
  />,
);
