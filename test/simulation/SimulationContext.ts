/** Shared state of one simulation, as its clients, operators and checks use it. */
import type { ClientRef } from "#schema/ids.ts"
import type { Credential } from "./Credential.ts"
import type { Database } from "./SimulatedDatabase.ts"
import type { Node } from "./Node.ts"
import type { World } from "./World.ts"

export interface SimulationContext {
  readonly world: World
  readonly database: Database
  readonly nodes: ReadonlyArray<Node>
  /** The first node that accepts connections. */
  readonly node: Node | undefined
  readonly clients: ReadonlyArray<{ key: Credential }>
  /** Every key that was ever issued, valid or not. */
  readonly keys: ReadonlyArray<Credential>
  /** Every first `auth` of a connection: the client's name and the simulated time in milliseconds. */
  readonly authAttempts: Array<{ readonly name: string; readonly at: number }>
  /** When the database, or the connection to it, last failed; infinite while a fault lasts. */
  databaseFaultAt: number
  /** A random node that accepts connections. */
  chooseNode(): Node | undefined
  addKey(ref: ClientRef, text: string): Credential
  hashOf(apiKey: string): string
}
