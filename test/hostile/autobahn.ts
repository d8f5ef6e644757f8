/**
 * The cases of the Autobahn test suite (sections 1 to 7, 9 and 10), written down from its descriptions: the suite itself needs a
 * registry that this project does not. What is sent, and what must come back from a server that echoes.
 */
import { closeFrame, frame, opcodes } from "./frames.ts"

export interface Case {
  readonly id: string
  readonly title: string
  readonly sent: ReadonlyArray<Buffer>
  /** Messages and pongs that come back before the close, in order: opcode and payload. */
  readonly echoed: ReadonlyArray<readonly [opcode: number, payload: Buffer]>
  /** Close codes that may come; none means an empty close frame. */
  readonly closes: ReadonlyArray<number | undefined>
  /** Each part is sent in pieces of this size. */
  readonly chop?: number
}

const bytes = (...hex: ReadonlyArray<string>) => Buffer.from(hex.join(""), "hex")
const { binary, close, continuation, ping, pong, text } = opcodes
const normal = closeFrame(1000)

const good = (id: string, title: string, sent: ReadonlyArray<Buffer>, echoed: Case["echoed"], chop?: number): Case => ({
  id,
  title,
  sent: [...sent, normal],
  echoed,
  closes: [1000],
  ...(chop === undefined ? {} : { chop })
})

const bad = (
  id: string,
  title: string,
  sent: ReadonlyArray<Buffer>,
  code: number,
  echoed: Case["echoed"] = []
): Case => ({
  id,
  title,
  sent,
  echoed,
  closes: [code]
})

const sizes = [0, 125, 126, 127, 128, 65_535, 65_536]

const echo = (id: string, title: string, opcode: number, payload: Buffer, chop?: number) =>
  good(id, title, [frame(payload, { opcode })], [[opcode, payload]], chop)

const framing = [[text, "1.1", "text", "*"], [binary, "1.2", "binary", "\xfe"]].flatMap((
  [opcode, section, kind, fill]
) => [
  ...sizes.map((size, index) =>
    echo(`${section}.${index + 1}`, `${kind} of ${size}`, Number(opcode), Buffer.alloc(size, String(fill), "latin1"))
  ),
  echo(
    `${section}.8`,
    `${kind} of 65536 in chops of 997`,
    Number(opcode),
    Buffer.alloc(65_536, String(fill), "latin1"),
    997
  )
])

const pinged = (id: string, title: string, payload: Buffer, chop?: number) =>
  good(id, title, [frame(payload, { opcode: ping })], [[pong, payload]], chop)

const tenPings = Array.from({ length: 10 }, (_, index) => Buffer.from(`payload-${index}`))
const ofPings = (id: string, title: string, chop?: number) =>
  good(
    id,
    title,
    tenPings.map((each) => frame(each, { opcode: ping })),
    tenPings.map((each) => [pong, each] as const),
    chop
  )

const pings: ReadonlyArray<Case> = [
  pinged("2.1", "ping without payload", Buffer.alloc(0)),
  pinged("2.2", "ping with a small text", Buffer.from("Hello, world!")),
  pinged("2.3", "ping with bytes that are no UTF-8", bytes("00fffefdfcfb00ff")),
  pinged("2.4", "ping with 125 bytes", Buffer.alloc(125, 0xfe)),
  bad("2.5", "ping with 126 bytes", [frame(Buffer.alloc(126, 0xfe), { opcode: ping })], 1002),
  pinged("2.6", "ping with 125 bytes, one at a time", Buffer.alloc(125, 0xfe), 1),
  good("2.7", "a pong that nobody asked for", [frame("", { opcode: pong })], []),
  good("2.8", "the same with payload", [frame("unsolicited", { opcode: pong })], []),
  good("2.9", "such a pong, then a ping", [frame("unsolicited", { opcode: pong }), frame("p", { opcode: ping })], [
    [pong, Buffer.from("p")]
  ]),
  ofPings("2.10", "ten pings"),
  ofPings("2.11", "ten pings, a byte at a time", 1)
]

const hello = Buffer.from("Hello, world!")
const said = [text, hello] as const

const reserved: ReadonlyArray<Case> = [
  bad("3.1", "RSV 1", [frame(hello, { rsv: 1 })], 1002),
  bad("3.2", "a message, then RSV 2", [frame(hello), frame(hello, { rsv: 2 }), frame("", { opcode: ping })], 1002, [
    said
  ]),
  bad("3.3", "the same with RSV 3", [frame(hello), frame(hello, { rsv: 3 }), frame("", { opcode: ping })], 1002, [
    said
  ]),
  bad("3.4", "RSV 4", [frame(hello), frame(hello, { rsv: 4 }), frame("", { opcode: ping })], 1002, [said]),
  bad("3.5", "RSV 5, binary", [frame(bytes("00ff"), { opcode: binary, rsv: 5 })], 1002),
  bad("3.6", "RSV 6, ping", [frame(hello, { opcode: ping, rsv: 6 })], 1002),
  bad("3.7", "RSV 7, close", [frame("", { opcode: close, rsv: 7 })], 1002)
]

const unknownOpcodes = [["4.1", [3, 4, 5, 6, 7]], ["4.2", [11, 12, 13, 14, 15]]] as const
const ofOpcodes = unknownOpcodes.flatMap(([section, list]) =>
  list.map((opcode, index) => {
    const odd = frame(index % 2 === 0 ? "" : "reserved", { opcode })
    return index < 2
      ? bad(`${section}.${index + 1}`, `opcode ${opcode}`, [odd], 1002)
      : bad(`${section}.${index + 1}`, `a message, then opcode ${opcode}`, [frame(hello), odd], 1002, [said])
  })
)

