// Swagger UI, as `page.py` serves it: everything comes from the gateway, the page's settings from its own HTML.
import "swagger-ui-dist/swagger-ui.css";
import "./docs.css";

import SwaggerUI from "swagger-ui-dist/swagger-ui-es-bundle.js";

const settings = JSON.parse(document.getElementById("settings").textContent);
const url = new URL(settings.document, location.href).href;

let credentials = {};

// The headers of what was entered: the document shows what its holder may do, so it is asked for as its holder.
function headersOf(authorized) {
  const headers = {};
  for (const { schema: immutable, value } of Object.values(authorized)) {
    if (!value) continue;
    const schema = immutable.toJS();
    if (schema.type === "http") headers.Authorization = `Bearer ${value}`;
    if (schema.type === "apiKey" && schema.in === "header") headers[schema.name] = value;
  }
  return headers;
}

const followCredentials = () => ({
  statePlugins: {
    auth: {
      wrapActions: {
        authorize: (original) => (given) => {
          const done = original(given);
          credentials = { ...credentials, ...headersOf(given) };
          ui.specActions.download(url);
          return done;
        },
        logout: (original) => (names) => {
          const done = original(names);
          credentials = {};
          ui.specActions.download(url);
          return done;
        },
      },
    },
  },
});

const ui = SwaggerUI({
  domNode: document.getElementById("page"),
  url,
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: true,
  validatorUrl: null,
  plugins: [followCredentials],
  requestInterceptor: (request) => {
    if (request.loadSpec) Object.assign(request.headers, credentials);
    return request;
  },
});
