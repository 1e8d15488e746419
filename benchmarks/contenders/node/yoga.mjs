import { createServer } from 'node:http';
import { useGraphQlJit } from '@envelop/graphql-jit';
import { createSchema, createYoga } from 'graphql-yoga';
import { context, host, port, resolvers, typeDefs } from './shop.mjs';

const yoga = createYoga({
  schema: createSchema({ typeDefs, resolvers }),
  context,
  plugins: process.env.JIT ? [useGraphQlJit()] : [],
  graphiql: false,
  logging: false,
  healthCheckEndpoint: '/healthz',
});
createServer(yoga).listen(port, host);
