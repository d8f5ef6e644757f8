/** An event as nodes relay it to each other. */
import { ControlEvent } from "#schema/events.ts"
import { Schema } from "effect"

/**
 * `at`: time of a presence event by the database's clock (`PresenceTime` of the store), by which `PresenceOrder` orders the
 * reports of several nodes; absent for any other event.
 */
export const RelayedEvent = Schema.Struct({ event: ControlEvent, at: Schema.optionalKey(Schema.Finite) })
export type RelayedEvent = typeof RelayedEvent.Type
