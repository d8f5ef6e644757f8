/** Injects faults into connections, and heals them at the end of a simulation. */
import type { ClientConnectionState } from "./ClientConnectionState.ts"
import type { SimulationContext } from "./SimulationContext.ts"

export class FaultInjector {
  readonly #simulation: SimulationContext
  readonly #broken = new Set<ClientConnectionState>()

  constructor(simulation: SimulationContext) {
    this.#simulation = simulation
  }

  /** Neither end receives anything on this connection any more. */
  blackhole(connection: ClientConnectionState): void {
    if (connection.socket === undefined) return
    connection.socket.isBlackhole = true
    this.#broken.add(connection)
    connection.wasThrottled = true
    this.#simulation.world.count("half-open connection")
  }

  /** Limits how fast the client reads, in bytes per millisecond. */
  throttle(connection: ClientConnectionState, rate: number): void {
    if (connection.socket === undefined) return
    connection.socket.setRate(rate)
    this.#broken.add(connection)
    connection.wasThrottled = true
    this.#simulation.world.count("slow reader")
  }

  /** Requests to the database may fail from now on. */
  databaseFaultBegins(): void {
    this.#simulation.databaseFaultAt = Number.POSITIVE_INFINITY
  }

  /** Requests to the database no longer fail. */
  databaseFaultEnds(): void {
    this.#simulation.databaseFaultAt = this.#simulation.world.now
  }

  healAll(): void {
    for (const { socket } of this.#broken) {
      if (socket === undefined) continue
      // A half-open connection stays until one end detects it.
      if (!socket.isBlackhole) socket.setRate(Number.POSITIVE_INFINITY)
    }
    this.databaseFaultEnds()
  }
}
