// One supergraph of the four services' OpenAPI documents; what joins them is in gateway.config.ts.
import { createNamingConventionTransform, defineConfig } from '@graphql-mesh/compose-cli';
import { loadOpenAPISubgraph } from '@omnigraph/openapi';

export const composeConfig = defineConfig({
  subgraphs: ['users', 'products', 'orders', 'payments'].map((name) => ({
    sourceHandler: loadOpenAPISubgraph(name, {
      source: `${process.env.CONTRACTS}/${name}.yaml`,
      endpoint: process.env[`${name.toUpperCase()}_URL`],
      ignoreErrorResponses: true,
    }),
    transforms: [createNamingConventionTransform({ enumValues: 'upperCase' })],
  })),
  additionalTypeDefs: /* GraphQL */ `
    extend type User { orders(first: Int! = 10, after: String): OrderConnection! }
    extend type Order { payment: Payment }
    extend type OrderItem { product: Product }
    type OrderConnection { nodes: [Order!]! }
  `,
});
