/** A quota for slots in use at the same time, in total and for each address block. */
import { addressBlock } from "#schema/ids.ts"

export class Quota {
  readonly #maxTotal: number
  readonly #maxPerAddress: number
  readonly #countByAddress = new Map<string, number>()
  #total = 0

  constructor(maxTotal: number, maxPerAddress: number) {
    this.#maxTotal = maxTotal
    this.#maxPerAddress = maxPerAddress
  }

  /** Acquires one slot for this address and returns its release, which is idempotent; undefined if the quota is used up. */
  tryAcquire(from: string): (() => void) | undefined {
    const address = addressBlock(from)
    const count = this.#countByAddress.get(address) ?? 0
    if (this.#total >= this.#maxTotal || count >= this.#maxPerAddress) return undefined
    this.#total += 1
    this.#countByAddress.set(address, count + 1)
    let isReleased = false
    return () => {
      if (isReleased) return
      isReleased = true
      this.#release(address)
    }
  }

  #release(address: string): void {
    this.#total -= 1
    const remaining = (this.#countByAddress.get(address) ?? 1) - 1
    if (remaining === 0) this.#countByAddress.delete(address)
    else this.#countByAddress.set(address, remaining)
  }
}
