/** Generates hostile connections; the same seed and index give the same attack. */
import type { ClientType } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { type SeededRandom, seededRandom } from "#support/SeededRandom.ts"
import { closeFrame, frame, opcodes, upgradeRequest } from "./frames.ts"
import { type MessagePool, randomMessage } from "./randomMessages.ts"

export interface Keys {
  readonly agent: ReadonlyArray<string>
  readonly gateway: ReadonlyArray<string>
}

export interface Attack {
  /** The upgrade request. What follows waits for the response unless `sendsAtOnce` is true. */
  readonly upgrade: Buffer
  /** The `auth` frame, which is sent after the upgrade. `frames` waits for the answer to `auth`. */
  readonly auth: Buffer | undefined
  readonly frames: Buffer
  readonly sendsAtOnce: boolean
  /** Ends its half of the connection after sending everything. */
  readonly endsAfterSending: boolean
  /** Local address. Each attack uses another one, so that the limits per address do not slow it. */
  readonly localAddress: string
}

const generatedFrames = 5
const mutatedFrames = 5
export const framesPerAttack = generatedFrames + mutatedFrames

/** Half of the frames are generated, half are mutated. The last one most likely ends the connection. */
export const attackWithFrames = (pool: MessagePool, keys: Keys, seed: number, index: number): Attack => {
  const random = seededRandom(seed, index)
  const level = random.pick<Level>(["plain", "control.v1"])
  const type = random.chance(0.75) ? "agent" : "gateway"
  const text = () => randomMessage(pool, level, type, random)
  const parts: Array<Buffer> = []
  for (let count = 0; count < generatedFrames; count++) {
    parts.push(frame(text()))
    if (count < mutatedFrames - 1) parts.push(frame(mutateText(text(), random)))
  }
  parts.push(mutateFrame(Buffer.from(text()), random))
  if (random.chance(0.5)) parts.push(closeFrame(1000))
  const protocol = level === "plain" ? [] : [`Sec-WebSocket-Protocol: ${level}`]
  return {
    upgrade: Buffer.from(upgradeRequest(random.chance(0.5) ? `/?type=${type}` : "/", protocol)),
    auth: random.chance(0.4) ? frame(randomAuth(pool, keys, level, type, random)) : undefined,
    frames: Buffer.concat(parts),
    sendsAtOnce: random.chance(0.3),
    endsAfterSending: random.chance(0.5),
    localAddress: randomAddress(random)
  }
}

/** An `auth` with a valid key and other fields that the schema allows. */
function randomAuth(pool: MessagePool, keys: Keys, level: Level, type: ClientType, random: SeededRandom): string {
  const more = random.pick(pool[level][type].filter((message) => message.type === "auth"))
  return JSON.stringify({ type: "auth", data: { ...more?.data, apiKey: random.pick(keys[type]) } })
}

/** Replaces some characters or truncates the text; the result is still text. */
function mutateText(text: string, random: SeededRandom): Buffer {
  const bytes = Buffer.from(text.slice(0, 2_000))
  for (let times = 1 + random.int(4); times > 0 && bytes.length > 0; times--) {
    bytes[random.int(bytes.length)] = random.int(128)
  }
  const cut = random.chance(0.2) ? random.int(bytes.length + 1) : bytes.length
  return Buffer.from(bytes.subarray(0, cut).toString())
}

