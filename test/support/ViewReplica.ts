/** Builds a client's view from configs and deltas, and checks that each delta fits the view. */
import type { Message } from "./TestClient.ts"

interface Row {
  readonly id?: string
  readonly domain?: string
}

type Rows = Record<string, Row>

/** A view without order. */
export interface View {
  readonly own: unknown
  readonly peers: Rows
  readonly tunnels: Rows
  readonly certificates: Rows
}

const lists = { tunnel: "tunnels", agent: "peers", gateway: "peers", certificate: "certificates" } as const

export class ViewReplica {
  view: View | undefined
  /** Revision of the last config or delta of `control.v1`. */
  revision = 0
  timeline: string | undefined

  /**
   * Applies a config or a delta, and ignores other messages. Throws if a delta does not fit the view. Only after `resumed` may
   * an update name an unknown row, and a delete a missing one.
   */
  apply({ data, previous, revision, timeline, type }: Message): void {
    if (type === "auth_success") this.#isResumed = data["resumed"] === true
    if (type === "config") {
      this.view = viewFromConfig(data)
      this.revision = revision ?? 0
      this.timeline = timeline
      this.#isResumed = false
      return
    }
    const [, noun, verb] = /^(tunnel|agent|gateway|certificate)_(create|update|delete)$/u.exec(type) ?? []
    if (this.view === undefined || noun === undefined || verb === undefined) return
    if (revision !== undefined && previous !== undefined) this.#checkRevision(revision, previous)
    const list = lists[noun as keyof typeof lists]
    const rows = this.view[list]
    const key = data["id"] ?? data["domain"]
    const exists = key in rows
    if (!this.#isResumed)
      this.#check(exists === (verb !== "create"), `${type} of ${key}, which ${exists ? "exists" : "is missing"}`)
    const { [key]: _, ...others } = rows
    this.view = { ...this.view, [list]: verb === "delete" ? others : { ...others, [key]: data } }
  }

  #isResumed = false

  #checkRevision(revision: number, previous: number): void {
    this.#check(previous === this.revision, `received a delta after ${previous} at revision ${this.revision}`)
    this.#check(previous < revision, `received a delta to ${revision} after ${previous}`)
    this.revision = revision
  }

  #check(holds: boolean, fault: string): void {
    if (!holds) throw new Error(fault)
  }
}

/** Converts the data of a `config` to a view. */
export const viewFromConfig = (data: object): View => {
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
