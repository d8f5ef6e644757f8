/** SYNs that the application has not answered yet, bounded for each address and in all. */
import { type PeerSyn, peerSynOf } from "./connectionParts.ts"
import type { Ends, Segment } from "./segment.ts"

export interface PendingSyn {
  readonly ends: Ends
  readonly key: number
  syn: PeerSyn
  /** The peer has reset the connection, or the local address was removed. */
  isReset: boolean
}

export class PendingSyns {
  readonly #limits: { readonly maxPending: number; readonly maxPendingPerAddress: number }
  readonly #byAddress = new Map<number, Map<number, PendingSyn>>()
  #count = 0

  constructor(limits: { readonly maxPending: number; readonly maxPendingPerAddress: number }) {
    this.#limits = limits
  }

  isFull(address: number): boolean {
    const ofAddress = this.#byAddress.get(address)?.size ?? 0
    return this.#count >= this.#limits.maxPending || ofAddress >= this.#limits.maxPendingPerAddress
  }

  /** Takes the repetition of a SYN. A restarted peer begins with another number. Returns false if the SYN is a new one. */
  renew(segment: Segment, key: number): boolean {
    const pending = this.#byAddress.get(segment.source)?.get(key)
    if (pending !== undefined) pending.syn = peerSynOf(segment)
    return pending !== undefined
  }

  add(segment: Segment, ends: Ends, key: number): PendingSyn {
    const pending: PendingSyn = { ends, key, syn: peerSynOf(segment), isReset: false }
    const ofAddress = this.#byAddress.get(segment.source)
    if (ofAddress === undefined) this.#byAddress.set(segment.source, new Map([[key, pending]]))
    else ofAddress.set(key, pending)
    this.#count += 1
    return pending
  }

  delete(pending: PendingSyn): void {
    const address = pending.ends.remoteAddress
    const ofAddress = this.#byAddress.get(address)
    if (ofAddress?.get(pending.key) !== pending) return
    ofAddress.delete(pending.key)
    this.#count -= 1
    if (ofAddress.size === 0) this.#byAddress.delete(address)
  }

  /** Takes a RST. Only the expected sequence number ends the attempt (RFC 5961 section 3). */
  reset(segment: Segment, key: number): void {
    const pending = this.#byAddress.get(segment.source)?.get(key)
    if (pending === undefined || segment.sequence !== (pending.syn.sequence + 1) >>> 0) return
    pending.isReset = true
    this.delete(pending)
  }

  resetWhere(isAffected: (ends: Ends) => boolean): void {
    for (const ofAddress of this.#byAddress.values()) {
      for (const pending of ofAddress.values()) {
        if (!isAffected(pending.ends)) continue
        pending.isReset = true
        this.delete(pending)
      }
    }
  }
}
