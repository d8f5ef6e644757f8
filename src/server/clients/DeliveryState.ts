/** Delivery state of one client: revisions sent, acknowledged and rejected. Pure. */
import type { RecordedNack } from "#schema/messagesFromClients.ts"
import { Revision, type Timeline } from "#schema/ids.ts"

/** Read-only for every module except `Deliveries`, which is the only writer. */
export interface DeliveryState {
  /** Newest revision whose effect on the client's view was handed to its socket. */
  readonly sent: Revision
  /** Revision of the last message about the client's view; at most `sent`. */
  readonly lastMessageRevision: Revision
  /** Timeline of all revisions here; undefined until the first view is sent. */
  readonly timeline: Timeline | undefined
  /** `lastMessageRevision` at the start of the view on this connection. */
  readonly viewStart: Revision
  /** `lastMessageRevision` on the previous timeline, as long as an `ack` or `nack` may still refer to that timeline. */
  readonly previousTimelineRevision: Revision | undefined
  /** Newest revision that the client acknowledged on this connection: everything up to it is applied. */
  readonly acknowledged: Revision | undefined
  /** Last `nack` of the client, until it acknowledges that revision or a later one. */
  readonly rejected: RecordedNack | undefined
  /** Number of changes to this state. `Presence` compares it with the version that it persisted last. */
  readonly version: number
}

/** State of a client to which nothing has been sent. */
export const initialDeliveryState = (): DeliveryState => ({
  sent: Revision.make(0),
  lastMessageRevision: Revision.make(0),
  timeline: undefined,
  viewStart: Revision.make(0),
  previousTimelineRevision: undefined,
  acknowledged: undefined,
  rejected: undefined,
  version: 0
})
