/** Facts about peers in the form of the `status` message of `control.v1`. Pure. */
import { timeText } from "#processes/clock.ts"
import type { PeerStats } from "#wireguard/Device.ts"

/** Clients of the network by which peers are named. */
interface Client {
  readonly id: string
  readonly wireguardPublicKey: string
}

export interface PeerReport {
  readonly id: string
  /** RFC 3339; null before the first handshake. */
  readonly lastHandshakeAt: string | null
  readonly receivedBytes: number
  readonly sentBytes: number
  readonly endpoint: string | null
}

/** Peers that are no longer in the view are omitted. */
export const peerReports = (clients: Iterable<Client>, stats: ReadonlyArray<PeerStats>): ReadonlyArray<PeerReport> => {
  const byKey = new Map(stats.map((peer) => [peer.publicKey, peer]))
  return Array.from(clients).flatMap(({ id, wireguardPublicKey }) => {
    const peer = byKey.get(wireguardPublicKey)
    if (peer === undefined) return []
    const { endpoint, lastHandshakeAt, receivedBytes, sentBytes } = peer
    return [{
      id,
      lastHandshakeAt: lastHandshakeAt === undefined ? null : timeText(lastHandshakeAt),
      receivedBytes,
      sentBytes,
      endpoint: endpoint === undefined
        ? null
        : endpoint.host.includes(":")
        ? `[${endpoint.host}]:${endpoint.port}`
        : `${endpoint.host}:${endpoint.port}`
    }]
  })
}
