/** Packets of one peer that wait for a session, with bounds for each peer and all. */

const maxPacketsOfPeer = 128
const maxPacketsOfAll = 4096

/** Packets in all queues of one device, and the count of dropped ones. */
export interface QueueBudget {
  waitingPackets: number
  readonly counters: { droppedPackets: number }
}

export class PacketQueue {
  #packets: Array<Buffer> = []
  readonly #budget: QueueBudget

  constructor(budget: QueueBudget) {
    this.#budget = budget
  }

  get isEmpty(): boolean {
    return this.#packets.length === 0
  }

  /** Stores a copy, because the caller may use its buffer again. */
  add(packet: Uint8Array): void {
    const budget = this.#budget
    if (this.#packets.length >= maxPacketsOfPeer || budget.waitingPackets >= maxPacketsOfAll) {
      budget.counters.droppedPackets += 1
      if (this.#packets.shift() === undefined) return
      budget.waitingPackets -= 1
    }
    this.#packets.push(Buffer.from(packet))
    budget.waitingPackets += 1
  }

  /** Empties the queue. */
  takeAll(): ReadonlyArray<Buffer> {
    const packets = this.#packets
    this.#packets = []
    this.#budget.waitingPackets -= packets.length
    return packets
  }

  dropAll(): void {
    this.#budget.counters.droppedPackets += this.takeAll().length
  }
}
