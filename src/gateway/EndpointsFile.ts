/** Keeps the agents' endpoints on disk, so that a restarted gateway reaches agents behind NAT at once. */
import { writeFileAtomic } from "#files/writeFileAtomic.ts"
import type { Endpoint, PeerStats } from "#wireguard/Device.ts"
import { readFile } from "node:fs/promises"
import { isIP } from "node:net"

export class EndpointsFile {
  /** Endpoints by public key when the program started; empty if the file was missing or damaged. */
  readonly atStart: ReadonlyMap<string, Endpoint>
  readonly #path: string
  readonly #onProblem: (problem: string) => void
  #text = ""

  private constructor(
    path: string,
    atStart: ReadonlyMap<string, Endpoint>,
    onProblem: (problem: string) => void
  ) {
    this.#path = path
    this.atStart = atStart
    this.#onProblem = onProblem
  }

  static async open(path: string, onProblem: (problem: string) => void): Promise<EndpointsFile> {
    return new EndpointsFile(path, await read(path), onProblem)
  }

  /** Writes the file if an endpoint has changed. A failed write is reported, because the gateway serves without the file. */
  async write(peers: ReadonlyArray<PeerStats>): Promise<void> {
    const known = peers.flatMap(({ endpoint, publicKey }) => endpoint === undefined ? [] : [[publicKey, endpoint]])
    const text = `${JSON.stringify(Object.fromEntries(known))}\n`
    if (known.length === 0 || text === this.#text) return
    try {
      await writeFileAtomic(this.#path, text)
      this.#text = text
    } catch (error) {
      this.#onProblem(`cannot write ${this.#path}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
}

async function read(path: string): Promise<ReadonlyMap<string, Endpoint>> {
  try {
    const stored: unknown = JSON.parse(await readFile(path, "utf8"))
    if (typeof stored !== "object" || stored === null) return new Map()
    return new Map(Object.entries(stored).flatMap(([key, value]) => isEndpoint(value) ? [[key, value] as const] : []))
  } catch {
    return new Map()
  }
}

const isEndpoint = (value: unknown): value is Endpoint =>
  typeof value === "object" && value !== null && "host" in value && "port" in value &&
  typeof value.host === "string" && isIP(value.host) !== 0 && Number.isInteger(value.port)
