/** The handshake Noise_IKpsk2 as functions over messages (whitepaper, sections 5.4.2 and 5.4.3). */
import { open, seal } from "./aead.ts"
import { Blake2sMac } from "./blake2s.ts"
import { initiationBytes, keyBytes, messageType, responseBytes, tagBytes, timestampBytes } from "./constants.ts"
import { hash, kdf1, kdf2, kdf3 } from "./kdf.ts"
import { type PrivateKey, privateKeyFrom, publicKeyFrom, sharedSecret } from "./x25519.ts"
import type { KeyObject } from "node:crypto"

const initialChainingKey = hash(Buffer.from("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"))
const initialHash = hash(initialChainingKey, Buffer.from("WireGuard v1 zx2c4 Jason@zx2c4.com"))
const mac1Label = Buffer.from("mac1----")
const cookieLabel = Buffer.from("cookie--")
const empty = Buffer.alloc(0)
/** Peers here have no preshared key. */
const presharedKey = Buffer.alloc(keyBytes)

const at = {
  initiation: { ephemeral: 8, staticKey: 40, timestamp: 88, macs: 116 },
  response: { receiver: 8, ephemeral: 12, tag: 44, macs: 60 }
}

/** Keys of one end, derived from its public key. */
export interface PublicIdentity {
  /** 32 raw bytes. */
  readonly publicKey: Buffer
  readonly mac1: Blake2sMac
  /** Key that seals cookies of this end. */
  readonly cookieKey: Buffer
  /** Hash of the handshake before the first message to this end. */
  readonly initialHash: Buffer
}

export interface Local extends PublicIdentity {
  readonly privateKey: PrivateKey
}

export interface Remote extends PublicIdentity {
  readonly key: KeyObject
  /** Shared secret of both static keys. */
  readonly staticSecret: Buffer
}

/** Keys of a session. Each end has its own buffers, which it erases. */
export interface TransportKeys {
  readonly send: Buffer
  readonly receive: Buffer
}

/** State of the initiator between its message and the response. */
export interface SentInitiation {
  readonly localIndex: number
  readonly ephemeral: PrivateKey
  readonly chainingKey: Buffer
  readonly hash: Buffer
}

/** An initiation whose sender has been identified, but whose timestamp has not been checked. */
export interface ReceivedInitiation {
  readonly remoteIndex: number
  /** Static public key of the sender. */
  readonly publicKey: Buffer
  readonly ephemeral: KeyObject
  readonly chainingKey: Buffer
  readonly hash: Buffer
}

const publicIdentity = (publicKey: Buffer): PublicIdentity => ({
  publicKey,
  mac1: new Blake2sMac(hash(mac1Label, publicKey)),
  cookieKey: hash(cookieLabel, publicKey),
  initialHash: hash(initialHash, publicKey)
})

export const localIdentity = (rawPrivateKey: Buffer): Local => {
  const privateKey = privateKeyFrom(rawPrivateKey)
  return { ...publicIdentity(privateKey.publicKey), privateKey }
}

/** Identity of a peer; undefined if its public key has low order. */
export const remoteIdentity = (local: Local, publicKey: Buffer): Remote | undefined => {
  const key = publicKeyFrom(publicKey)
  const staticSecret = sharedSecret(local.privateKey, key)
  return staticSecret === undefined ? undefined : { ...publicIdentity(publicKey), key, staticSecret }
}

/** Initiation without MACs. `seed` is 32 random bytes, used once. */
export const writeInitiation = (
  local: Local,
  remote: Remote,
  { localIndex, seed, timestamp }: { readonly localIndex: number; readonly seed: Buffer; readonly timestamp: Buffer }
): { readonly message: Buffer; readonly sent: SentInitiation } | undefined => {
  const message = Buffer.alloc(initiationBytes)
  message.writeUInt32LE(messageType.initiation, 0)
  message.writeUInt32LE(localIndex, 4)
  const ephemeral = privateKeyFrom(seed)
  const secret = sharedSecret(ephemeral, remote.key)
  if (secret === undefined) return undefined
  message.set(ephemeral.publicKey, at.initiation.ephemeral)
  const hash1 = hash(remote.initialHash, ephemeral.publicKey)
  const chainingKey1 = kdf1(initialChainingKey, ephemeral.publicKey)
  const [chainingKey2, staticKey] = kdf2(chainingKey1, secret)
  sealText(staticKey, local.publicKey, message, at.initiation.staticKey, hash1)
  const hash2 = hash(hash1, message.subarray(at.initiation.staticKey, at.initiation.timestamp))
  const [chainingKey, timestampKey] = kdf2(chainingKey2, remote.staticSecret)
  sealText(timestampKey, timestamp, message, at.initiation.timestamp, hash2)
  const hash3 = hash(hash2, message.subarray(at.initiation.timestamp, at.initiation.macs))
  return { message, sent: { localIndex, ephemeral, chainingKey, hash: hash3 } }
}

