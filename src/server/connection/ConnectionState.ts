/** State of one connection. Only the fiber of that connection writes it. */
import type { Client, LastSeen } from "#clients/ClientRegistry.ts"
import type { Session } from "#session/Session.ts"
import type { Fiber } from "effect"
import type { Socket } from "./Socket.ts"
import type { Upgrade } from "./upgrade.ts"

export interface Connection {
  readonly socket: Socket
  readonly upgrade: Upgrade
  session: Session
  /** Arrival of the last frame, in `monotonicMillis`. */
  at: number
  /** Set when the client has authenticated. */
  member: Member | undefined
}

/** Resources of an authenticated connection besides its socket. */
export interface Member {
  readonly client: Client
  /** The cell behind `client.lastSeen`, writable for this connection only. */
  readonly lastSeen: { -readonly [Field in keyof LastSeen]: LastSeen[Field] }
  /** Fiber that keeps the client's view up to date, from the first `config` on. */
  forwarding: Fiber.Fiber<void> | undefined
}
