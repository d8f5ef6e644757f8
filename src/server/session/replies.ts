/** Where the levels differ in what is answered; what they may say is `schema/protocol.ts`, how they are told of changes `network/tell.ts`. Pure. */
import type { Resume } from "#schema/clientMessages.ts"
import type { ControlMessageV1 } from "#schema/controlMessagesV1.ts"
import type { ClientRef } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import type { Action } from "./Action.ts"

interface Answers {
  /** The client is who it says it is; `resume` is where it says it was. */
  admitted(client: ClientRef, resume: Resume | undefined): ReadonlyArray<Action>
  /** A heartbeat came, with its client's clock. */
  heard(timestamp: number): ReadonlyArray<Action>
  /** The certificate of this domain that it sent is stored. */
  stored(domain: string): ReadonlyArray<Action>
  /** The server is going; the client is to come back after this many milliseconds. */
  leaving(reconnectAfterMs: number): ControlMessageV1 | undefined
}

const touched: ReadonlyArray<Action> = [{ _tag: "Touch" }]

const plain: Answers = {
  admitted: (client) => [
    { _tag: "Send", message: { type: "auth_success", data: { ...idOf(client), message: successText } } },
    { _tag: "Follow" }
  ],
  heard: () => touched,
  // The config that follows says it.
  stored: () => [],
  leaving: () => undefined
}

export const levels: Record<Level, Answers> = {
  plain,
  "control.v1": {
    admitted: (_, resume) => [{ _tag: "Welcome", resume }],
    heard: (timestamp) => [...touched, { _tag: "AnswerHeartbeat", timestamp }],
    stored: (domain) => [{ _tag: "Send", message: { type: "certificate_accepted", data: { domain } } }],
    leaving: (reconnectAfterMs) => ({ type: "drain", data: { reconnectAfterMs } })
  }
}

export const successText = "Authentication successful"

export const idOf = (client: ClientRef) => client.type === "agent" ? { agentId: client.id } : { gatewayId: client.id }
