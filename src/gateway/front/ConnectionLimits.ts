/** Counts of open connections: in all, for each visitor address and for each tunnel. */
import { addressBlock } from "#schema/ids.ts"

export interface ConnectionLimitSettings {
  /** Open connections of all visitors to all ports. */
  readonly maxConnections: number
  /** Open connections of one visitor: an IPv4 address, or the /64 of an IPv6 address. */
  readonly maxConnectionsPerVisitor: number
  /** Open connections of one tls or tcp tunnel. */
  readonly maxConnectionsPerTunnel: number
}

/** Connections that were rejected because of a limit, since the start. */
export interface RefusedConnections {
  total: number
  visitor: number
  tunnel: number
}

export class ConnectionLimits {
  readonly refused: RefusedConnections = { total: 0, visitor: 0, tunnel: 0 }
  readonly #settings: ConnectionLimitSettings
  readonly #byVisitor = new Map<string, number>()
  readonly #byTunnel = new Map<string, number>()
  #total = 0

  constructor(settings: ConnectionLimitSettings) {
    this.#settings = settings
  }

  get open(): number {
    return this.#total
  }

  /** Counts a connection. Returns false, and counts a refusal, if there are too many. */
  tryAdd(): boolean {
    if (this.#total >= this.#settings.maxConnections) {
      this.refused.total += 1
      return false
    }
    this.#total += 1
    return true
  }

  remove(): void {
    this.#total -= 1
  }

  /** Counts a connection of this address. Returns the holder for `removeVisitor`; undefined if the address has too many. */
  tryAddVisitor(address: string): string | undefined {
    const holder = addressBlock(address)
    if (increment(this.#byVisitor, holder, this.#settings.maxConnectionsPerVisitor)) return holder
    this.refused.visitor += 1
    return undefined
  }

  removeVisitor(holder: string): void {
    decrement(this.#byVisitor, holder)
  }

  tryAddToTunnel(tunnelId: string): boolean {
    if (increment(this.#byTunnel, tunnelId, this.#settings.maxConnectionsPerTunnel)) return true
    this.refused.tunnel += 1
    return false
  }

  removeFromTunnel(tunnelId: string): void {
    decrement(this.#byTunnel, tunnelId)
  }
}

function increment(counts: Map<string, number>, key: string, maximum: number): boolean {
  const count = counts.get(key) ?? 0
  if (count >= maximum) return false
  counts.set(key, count + 1)
  return true
}

function decrement(counts: Map<string, number>, key: string): void {
  const count = (counts.get(key) ?? 0) - 1
  if (count > 0) counts.set(key, count)
  else counts.delete(key)
}
