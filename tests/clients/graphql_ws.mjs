// graphql-ws as applications use it: a subscription, a query, errors, and what it makes of each way to be closed.
import { createClient } from 'graphql-ws';

const [url, orders, token, order] = process.argv.slice(2);
const identity = { 'x-auth-subject': 'usr_1', 'x-auth-scopes': 'orders:read orders:admin' };
const closes = [];

function client(params, more = {}) {
  return createClient({
    url,
    connectionParams: params,
    retryWait: async () => {},
    on: { closed: (event) => closes.push(event.code) },
    ...more,
  });
}

const good = client({ authorization: `Bearer ${token}` });
const watch = { query: 'subscription W($id: ID!) { orderStatusChanged(id: $id) { status } }', variables: { id: order } };
const seen = [];
for await (const result of good.iterate(watch)) {
  seen.push(result.data.orderStatusChanged.status);
  const next = { PENDING: 'paid', PAID: 'shipped' }[seen.at(-1)];
  if (!next) break;
  await fetch(`${orders}/orders/${order}`, {
    method: 'PATCH',
    headers: { ...identity, 'content-type': 'application/json' },
    body: JSON.stringify({ status: next }),
  });
}
for await (const result of good.iterate({ query: '{ me { id } }' })) seen.push(result.data.me.id);
try {
  for await (const _ of good.iterate({ query: '{ nope }' }));
} catch (errors) {
  seen.push(errors[0].extensions.code);
}
await good.dispose();

// A token that is no good: refused, tried again with what connectionParams says, and given up after so many times.
let asked = 0;
const bad = client(async () => ({ authorization: `Bearer ${asked++ ? 'worse' : 'bad'}` }), { retryAttempts: 2 });
try {
  for await (const _ of bad.iterate({ query: '{ me { id } }' }));
} catch (event) {
  seen.push(event.code, asked);
}
console.log(JSON.stringify({ seen, closes }));
