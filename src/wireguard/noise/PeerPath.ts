/** Network path to a peer: its endpoint, configured or learned, and the bytes sent and received. */
import type { Endpoint } from "#wireguard/Device.ts"
import type { WireGuardEvent } from "./interface.ts"

const eventIntervalMillis = 1_000

export interface PathHost {
  readonly sendDatagram: (datagram: Buffer, to: Endpoint) => void
  readonly onEvent: (event: WireGuardEvent) => void
}

export class PeerPath {
  /** Address to which messages are sent. */
  endpoint: Endpoint | undefined
  receivedBytes = 0
  sentBytes = 0
  readonly #host: PathHost
  readonly #publicKey: string
  #configured: Endpoint | undefined
  #eventAt = -Infinity

  constructor(host: PathHost, publicKey: string) {
    this.#host = host
    this.#publicKey = publicKey
  }

  /** Uses the configured endpoint if it has changed; otherwise a learned one stays. True if it has changed. */
  configure(endpoint: Endpoint | undefined): boolean {
    const isChanged = endpoint !== undefined && !isSameEndpoint(endpoint, this.#configured)
    this.#configured = endpoint
    if (isChanged) this.endpoint = endpoint
    return isChanged
  }

  /** Sends to the endpoint, or to another address that has sent an initiation. False without an address. */
  send(datagram: Buffer, to: Endpoint | undefined = this.endpoint): boolean {
    if (to === undefined) return false
    this.sentBytes += datagram.length
    this.#host.sendDatagram(datagram, to)
    return true
  }

  /** An authenticated message came from the peer's present address. */
  learn(now: number, from: Endpoint): void {
    if (isSameEndpoint(from, this.endpoint)) return
    this.endpoint = { host: from.host, port: from.port }
    if (now - this.#eventAt < eventIntervalMillis) return
    this.#eventAt = now
    this.#host.onEvent({ type: "endpointChanged", publicKey: this.#publicKey, endpoint: this.endpoint })
  }
}

const isSameEndpoint = (one: Endpoint, other: Endpoint | undefined): boolean =>
  other !== undefined && one.port === other.port && one.host === other.host
