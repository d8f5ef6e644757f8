/** How many are there at once: in all, and from each address. */
import { addressBlock } from "#schema/ids.ts"

export class Quota {
  readonly #most: number
  readonly #mostOfOne: number
  readonly #byAddress = new Map<string, number>()
  #taken = 0

  constructor(most: number, mostOfOne: number) {
    this.#most = most
    this.#mostOfOne = mostOfOne
  }

  /** Takes a place for one who comes from this address, and gives what leaves it, once; undefined when there is none. */
  take(from: string): (() => void) | undefined {
    const address = addressBlock(from)
    const here = this.#byAddress.get(address) ?? 0
    if (this.#taken >= this.#most || here >= this.#mostOfOne) return undefined
    this.#taken += 1
    this.#byAddress.set(address, here + 1)
    let isLeft = false
    return () => {
      if (isLeft) return
      isLeft = true
      this.#leave(address)
    }
  }

  #leave(address: string): void {
    this.#taken -= 1
    const left = (this.#byAddress.get(address) ?? 1) - 1
    if (left === 0) this.#byAddress.delete(address)
    else this.#byAddress.set(address, left)
  }
}
