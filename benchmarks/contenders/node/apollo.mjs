import http from 'node:http';
import { ApolloServer } from '@apollo/server';
import { expressMiddleware } from '@as-integrations/express5';
import express from 'express';
import { context, host, port, resolvers, typeDefs } from './shop.mjs';

const server = new ApolloServer({ typeDefs, resolvers, introspection: false });
await server.start();

const app = express();
app.get('/healthz', (_, response) => response.send('ok'));
app.use('/graphql', express.json(), expressMiddleware(server, { context: async () => context() }));
http.createServer(app).listen(port, host);
