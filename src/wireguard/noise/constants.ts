/** Layout of WireGuard's messages, and its time-outs in milliseconds (whitepaper, sections 5.4 and 6.1). */

export const messageType = { initiation: 1, response: 2, cookieReply: 3, data: 4 } as const

export const keyBytes = 32
export const tagBytes = 16
/** Nonce of XChaCha20-Poly1305, which seals cookies. */
export const longNonceBytes = 24
export const macBytes = 16
export const timestampBytes = 12

/** Type, sender, ephemeral key, sealed static key, sealed timestamp, mac1, mac2. */
export const initiationBytes = 148
/** Type, sender, receiver, ephemeral key, tag, mac1, mac2. */
export const responseBytes = 92
/** Type, receiver, nonce, sealed cookie. */
export const cookieReplyBytes = 64
/** Type, receiver, counter. The sealed packet follows. */
export const dataHeaderBytes = 16
/** Data message without a packet: a keepalive. */
export const minDataBytes = dataHeaderBytes + tagBytes
/** Packets are padded with zeros to a multiple of this length, if the sum stays below 64 KiB. */
export const paddingBytes = 16

export const rekeyAfterMillis = 120_000
export const rejectAfterMillis = 180_000
const rekeyAttemptMillis = 90_000
export const rekeyTimeoutMillis = 5_000
export const keepaliveTimeoutMillis = 10_000
/** Handshakes are delayed at random by less than this time, so that two peers do not start them together for long. */
export const maxJitterMillis = 334
/** Handshakes that one attempt sends before it ends. */
export const maxAttempts = rekeyAttemptMillis / rekeyTimeoutMillis
/** A cookie is valid for this time after its creation. */
export const cookieMillis = 120_000
/** A cookie may have travelled for this time before it is used. */
export const cookieLatencyMillis = 5_000
/** Keys are erased this long after the last handshake. */
export const forgetAfterMillis = 3 * rejectAfterMillis

/**
 * The whitepaper rekeys after 2^60 messages and rejects after 2^64 - 2^13 - 1. Counters here are JavaScript numbers, so that both
 * limits are lower. 10 Gbit/s of small packets reaches neither before the keys expire.
 */
export const rekeyAfterMessages = 2 ** 50
export const rejectAfterMessages = 2 ** 52
