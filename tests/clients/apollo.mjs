// Apollo Client, with persisted queries and with a batch link; prints what it was answered and what it sent for it.
import { createHash } from "node:crypto";
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { BatchHttpLink } from "@apollo/client/link/batch-http";
import { PersistedQueryLink } from "@apollo/client/link/persisted-queries";

const [uri, mode] = process.argv.slice(2);
const sent = [];
const recorded = async (url, options) => {
  const body = options.body && JSON.parse(options.body);
  const response = await fetch(url, options);
  sent.push({ method: options.method, operations: Array.isArray(body) ? body.length : 1, text: !!body?.query, status: response.status });
  return response;
};
const sha256 = (text) => createHash("sha256").update(text).digest("hex");
const link = {
  apq: () => ApolloLink.from([new PersistedQueryLink({ sha256 }), new HttpLink({ uri, fetch: recorded })]),
  get: () =>
    ApolloLink.from([new PersistedQueryLink({ sha256, useGETForHashedQueries: true }), new HttpLink({ uri, fetch: recorded })]),
  batch: () => new BatchHttpLink({ uri, fetch: recorded, batchInterval: 10 }),
}[mode]();
const client = new ApolloClient({ link, cache: new InMemoryCache(), defaultOptions: { query: { fetchPolicy: "network-only" } } });

const product = gql`query Product($id: ID!) { product(id: $id) { id name price { amount } } }`;
const ask = (id) => client.query({ query: product, variables: { id } }).then(({ data }) => data.product.id);
const together = await Promise.all((mode === "batch" ? ["prd_1", "prd_2", "prd_3"] : ["prd_1"]).map(ask));
const after = await ask("prd_4");
const cached = client.readFragment({ id: "Product:prd_4", fragment: gql`fragment P on Product { price { amount } }` });
let failed;
try {
  await client.query({ query: gql`query Mine { me { id } orders { nodes { id } } }` });
} catch (error) {
  failed = error.errors?.map(({ extensions }) => extensions.code);
}
console.log(JSON.stringify({ together, after, cached: cached.price.__typename, failed, sent }));
