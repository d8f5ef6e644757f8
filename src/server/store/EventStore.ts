/** Rows of the event stream: recent changes, and event batches that nodes relay. */
import { type ControlEvent, EntityType } from "#schema/events.ts"
import { Revision } from "#schema/ids.ts"
import { Context, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { type StoreUnavailable, withStoreErrors } from "./sql.ts"
import { ReservedPool } from "./ReservedPool.ts"

/** The data of a `change` event: revision, entity type and id, and operation. */
export type ChangeEventData = Extract<ControlEvent, { readonly event: "change" }>["data"]

/** A batch of events of another node. */
export interface NodeEventBatch {
  readonly node: string
  /** Display name of the node; null if its row is gone. */
  readonly name: string | null
  /** Sequence number of the batch within its node. */
  readonly number: number
  /** JSON. */
  readonly events: string
}

/** Limits the memory of one read, because each batch can have half a million characters. */
const maxBatchesPerRead = 16

/** Reads changes for the event stream, and exchanges events between nodes. */
export class EventStore extends Context.Service<EventStore, {
  /** The changes after one revision up to another, as far as they are kept; none if there are more than `most`. */
  readChanges(
    after: Revision,
    upTo: Revision,
    most: number
  ): Effect.Effect<ReadonlyArray<ChangeEventData>, StoreUnavailable>
  /** Publishes a batch to the other nodes. Does nothing if the node has published this number already. */
  appendBatch(node: string, number: number, events: string): Effect.Effect<void, StoreUnavailable>
  /** The number of the newest stored batch of each node. */
  readonly readBatchNumbers: Effect.Effect<ReadonlyMap<string, number>, StoreUnavailable>
  /**
   * Batches of the other nodes after these numbers and from the last minute, in order within each node. `isComplete` is false
   * if more batches follow.
   */
  readNewBatches(
    node: string,
    after: ReadonlyMap<string, number>
  ): Effect.Effect<{ readonly batches: ReadonlyArray<NodeEventBatch>; readonly isComplete: boolean }, StoreUnavailable>
}>()("control/store/EventStore") {
  static readonly layer = Layer.effect(
    EventStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient

      const readChanges = Effect.fn("EventStore.readChanges")(
        function*(after: Revision, upTo: Revision, limit: number) {
          if (upTo <= after || upTo - after > limit) return []
          return decodeChanges(
            yield* withStoreErrors(sql`
          select revision::float8 as revision, entity as "entityType", entity_id as "entityId", op from changes
          where revision > ${after} and revision <= ${upTo} order by revision`)
          )
        }
      )

      return EventStore.of({ readChanges, ...relayQueries(yield* ReservedPool) })
    })
  )
}

const relayQueries = (sql: SqlClient.SqlClient) => {
  const appendBatch = Effect.fn("EventStore.appendBatch")(function*(node: string, number: number, events: string) {
    yield* withStoreErrors(sql`insert into node_events (node, number, events) values (${node}, ${number}, ${events})
      on conflict do nothing`)
  })

  const readBatchNumbers = withStoreErrors(
    sql`select node, max(number)::float8 as number from node_events group by node`
  ).pipe(
    Effect.map((rows) => new Map(decodeNumbers(rows).map(({ node, number }) => [node, number]))),
    Effect.withSpan("EventStore.readBatchNumbers")
  )

  const readNewBatches = Effect.fn("EventStore.readNewBatches")(
    function*(node: string, after: ReadonlyMap<string, number>) {
      const rows = yield* withStoreErrors(sql`
      select e.node, n.name, e.number::float8 as number, e.events from node_events e
      left join unnest(${[...after.keys()]}::text[], ${[
        ...after.values()
      ]}::bigint[]) as k (node, number) on k.node = e.node
      left join nodes n on n.id = e.node
      where e.told_at > now() - interval '1 minute' and e.node <> ${node} and e.number > coalesce(k.number, 0)
      order by max(e.told_at) over (partition by e.node order by e.number), e.node, e.number limit ${maxBatchesPerRead}`)
      return { batches: decodeBatches(rows), isComplete: rows.length < maxBatchesPerRead }
    }
  )

  return { appendBatch, readBatchNumbers, readNewBatches }
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
