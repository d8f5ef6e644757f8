/** Open requests: in all, and of each visitor. */
import { addressBlock } from "#schema/ids.ts"
import { type FrontError, frontErrors } from "./errorPages.ts"
import type { HttpLimits } from "./limits.ts"
import type { VisitorConnection } from "./decideVisit.ts"

export class RequestCounts {
  readonly #limits: Pick<HttpLimits, "maxRequests" | "maxRequestsPerVisitor">
  readonly #byVisitor = new Map<string, number>()
  #total = 0

  constructor(limits: Pick<HttpLimits, "maxRequests" | "maxRequestsPerVisitor">) {
    this.#limits = limits
  }

  /** Counts a request until `remove`. Returns the error to answer if there are too many; such a request counts too. */
  add({ address, isTrusted }: VisitorConnection): FrontError | undefined {
    this.#total += 1
    const block = addressBlock(address)
    const count = (this.#byVisitor.get(block) ?? 0) + 1
    this.#byVisitor.set(block, count)
    if (this.#total > this.#limits.maxRequests) return frontErrors.gatewayBusy
    // A trusted proxy forwards the requests of many visitors.
    return !isTrusted && count > this.#limits.maxRequestsPerVisitor ? frontErrors.visitorBusy : undefined
  }

  remove({ address }: VisitorConnection): void {
    this.#total -= 1
    const block = addressBlock(address)
    const count = (this.#byVisitor.get(block) ?? 0) - 1
    if (count > 0) this.#byVisitor.set(block, count)
    else this.#byVisitor.delete(block)
  }
}
