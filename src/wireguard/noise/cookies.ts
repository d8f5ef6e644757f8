/** MACs of handshake messages, and cookies that prove an address (whitepaper, section 5.4). */
import type { Endpoint } from "#wireguard/Device.ts"
import { openWithLongNonce, sealWithLongNonce } from "./aead.ts"
import { Blake2sMac } from "./blake2s.ts"
import {
  cookieLatencyMillis,
  cookieMillis,
  cookieReplyBytes,
  longNonceBytes,
  macBytes,
  messageType
} from "./constants.ts"
import type { PublicIdentity } from "./handshake.ts"

const nonceAt = 8
const cookieAt = 32
const zeroMac = Buffer.alloc(macBytes)

/** True if the message ends in mac1 for the owner of `identity`, and any mac2. */
export const hasValidMac1 = (identity: PublicIdentity, message: Buffer): boolean => {
  const end = message.length - 2 * macBytes
  return isMacAt(message, end, identity.mac1.digest(message, end))
}

/** Writes MACs to handshake messages for one peer, with the cookie that the peer has sent. */
export class MacWriter {
  readonly #remote: PublicIdentity
  #cookie: { readonly mac: Blake2sMac; readonly receivedAt: number } | undefined
  #lastMac1: Buffer | undefined

  constructor(remote: PublicIdentity) {
    this.#remote = remote
  }

  write(now: number, message: Buffer): void {
    const mac1At = message.length - 2 * macBytes
    const mac2At = message.length - macBytes
    const mac1 = this.#remote.mac1.digest(message, mac1At)
    message.set(mac1, mac1At)
    this.#lastMac1 = mac1
    const cookie = this.#cookie
    const isFresh = cookie !== undefined && now - cookie.receivedAt < cookieMillis - cookieLatencyMillis
    message.set(isFresh ? cookie.mac.digest(message, mac2At) : zeroMac, mac2At)
  }

  /** Reads a cookie reply to the last message. Returns false if it is forged or not expected. */
  readCookieReply(now: number, message: Buffer): boolean {
    if (this.#lastMac1 === undefined) return false
    const nonce = message.subarray(nonceAt, cookieAt)
    const cookie = openWithLongNonce(this.#remote.cookieKey, nonce, message.subarray(cookieAt), this.#lastMac1)
    if (cookie === undefined) return false
    this.#cookie = { mac: new Blake2sMac(cookie), receivedAt: now }
    // One reply for each message, so that a replayed one costs nothing more.
    this.#lastMac1 = undefined
    return true
  }
}

/** Issues cookies and checks mac2, which proves that the sender receives datagrams at its address. */
export class CookieIssuer {
  readonly #local: PublicIdentity
  readonly #random: (bytes: number) => Buffer
  #secret: { readonly mac: Blake2sMac; readonly createdAt: number } | undefined

  constructor(local: PublicIdentity, random: (bytes: number) => Buffer) {
    this.#local = local
    this.#random = random
  }

  hasValidMac2(now: number, message: Buffer, from: Endpoint): boolean {
    if (this.#secret === undefined || now - this.#secret.createdAt >= cookieMillis) return false
    const end = message.length - macBytes
    return isMacAt(message, end, new Blake2sMac(this.#cookieFor(now, from)).digest(message, end))
  }

  /** Cookie reply to a handshake message. */
  reply(now: number, message: Buffer, from: Endpoint): Buffer {
    const reply = Buffer.alloc(cookieReplyBytes)
    const nonce = this.#random(longNonceBytes)
    const mac1At = message.length - 2 * macBytes
    const cookie = this.#cookieFor(now, from)
    reply.writeUInt32LE(messageType.cookieReply, 0)
    message.copy(reply, 4, 4, 8)
    reply.set(nonce, nonceAt)
    const mac1 = message.subarray(mac1At, mac1At + macBytes)
    reply.set(sealWithLongNonce(this.#local.cookieKey, nonce, cookie, mac1), cookieAt)
    return reply
  }

  #cookieFor(now: number, from: Endpoint): Buffer {
    if (this.#secret === undefined || now - this.#secret.createdAt >= cookieMillis) {
      this.#secret = { mac: new Blake2sMac(this.#random(32)), createdAt: now }
    }
    const address = Buffer.from(`${from.host} ${from.port}`)
    return this.#secret.mac.digest(address, address.length)
  }
}

function isMacAt(message: Buffer, at: number, mac: Buffer): boolean {
  let difference = 0
  for (let i = 0; i < macBytes; i += 1) difference |= mac[i]! ^ message[at + i]!
  return difference === 0
}
