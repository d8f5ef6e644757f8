/**
 * Sections 1 to 5 and 7 of the Autobahn test suite, written from its descriptions. Each case lists what is sent to an echo
 * server and what the server must send back. The suite itself cannot run here, because it needs the registry PyPI.
 */
import { closeFrame, frame, opcodes } from "./frames.ts"

export interface RfcCase {
  readonly id: string
  readonly title: string
  readonly sent: ReadonlyArray<Buffer>
  /** Opcodes and payloads of the messages and pongs that the server sends before the close, in order. */
  readonly echoed: ReadonlyArray<readonly [opcode: number, payload: Buffer]>
  /** Allowed close codes; undefined stands for an empty close frame. */
  readonly closeCodes: ReadonlyArray<number | undefined>
  /** Each frame is sent in chunks of this size. */
  readonly chunkBytes?: number
}

const bytes = (...hex: ReadonlyArray<string>) => Buffer.from(hex.join(""), "hex")
const { binary, close, continuation, ping, pong, text } = opcodes
const normal = closeFrame(1000)

const valid = (
  id: string,
  title: string,
  sent: ReadonlyArray<Buffer>,
  echoed: RfcCase["echoed"],
  chunkBytes?: number
): RfcCase => ({
  id,
  title,
  sent: [...sent, normal],
  echoed,
  closeCodes: [1000],
  ...(chunkBytes === undefined ? {} : { chunkBytes })
})

const invalid = (
  id: string,
  title: string,
  sent: ReadonlyArray<Buffer>,
  code: number,
  echoed: RfcCase["echoed"] = []
): RfcCase => ({
  id,
  title,
  sent,
  echoed,
  closeCodes: [code]
})

const sizes = [0, 125, 126, 127, 128, 65_535, 65_536]

const echo = (id: string, title: string, opcode: number, payload: Buffer, chunkBytes?: number) =>
  valid(id, title, [frame(payload, { opcode })], [[opcode, payload]], chunkBytes)

const framing = [[text, "1.1", "text", "*"], [binary, "1.2", "binary", "\xfe"]].flatMap((
  [opcode, section, kind, fill]
) => [
  ...sizes.map((size, index) =>
    echo(`${section}.${index + 1}`, `${kind} of ${size}`, Number(opcode), Buffer.alloc(size, String(fill), "latin1"))
  ),
  echo(
    `${section}.8`,
    `${kind} of 65536 in chunks of 997`,
    Number(opcode),
    Buffer.alloc(65_536, String(fill), "latin1"),
    997
  )
])

const pinged = (id: string, title: string, payload: Buffer, chunkBytes?: number) =>
  valid(id, title, [frame(payload, { opcode: ping })], [[pong, payload]], chunkBytes)

const tenPings = Array.from({ length: 10 }, (_, index) => Buffer.from(`payload-${index}`))
const ofPings = (id: string, title: string, chunkBytes?: number) =>
  valid(
    id,
    title,
    tenPings.map((each) => frame(each, { opcode: ping })),
    tenPings.map((each) => [pong, each] as const),
    chunkBytes
  )

const pings: ReadonlyArray<RfcCase> = [
  pinged("2.1", "ping without payload", Buffer.alloc(0)),
  pinged("2.2", "ping with a small text", Buffer.from("Hello, world!")),
  pinged("2.3", "ping with invalid UTF-8", bytes("00fffefdfcfb00ff")),
  pinged("2.4", "ping with 125 bytes", Buffer.alloc(125, 0xfe)),
  invalid("2.5", "ping with 126 bytes", [frame(Buffer.alloc(126, 0xfe), { opcode: ping })], 1002),
  pinged("2.6", "ping with 125 bytes, one at a time", Buffer.alloc(125, 0xfe), 1),
  valid("2.7", "an unsolicited pong", [frame("", { opcode: pong })], []),
  valid("2.8", "the same with payload", [frame("unsolicited", { opcode: pong })], []),
  valid("2.9", "an unsolicited pong, then a ping", [
    frame("unsolicited", { opcode: pong }),
    frame("p", { opcode: ping })
  ], [
    [pong, Buffer.from("p")]
  ]),
  ofPings("2.10", "ten pings"),
  ofPings("2.11", "ten pings, a byte at a time", 1)
]

