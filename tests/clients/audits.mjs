// The audits of GraphQL over HTTP's reference suite against the endpoint that is given; prints those that do not pass.
import { auditServer } from "graphql-http";

const results = await auditServer({ url: process.argv[2], fetchFn: fetch });
for (const { id, name, status, reason } of results) {
  if (status !== "ok") console.log(`${status}: ${name} (${id}): ${reason}`);
}
console.log(`${results.filter(({ status }) => status === "ok").length} of ${results.length}`);
