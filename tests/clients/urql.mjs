// urql, with persisted queries; prints what it was answered and what it sent for it.
import { Client, fetchExchange, gql } from "urql";
import { persistedExchange } from "@urql/exchange-persisted";

const [url, token] = process.argv.slice(2);
const sent = [];
const client = new Client({
  url,
  preferGetMethod: false,
  exchanges: [persistedExchange({ preferGetForPersistedQueries: false }), fetchExchange],
  fetchOptions: { headers: { authorization: `Bearer ${token}` } },
  fetch: async (address, options) => {
    sent.push({ method: options.method, text: "query" in JSON.parse(options.body) });
    return fetch(address, options);
  },
});
const query = gql`query Mine($first: Int!) { me { id orders(first: $first) { nodes { id total { amount } } } } }`;
const asked = async (first) => client.query(query, { first }).toPromise();
const { data } = await asked(2);
const again = await asked(1);
const bad = await asked(1000);
const refused = await client.query(gql`{ nothing }`, {}).toPromise();
console.log(
  JSON.stringify({
    me: data.me.id,
    orders: [data.me.orders.nodes.length, again.data.me.orders.nodes.length],
    bad: bad.error?.graphQLErrors.map((each) => each.extensions.code),
    refused: refused.error?.graphQLErrors.map((each) => each.extensions.code),
    sent,
  }),
);
