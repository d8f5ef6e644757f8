/** Real ClientHellos, and their mutations. */
import { type SeededRandom, seededRandom } from "./SeededRandom.ts"
import { once } from "node:events"
import { Duplex } from "node:stream"
import { connect, type ConnectionOptions } from "node:tls"

/** The first bytes that a TLS client of Node sends. */
export const clientHello = async (options: ConnectionOptions): Promise<Buffer> => {
  const { promise, resolve } = Promise.withResolvers<Buffer>()
  const socket = new Duplex({
    read: () => {},
    write: (chunk: Buffer, _encoding, done) => {
      resolve(chunk)
      done()
    }
  })
  const client = connect({ socket, rejectUnauthorized: false, ...options })
  client.on("error", () => {})
  const bytes = await promise
  const closed = once(client, "close")
  client.destroy()
  await closed
  return bytes
}

/** The same handshake message in records of at most `size` bytes. */
export const splitRecords = (hello: Buffer, size: number): Buffer => {
  const message = hello.subarray(5)
  const records: Array<Buffer> = []
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size)
    records.push(Buffer.of(22, 3, 1, part.length >> 8, part.length & 0xff), part)
  }
  return Buffer.concat(records)
}

/** A hello whose bytes, lengths and end have been changed at random. */
export const mutateHello = (hellos: ReadonlyArray<Buffer>, seed: number, index: number): Buffer => {
  const random = seededRandom(seed, index)
  const hello = random.pick(hellos)
  return mutateBytes(random.chance(0.2) ? splitRecords(hello, 1 + random.int(200)) : hello, random)
}

/** A copy with one to four changes. */
export const mutateBytes = (original: Buffer, random: SeededRandom): Buffer => {
  let bytes: Buffer = Buffer.from(original)
  for (let times = random.int(4); times >= 0; times -= 1) bytes = changed(bytes, random)
  return bytes
}

function changed(bytes: Buffer, random: SeededRandom): Buffer {
  if (bytes.length === 0) return bytes
  const at = random.int(bytes.length)
  switch (random.int(6)) {
    case 0:
      bytes[at] = random.int(256)
      return bytes
    case 1:
      bytes[at] = random.pick([0, 1, 2, 0x7f, 0x80, 0xff])
      return bytes
    case 2:
      return bytes.subarray(0, at)
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + random.int(8))])
    case 4:
      return Buffer.concat([bytes.subarray(0, at), Buffer.alloc(random.int(64), random.int(256)), bytes.subarray(at)])
    default:
      // The two bytes can be the length of a field.
      if (at + 2 <= bytes.length) bytes.writeUInt16BE(random.int(65_536), at)
      return bytes
  }
}
