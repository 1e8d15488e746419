// graphql-sse as applications use it, in its distinct connections mode.
import { createClient } from 'graphql-sse';

const [url, orders, token, order] = process.argv.slice(2);
const identity = { 'x-auth-subject': 'usr_1', 'x-auth-scopes': 'orders:read orders:admin' };
const client = createClient({ url, headers: { authorization: `Bearer ${token}` }, retryAttempts: 0 });
const watch = { query: 'subscription W($id: ID!) { orderStatusChanged(id: $id) { status } }', variables: { id: order } };
const seen = [];
for await (const result of client.iterate(watch)) {
  seen.push(result.data.orderStatusChanged.status);
  const next = { PENDING: 'paid', PAID: 'shipped' }[seen.at(-1)];
  if (!next) break;
  await fetch(`${orders}/orders/${order}`, {
    method: 'PATCH',
    headers: { ...identity, 'content-type': 'application/json' },
    body: JSON.stringify({ status: next }),
  });
}
for await (const result of client.iterate({ query: '{ me { id } }' })) seen.push(result.data.me.id);
for await (const result of client.iterate({ query: '{ nope }' })) seen.push(result.errors[0].extensions.code);
client.dispose();
console.log(JSON.stringify(seen));
