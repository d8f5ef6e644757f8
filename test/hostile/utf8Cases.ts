/** Section 6 of the Autobahn test suite: valid and invalid UTF-8 (Markus Kuhn's decoder test). */
import type { RfcCase } from "./autobahnCases.ts"
import { closeFrame, frame, opcodes } from "./frames.ts"

const valid = "48656c6c6f2dc2b540c39fc3b6c3a4c3bcc3a0c3a12d5554462d382121"
const greek = "cebae1bdb9cf83cebcceb5"
const kosme = `${greek}eda080656469746564`

/** Sections 6.5 to 6.23: sequences in hex; `+` marks the valid ones. */
const sequences: ReadonlyArray<readonly [title: string, list: ReadonlyArray<string>]> = [
  ["some valid sequences", [
    "+68656c6c6f24776f726c64",
    "+68656c6c6fc2a2776f726c64",
    "+68656c6c6fe282ac776f726c64",
    "+68656c6c6ff0a4ada2776f726c64",
    `+${greek}`
  ]],
  ["all prefixes of a valid text", [
    "ce",
    "+ceba",
    "cebae1",
    "cebae1bd",
    "+cebae1bdb9",
    "cebae1bdb9cf",
    "+cebae1bdb9cf83",
    "cebae1bdb9cf83ce",
    "+cebae1bdb9cf83cebc",
    "cebae1bdb9cf83cebcce",
    `+${greek}`
  ]],
  ["first sequence of each length", ["+00", "+c280", "+e0a080", "+f0908080"]],
  ["first sequences of lengths 5 and 6", ["f888808080", "fc8480808080"]],
  ["last sequence of each length", ["+7f", "+dfbf", "+efbfbf", "+f48fbfbf"]],
  ["last sequences of lengths 4, 5 and 6", ["f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf"]],
  ["other boundaries", ["+ed9fbf", "+ee8080", "+efbfbd", "+f48fbfbf", "f4908080"]],
  ["continuations without a start", [
    "80",
    "bf",
    "80bf",
    "80bf80",
    "80bf80bf",
    "80bf80bf80",
    "80bf80bf80bf",
    range(0x80, 0xbf, "")
  ]],
  [
    "start bytes without continuation",
    [[0xc0, 0xdf], [0xe0, 0xef], [0xf0, 0xf7], [0xf8, 0xfb], [0xfc, 0xfd]].map(([from = 0, to = 0]) =>
      range(from, to, "20")
    )
  ],
  ["last continuation missing", [
    "c0",
    "e080",
    "f08080",
    "f8808080",
    "fc80808080",
    "df",
    "efbf",
    "f7bfbf",
    "fbbfbfbf",
    "fdbfbfbfbf"
  ]],
  ["consecutive incomplete sequences", ["c0e080f08080f8808080fc80808080dfefbff7bfbffbbfbfbffdbfbfbfbf"]],
  ["impossible bytes", ["fe", "ff", "fefeffff"]],
  ["overlong ASCII", ["c0af", "e080af", "f08080af", "f8808080af", "fc80808080af"]],
  ["longest overlong", ["c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf"]],
  ["overlong NUL", ["c080", "e08080", "f0808080", "f880808080", "fc8080808080"]],
  ["single surrogates", ["eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf"]],
  [
    "paired surrogates",
    ["a080", "adbf", "ae80", "afbf"].flatMap((high) => ["b080", "bfbf"].map((low) => `ed${high}ed${low}`))
  ],
  ["non-characters, which are valid", ["+efbfbe", "+efbfbf", ...nonCharacters()]],
  ["specials", ["b9", "ba", "bb", "bc", "bd", "be", "bf"].map((last) => `+efbf${last}`)]
]

function range(from: number, to: number, between: string): string {
  return Array.from({ length: to - from }, (_, index) => `${(from + index).toString(16)}${between}`).join("")
}

function nonCharacters(): ReadonlyArray<string> {
  const planes = ["f0", "f1", "f2", "f3", "f4"].flatMap((lead) =>
    ["8f", "9f", "af", "bf"].map((next) => `${lead}${next}`)
  )
  return planes.filter((plane) => plane !== "f08f" && (!plane.startsWith("f4") || plane === "f48f"))
    .flatMap((plane) => ["be", "bf"].map((last) => `+${plane}bf${last}`))
}

const utf8Case = (id: string, title: string, payloads: ReadonlyArray<Buffer>, isValid: boolean): RfcCase => {
  const last = payloads.length - 1
  const frames = payloads.map((payload, index) =>
    frame(payload, { opcode: index === 0 ? opcodes.text : opcodes.continuation, fin: index === last })
  )
  return isValid
    ? {
      id,
      title,
      sent: [...frames, closeFrame(1000)],
      echoed: [[opcodes.text, Buffer.concat(payloads)]],
      closeCodes: [1000]
    }
    : { id, title, sent: frames, echoed: [], closeCodes: [1007] }
}

const hex = (text: string) => Buffer.from(text, "hex")
const octets = (text: string) => [...hex(text)].map((octet) => Buffer.from([octet]))
const nothing = Buffer.alloc(0)

export const utf8Cases: ReadonlyArray<RfcCase> = [
  utf8Case("6.1.1", "text without payload", [nothing], true),
  utf8Case("6.1.2", "three fragments without payload", [nothing, nothing, nothing], true),
  utf8Case(
    "6.1.3",
    "only the second of three has payload",
    [nothing, Buffer.from("middle frame payload"), nothing],
    true
  ),
  utf8Case("6.2.1", "valid, one fragment", [hex(valid)], true),
  utf8Case("6.2.2", "valid, cut between characters", [hex(valid.slice(0, 24)), hex(valid.slice(24))], true),
  utf8Case("6.2.3", "valid, a byte in each fragment", octets(valid), true),
  utf8Case("6.2.4", "valid, a byte in each fragment", octets(greek), true),
  utf8Case("6.3.1", "invalid, one fragment", [hex(kosme)], false),
  utf8Case("6.3.2", "invalid, a byte in each fragment", octets(kosme), false),
  utf8Case(
    "6.4.1",
    "invalid in the second of three fragments",
    [hex(greek), hex("f4908080"), hex("656469746564")],
    false
  ),
  utf8Case("6.4.2", "invalid across two fragments", [hex(`${greek}f4`), hex("90"), hex("8080656469746564")], false),
  utf8Case("6.4.3", "as 6.4.1 (in one frame, in chunks)", [hex(`${greek}f4908080656469746564`)], false),
  utf8Case("6.4.4", "as 6.4.2 (in one frame, in chunks)", [hex(`${greek}f4908080656469746564`)], false),
  ...sequences.flatMap(([title, list], section) =>
    list.map((sequence, index) =>
      utf8Case(`6.${section + 5}.${index + 1}`, title, [hex(sequence.replace("+", ""))], sequence.startsWith("+"))
    )
  )
].map((each) =>
  each.id === "6.4.3" || each.id === "6.4.4" ? { ...each, chunkBytes: each.id === "6.4.3" ? 17 : 18 } : each
)
