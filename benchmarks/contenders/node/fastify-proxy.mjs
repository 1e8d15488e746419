import proxy from '@fastify/http-proxy';
import jwt from '@fastify/jwt';
import Fastify from 'fastify';

const { JWT_SECRET: secret, JWT_ISSUER: allowedIss, JWT_AUDIENCE: allowedAud, PORT: port } = process.env;

const app = Fastify();
app.get('/healthz', async () => 'ok');
await app.register(jwt, { secret, verify: { algorithms: ['HS256'], allowedIss, allowedAud } });

for (const service of ['users', 'products', 'orders', 'payments']) {
  await app.register(proxy, {
    upstream: process.env[`${service.toUpperCase()}_URL`],
    prefix: `/api/${service}`,
    rewritePrefix: `/${service}`,
    preHandler: (request) => request.jwtVerify(),
    disableRequestLogging: true,
  });
}
await app.listen({ port, host: '127.0.0.1' });
