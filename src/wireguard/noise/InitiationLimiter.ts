/** Limits the initiations that are answered, per second, per source and in all. */
import { isIPv6 } from "node:net"

export interface InitiationLimits {
  /** Initiations per second that are answered without a cookie. Above this rate, the sender has to prove its address. */
  readonly perSecond: number
  /** Initiations that are answered at once without a cookie, for example when all agents come back. */
  readonly burst: number
  /** Initiations per second with a valid cookie, in all. */
  readonly provenPerSecond: number
  /** Initiations per second with a valid cookie from one IPv4 address or one IPv6 /64. */
  readonly perSource: number
}

export const defaultInitiationLimits: InitiationLimits = {
  perSecond: 200,
  burst: 1_000,
  provenPerSecond: 400,
  perSource: 20
}

/** Cookie replies per second. Each costs 15 µs, and goes to an address that may be forged. */
const cookiesPerSecond = 1_000

/** Sources whose rate is known. Each has proven its address. */
const maxSources = 4096

class Bucket {
  readonly #perSecond: number
  readonly #capacity: number
  #tokens: number
  #at: number

  /** Begins full. */
  constructor(now: number, perSecond: number, capacity = perSecond) {
    this.#perSecond = perSecond
    this.#capacity = capacity
    this.#tokens = capacity
    this.#at = now
  }

  take(now: number): boolean {
    this.#tokens = Math.min(this.#capacity, this.#tokens + (now - this.#at) / 1000 * this.#perSecond)
    this.#at = now
    if (this.#tokens < 1) return false
    this.#tokens -= 1
    return true
  }
}

/** An answered initiation costs 0.5 ms of CPU, so that the default limits allow floods 10 % of a core, or 20 % with cookies. */
export class InitiationLimiter {
  readonly #limits: InitiationLimits
  readonly #sources = new Map<string, Bucket>()
  #all: Bucket | undefined
  #proven: Bucket | undefined
  #cookies: Bucket | undefined

  constructor(limits: InitiationLimits) {
    this.#limits = limits
  }

  /** What to do with an initiation whose mac1 is valid. `hasProof` checks mac2 and runs only under load. */
  decide(now: number, host: string, hasProof: () => boolean): "answer" | "send cookie" | "drop" {
    this.#all ??= new Bucket(now, this.#limits.perSecond, this.#limits.burst)
    if (this.#all.take(now)) return "answer"
    if (!hasProof()) {
      this.#cookies ??= new Bucket(now, cookiesPerSecond)
      return this.#cookies.take(now) ? "send cookie" : "drop"
    }
    this.#proven ??= new Bucket(now, this.#limits.provenPerSecond)
    return this.#sourceOf(now, sourceName(host)).take(now) && this.#proven.take(now) ? "answer" : "drop"
  }

  /** The source that was used least recently makes room for a new one. */
  #sourceOf(now: number, name: string): Bucket {
    const known = this.#sources.get(name)
    if (known !== undefined) this.#sources.delete(name)
    else if (this.#sources.size >= maxSources) this.#sources.delete(this.#sources.keys().next().value!)
    const bucket = known ?? new Bucket(now, this.#limits.perSource)
    this.#sources.set(name, bucket)
    return bucket
  }
}

/** A host can use every address of its IPv6 /64. */
function sourceName(host: string): string {
  if (!isIPv6(host)) return host
  const [head = "", rest = ""] = host.split("::", 2)
  const groups = head.split(":").filter((group) => group !== "")
  const after = rest.split(":").filter((group) => group !== "")
  while (groups.length + after.length < 8) groups.push("0")
  return [...groups, ...after].slice(0, 4).join(":")
}
