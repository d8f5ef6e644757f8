/** Client messages that Control accepts: their senders and their session state, at each protocol level. */
import type { ClientType } from "./ids.ts"

/** States of a session, in the order in which it passes through them; protocol.md shows them as a table. */
export const sessionStates = {
  /** The WebSocket is open, and its client is not known yet. */
  connected: { begins: "the upgrade", reads: "`auth`; anything else is answered with `error`" },
  /** Control looks up the API key of `auth`. */
  authenticating: { begins: "`auth`", reads: "nothing; frames that arrive now are read in order afterwards" },
  /** The client is known and receives its view. */
  ready: { begins: "`auth_success`", reads: "every message of this type of client" },
  /** The session has ended; frames and events have no effect. */
  closed: { begins: "any close", reads: "nothing" }
} as const satisfies Record<string, { readonly begins: string; readonly reads: string }>

export type SessionState = keyof typeof sessionStates

/** Senders of one type of message, and the session state in which Control accepts it. */
interface Rule {
  readonly senders: ReadonlyArray<ClientType>
  readonly state: SessionState
}

const everyClient = ["agent", "gateway"] as const

const plain = {
  auth: { senders: everyClient, state: "connected" },
  heartbeat: { senders: everyClient, state: "ready" },
  status: { senders: ["agent"], state: "ready" },
  certificate_obtained: { senders: ["gateway"], state: "ready" }
} as const satisfies Record<string, Rule>

/** Rules by protocol level and type of message. The decoders, the session and the tables of protocol.md read them here. */
export const allowedMessages = {
  plain,
  "control.v1": {
    ...plain,
    status: { senders: everyClient, state: "ready" },
    ack: { senders: everyClient, state: "ready" },
    nack: { senders: everyClient, state: "ready" },
    resync: { senders: everyClient, state: "ready" }
  }
} as const satisfies Record<string, Record<string, Rule>>

type Rules = typeof allowedMessages["control.v1"]

/** Types of client messages of all protocol levels. */
export type ClientMessageType = keyof Rules

/** Types of messages that are accepted in this state. */
type AcceptedIn<State extends SessionState> = {
  [Type in ClientMessageType]: Rules[Type]["state"] extends State ? Type : never
}[ClientMessageType]

/** Whether Control accepts this message in this session state. */
export const isAcceptedIn = <Message extends { readonly type: ClientMessageType }, State extends SessionState>(
  state: State,
  message: Message
): message is Extract<Message, { readonly type: AcceptedIn<State> }> =>
  allowedMessages["control.v1"][message.type].state === state
