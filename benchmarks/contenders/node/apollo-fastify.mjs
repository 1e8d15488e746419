import { ApolloServer } from '@apollo/server';
import { fastifyApolloHandler } from '@as-integrations/fastify';
import Fastify from 'fastify';
import { context, host, port, resolvers, typeDefs } from './shop.mjs';

const server = new ApolloServer({ typeDefs, resolvers, introspection: false });
await server.start();

const app = Fastify();
app.get('/healthz', async () => 'ok');
app.post('/graphql', fastifyApolloHandler(server, { context: async () => context() }));
await app.listen({ port, host });
