/** Decodes server frames as a client reads them (RFC 6455 section 5.2: unmasked, unfragmented text). */
import { Buffer } from "node:buffer"

/** Texts of the complete frames of one write. */
export const textsOf = (parts: ReadonlyArray<Buffer>): ReadonlyArray<string> => {
  const bytes = parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts)
  const texts: Array<string> = []
  for (let at = 0; at < bytes.length;) {
    if (bytes[at] !== 0x81) throw new Error(`no text frame begins with ${bytes[at]}`)
    const short = bytes[at + 1] ?? 0
    const header = short < 126 ? 2 : short === 126 ? 4 : 10
    const length = short < 126
      ? short
      : short === 126
      ? bytes.readUInt16BE(at + 2)
      : Number(bytes.readBigUInt64BE(at + 2))
    const end = at + header + length
    if (end > bytes.length) throw new Error("a frame is longer than what was written")
    texts.push(bytes.toString("utf8", at + header, end))
    at = end
  }
  return texts
}
