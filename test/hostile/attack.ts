/** What one hostile connection does, drawn from a seed and an index: the same attack can be made again. */
import type { ClientType } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { type Chance, chance } from "./chance.ts"
import { closeFrame, frame, opcodes, upgradeRequest } from "./frames.ts"
import { type Pool, say } from "./grammar.ts"

export interface Keys {
  readonly agent: ReadonlyArray<string>
  readonly gateway: ReadonlyArray<string>
}

export interface Attack {
  /** The request of the upgrade; what follows it waits for the answer unless `isAtOnce`. */
  readonly opening: Buffer
  /** Sent after the upgrade; the rest waits for the answer. */
  readonly auth: Buffer | undefined
  readonly rest: Buffer
  readonly frames: number
  readonly isAtOnce: boolean
  /** Ends its half of the connection when all is sent. */
  readonly ends: boolean
  /** An address of its own, so that what others did wrong does not slow it. */
  readonly from: string
}

const generated = 5
const mutated = 5
export const framesOfOne = generated + mutated

/** Half of the frames come from the grammar, half are mutated; the last is the one that most likely ends the connection. */
export const attackWithFrames = (pool: Pool, keys: Keys, seed: number, index: number): Attack => {
  const draw = chance(seed, index)
  const level = draw.of<Level>(["plain", "control.v1"])
  const type = draw.is(0.75) ? "agent" : "gateway"
  const text = () => say(pool, level, type, draw)
  const parts: Array<Buffer> = []
  for (let count = 0; count < generated; count++) {
    parts.push(frame(text()))
    if (count < mutated - 1) parts.push(frame(mildly(text(), draw)))
  }
  parts.push(wildly(Buffer.from(text()), draw))
  if (draw.is(0.5)) parts.push(closeFrame(1000))
  const protocol = level === "plain" ? [] : [`Sec-WebSocket-Protocol: ${level}`]
  return {
    opening: Buffer.from(upgradeRequest(draw.is(0.5) ? `/?type=${type}` : "/", protocol)),
    auth: draw.is(0.4) ? frame(authOf(pool, keys, level, type, draw)) : undefined,
    rest: Buffer.concat(parts),
    frames: framesOfOne,
    isAtOnce: draw.is(0.3),
    ends: draw.is(0.5),
    from: anyAddress(draw)
  }
}

/** A right key, with whatever else the schema allows beside it. */
function authOf(pool: Pool, keys: Keys, level: Level, type: ClientType, draw: Chance): string {
  const more = draw.of(pool[level][type].filter((message) => message.type === "auth"))
  return JSON.stringify({ type: "auth", data: { ...more?.data, apiKey: draw.of(keys[type]) } })
}

/** Still text: some characters are others, left out, or said twice. */
function mildly(text: string, draw: Chance): Buffer {
  const bytes = Buffer.from(text.slice(0, 2_000))
  for (let times = 1 + draw.int(4); times > 0 && bytes.length > 0; times--) {
    bytes[draw.int(bytes.length)] = draw.int(128)
  }
  const cut = draw.is(0.2) ? draw.int(bytes.length + 1) : bytes.length
  return Buffer.from(bytes.subarray(0, cut).toString())
}