/** Identifies the sender of an initiation whose MACs are valid. Undefined if it is forged. Costs one X25519. */
export const readInitiation = (local: Local, message: Buffer): ReceivedInitiation | undefined => {
  const rawEphemeral = message.subarray(at.initiation.ephemeral, at.initiation.staticKey)
  const ephemeral = publicKeyFrom(rawEphemeral)
  const secret = sharedSecret(local.privateKey, ephemeral)
  if (secret === undefined) return undefined
  const hash1 = hash(local.initialHash, rawEphemeral)
  const [chainingKey, staticKey] = kdf2(kdf1(initialChainingKey, rawEphemeral), secret)
  const sealed = message.subarray(at.initiation.staticKey, at.initiation.timestamp)
  const publicKey = openText(staticKey, sealed, hash1)
  if (publicKey === undefined) return undefined
  return { remoteIndex: message.readUInt32LE(4), publicKey, ephemeral, chainingKey, hash: hash(hash1, sealed) }
}

/** Timestamp of an identified initiation, and the state to answer it. Undefined if it is forged. */
export const readTimestamp = (
  remote: Remote,
  received: ReceivedInitiation,
  message: Buffer
): { readonly timestamp: Buffer; readonly received: ReceivedInitiation } | undefined => {
  const sealed = message.subarray(at.initiation.timestamp, at.initiation.macs)
  const [chainingKey, timestampKey] = kdf2(received.chainingKey, remote.staticSecret)
  const timestamp = openText(timestampKey, sealed, received.hash)
  if (timestamp === undefined || timestamp.length !== timestampBytes) return undefined
  return { timestamp, received: { ...received, chainingKey, hash: hash(received.hash, sealed) } }
}

/** Response without MACs, and the responder's keys. `seed` is 32 random bytes, used once. */
export const writeResponse = (
  remote: Remote,
  received: ReceivedInitiation,
  { localIndex, seed }: { readonly localIndex: number; readonly seed: Buffer }
): { readonly message: Buffer; readonly keys: TransportKeys } | undefined => {
  const ephemeral = privateKeyFrom(seed)
  const ephemeralSecret = sharedSecret(ephemeral, received.ephemeral)
  const staticSecret = sharedSecret(ephemeral, remote.key)
  if (ephemeralSecret === undefined || staticSecret === undefined) return undefined
  const message = Buffer.alloc(responseBytes)
  message.writeUInt32LE(messageType.response, 0)
  message.writeUInt32LE(localIndex, 4)
  message.writeUInt32LE(received.remoteIndex, at.response.receiver)
  message.set(ephemeral.publicKey, at.response.ephemeral)
  const hash1 = hash(received.hash, ephemeral.publicKey)
  const mixed = mixResponse(received.chainingKey, hash1, ephemeral.publicKey, ephemeralSecret, staticSecret)
  sealText(mixed.key, empty, message, at.response.tag, mixed.hash)
  const [receive, send] = kdf2(mixed.chainingKey, empty)
  return { message, keys: { receive, send } }
}

/** The initiator's keys, from a response whose receiver is `sent.localIndex`. Undefined if the response is forged. */
export const readResponse = (local: Local, sent: SentInitiation, message: Buffer): TransportKeys | undefined => {
  const rawEphemeral = message.subarray(at.response.ephemeral, at.response.tag)
  const ephemeral = publicKeyFrom(rawEphemeral)
  const ephemeralSecret = sharedSecret(sent.ephemeral, ephemeral)
  const staticSecret = sharedSecret(local.privateKey, ephemeral)
  if (ephemeralSecret === undefined || staticSecret === undefined) return undefined
  const hash1 = hash(sent.hash, rawEphemeral)
  const mixed = mixResponse(sent.chainingKey, hash1, rawEphemeral, ephemeralSecret, staticSecret)
  if (openText(mixed.key, message.subarray(at.response.tag, at.response.macs), mixed.hash) === undefined)
    return undefined
  const [send, receive] = kdf2(mixed.chainingKey, empty)
  return { send, receive }
}

function mixResponse(
  chainingKey: Buffer,
  hash1: Buffer,
  ephemeral: Buffer,
  ephemeralSecret: Buffer,
  staticSecret: Buffer
): { readonly chainingKey: Buffer; readonly key: Buffer; readonly hash: Buffer } {
  const chainingKey3 = kdf1(kdf1(kdf1(chainingKey, ephemeral), ephemeralSecret), staticSecret)
  const [chainingKey4, temporary, key] = kdf3(chainingKey3, presharedKey)
  return { chainingKey: chainingKey4, key, hash: hash(hash1, temporary) }
}

function sealText(key: Buffer, text: Buffer, message: Buffer, offset: number, associated: Buffer): void {
  seal(key, 0, 0, text, text.length, text.length, message, offset, associated)
}

function openText(key: Buffer, sealed: Buffer, associated: Buffer): Buffer | undefined {
  const text = Buffer.from(sealed)
  return open(key, 0, 0, text, 0, text.length, associated) ? text.subarray(0, text.length - tagBytes) : undefined
}
