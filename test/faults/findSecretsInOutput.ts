/** Finds secrets in output: as plain text, in base64 at any alignment, or in hex. */

/** A secret that no output may contain, with a name for reports. */
export interface Secret {
  readonly name: string
  readonly text: string
}

export const findLeaks = (output: string, secrets: ReadonlyArray<Secret>): ReadonlyArray<string> =>
  secrets.filter(({ text }) => encodingsOf(text).some((form) => output.includes(form))).map(({ name }) => name)

/** The middle line of a PEM. Its first and last lines contain no secret. */
export const pemSecret = (name: string, pem: string): Secret => {
  const lines = pem.trim().split("\n")
  return { name, text: lines[Math.floor(lines.length / 2)] ?? "" }
}

const cache = new Map<string, ReadonlyArray<string>>()

const encodingsOf = (text: string): ReadonlyArray<string> => {
  const found = cache.get(text)
  if (found !== undefined) return found
  const bytes = Buffer.from(text)
  const forms = [text, bytes.toString("hex"), bytes.toString("hex").toUpperCase(), ...base64Forms(bytes)]
  cache.set(text, forms)
  return forms
}

/** Base64 encodings of the text at each of the three byte offsets, without the characters that neighbouring bytes change. */
const base64Forms = (bytes: Buffer): ReadonlyArray<string> =>
  [0, 1, 2].flatMap((shift) => {
    const encoded = Buffer.concat([Buffer.alloc(shift), bytes]).toString("base64").replace(/=+$/u, "")
    const inner = encoded.slice(shift === 0 ? 0 : shift + 1, -2)
    return [inner, inner.replaceAll("+", "-").replaceAll("/", "_")]
  })