/** Breaks the frame itself, in one of the ways of RFC 6455, or its bytes. */
function wildly(payload: Buffer, draw: Chance): Buffer {
  const small = payload.subarray(0, 100)
  const any = () => Buffer.from(Array.from({ length: draw.int(120) }, () => draw.int(256)))
  const ways: ReadonlyArray<() => Buffer> = [
    () => frame(payload, { opcode: 3 + draw.int(5) }),
    () => frame(small, { opcode: 11 + draw.int(5) }),
    () => frame(payload, { rsv: 1 + draw.int(7) }),
    () => frame(payload, { masked: false }),
    () => frame(payload, { opcode: opcodes.continuation }),
    () => Buffer.concat([frame(payload, { fin: false }), frame(payload)]),
    () => Buffer.concat([frame(payload, { fin: false }), frame(small, { opcode: opcodes.ping, fin: false })]),
    () => frame(Buffer.alloc(126 + draw.int(500)), { opcode: draw.of([opcodes.ping, opcodes.pong, opcodes.close]) }),
    () => frame(payload, { length: payload.length + 1 + draw.int(60_000) }),
    () => frame(small, { length: draw.of([2n ** 63n, 2n ** 53n, 2n ** 64n - 1n, 2n ** 32n]), lengthBytes: 8 }),
    () => frame(small, { length: small.length, lengthBytes: draw.of([2, 8]) }),
    () => frame(any(), { opcode: opcodes.text }),
    () => frame(any(), { opcode: opcodes.binary }),
    () => frame(any(), { opcode: opcodes.close }),
    () => closeFrame(draw.of([0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535]), any().subarray(0, 100)),
    () => frame(Buffer.from([3]), { opcode: opcodes.close }),
    () => Buffer.concat(Array.from({ length: 300 }, () => frame("", { opcode: opcodes.ping }))),
    () => Buffer.concat(Array.from({ length: 2_000 }, () => frame("[", { fin: false, opcode: opcodes.continuation }))),
    () => frame(payload).subarray(0, draw.int(payload.length)),
    () => flipped(frame(payload.subarray(0, 2_000)), draw),
    () => draw.is(0.02) ? frame(Buffer.alloc(262_145, 0x5b)) : flipped(frame(small), draw)
  ]
  return draw.of(ways)()
}

function flipped(bytes: Buffer, draw: Chance): Buffer {
  for (let times = 1 + draw.int(8); times > 0; times--) {
    const at = draw.is(0.5) ? draw.int(Math.min(14, bytes.length)) : draw.int(bytes.length)
    bytes[at] = (bytes[at] ?? 0) ^ (1 << draw.int(8))
  }
  return bytes
}

/** Bytes on the port that are no upgrade, or nearly one. */
export const attackWithStream = (seed: number, index: number): Attack => {
  const draw = chance(seed ^ 0x5bd1e995, index)
  return {
    opening: draw.of(streams)(draw),
    auth: undefined,
    rest: Buffer.alloc(0),
    frames: 0,
    isAtOnce: true,
    // Without it some would rightly wait for as long as a slow client is waited for.
    ends: true,
    from: anyAddress(draw)
  }
}

const noise = (draw: Chance, length: number) => Buffer.from(Array.from({ length }, () => draw.int(256)))

const streams: ReadonlyArray<(draw: Chance) => Buffer> = [
  (draw) => noise(draw, draw.int(2_000)),
  (draw) => Buffer.from(upgradeRequest().slice(0, draw.int(upgradeRequest().length))),
  (draw) => flipped(Buffer.from(upgradeRequest("/?type=agent")), draw),
  (draw) => Buffer.concat([Buffer.from(upgradeRequest()), noise(draw, draw.int(300))]),
  (draw) => Buffer.concat([Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]), noise(draw, 517)]),
  (draw) => Buffer.from(upgradeRequest("/", [`X-${"a".repeat(draw.int(12_000))}: 1`])),
  (draw) => Buffer.from(upgradeRequest("/", Array.from({ length: draw.int(3_000) }, (_, at) => `a${at}: 1`))),
  (draw) =>
    Buffer.from(upgradeRequest(draw.of(["*", "//", "/%", `/?type=${"%00".repeat(99)}`, "http://a/?type=agent"]))),
  (draw) => Buffer.from(upgradeRequest("/", [draw.of(oddHeaders)])),
  () =>
    Buffer.from("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /"),
  (draw) => Buffer.from(`GET / HTTP/1.1\r\nHost: a\r\n\r\n`.repeat(1 + draw.int(50))),
  () => Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
  () => Buffer.from("\0".repeat(64)),
  () => Buffer.alloc(0)
]

const oddHeaders = [
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

/** All of 127.0.0.0/8 is this machine. */
function anyAddress(draw: Chance): string {
  return `127.${1 + draw.int(250)}.${draw.int(250)}.${1 + draw.int(250)}`
}
