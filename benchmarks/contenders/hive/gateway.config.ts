// The edges between the services: each resolver delegates to the batched read of the service that owns the other end.
import { defineConfig } from '@graphql-hive/gateway';

const field = (name: string, selections?: any[]): any => ({
  kind: 'Field',
  name: { kind: 'Name', value: name },
  selectionSet: selections && { kind: 'SelectionSet', selections },
});

// What is asked of a row, plus the field by which rows find their way back, inside the `items` of a page.
const page = (key: string) => (asked: any) => ({
  kind: 'SelectionSet',
  selections: [field('items', [...asked.selections, field(key)])],
});
const byKey = (key: string) => (answer: any, keys: string[]) => {
  const rows = new Map(answer.items.map((row: any) => [row[key], row]));
  return keys.map((each) => rows.get(each) ?? null);
};

// The rows of a connection's `nodes`, with the id of each item's product.
const orders = (asked: any) => {
  const nodes = asked.selections.find((each: any) => each.name.value === 'nodes').selectionSet;
  const selections = nodes.selections.map((each: any) =>
    each.name.value === 'items' ? { ...each, selectionSet: page('product_id')(each.selectionSet).selections[0].selectionSet } : each,
  );
  return page('user_id')({ selections });
};
const byUser = (answer: any, ids: string[]) => {
  const nodes = new Map<string, any[]>(ids.map((id) => [id, []]));
  for (const order of answer.items) nodes.get(order.user_id)!.push(order);
  return ids.map((id) => ({ nodes: nodes.get(id) }));
};

export const gatewayConfig = defineConfig({
  logging: 'error',
  landingPage: false,
  graphiql: false,
  additionalResolvers: {
    User: {
      orders: {
        selectionSet: '{ id }',
        resolve: (user: any, { first, after }: any, context: any, info: any) =>
          context.orders.Query.listOrders({
            root: user, context, info, key: user.id, selectionSet: orders, valuesFromResults: byUser,
            argsFromKeys: (ids: string[]) => ({ user_ids: ids.join(','), limit: first, cursor: after }),
          }),
      },
    },
    Order: {
      payment: {
        selectionSet: '{ id }',
        resolve: (order: any, _: any, context: any, info: any) =>
          context.payments.Query.listPayments({
            root: order, context, info, key: order.id, selectionSet: page('order_id'), valuesFromResults: byKey('order_id'),
            argsFromKeys: (ids: string[]) => ({ order_ids: ids.join(',') }),
          }),
      },
    },
    OrderItem: {
      product: {
        selectionSet: '{ product_id }',
        resolve: (item: any, _: any, context: any, info: any) =>
          context.products.Query.listProducts({
            root: item, context, info, key: item.product_id, selectionSet: page('id'), valuesFromResults: byKey('id'),
            argsFromKeys: (ids: string[]) => ({ ids: ids.join(','), limit: null }), // `ids` excludes the default of `limit`
          }),
      },
    },
  },
} as any);
