/** Random 32-bit indexes under which peers send messages for a handshake or a session. */
import type { Session } from "./Session.ts"

/** A handshake has no session yet. */
export interface IndexEntry<Peer> {
  readonly peer: Peer
  session: Session | undefined
}

export class IndexTable<Peer> {
  readonly #entries = new Map<number, IndexEntry<Peer>>()
  readonly #random: (bytes: number) => Buffer

  constructor(random: (bytes: number) => Buffer) {
    this.#random = random
  }

  get size(): number {
    return this.#entries.size
  }

  get(index: number): IndexEntry<Peer> | undefined {
    return this.#entries.get(index)
  }

  /** A free index for a new handshake of the peer. */
  add(peer: Peer): number {
    for (;;) {
      const index = this.#random(4).readUInt32LE(0)
      if (this.#entries.has(index)) continue
      this.#entries.set(index, { peer, session: undefined })
      return index
    }
  }

  /** Replaces a handshake by its session. */
  setSession(session: Session): void {
    const entry = this.#entries.get(session.localIndex)
    if (entry !== undefined) entry.session = session
  }

  remove(index: number): void {
    this.#entries.delete(index)
  }
}
