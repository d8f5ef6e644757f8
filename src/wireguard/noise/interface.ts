/** Peers, events and counters of the WireGuard state machine. */
import type { Endpoint } from "#wireguard/Device.ts"

export interface WireGuardPeer {
  /** WireGuard public key, 32 bytes in base64. */
  readonly publicKey: string
  /** IPv4 address inside the network. AllowedIPs of the peer is this address as /32. */
  readonly address: string
  readonly endpoint: Endpoint | undefined
  /** Seconds between keepalives to the peer; 0 sends none. */
  readonly keepaliveSeconds: number
}

/** Facts for the log. `endpointChanged` comes at most once a second for each peer, the others at most once a handshake. */
export type WireGuardEvent =
  | {
    readonly type: "handshakeCompleted"
    readonly publicKey: string
    readonly endpoint: Endpoint | undefined
    /** The keys before had not expired. Peers exchange new ones about every 2 minutes. */
    readonly isRenewal: boolean
  }
  /** An authenticated datagram came from another address. */
  | { readonly type: "endpointChanged"; readonly publicKey: string; readonly endpoint: Endpoint }
  /** Three handshakes in 15 s had no answer. Repeated only after an answer. */
  | { readonly type: "peerSilent"; readonly publicKey: string; readonly endpoint: Endpoint | undefined }

/** Datagrams and packets that were dropped, by reason, since the device began. */
export interface WireGuardCounters {
  /** No WireGuard message, or one of a wrong length. */
  malformed: number
  /** Handshake message whose mac1 is not for this device. */
  wrongMac: number
  /** Handshake message of a public key that is no peer, or that failed authentication. */
  rejectedHandshakes: number
  /** Initiation whose timestamp is not newer than the last one, or that follows it within 20 ms. */
  replayedHandshakes: number
  /** Initiation above the limits per second. */
  limitedHandshakes: number
  cookieRepliesSent: number
  /** Message for an index that no session or handshake of this device has. */
  unknownIndex: number
  /** Data message that failed authentication. */
  forged: number
  /** Data message that was received before or is older than the window. */
  replayed: number
  /** Data message of keys that have expired. */
  expired: number
  /** Packet that is not IPv4, is cut off, or does not come from the address of its peer. */
  wrongSource: number
  /** Packet of this device that waited for a session and was dropped. */
  droppedPackets: number
}

export const noCounts = (): WireGuardCounters => ({
  malformed: 0,
  wrongMac: 0,
  rejectedHandshakes: 0,
  replayedHandshakes: 0,
  limitedHandshakes: 0,
  cookieRepliesSent: 0,
  unknownIndex: 0,
  forged: 0,
  replayed: 0,
  expired: 0,
  wrongSource: 0,
  droppedPackets: 0
})
