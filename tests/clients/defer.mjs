// What Apollo Client, with each of its two forms of incremental delivery, and urql show of a deferred fragment, step by step.
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { Defer20220824Handler, GraphQL17Alpha9Handler } from "@apollo/client/incremental";
import { Client, fetchExchange } from "urql";

const [url, token] = process.argv.slice(2);
const headers = { authorization: `Bearer ${token}` };
const document = `query Late { order(id: "ord_1") { id ...Slow @defer(label: "slow") } }
  fragment Slow on Order { customer { name } payment { status } }`;

async function apollo(incrementalHandler) {
  const client = new ApolloClient({ link: new HttpLink({ uri: url, headers }), cache: new InMemoryCache(), incrementalHandler });
  const steps = [];
  await new Promise((resolve, reject) => {
    client.watchQuery({ query: gql(document) }).subscribe({
      error: reject,
      next({ data, dataState, loading, error }) {
        if (error) reject(error);
        if (data) steps.push([dataState, summary(data)]);
        if (!loading) resolve();
      },
    });
  });
  return steps;
}

async function urql() {
  const client = new Client({ url, exchanges: [fetchExchange], preferGetMethod: false, fetchOptions: { headers } });
  const steps = [];
  await new Promise((resolve, reject) => {
    client.query(document, {}).subscribe(({ data, error, hasNext }) => {
      if (error) reject(error);
      steps.push([hasNext ? "streaming" : "complete", summary(data)]);
      if (!hasNext) resolve();
    });
  });
  return steps;
}

const summary = ({ order }) => [order.id, order.customer?.name ?? null, order.payment?.status ?? null];

const seen = { earlier: await apollo(new Defer20220824Handler()), newer: await apollo(new GraphQL17Alpha9Handler()), urql: await urql() };
console.log(JSON.stringify(seen));
process.exit(0);
