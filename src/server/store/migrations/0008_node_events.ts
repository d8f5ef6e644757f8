/** Migration 8: batches of client events that each node publishes to the other nodes. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

const statements = [
  // One batch of events. `number` counts the batches of the node; one fiber inserts them, so they become visible in this
  // order. `events` is JSON as text, because text of clients can contain what jsonb rejects (NUL), and no query reads it.
  `create table node_events (
    node text not null,
    number bigint not null,
    told_at timestamptz not null default now(),
    events text not null,
    primary key (node, number)
  )`,
  `create index node_events_by_time on node_events (told_at)`
]

export const nodeEvents = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
})
