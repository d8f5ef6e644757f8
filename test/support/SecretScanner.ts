/**
 * Searches all output of a test file for the secrets of that file, in every encoding.
 *
 * Tests add each secret that they create, and `collectOutput.ts` adds each output. `checkSecretLeaks.ts` fails the test file if an
 * output contains a secret. Output that may contain a secret (the response that creates a key, a client's own WireGuard key)
 * is added without that secret.
 */
import { hashApiKey } from "#crypto/apiKeys.ts"
import { createPrivateKey } from "node:crypto"

export type SecretKind =
  | "API key"
  | "hash of an API key"
  | "admin token"
  | "master key"
  | "database password"
  | "private key of a certificate"
  | "WireGuard private key"

/** A leak without the secret itself, because leaks are printed. */
export interface Leak {
  readonly source: string
  readonly kind: SecretKind
  readonly encoding: string
}

interface EncodedSecret {
  readonly kind: SecretKind
  readonly encoding: string
  readonly text: string
}

interface BlockPosition {
  readonly secret: EncodedSecret
  readonly at: number
}

interface Output {
  readonly source: string
  readonly text: string
}

/** Block length in characters. The search looks at each block of the output; the index contains the blocks of both ends of a secret. */
const blockLength = 8
/** The shortest leak. A part of this length contains a complete block at every alignment. */
const minLeakLength = 2 * blockLength - 1

export class SecretScanner {
  readonly #secrets = new Map<string, EncodedSecret>()
  #index = new Map<string, Array<BlockPosition>>()
  #indexedSecrets = 0
  #outputs: Array<Output> = []
  #outputLength = 0
  readonly #leaks = new Map<string, Leak>()
  /** The client that may receive a WireGuard private key, by key. */
  readonly #owners = new Map<string, string>()
  readonly #maxOutputLength: number

  /** `maxOutputLength`: characters to keep. Above it, the older half is searched for the secrets known so far and dropped. */
  constructor(maxOutputLength = 32_000_000) {
    this.#maxOutputLength = maxOutputLength
  }

  /** Adds a secret in all its encodings. Short or regular texts are ignored, because they occur in output by chance. */
  addSecret(kind: SecretKind, secret: string): void {
    if (kind === "private key of a certificate") {
      for (const number of privateNumbers(secret)) this.#addBytes(kind, number, "")
      return
    }
    const minted = /^ctl_[a-z]+_[A-Za-z0-9]{12}_([\w-]{43})$/u.exec(secret)?.[1]
    const text = minted ?? secret
    if (kind === "API key") this.#add("hash of an API key", "plain", hashApiKey(secret))
    this.#add(kind, "plain", text)
    this.#add(kind, "URL-encoded", encodeURIComponent(text))
    this.#add(kind, "JSON-escaped", JSON.stringify(text).slice(1, -1))
    this.#addBytes(kind, Buffer.from(text), " of its text")
    if (minted !== undefined) this.#addBytes(kind, Buffer.from(minted, "base64url"), "")
    if (kind === "master key" || kind === "WireGuard private key")
      this.#addBytes(kind, Buffer.from(text, "base64"), "")
  }

  /** Returns whether the secret belongs to `owner`. The first owner to be added keeps it. */
  addOwnedSecret(kind: SecretKind, secret: string, owner: string): boolean {
    const known = this.#owners.get(secret)
    if (known !== undefined) return known === owner
    this.#owners.set(secret, owner)
    this.addSecret(kind, secret)
    return true
  }

  /** Adds an output for the search. `source`: where it came from, for the report. */
  addOutput(source: string, text: string): void {
    this.#outputs.push({ source, text })
    this.#outputLength += text.length
    if (this.#outputLength <= this.#maxOutputLength) return
    for (const output of this.#outputs.splice(0, Math.ceil(this.#outputs.length / 2))) {
      this.#outputLength -= output.text.length
      this.#search(output)
    }
  }

  /** Searches the outputs, and returns all leaks so far. */
  findLeaks(): ReadonlyArray<Leak> {
    for (const output of this.#outputs.splice(0)) this.#search(output)
    this.#outputLength = 0
    return [...this.#leaks.values()]
  }

  #addBytes(kind: SecretKind, bytes: Buffer, suffix: string): void {
    this.#add(kind, `hex${suffix}`, bytes.toString("hex"))
    this.#add(kind, `hex${suffix}`, bytes.toString("hex").toUpperCase())
    for (const offset of [0, 1, 2]) {
      for (const encoding of ["base64", "base64url"] as const) {
        this.#add(kind, `${encoding}${suffix}`, fixedCharacters(bytes, offset, encoding))
      }
    }
  }

  #add(kind: SecretKind, encoding: string, text: string): void {
    if (text.length < minLeakLength || new Set(text).size < 8 || this.#secrets.has(text)) return
    this.#secrets.set(text, { kind, encoding, text })
  }

  #search({ source, text }: Output): void {
    if (this.#indexedSecrets !== this.#secrets.size) this.#rebuildIndex()
    for (let at = 0; at + blockLength <= text.length; at += blockLength) {
      for (const position of this.#index.get(text.slice(at, at + blockLength)) ?? []) {
        if (matchLength(position, text, at) < minLeakLength) continue
        const { encoding, kind } = position.secret
        if (!this.#leaks.has(`${kind} ${source}`))
          this.#leaks.set(`${kind} ${source}`, { source, kind, encoding })
      }
    }
  }

  #rebuildIndex(): void {
    this.#index = new Map()
    this.#indexedSecrets = this.#secrets.size
    for (const secret of this.#secrets.values()) {
      const last = secret.text.length - blockLength
      const starts = Array.from({ length: blockLength }, (_, start) => [start, last - start]).flat()
      for (const at of new Set(starts.filter((start) => start >= 0 && start <= last))) {
        const key = secret.text.slice(at, at + blockLength)
        const positions = this.#index.get(key)
        if (positions === undefined) this.#index.set(key, [{ secret, at }])
        else positions.push({ secret, at })
      }
    }
  }
}

/** The scanner of this process, which runs one test file. */
export const secretScanner = new SecretScanner()

/** Number of consecutive equal characters of text and secret around the block. */
function matchLength({ at, secret }: BlockPosition, text: string, start: number): number {
  let [before, after] = [0, blockLength]
  while (at > before && start > before && secret.text[at - before - 1] === text[start - before - 1]) before++
  while (at + after < secret.text.length && secret.text[at + after] === text[start + after]) after++
  return before + after
}

/** The base64 characters that depend only on `bytes`, if these start `offset` bytes into a group of three encoded bytes. */
function fixedCharacters(bytes: Buffer, offset: number, encoding: "base64" | "base64url"): string {
  const text = Buffer.concat([Buffer.alloc(offset), bytes]).toString(encoding).replaceAll("=", "")
  const isWhole = (offset + bytes.length) % 3 === 0
  return text.slice([0, 2, 3][offset], isWhole ? undefined : -1)
}

/** The numbers that only the private key contains; the rest also occurs in certificates. Empty for an invalid PEM. */
function privateNumbers(pem: string): ReadonlyArray<Buffer> {
  try {
    const { d, p, q } = createPrivateKey(pem).export({ format: "jwk" })
    return [d, p, q].filter((part) => part !== undefined).map((part) => Buffer.from(part, "base64url"))
  } catch {
    return []
  }
}
