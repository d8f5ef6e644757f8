/** What those are told of who follow the events: the log of changes without its row images, and what each node tells the others. */
import { type ControlEvent, EntityType } from "#schema/events.ts"
import { Revision } from "#schema/ids.ts"
import { Context, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { atEdge, type StoreUnavailable } from "./sql.ts"
import { ReservedPool } from "./ReservedPool.ts"

export type ChangeData = Extract<ControlEvent, { readonly event: "change" }>["data"]

/** A batch of what another node has told: JSON, and the name of the node if it is still known. */
export interface NodeEvents {
  readonly node: string
  readonly name: string | null
  readonly number: number
  readonly events: string
}

/** Read together: each may have half a million characters. */
const mostBatches = 16

export class EventStore extends Context.Service<EventStore, {
  /** The changes after one revision up to another, as far as they are kept; none if there are more than `most`. */
  changes(after: Revision, upTo: Revision, most: number): Effect.Effect<ReadonlyArray<ChangeData>, StoreUnavailable>
  /** Tells the other nodes; a batch that is there already, under its number, stays as it is. */
  append(node: string, number: number, events: string): Effect.Effect<void, StoreUnavailable>
  /** The number of the newest batch of each node, as far as they are kept. */
  readonly numbers: Effect.Effect<ReadonlyMap<string, number>, StoreUnavailable>
  /** What the other nodes have told after these numbers within the last minute, each in its order; some of it at a time. */
  newer(
    node: string,
    after: ReadonlyMap<string, number>
  ): Effect.Effect<{ readonly batches: ReadonlyArray<NodeEvents>; readonly isAll: boolean }, StoreUnavailable>
}>()("control/store/EventStore") {
  static readonly layer = Layer.effect(
    EventStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient

      const changes = Effect.fn("EventStore.changes")(function*(after: Revision, upTo: Revision, most: number) {
        if (upTo <= after || upTo - after > most) return []
        return decodeChanges(
          yield* atEdge(sql`
          select revision::float8 as revision, entity as "entityType", entity_id as "entityId", op from changes
          where revision > ${after} and revision <= ${upTo} order by revision`)
        )
      })

      return EventStore.of({ changes, ...exchange(yield* ReservedPool) })
    })
  )
}

const exchange = (sql: SqlClient.SqlClient) => {
  const append = Effect.fn("EventStore.append")(function*(node: string, number: number, events: string) {
    yield* atEdge(sql`insert into node_events (node, number, events) values (${node}, ${number}, ${events})
      on conflict do nothing`)
  })

  const numbers = atEdge(sql`select node, max(number)::float8 as number from node_events group by node`).pipe(
    Effect.map((rows) => new Map(decodeNumbers(rows).map(({ node, number }) => [node, number]))),
    Effect.withSpan("EventStore.numbers")
  )

  const newer = Effect.fn("EventStore.newer")(function*(node: string, after: ReadonlyMap<string, number>) {
    const rows = yield* atEdge(sql`
      select e.node, n.name, e.number::float8 as number, e.events from node_events e
      left join unnest(${[...after.keys()]}::text[], ${[
      ...after.values()
    ]}::bigint[]) as k (node, number) on k.node = e.node
      left join nodes n on n.id = e.node
      where e.told_at > now() - interval '1 minute' and e.node <> ${node} and e.number > coalesce(k.number, 0)
      order by max(e.told_at) over (partition by e.node order by e.number), e.node, e.number limit ${mostBatches}`)
    return { batches: decodeBatches(rows), isAll: rows.length < mostBatches }
  })

  return { append, numbers, newer }
}

const decodeNumbers = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ node: Schema.String, number: Schema.Int }))
)
const decodeBatches = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({
  node: Schema.String,
  name: Schema.NullOr(Schema.String),
  number: Schema.Int,
  events: Schema.String
})))

const decodeChanges = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({
  revision: Revision,
  entityType: EntityType,
  entityId: Schema.String,
  op: Schema.Literals(["put", "delete"])
})))
