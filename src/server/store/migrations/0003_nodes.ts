/** Several processes on one database: who of them lives, and what they tell each other. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

const tables = [
  // A process lives as long as its lease lasts, by this database's clock. `mark` is another one after
  // its clients were shown offline: a node that finds one that it does not know shows them online again.
  `create table nodes (
    id text primary key,
    name text not null,
    version text not null,
    started_at timestamptz not null default now(),
    renewed_at timestamptz not null default now(),
    lease_until timestamptz not null,
    mark uuid not null default gen_random_uuid(),
    draining boolean not null default false,
    clients integer not null default 0,
    revision bigint not null default 0
  )`,
  // A letter to the node whose session was taken over by a client that has come to another node.
  `create table takeovers (
    id bigint generated always as identity primary key,
    node text not null,
    session text not null,
    at timestamptz not null default now()
  )`,
  `create index takeovers_by_node on takeovers (node)`,
  // What has been said of a certificate's end, whichever process has said it.
  `create table certificate_warnings (
    domain text not null,
    expires_at timestamptz not null,
    days integer not null,
    primary key (domain, expires_at, days)
  )`
]

export const nodes = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach(tables, (statement) => sql.unsafe(statement), { discard: true })
})
