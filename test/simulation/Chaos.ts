/** What is broken at the moment, so that all of it can be mended in the end. */
import type { Conversation } from "./Conversation.ts"
import type { Simulation } from "./Simulation.ts"

export class Chaos {
  readonly #simulation: Simulation
  readonly #broken = new Set<Conversation>()

  constructor(simulation: Simulation) {
    this.#simulation = simulation
  }

  /** Nothing gets through on this connection any more. */
  blackhole(conversation: Conversation): void {
    if (conversation.wire === undefined) return
    conversation.wire.isBlackhole = true
    this.#broken.add(conversation)
    this.#simulation.wasSlow.add(conversation)
    this.#simulation.world.count("half-open connection")
  }

  /** The client reads so many bytes a millisecond; for ever, unless it is mended. */
  slow(conversation: Conversation, rate: number): void {
    if (conversation.wire === undefined) return
    conversation.wire.setRate(rate)
    this.#broken.add(conversation)
    this.#simulation.wasSlow.add(conversation)
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
