/** What a client knows that only follows the protocol: it takes configs and steps, and has a view. */
import type { Message } from "./TestClient.ts"

interface Row {
  readonly id?: string
  readonly domain?: string
}

type Rows = Record<string, Row>

/** A view in a form in which order does not count. */
export interface View {
  readonly own: unknown
  readonly peers: Rows
  readonly tunnels: Rows
  readonly certificates: Rows
}

const lists = { tunnel: "tunnels", agent: "peers", gateway: "peers", certificate: "certificates" } as const

export class Viewer {
  view: View | undefined
  /** Of the last config or step of `control.v1`. */
  revision = 0
  timeline: string | undefined

  /**
   * Follows one message; anything but a config or a step changes nothing. A step must fit what is there: only after
   * `resumed` may an update be of a row that is new, and a delete of one that is not there.
   */
  take({ data, previous, revision, timeline, type }: Message): void {
    if (type === "auth_success") this.#isResumed = data["resumed"] === true
    if (type === "config") {
      this.view = fromConfig(data)
      this.revision = revision ?? 0
      this.timeline = timeline
      this.#isResumed = false
      return
    }
    const [, noun, verb] = /^(tunnel|agent|gateway|certificate)_(create|update|delete)$/u.exec(type) ?? []
    if (this.view === undefined || noun === undefined || verb === undefined) return
    if (revision !== undefined && previous !== undefined) this.#follow(revision, previous)
    const list = lists[noun as keyof typeof lists]
    const rows = this.view[list]
    const key = data["id"] ?? data["domain"]
    const isThere = key in rows
    if (!this.#isResumed)
      this.#check(isThere === (verb !== "create"), `${type} of ${key}, which is ${isThere ? "" : "not "}there`)
    const { [key]: _, ...others } = rows
    this.view = { ...this.view, [list]: verb === "delete" ? others : { ...others, [key]: data } }
  }

  #isResumed = false

  #follow(revision: number, previous: number): void {
    this.#check(previous === this.revision, `a step after ${previous} came at ${this.revision}`)
    this.#check(previous < revision, `a step to ${revision} came after ${previous}`)
    this.revision = revision
  }

  #check(holds: boolean, fault: string): void {
    if (!holds) throw new Error(fault)
  }
}

/** The data of a `config`, from the wire or from `view`. */
export const fromConfig = (data: object): View => {
  const { agent, agents, certificates, gateway, gateways, tunnels } = data as Record<string, unknown>
  return {
    own: agent ?? gateway,
    peers: byKey(gateways ?? agents),
    tunnels: byKey(tunnels),
    certificates: byKey(certificates ?? [])
  }
}

function byKey(rows: unknown): Rows {
  return Object.fromEntries((rows as ReadonlyArray<Row>).map((row) => [row.id ?? row.domain ?? "", row]))
}
