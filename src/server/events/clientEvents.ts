/** Data of client events. */
import type { ControlEvent } from "#schema/events.ts"
import type { Level } from "#schema/protocol.ts"
import type { ClientRef, SessionId } from "#schema/ids.ts"

type DataOf<Name extends ControlEvent["event"]> = Extract<ControlEvent, { readonly event: Name }>["data"]

/** A session with the connection of its client. */
export interface ConnectedSession {
  readonly ref: ClientRef
  readonly session: SessionId
  readonly address: string
  readonly level: Level
}

/** A client and the name of its node. */
export const clientData = ({ id, type }: ClientRef, node: string) => ({ clientType: type, clientId: id, node })

export const onlineData = (client: ConnectedSession, node: string): DataOf<"client.online"> => ({
  ...clientData(client.ref, node),
  session: client.session,
  address: client.address,
  level: client.level
})
