/** A quota for slots in use at the same time: in total, and for each holder, so that one holder cannot take all of them. */
import { addressBlock } from "#schema/ids.ts"

export interface QuotaLimits {
  readonly total: number
  /** Slots of one holder: an IPv4 address, the /64 of an IPv6 address, or the id of a token. */
  readonly perHolder: number
  /** Slots of the total that only holders with `mayUseReserve` get. */
  readonly reserved?: number
}

export interface Privileges {
  readonly mayUseReserve?: boolean
  /** The holder stands for many others, as a trusted proxy does, so that only the total limits its slots. */
  readonly isShared?: boolean
}

export class Quota {
  readonly limits: Required<QuotaLimits>
  readonly #countByHolder = new Map<string, number>()
  #total = 0

  constructor({ perHolder, reserved = 0, total }: QuotaLimits) {
    this.limits = { total, perHolder, reserved }
  }

  /** Acquires one slot for this holder and returns its release, which is idempotent; undefined if the quota is used up. */
  tryAcquire(from: string, { isShared = false, mayUseReserve = false }: Privileges = {}): (() => void) | undefined {
    const holder = addressBlock(from)
    const { reserved, total } = this.limits
    if (this.#total >= (mayUseReserve ? total : total - reserved)) return undefined
    if (!isShared && this.isHolderAtLimit(from)) return undefined
    this.#total += 1
    this.#countByHolder.set(holder, (this.#countByHolder.get(holder) ?? 0) + 1)
    let isReleased = false
    return () => {
      if (isReleased) return
      isReleased = true
      this.#release(holder)
    }
  }

  /** Whether the holder has its own maximum of slots, whatever the others have. */
  isHolderAtLimit(from: string): boolean {
    return (this.#countByHolder.get(addressBlock(from)) ?? 0) >= this.limits.perHolder
  }

  #release(holder: string): void {
    this.#total -= 1
    const remaining = (this.#countByHolder.get(holder) ?? 1) - 1
    if (remaining === 0) this.#countByHolder.delete(holder)
    else this.#countByHolder.set(holder, remaining)
  }
}