/** Violates one rule of RFC 6455 in the frame, or flips bits. */
function mutateFrame(payload: Buffer, random: SeededRandom): Buffer {
  const small = payload.subarray(0, 100)
  const any = () => Buffer.from(Array.from({ length: random.int(120) }, () => random.int(256)))
  const ways: ReadonlyArray<() => Buffer> = [
    () => frame(payload, { opcode: 3 + random.int(5) }),
    () => frame(small, { opcode: 11 + random.int(5) }),
    () => frame(payload, { rsv: 1 + random.int(7) }),
    () => frame(payload, { masked: false }),
    () => frame(payload, { opcode: opcodes.continuation }),
    () => Buffer.concat([frame(payload, { fin: false }), frame(payload)]),
    () => Buffer.concat([frame(payload, { fin: false }), frame(small, { opcode: opcodes.ping, fin: false })]),
    () =>
      frame(Buffer.alloc(126 + random.int(500)), { opcode: random.pick([opcodes.ping, opcodes.pong, opcodes.close]) }),
    () => frame(payload, { length: payload.length + 1 + random.int(60_000) }),
    () => frame(small, { length: random.pick([2n ** 63n, 2n ** 53n, 2n ** 64n - 1n, 2n ** 32n]), lengthBytes: 8 }),
    () => frame(small, { length: small.length, lengthBytes: random.pick([2, 8]) }),
    () => frame(any(), { opcode: opcodes.text }),
    () => frame(any(), { opcode: opcodes.binary }),
    () => frame(any(), { opcode: opcodes.close }),
    () => closeFrame(random.pick([0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535]), any().subarray(0, 100)),
    () => frame(Buffer.from([3]), { opcode: opcodes.close }),
    () => Buffer.concat(Array.from({ length: 300 }, () => frame("", { opcode: opcodes.ping }))),
    () => Buffer.concat(Array.from({ length: 2_000 }, () => frame("[", { fin: false, opcode: opcodes.continuation }))),
    () => frame(payload).subarray(0, random.int(payload.length)),
    () => flipBits(frame(payload.subarray(0, 2_000)), random),
    () => random.chance(0.02) ? frame(Buffer.alloc(262_145, 0x5b)) : flipBits(frame(small), random)
  ]
  return random.pick(ways)()
}

function flipBits(bytes: Buffer, random: SeededRandom): Buffer {
  for (let times = 1 + random.int(8); times > 0; times--) {
    const at = random.chance(0.5) ? random.int(Math.min(14, bytes.length)) : random.int(bytes.length)
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random.int(8))
  }
  return bytes
}

/** An attack with bytes that are not an upgrade request, or almost one. */
export const attackWithStream = (seed: number, index: number): Attack => {
  const random = seededRandom(seed ^ 0x5bd1e995, index)
  return {
    upgrade: random.pick(rawStreams)(random),
    auth: undefined,
    frames: Buffer.alloc(0),
    sendsAtOnce: true,
    // Otherwise the server would wait for some requests as long as for a slow client.
    endsAfterSending: true,
    localAddress: randomAddress(random)
  }
}

const randomBytes = (random: SeededRandom, length: number) => Buffer.from(Array.from({ length }, () => random.int(256)))

const rawStreams: ReadonlyArray<(random: SeededRandom) => Buffer> = [
  (random) => randomBytes(random, random.int(2_000)),
  (random) => Buffer.from(upgradeRequest().slice(0, random.int(upgradeRequest().length))),
  (random) => flipBits(Buffer.from(upgradeRequest("/?type=agent")), random),
  (random) => Buffer.concat([Buffer.from(upgradeRequest()), randomBytes(random, random.int(300))]),
  (random) => Buffer.concat([Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]), randomBytes(random, 517)]),
  (random) => Buffer.from(upgradeRequest("/", [`X-${"a".repeat(random.int(12_000))}: 1`])),
  (random) => Buffer.from(upgradeRequest("/", Array.from({ length: random.int(3_000) }, (_, at) => `a${at}: 1`))),
  (random) =>
    Buffer.from(upgradeRequest(random.pick(["*", "//", "/%", `/?type=${"%00".repeat(99)}`, "http://a/?type=agent"]))),
  (random) => Buffer.from(upgradeRequest("/", [random.pick(unusualHeaders)])),
  () =>
    Buffer.from("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /"),
  (random) => Buffer.from(`GET / HTTP/1.1\r\nHost: a\r\n\r\n`.repeat(1 + random.int(50))),
  () => Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
  () => Buffer.from("\0".repeat(64)),
  () => Buffer.alloc(0)
]

const unusualHeaders = [
  "Sec-WebSocket-Version: 99",
  "Sec-WebSocket-Key: short",
  "Sec-WebSocket-Protocol: control.v1, control.v1",
  "Sec-WebSocket-Protocol: ,,,",
  "Sec-WebSocket-Protocol: __proto__",
  "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99",
  "Sec-WebSocket-Extensions: ;;;=",
  "Expect: 100-continue",
  "Content-Length: -1",
  "Transfer-Encoding: chunked",
  "X: a\nY: b",
  "Connection: close"
]

/** A random loopback address. All of 127.0.0.0/8 is local. */
function randomAddress(random: SeededRandom): string {
  return `127.${1 + random.int(250)}.${random.int(250)}.${1 + random.int(250)}`
}
