/** What is broken at the moment, so that all of it can be mended in the end. */
import type { ConversationState } from "./ClientConnectionState.ts"
import type { SimulationContext } from "./SimulationContext.ts"

export class Chaos {
  readonly #simulation: SimulationContext
  readonly #broken = new Set<ConversationState>()

  constructor(simulation: SimulationContext) {
    this.#simulation = simulation
  }

  /** Nothing gets through on this connection any more. */
  blackhole(conversation: ConversationState): void {
    if (conversation.wire === undefined) return
    conversation.wire.isBlackhole = true
    this.#broken.add(conversation)
    conversation.wasSlow = true
    this.#simulation.world.count("half-open connection")
  }

  /** The client reads so many bytes a millisecond; for ever, unless it is mended. */
  slow(conversation: ConversationState, rate: number): void {
    if (conversation.wire === undefined) return
    conversation.wire.setRate(rate)
    this.#broken.add(conversation)
    conversation.wasSlow = true
    this.#simulation.world.count("slow reader")
  }

  /** Notes that requests to the database may fail from now on. */
  trouble(): void {
    this.#simulation.troubleAt = Number.POSITIVE_INFINITY
  }

  /** The database is well again. */
  calm(): void {
    this.#simulation.troubleAt = this.#simulation.world.now
  }

  end(): void {
    for (const { wire } of this.#broken) {
      if (wire === undefined) continue
      // What is half open stays so, until one of the ends finds out.
      if (!wire.isBlackhole) wire.setRate(Number.POSITIVE_INFINITY)
    }
    this.calm()
  }
}
