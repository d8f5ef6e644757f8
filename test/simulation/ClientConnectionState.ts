/** State of one connection of a simulated client, as the safety checks read it. */
import type { ClientType } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import type { Credential } from "./Credential.ts"
import type { Position, ViewReplica } from "./ViewReplica.ts"
import type { Node } from "./Node.ts"
import type { SimulationContext } from "./SimulationContext.ts"
import type { SimulatedSocket } from "./SimulatedSocket.ts"

/** State of a simulated client, as its connections use it. */
export interface ClientState {
  readonly simulation: SimulationContext
  readonly ordinal: number
  readonly name: string
  readonly level: Level
  readonly key: Credential
  /** Client type in the URL. */
  readonly urlType: ClientType | undefined
  /** A gateway's public address, sent in `auth`. */
  readonly publicIp: string | undefined
  /** Public key of a WireGuard key pair that the client generated itself. */
  readonly ownKey: string | undefined
  readonly withholdsAuth: boolean
  readonly connection: ClientConnectionState | undefined
  /** View and position of the last connection. */
  replica: ViewReplica
  /** Index of the newest database state that the client has seen; never decreases. */
  historyIndex: number
}

export class ClientConnectionState {
  readonly client: ClientState
  /** Simulated milliseconds. */
  readonly openedAt: number
  socket: SimulatedSocket | undefined
  node: Node | undefined
  /** When the first `auth` was sent. */
  authAt: number | undefined
  /** Hash of the API key in the first `auth`. */
  authHash = ""
  /** The position sent in `auth`, if it is a valid one. */
  resumedFrom: Position | undefined
  /** Index of the newest database state when `auth` was sent. */
  authIndex = 0
  /** Index of the database state that the node had read when `auth` was sent. */
  nodeIndex = 0
  isReady = false
  isClosed = false
  readyAt = 0
  /** A config has arrived on this connection, or the client has resumed. */
  hasView = false
  /** Number of configs and deltas received. */
  updates = 0
  /** Number of protocol violations that the client has sent. */
  protocolErrors = 0
  /** Expected error responses by code. */
  readonly expectedErrors = new Map<string, number>()
  /** The WireGuard public key sent in `auth`. */
  announcedKey: string | undefined
  /** Received errors by code. */
  readonly errors = new Map<string, number>()
  /** Number of messages sent. */
  messagesSent = 0
  lastReceivedAt: number
  /** The newest revision acknowledged on this connection. */
  acknowledged: number | undefined
  drainMillis: number | undefined
  /** Index of the database state when the client sent a certificate, by domain. */
  readonly certificatesSent = new Map<string, number>()
  /** Whether the client has ever read more slowly than the network delivers. */
  wasThrottled = false

  constructor(client: ClientState) {
    this.client = client
    this.openedAt = client.simulation.world.now
    this.lastReceivedAt = this.openedAt
  }
}