const hello = Buffer.from("Hello, world!")
const helloEcho = [text, hello] as const

const reserved: ReadonlyArray<RfcCase> = [
  invalid("3.1", "RSV 1", [frame(hello, { rsv: 1 })], 1002),
  invalid("3.2", "a message, then RSV 2", [frame(hello), frame(hello, { rsv: 2 }), frame("", { opcode: ping })], 1002, [
    helloEcho
  ]),
  invalid("3.3", "the same with RSV 3", [frame(hello), frame(hello, { rsv: 3 }), frame("", { opcode: ping })], 1002, [
    helloEcho
  ]),
  invalid("3.4", "RSV 4", [frame(hello), frame(hello, { rsv: 4 }), frame("", { opcode: ping })], 1002, [helloEcho]),
  invalid("3.5", "RSV 5, binary", [frame(bytes("00ff"), { opcode: binary, rsv: 5 })], 1002),
  invalid("3.6", "RSV 6, ping", [frame(hello, { opcode: ping, rsv: 6 })], 1002),
  invalid("3.7", "RSV 7, close", [frame("", { opcode: close, rsv: 7 })], 1002)
]

const unknownOpcodes = [["4.1", [3, 4, 5, 6, 7]], ["4.2", [11, 12, 13, 14, 15]]] as const
const ofOpcodes = unknownOpcodes.flatMap(([section, list]) =>
  list.map((opcode, index) => {
    const odd = frame(index % 2 === 0 ? "" : "reserved", { opcode })
    return index < 2
      ? invalid(`${section}.${index + 1}`, `opcode ${opcode}`, [odd], 1002)
      : invalid(`${section}.${index + 1}`, `a message, then opcode ${opcode}`, [frame(hello), odd], 1002, [helloEcho])
  })
)

const first = (payload: string) => frame(payload, { fin: false })
const more = (payload: string | Buffer, fin = false) => frame(payload, { opcode: continuation, fin })
const pingFrame = frame("ping payload", { opcode: ping })
const pongEcho = [pong, Buffer.from("ping payload")] as const
const joinedEcho = [text, Buffer.from("fragment1fragment2")] as const

const fragments: ReadonlyArray<RfcCase> = [
  invalid("5.1", "a ping in two fragments", [frame("a", { opcode: ping, fin: false }), more("b", true)], 1002),
  invalid("5.2", "a pong in two fragments", [frame("a", { opcode: pong, fin: false }), more("b", true)], 1002),
  valid("5.3", "text in two fragments", [first("fragment1"), more("fragment2", true)], [joinedEcho]),
  valid("5.4", "the same in chunks", [first("fragment1"), more("fragment2", true)], [joinedEcho], 9),
  valid("5.5", "the same a byte at a time", [first("fragment1"), more("fragment2", true)], [joinedEcho], 1),
  valid("5.6", "a ping between fragments", [first("fragment1"), pingFrame, more("fragment2", true)], [
    pongEcho,
    joinedEcho
  ]),
  valid(
    "5.7",
    "the same in chunks",
    [first("fragment1"), pingFrame, more("fragment2", true)],
    [pongEcho, joinedEcho],
    9
  ),
  valid("5.8", "the same a byte at a time", [first("fragment1"), pingFrame, more("fragment2", true)], [
    pongEcho,
    joinedEcho
  ], 1),
  ...["5.9", "5.10", "5.11"].map((id, index) => ({
    ...invalid(id, "a final continuation without a first frame", [more("non-continuation", true), frame(hello)], 1002),
    ...(index === 0 ? {} : { chunkBytes: index === 1 ? 9 : 1 })
  })),
  ...["5.12", "5.13", "5.14"].map((id, index) => ({
    ...invalid(id, "a continuation without a first frame", [more("non-continuation"), frame(hello)], 1002),
    ...(index === 0 ? {} : { chunkBytes: index === 1 ? 9 : 1 })
  })),
  invalid(
    "5.15",
    "a continuation after the last one",
    [first("fragment1"), more("fragment2", true), more("fragment3"), frame(hello)],
    1002,
    [
      joinedEcho
    ]
  ),
  invalid("5.16", "a continuation without a first frame, then a message", [
    more("fragment1"),
    first("fragment2"),
    more("fragment3", true)
  ], 1002),
  invalid(
    "5.17",
    "a final continuation without a first frame, then a message",
    [more("fragment1", true), first("fragment2"), more("fragment3", true)],
    1002
  ),
  invalid("5.18", "a second message within the first", [first("fragment1"), frame("fragment2")], 1002),
  ...["5.19", "5.20"].map((id) =>
    valid(id, "five fragments with pings between", [
      first("fragment1"),
      more("fragment2"),
      pingFrame,
      more("fragment3"),
      more("fragment4"),
      pingFrame,
      more("fragment5", true)
    ], [pongEcho, pongEcho, [text, Buffer.from("fragment1fragment2fragment3fragment4fragment5")]])
  )
]

