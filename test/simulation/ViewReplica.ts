/** What a client knows that only follows the protocol: it takes configs and steps, and has a view and a place in its history. */
import type { Level } from "#schema/protocol.ts"
import { canonical, type View } from "./expectedViews.ts"

/** A message as it comes off the socket. */
export interface Message {
  readonly type: string
  readonly data: Readonly<Record<string, unknown>>
  readonly revision?: number
  readonly previous?: number
  readonly timeline?: string
}

export interface Position {
  readonly timeline: string
  readonly revision: number
}

/** `gap`: something before this step is missing. `strange`: it does not go with the view. */
export type ApplyResult = "applied" | "ignored" | "gap" | "strange"

type Rows = Map<string, string>
type Data = Message["data"]

export class ViewReplica {
  readonly #level: Level
  view: View | undefined
  /** Where it is, at `control.v1`. */
  position: Position | undefined

  constructor(level: Level, before?: ViewReplica) {
    this.#level = level
    this.view = before?.view
    this.position = before?.position
  }

  /** Whether the view is the one of the client with this id. */
  isOf(id: string): boolean {
    return this.view?.own.includes(`"id":${JSON.stringify(id)}`) === true
  }

  apply(message: Message): ApplyResult {
    if (message.type === "config") {
      this.view = fromConfig(message.data)
      this.position = { timeline: message.timeline ?? "", revision: message.revision ?? 0 }
      return "applied"
    }
    const [, entity = "", what] = /^(tunnel|agent|gateway|certificate)_(create|update|delete)$/u.exec(message.type) ??
      []
    if (what === undefined) return "ignored"
    return this.#level === "plain" ? this.#step(entity, what, message.data) : this.#stepAt(entity, what, message)
  }

  /** Steps of the plain level go with the view: a create is new, the others are not. */
  #step(entity: string, what: string, data: Data): ApplyResult {
    if (entity !== "tunnel" || this.view === undefined) return "strange"
    const isThere = this.view.tunnels.has(String(data["id"]))
    if (isThere === (what === "create")) return "strange"
    this.#apply(entity, what, data)
    return "applied"
  }

  /** The rule of `control.v1`. */
  #stepAt(entity: string, what: string, { data, previous = Number.NaN, revision = Number.NaN }: Message): ApplyResult {
    const { position } = this
    if (this.view === undefined || position === undefined) return "gap"
    if (revision <= position.revision) return "ignored"
    if (!(previous <= position.revision)) return "gap"
    this.#apply(entity, what, data)
    this.position = { ...position, revision }
    return "applied"
  }

  #apply(entity: string, what: string, data: Data): void {
    const { view } = this
    if (view === undefined) return
    const id = String(data[entity === "certificate" ? "domain" : "id"])
    const changed = (rows: ReadonlyMap<string, string>): Rows => {
      const next = new Map(rows)
      if (what === "delete") next.delete(id)
      else next.set(id, canonical(data))
      return next
    }
    this.view = entity === "tunnel"
      ? { ...view, tunnels: changed(view.tunnels) }
      : entity === "certificate"
      ? { ...view, certificates: changed(view.certificates) }
      : { ...view, peers: changed(view.peers) }
  }
}

function fromConfig(data: Data): View {
  return {
    own: canonical(isObject(data["agent"]) ? data["agent"] : isObject(data["gateway"]) ? data["gateway"] : {}),
    peers: byId(data["gateways"] ?? data["agents"], "id"),
    tunnels: byId(data["tunnels"], "id"),
    certificates: byId(data["certificates"] ?? [], "domain")
  }
}

function byId(rows: unknown, key: "id" | "domain"): Rows {
  if (!Array.isArray(rows)) throw new Error("a list of the config is missing")
  return new Map(rows.map((row: Record<string, unknown>) => [String(row[key]), canonical(row)]))
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null
}
