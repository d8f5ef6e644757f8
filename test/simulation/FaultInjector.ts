/** What is broken at the moment, so that all of it can be mended in the end. */
import type { ClientConnectionState } from "./ClientConnectionState.ts"
import type { SimulationContext } from "./SimulationContext.ts"

export class FaultInjector {
  readonly #simulation: SimulationContext
  readonly #broken = new Set<ClientConnectionState>()

  constructor(simulation: SimulationContext) {
    this.#simulation = simulation
  }

  /** Nothing gets through on this connection any more. */
  blackhole(connection: ClientConnectionState): void {
    if (connection.socket === undefined) return
    connection.socket.isBlackhole = true
    this.#broken.add(connection)
    connection.wasThrottled = true
    this.#simulation.world.count("half-open connection")
  }

  /** The client reads so many bytes a millisecond; for ever, unless it is mended. */
  throttle(connection: ClientConnectionState, rate: number): void {
    if (connection.socket === undefined) return
    connection.socket.setRate(rate)
    this.#broken.add(connection)
    connection.wasThrottled = true
    this.#simulation.world.count("slow reader")
  }

  /** Notes that requests to the database may fail from now on. */
  databaseFaultBegins(): void {
    this.#simulation.databaseFaultAt = Number.POSITIVE_INFINITY
  }

  /** The database is well again. */
  databaseFaultEnds(): void {
    this.#simulation.databaseFaultAt = this.#simulation.world.now
  }

  healAll(): void {
    for (const { socket: socket } of this.#broken) {
      if (socket === undefined) continue
      // What is half open stays so, until one of the ends finds out.
      if (!socket.isBlackhole) socket.setRate(Number.POSITIVE_INFINITY)
    }
    this.databaseFaultEnds()
  }
}