const first = (payload: string) => frame(payload, { fin: false })
const more = (payload: string | Buffer, fin = false) => frame(payload, { opcode: continuation, fin })
const asked = frame("ping payload", { opcode: ping })
const answered = [pong, Buffer.from("ping payload")] as const
const joined = [text, Buffer.from("fragment1fragment2")] as const

const fragments: ReadonlyArray<Case> = [
  bad("5.1", "a ping in two fragments", [frame("a", { opcode: ping, fin: false }), more("b", true)], 1002),
  bad("5.2", "a pong in two fragments", [frame("a", { opcode: pong, fin: false }), more("b", true)], 1002),
  good("5.3", "text in two fragments", [first("fragment1"), more("fragment2", true)], [joined]),
  good("5.4", "the same in chops", [first("fragment1"), more("fragment2", true)], [joined], 9),
  good("5.5", "the same a byte at a time", [first("fragment1"), more("fragment2", true)], [joined], 1),
  good("5.6", "a ping between fragments", [first("fragment1"), asked, more("fragment2", true)], [answered, joined]),
  good("5.7", "the same in chops", [first("fragment1"), asked, more("fragment2", true)], [answered, joined], 9),
  good("5.8", "the same a byte at a time", [first("fragment1"), asked, more("fragment2", true)], [answered, joined], 1),
  ...["5.9", "5.10", "5.11"].map((id, index) => ({
    ...bad(id, "a last continuation of nothing", [more("non-continuation", true), frame(hello)], 1002),
    ...(index === 0 ? {} : { chop: index === 1 ? 9 : 1 })
  })),
  ...["5.12", "5.13", "5.14"].map((id, index) => ({
    ...bad(id, "a continuation of nothing", [more("non-continuation"), frame(hello)], 1002),
    ...(index === 0 ? {} : { chop: index === 1 ? 9 : 1 })
  })),
  bad(
    "5.15",
    "a continuation after the last one",
    [first("fragment1"), more("fragment2", true), more("fragment3"), frame(hello)],
    1002,
    [
      joined
    ]
  ),
  bad("5.16", "continuations of nothing, again and again", [
    more("fragment1"),
    first("fragment2"),
    more("fragment3", true)
  ], 1002),
  bad(
    "5.17",
    "last continuations of nothing",
    [more("fragment1", true), first("fragment2"), more("fragment3", true)],
    1002
  ),
  bad("5.18", "a second message within the first", [first("fragment1"), frame("fragment2")], 1002),
  ...["5.19", "5.20"].map((id) =>
    good(id, "five fragments with pings between", [
      first("fragment1"),
      more("fragment2"),
      asked,
      more("fragment3"),
      more("fragment4"),
      asked,
      more("fragment5", true)
    ], [answered, answered, [text, Buffer.from("fragment1fragment2fragment3fragment4fragment5")]])
  )
]

const codesThatMay = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
const codesThatMayNot = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999]

const reason = (length: number) => "*".repeat(length)
const shut = (
  id: string,
  title: string,
  sent: ReadonlyArray<Buffer>,
  code: number | undefined,
  echoed: Case["echoed"] = []
): Case => ({
  id,
  title,
  sent,
  echoed,
  closes: [code]
})

const closing: ReadonlyArray<Case> = [
  shut("7.1.1", "a message, then close", [frame(hello), normal], 1000, [said]),
  shut("7.1.2", "two close frames", [normal, normal], 1000),
  shut("7.1.3", "a ping after close", [normal, frame("", { opcode: ping })], 1000),
  shut("7.1.4", "a message after close", [normal, frame(hello)], 1000),
  shut("7.1.5", "half a message, close, the other half", [first("fragment1"), normal, more("fragment2", true)], 1000),
  shut(
    "7.1.6",
    "256 KiB, a message, close, a ping",
    [frame("*".repeat(262_144)), frame(hello), normal, frame("", { opcode: ping })],
    1000,
    [
      [text, Buffer.alloc(262_144, "*")],
      said
    ]
  ),
  shut("7.3.1", "close without payload", [closeFrame()], undefined),
  shut("7.3.2", "close with one byte", [frame("a", { opcode: close })], 1002),
  shut("7.3.3", "close with a code", [normal], 1000),
  shut("7.3.4", "close with a code and a reason", [closeFrame(1000, "Hello World!")], 1000),
  shut("7.3.5", "close with a reason of 123 bytes", [closeFrame(1000, reason(123))], 1000),
  shut("7.3.6", "close with a reason of 124 bytes", [closeFrame(1000, reason(124))], 1002),
  shut("7.5.1", "close with a reason that is no UTF-8", [
    closeFrame(1000, bytes("cebae1bdb9cf83cebcceb5eda080656469746564"))
  ], 1007),
  ...codesThatMay.map((code, index) => shut(`7.7.${index + 1}`, `close with ${code}`, [closeFrame(code)], code)),
  ...codesThatMayNot.map((code, index) => shut(`7.9.${index + 1}`, `close with ${code}`, [closeFrame(code)], 1002)),
  shut("7.13.1", "close with 5000", [closeFrame(5_000)], 1002),
  shut("7.13.2", "close with 65535", [closeFrame(65_535)], 1002)
]

export const cases: ReadonlyArray<Case> = [...framing, ...pings, ...reserved, ...ofOpcodes, ...fragments, ...closing]
