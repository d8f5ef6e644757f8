/** Lines of a gzip file, with limits on what a hostile file can cost. */
import { createReadStream } from "node:fs"
import { createGunzip } from "node:zlib"
import type { Content } from "./signature.ts"
import { truncated, Unusable } from "./BackupUnusable.ts"

export const trailingData = "data follows the last line of the file"

const maxLineBytes = 16 * 1024 * 1024

/** Bytes that an unsigned file may decompress to beyond `maxRatio` times its own size. */
const freeBytes = 4 * 1024 * 1024

/** Backups compress to about a tenth. Deflate reaches 1,030, with text of one repeated byte. */
const maxRatio = 100

/** Levels of arrays and objects in one line. A row has five. Deeper JSON exhausts the stack of its next reader. */
const maxDepth = 64

/**
 * The lines of a file. Throws if the last line has no line feed, because then the file is
 * truncated.
 */
export async function* linesOf(file: string, { bytes, isSigned }: Content): AsyncGenerator<string> {
  if (bytes === 0) return
  const source = createReadStream(file, { end: bytes - 1 })
  const text = createGunzip()
  source.on("error", (error) => text.destroy(error))
  let unfinished: Array<Buffer> = []
  let unfinishedBytes = 0
  let total = 0
  try {
    for await (const chunk of source.pipe(text) as AsyncIterable<Buffer>) {
      total += chunk.length
      if (!isSigned && total > freeBytes + maxRatio * text.bytesWritten) {
        throw new Unusable(`the file decompresses to more than ${maxRatio} times its size`)
      }
      let from = 0
      for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, from)) {
        const last = chunk.subarray(from, end)
        yield (unfinished.length === 0 ? last : Buffer.concat([...unfinished, last])).toString("utf8")
        unfinished = []
        unfinishedBytes = 0
        from = end + 1
      }
      if (from < chunk.length) unfinished.push(chunk.subarray(from))
      unfinishedBytes += chunk.length - from
      if (unfinishedBytes > maxLineBytes) throw new Unusable("a line of the file is longer than 16 MiB")
    }
  } finally {
    source.destroy()
  }
  if (unfinishedBytes > 0) throw new Unusable(truncated)
  if (text.bytesWritten !== source.bytesRead) throw new Unusable(trailingData)
}

/** The value of a line of JSON. */
export function parseLine(line: string): unknown {
  if (isTooDeep(line)) throw new Unusable(`a line of the file has more than ${maxDepth} levels of JSON`)
  try {
    return JSON.parse(line)
  } catch {
    throw new Unusable("the file is damaged: a line is not JSON")
  }
}

/** Brackets inside of strings do not count. In a line that is not JSON the result is meaningless, and parsing fails. */
function isTooDeep(line: string): boolean {
  let depth = 0
  let isInString = false
  for (let index = 0; index < line.length; index += 1) {
    const character = line[index]
    if (character === "\"") isInString = !isInString
    else if (isInString) index += character === "\\" ? 1 : 0
    else if (character === "[" || character === "{") depth += 1
    else if (character === "]" || character === "}") depth -= 1
    if (depth > maxDepth) return true
  }
  return false
}
