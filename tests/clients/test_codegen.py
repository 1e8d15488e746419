"""What code generators of typed clients make of our schema."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import ROOT

HERE = Path(__file__).parent
CONFIG = """
schema: schema.graphql
documents: ["src/*.ts"]
ignoreNoDocuments: false
generates:
  src/gql/:
    preset: client
    config: {strictScalars: true, scalars: {Decimal: string, DateTime: string}, useTypeImports: true}
"""
USE = """
import type { ResultOf } from "@graphql-typed-document-node/core";
import { graphql, useFragment } from "./gql";

export const Price = graphql(`fragment Price on Product { price { amount currency } }`);
export const Shop = graphql(`
  query Shop($first: Int!) {
    users(first: $first) { nodes { name orders(first: 3) { nodes {
      id status total { amount } items { quantity product { name ...Price } }
      payment { status } } } } }
    node(id: "prd_1") { __typename ... on Product { name } }
  }
`);
export const Cancel = graphql(`mutation Cancel($id: ID!) { cancelOrder(id: $id) { id status } }`);

export function total(shop: ResultOf<typeof Shop>): string[] {
  return shop.users.nodes.flatMap((user) => user.orders.nodes.map((order) => order.total.amount));
}

export function amounts(shop: ResultOf<typeof Shop>): (string | undefined)[] {
  const items = shop.users.nodes.flatMap((user) => user.orders.nodes.flatMap((order) => order.items));
  return items.map((item) => useFragment(Price, item.product)?.price.amount);
}
"""
OPTIONS = {
    "compilerOptions": {
        "strict": True,
        "noEmit": True,
        "target": "es2022",
        "module": "esnext",
        "moduleResolution": "bundler",
        "skipLibCheck": True,
        "types": [],
    },
    "include": ["src"],
}


@pytest.fixture
def project(tmp_path):
    exported = subprocess.run(
        [sys.executable, "-m", "bff", "schema", "export"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (tmp_path / "schema.graphql").write_text(exported.stdout)
    (tmp_path / "codegen.yml").write_text(CONFIG)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "tsconfig.json").write_text(json.dumps(OPTIONS))
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "shop.ts").write_text(USE)
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    return tmp_path


def test_the_client_preset_makes_a_typed_client_that_compiles(node, project):
    node("node_modules/@graphql-codegen/cli/cjs/bin.js", "--config", "codegen.yml", cwd=project)
    assert "ShopQueryVariables" in (project / "src" / "gql" / "graphql.ts").read_text()
    node("node_modules/typescript/bin/tsc", "--project", project, cwd=project)


def test_a_mistake_in_a_document_is_found_by_the_generator(node, project):
    (project / "src" / "wrong.ts").write_text("import { graphql } from './gql';\ngraphql(`query Wrong { nothing }`);")
    with pytest.raises(AssertionError, match="Cannot query field"):
        node("node_modules/@graphql-codegen/cli/cjs/bin.js", "--config", "codegen.yml", cwd=project)
