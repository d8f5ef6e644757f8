/** An event on its way to whoever follows, at this node or another one. */
import { ControlEvent } from "#schema/events.ts"
import { Schema } from "effect"

/**
 * `at`: when a client came or went by the database's clock (`Moment` of the store), for those who hear of it from several nodes;
 * none for anything else.
 */
export const RelayedEvent = Schema.Struct({ event: ControlEvent, at: Schema.optionalKey(Schema.Finite) })
export type RelayedEvent = typeof RelayedEvent.Type
