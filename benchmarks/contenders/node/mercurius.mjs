import Fastify from 'fastify';
import mercurius from 'mercurius';
import { context, host, port, resolvers, typeDefs } from './shop.mjs';

const app = Fastify();
app.get('/healthz', async () => 'ok');
await app.register(mercurius, { schema: typeDefs, resolvers, context, jit: 1 });
await app.listen({ port, host });
