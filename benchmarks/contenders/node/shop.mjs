// What the GraphQL servers for Node share: the schema, its resolvers over the four services, a set of loaders a request.
import DataLoader from 'dataloader';
import { Pool } from 'undici';

export const port = Number(process.env.PORT);
export const host = '127.0.0.1';
export const urls = Object.fromEntries(
  ['users', 'products', 'orders', 'payments'].map((name) => [name, process.env[`${name.toUpperCase()}_URL`]]),
);
const pools = Object.fromEntries(Object.entries(urls).map(([name, url]) => [name, new Pool(url, { connections: 128 })]));

async function get(service, params) {
  const given = Object.entries(params).filter(([, value]) => value != null);
  const path = `/${service}?${given.map(([name, value]) => `${name}=${value}`).join('&')}`;
  const { statusCode, body } = await pools[service].request({ method: 'GET', path });
  if (statusCode !== 200) {
    await body.dump();
    throw new Error(`${service} answered ${statusCode}`);
  }
  return body.json();
}

const batched = (service, by, key) =>
  new DataLoader(async (ids) => {
    const { items } = await get(service, { [by]: ids.join(',') });
    const rows = new Map(items.map((row) => [row[key], row]));
    return ids.map((id) => rows.get(id) ?? null);
  });

function ordersOfUser(first, after) {
  return new DataLoader(async (ids) => {
    const page = await get('orders', { user_ids: ids.join(','), limit: first, cursor: after });
    const orders = new Map(ids.map((id) => [id, []]));
    for (const order of page.items) orders.get(order.user_id).push(order);
    return ids.map((id) => connection(orders.get(id), after, page.next_cursors[id]));
  });
}

export function context() {
  const orders = new Map();
  return {
    user: batched('users', 'ids', 'id'),
    product: batched('products', 'ids', 'id'),
    payment: batched('payments', 'order_ids', 'order_id'),
    orders(first, after) {
      const key = `${first} ${after}`;
      if (!orders.has(key)) orders.set(key, ordersOfUser(first, after));
      return orders.get(key);
    },
  };
}

const connection = (nodes, after, next) => ({ nodes, after, next });

async function list(service, { first, after }) {
  const page = await get(service, { limit: first, cursor: after });
  return connection(page.items, after, page.next_cursor);
}

const connectionResolvers = {
  edges: ({ nodes }) => nodes.map((node) => ({ cursor: node.id, node })),
  pageInfo: ({ nodes, after, next }) => ({
    hasNextPage: next != null,
    hasPreviousPage: after != null,
    startCursor: nodes[0]?.id,
    endCursor: nodes.at(-1)?.id,
  }),
};

export const typeDefs = `
  scalar DateTime
  scalar Decimal

  type Query {
    user(id: ID!): User
    users(first: Int! = 20, after: String): UserConnection!
    product(id: ID!): Product
    products(first: Int! = 20, after: String): ProductConnection!
  }
  type User {
    id: ID!
    name: String!
    email: String!
    createdAt: DateTime!
    orders(first: Int! = 10, after: String): OrderConnection!
  }
  type Product {
    id: ID!
    sku: String!
    name: String!
    description: String!
    category: String!
    price: Money!
    stock: Int!
  }
  type Order {
    id: ID!
    status: OrderStatus!
    placedAt: DateTime!
    customer: User
    items: [OrderItem!]!
    total: Money!
    payment: Payment
  }
  type OrderItem { quantity: Int! unitPrice: Money! product: Product }
  type Payment { id: ID! status: PaymentStatus! method: PaymentMethod! amount: Money! createdAt: DateTime! }
  type Money { amount: Decimal! currency: String! }
  type PageInfo { hasNextPage: Boolean! hasPreviousPage: Boolean! startCursor: String endCursor: String }
  type UserConnection { edges: [UserEdge!]! nodes: [User!]! pageInfo: PageInfo! }
  type UserEdge { cursor: String! node: User! }
  type ProductConnection { edges: [ProductEdge!]! nodes: [Product!]! pageInfo: PageInfo! }
  type ProductEdge { cursor: String! node: Product! }
  type OrderConnection { edges: [OrderEdge!]! nodes: [Order!]! pageInfo: PageInfo! }
  type OrderEdge { cursor: String! node: Order! }
  enum OrderStatus { PENDING PAID SHIPPED DELIVERED CANCELLED }
  enum PaymentStatus { PENDING CAPTURED FAILED REFUNDED }
  enum PaymentMethod { CARD SEPA PAYPAL INVOICE }
`;

export const resolvers = {
  Query: {
    user: (_, { id }, { user }) => user.load(id),
    users: (_, page) => list('users', page),
    product: (_, { id }, { product }) => product.load(id),
    products: (_, page) => list('products', page),
  },
  User: {
    createdAt: (user) => user.created_at,
    orders: (user, { first, after }, { orders }) => orders(first, after).load(user.id),
  },
  Order: {
    status: (order) => order.status.toUpperCase(),
    placedAt: (order) => order.placed_at,
    customer: (order, _, { user }) => user.load(order.user_id),
    payment: (order, _, { payment }) => payment.load(order.id),
  },
  OrderItem: {
    unitPrice: (item) => item.unit_price,
    product: (item, _, { product }) => product.load(item.product_id),
  },
  Payment: {
    status: (payment) => payment.status.toUpperCase(),
    method: (payment) => payment.method.toUpperCase(),
    createdAt: (payment) => payment.created_at,
  },
  UserConnection: connectionResolvers,
  ProductConnection: connectionResolvers,
  OrderConnection: connectionResolvers,
};
