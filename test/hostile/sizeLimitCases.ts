/** Sections 9 and 10 of the Autobahn test suite; messages above the size limit must close with 1009. */
import type { RfcCase } from "./autobahnCases.ts"
import { closeFrame, frame, opcodes } from "./frames.ts"

export const maxPayload = 262_144

const kinds = [[opcodes.text, "*"], [opcodes.binary, "\xfe"]] as const

const echoed = (id: string, title: string, opcode: number, payloads: ReadonlyArray<Buffer>): RfcCase => ({
  id,
  title,
  sent: [...payloads.map((payload) => frame(payload, { opcode })), closeFrame(1000)],
  echoed: payloads.map((payload) => [opcode, payload] as const),
  closeCodes: [1000]
})

/** The server rejects the message after its header, so that no payload is sent. */
const tooBig = (id: string, title: string, opcode: number, length: number): RfcCase => ({
  id,
  title,
  sent: [frame("", { opcode, length })],
  echoed: [],
  closeCodes: [1009]
})

const fragmented = (id: string, opcode: number, whole: Buffer, size: number): RfcCase => {
  const count = Math.ceil(whole.length / size)
  const frames = Array.from({ length: count }, (_, index) =>
    frame(whole.subarray(index * size, (index + 1) * size), {
      opcode: index === 0 ? opcode : opcodes.continuation,
      fin: index === count - 1
    }))
  const fits = whole.length <= maxPayload
  return {
    id,
    title: `${whole.length} bytes in fragments of ${size}`,
    sent: fits ? [...frames, closeFrame(1000)] : frames.slice(0, Math.ceil(maxPayload / size) + 1),
    echoed: fits ? [[opcode, whole]] : [],
    closeCodes: [fits ? 1000 : 1009]
  }
}

export const sizeLimitCases: ReadonlyArray<RfcCase> = [
  ...kinds.flatMap(([opcode, fill], kind) => {
    const of = (length: number) => Buffer.alloc(length, fill, "latin1")
    const mebi = 1_048_576
    return [
      ...[65_536, 262_144, mebi, 4 * mebi, 8 * mebi, 16 * mebi].map((size, index) =>
        size <= maxPayload
          ? echoed(`9.${kind + 1}.${index + 1}`, `${size} bytes`, opcode, [of(size)])
          : tooBig(`9.${kind + 1}.${index + 1}`, `${size} bytes`, opcode, size)
      ),
      ...[256, 1_024, 4_096, 16_384, 65_536, 262_144, mebi, 4 * mebi].map((size, index) =>
        fragmented(`9.${kind + 3}.${index + 2}`, opcode, of(4 * mebi), size)
      ),
      ...[64, 128, 256, 512, 1_024, 2_048].map((chunk, index) =>
        tooBig(`9.${kind + 5}.${index + 1}`, `1 MiB in chunks of ${chunk}`, opcode, mebi)
      ),
      ...[0, 16, 64, 256, 1_024, 4_096].map((size, index) =>
        echoed(
          `9.${kind + 7}.${index + 1}`,
          `1,000 messages of ${size}`,
          opcode,
          Array.from({ length: 1_000 }, () => of(size))
        )
      )
    ]
  }),
  fragmented("10.1.1", opcodes.text, Buffer.alloc(65_536, "*"), 1_300)
]
