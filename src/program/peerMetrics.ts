/** Metrics of WireGuard peers, for agents and gateways. */
import type { Metric } from "./metricsServer.ts"
import type { PeerStats } from "#wireguard/Device.ts"

/** `prefix` is the program's, for example `control_agent`. */
export const peerMetrics = (prefix: string, peers: ReadonlyArray<PeerStats>): ReadonlyArray<Metric> => {
  const ofPeers = (value: (peer: PeerStats) => number | undefined) =>
    peers.flatMap((peer) => {
      const number = value(peer)
      return number === undefined ? [] : [{ labels: { peer: peer.publicKey }, value: number }]
    })
  return [
    {
      name: `${prefix}_peer_last_handshake_timestamp_seconds`,
      type: "gauge",
      help: "Time of the last completed WireGuard handshake with the peer.",
      values: ofPeers(({ lastHandshakeAt }) => lastHandshakeAt === undefined ? undefined : lastHandshakeAt / 1_000)
    },
    {
      name: `${prefix}_peer_received_bytes_total`,
      type: "counter",
      help: "Bytes of WireGuard datagrams from the peer.",
      values: ofPeers(({ receivedBytes }) => receivedBytes)
    },
    {
      name: `${prefix}_peer_sent_bytes_total`,
      type: "counter",
      help: "Bytes of WireGuard datagrams to the peer.",
      values: ofPeers(({ sentBytes }) => sentBytes)
    }
  ]
}