const validCodes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
const invalidCodes = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999]

const reason = (length: number) => "*".repeat(length)
const closeCase = (
  id: string,
  title: string,
  sent: ReadonlyArray<Buffer>,
  code: number | undefined,
  echoed: RfcCase["echoed"] = []
): RfcCase => ({
  id,
  title,
  sent,
  echoed,
  closeCodes: [code]
})

const closing: ReadonlyArray<RfcCase> = [
  closeCase("7.1.1", "a message, then close", [frame(hello), normal], 1000, [helloEcho]),
  closeCase("7.1.2", "two close frames", [normal, normal], 1000),
  closeCase("7.1.3", "a ping after close", [normal, frame("", { opcode: ping })], 1000),
  closeCase("7.1.4", "a message after close", [normal, frame(hello)], 1000),
  closeCase(
    "7.1.5",
    "half a message, close, the other half",
    [first("fragment1"), normal, more("fragment2", true)],
    1000
  ),
  closeCase(
    "7.1.6",
    "256 KiB, a message, close, a ping",
    [frame("*".repeat(262_144)), frame(hello), normal, frame("", { opcode: ping })],
    1000,
    [
      [text, Buffer.alloc(262_144, "*")],
      helloEcho
    ]
  ),
  closeCase("7.3.1", "close without payload", [closeFrame()], undefined),
  closeCase("7.3.2", "close with one byte", [frame("a", { opcode: close })], 1002),
  closeCase("7.3.3", "close with a code", [normal], 1000),
  closeCase("7.3.4", "close with a code and a reason", [closeFrame(1000, "Hello World!")], 1000),
  closeCase("7.3.5", "close with a reason of 123 bytes", [closeFrame(1000, reason(123))], 1000),
  closeCase("7.3.6", "close with a reason of 124 bytes", [closeFrame(1000, reason(124))], 1002),
  closeCase("7.5.1", "close with a reason of invalid UTF-8", [
    closeFrame(1000, bytes("cebae1bdb9cf83cebcceb5eda080656469746564"))
  ], 1007),
  ...validCodes.map((code, index) => closeCase(`7.7.${index + 1}`, `close with ${code}`, [closeFrame(code)], code)),
  ...invalidCodes.map((code, index) => closeCase(`7.9.${index + 1}`, `close with ${code}`, [closeFrame(code)], 1002)),
  closeCase("7.13.1", "close with 5000", [closeFrame(5_000)], 1002),
  closeCase("7.13.2", "close with 65535", [closeFrame(65_535)], 1002)
]

export const framingCases: ReadonlyArray<RfcCase> = [
  ...framing,
  ...pings,
  ...reserved,
  ...ofOpcodes,
  ...fragments,
  ...closing
]
