/** State of one simulation, as its commands and liveness checks use it. */
import type { FaultInjector } from "./FaultInjector.ts"
import type { Client } from "./Client.ts"
import type { Credential } from "./Credential.ts"
import type { Operator } from "./Operator.ts"
import type { Random } from "./Random.ts"
import type { SimulationContext } from "./SimulationContext.ts"

export interface SimulationState extends SimulationContext {
  readonly clients: ReadonlyArray<Client>
  readonly operator: Operator
  readonly faultInjector: FaultInjector
  addClient(key: Credential): Client
  /** Whether a key with this hash is in the database. */
  isValidKey(hash: string | undefined): boolean
  /** Whether the client's key is valid for the client type in its URL. */
  mayConnect(client: Client): boolean
}

/** One event of a simulation. Draws everything it chooses from `random`. */
export type Command = (simulation: SimulationState, random: Random) => void
