/** Keys of one completed handshake: seals and opens data messages, counts them, and rejects replays. */
import { open, seal } from "./aead.ts"
import {
  dataHeaderBytes,
  keepaliveTimeoutMillis,
  messageType,
  minDataBytes,
  paddingBytes,
  rejectAfterMessages,
  rejectAfterMillis,
  rekeyAfterMessages,
  rekeyAfterMillis,
  rekeyTimeoutMillis,
  tagBytes
} from "./constants.ts"
import type { TransportKeys } from "./handshake.ts"
import { ReplayWindow } from "./ReplayWindow.ts"

const word = 2 ** 32
const renewLateAfterMillis = rejectAfterMillis - keepaliveTimeoutMillis - rekeyTimeoutMillis

export class Session {
  readonly localIndex: number
  readonly remoteIndex: number
  readonly isInitiator: boolean
  readonly createdAt: number
  /** Data messages sealed so far, which is the counter of the next one. */
  sentMessages = 0
  readonly #keys: TransportKeys
  readonly #window = new ReplayWindow()
  #isLateRenewalTaken = false

  constructor(
    now: number,
    keys: TransportKeys,
    ends: { readonly localIndex: number; readonly remoteIndex: number; readonly isInitiator: boolean }
  ) {
    this.#keys = keys
    this.localIndex = ends.localIndex
    this.remoteIndex = ends.remoteIndex
    this.isInitiator = ends.isInitiator
    this.createdAt = now
  }

  isExpired(now: number): boolean {
    return now - this.createdAt >= rejectAfterMillis
  }

  canSend(now: number): boolean {
    return !this.isExpired(now) && this.sentMessages < rejectAfterMessages
  }

  /** New keys are due after sending: by age for the initiator, so that not both ends begin, and by count for both. */
  isRenewalDue(now: number): boolean {
    return (this.isInitiator && now - this.createdAt >= rekeyAfterMillis) || this.sentMessages >= rekeyAfterMessages
  }

  /** New keys are due after receiving, because these expire before a keepalive would have renewed them. True once. */
  takeLateRenewal(now: number): boolean {
    if (!this.isInitiator || this.#isLateRenewalTaken || now - this.createdAt < renewLateAfterMillis) return false
    this.#isLateRenewalTaken = true
    return true
  }

  /** Data message with `packet`, or a keepalive if the packet is empty. */
  seal(packet: Uint8Array): Buffer {
    const length = packet.length
    const padded = Math.ceil(length / paddingBytes) * paddingBytes
    const datagram = Buffer.allocUnsafe(dataHeaderBytes + padded + tagBytes)
    const low = this.sentMessages >>> 0
    const high = Math.floor(this.sentMessages / word)
    this.sentMessages += 1
    datagram.writeUInt32LE(messageType.data, 0)
    datagram.writeUInt32LE(this.remoteIndex, 4)
    datagram.writeUInt32LE(low, 8)
    datagram.writeUInt32LE(high, 12)
    seal(this.#keys.send, low, high, packet, length, padded, datagram, dataHeaderBytes)
    return datagram
  }

  /**
   * Opens a data message in place, so that the packet begins at byte 16. Returns `newest` if its counter is the highest so far, or
   * the reason why the message is not accepted.
   */
  open(now: number, datagram: Buffer): "newest" | "late" | "replayed" | "expired" | "forged" {
    if (datagram.length < minDataBytes) return "forged"
    const low = datagram.readUInt32LE(8)
    const high = datagram.readUInt32LE(12)
    const counter = high * word + low
    if (counter >= rejectAfterMessages || this.isExpired(now)) return "expired"
    if (!this.#window.isNew(counter)) return "replayed"
    if (!open(this.#keys.receive, low, high, datagram, dataHeaderBytes, datagram.length)) return "forged"
    return this.#window.accept(counter) ? "newest" : "late"
  }

  /** Erases the keys. The session must not be used afterwards. */
  erase(): void {
    this.#keys.send.fill(0)
    this.#keys.receive.fill(0)
  }
}
