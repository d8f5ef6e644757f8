/** Migration 3: several nodes on one database, with their leases and mailboxes. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

const tables = [
  // A node is live until its lease ends, by the clock of the database. `mark` is the epoch of the lease. It changes after
  // other nodes have marked this node's clients offline. A node that sees a new epoch marks its clients online again.
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
  // Mailbox of each node: sessions whose clients have reconnected to another node.
  `create table takeovers (
    id bigint generated always as identity primary key,
    node text not null,
    session text not null,
    at timestamptz not null default now()
  )`,
  `create index takeovers_by_node on takeovers (node)`,
  // Expiry warnings that any node has published already.
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
