/**
 * What is secret in a test run, and a search for it in all that came out: whoever makes a secret plants it here, whoever sees
 * output collects it here, and `secrecy.ts` fails the test file when one is found in the other. Places where a secret belongs
 * (the answer that minted a key, a client's own WireGuard key) take it out of what they collect, and nothing else.
 */
import { hashApiKey } from "#crypto/apiKeys.ts"
import { createPrivateKey } from "node:crypto"

export type Kind =
  | "API key"
  | "hash of an API key"
  | "admin token"
  | "master key"
  | "database password"
  | "private key of a certificate"
  | "WireGuard private key"

/** Never the secret itself: this is printed. */
export interface Leak {
  readonly path: string
  readonly kind: Kind
  readonly spelling: string
}

interface Needle {
  readonly kind: Kind
  readonly spelling: string
  readonly text: string
}

interface Spot {
  readonly needle: Needle
  readonly at: number
}

interface Piece {
  readonly path: string
  readonly text: string
}

/** Characters of a block. Text is looked at only where a block begins, and the index has every block of a needle's two ends. */
const block = 8
/** What holds a whole block wherever it begins; so short a part of a secret is a leak already. */
const shortest = 2 * block - 1

export class Canaries {
  readonly #needles = new Map<string, Needle>()
  #index = new Map<string, Array<Spot>>()
  #indexed = 0
  #pieces: Array<Piece> = []
  #size = 0
  readonly #leaks = new Map<string, Leak>()
  /** Of WireGuard private keys, to tell the one client that may have it. */
  readonly #owners = new Map<string, string>()
  readonly #bound: number

  /** `bound`: characters that are kept; beyond that the older half is searched for what is planted by then, and forgotten. */
  constructor(bound = 32_000_000) {
    this.#bound = bound
  }

  /** What is short or regular, as some tests choose it, would be found where it is not. */
  plant(kind: Kind, secret: string): void {
    if (kind === "private key of a certificate") {
      for (const number of secretNumbers(secret)) this.#plantBytes(kind, number, "")
      return
    }
    const minted = /^ctl_[a-z]+_[A-Za-z0-9]{12}_([\w-]{43})$/u.exec(secret)?.[1]
    const text = minted ?? secret
    if (kind === "API key") this.#add("hash of an API key", "plain", hashApiKey(secret))
    this.#add(kind, "plain", text)
    this.#add(kind, "URL-encoded", encodeURIComponent(text))
    this.#add(kind, "JSON-escaped", JSON.stringify(text).slice(1, -1))
    this.#plantBytes(kind, Buffer.from(text), " of its text")
    if (minted !== undefined) this.#plantBytes(kind, Buffer.from(minted, "base64url"), "")
    if (kind === "master key" || kind === "WireGuard private key")
      this.#plantBytes(kind, Buffer.from(text, "base64"), "")
  }

  /** Whether it is this owner's: the first to have it is. */
  plantOwned(kind: Kind, secret: string, owner: string): boolean {
    const known = this.#owners.get(secret)
    if (known !== undefined) return known === owner
    this.#owners.set(secret, owner)
    this.plant(kind, secret)
    return true
  }

  /** `path` says where it came out, for the report. */
  collect(path: string, text: string): void {
    this.#pieces.push({ path, text })
    this.#size += text.length
    if (this.#size <= this.#bound) return
    for (const piece of this.#pieces.splice(0, Math.ceil(this.#pieces.length / 2))) {
      this.#size -= piece.text.length
      this.#search(piece)
    }
  }

  /** Searches what has been collected. */
  leaks(): ReadonlyArray<Leak> {
    for (const piece of this.#pieces.splice(0)) this.#search(piece)
    this.#size = 0
    return [...this.#leaks.values()]
  }

  #plantBytes(kind: Kind, bytes: Buffer, note: string): void {
    this.#add(kind, `hex${note}`, bytes.toString("hex"))
    this.#add(kind, `hex${note}`, bytes.toString("hex").toUpperCase())
    for (const offset of [0, 1, 2]) {
      for (const encoding of ["base64", "base64url"] as const) {
        this.#add(kind, `${encoding}${note}`, within(bytes, offset, encoding))
      }
    }
  }

  #add(kind: Kind, spelling: string, text: string): void {
    if (text.length < shortest || new Set(text).size < 8 || this.#needles.has(text)) return
    this.#needles.set(text, { kind, spelling, text })
  }

  #search({ path, text }: Piece): void {
    if (this.#indexed !== this.#needles.size) this.#rebuild()
    for (let at = 0; at + block <= text.length; at += block) {
      for (const spot of this.#index.get(text.slice(at, at + block)) ?? []) {
        if (common(spot, text, at) < shortest) continue
        const { kind, spelling } = spot.needle
        if (!this.#leaks.has(`${kind} ${path}`)) this.#leaks.set(`${kind} ${path}`, { path, kind, spelling })
      }
    }
  }

  #rebuild(): void {
    this.#index = new Map()
    this.#indexed = this.#needles.size
    for (const needle of this.#needles.values()) {
      const last = needle.text.length - block
      const starts = Array.from({ length: block }, (_, start) => [start, last - start]).flat()
      for (const at of new Set(starts.filter((start) => start >= 0 && start <= last))) {
        const key = needle.text.slice(at, at + block)
        const spots = this.#index.get(key)
        if (spots === undefined) this.#index.set(key, [{ needle, at }])
        else spots.push({ needle, at })
      }
    }
  }
}

/** Those of this process: of one test file. */
export const canaries = new Canaries()

/** How many characters around this block text and needle have alike. */
function common({ needle, at }: Spot, text: string, start: number): number {
  let [before, after] = [0, block]
  while (at > before && start > before && needle.text[at - before - 1] === text[start - before - 1]) before++
  while (at + after < needle.text.length && needle.text[at + after] === text[start + after]) after++
  return before + after
}

/** The characters that the bytes alone decide, when they stand `offset` bytes into a group of three of what is encoded. */
function within(bytes: Buffer, offset: number, encoding: "base64" | "base64url"): string {
  const text = Buffer.concat([Buffer.alloc(offset), bytes]).toString(encoding).replaceAll("=", "")
  const isWhole = (offset + bytes.length) % 3 === 0
  return text.slice([0, 2, 3][offset], isWhole ? undefined : -1)
}

/** What only the private half has: the rest of a PEM is in every certificate. A PEM that is broken has none. */
function secretNumbers(pem: string): ReadonlyArray<Buffer> {
  try {
    const { d, p, q } = createPrivateKey(pem).export({ format: "jwk" })
    return [d, p, q].filter((part) => part !== undefined).map((part) => Buffer.from(part, "base64url"))
  } catch {
    return []
  }
}
