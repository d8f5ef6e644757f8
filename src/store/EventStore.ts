/** The log of changes without its row images: for those who are told that something has changed, and not what. */
import { type ControlEvent, EntityType } from "#schema/events.ts"
import { Revision } from "#schema/ids.ts"
import { Context, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { atEdge, type StoreUnavailable } from "./sql.ts"

export type ChangeData = Extract<ControlEvent, { readonly event: "change" }>["data"]

export class EventStore extends Context.Service<EventStore, {
  /** The changes after one revision up to another, as far as they are kept; none if there are more than `most`. */
  changes(after: Revision, upTo: Revision, most: number): Effect.Effect<ReadonlyArray<ChangeData>, StoreUnavailable>
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

      return EventStore.of({ changes })
    })
  )
}

const decodeChanges = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({
  revision: Revision,
  entityType: EntityType,
  entityId: Schema.String,
  op: Schema.Literals(["put", "delete"])
})))
