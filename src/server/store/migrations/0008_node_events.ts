/** What each node tells of, for those who follow the events at another one. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

const statements = [
  // One batch of a node, under its own count: one fiber writes them, so they become visible in this order. JSON as text: a
  // client's own words may have what jsonb refuses (NUL), and the database has nothing to look for in it.
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
