/** A client's view and position, built from received configs and deltas only. */
import type { Level } from "#schema/protocol.ts"
import { canonical, type View } from "./expectedViews.ts"

/** A parsed server message. */
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

/** `gap`: a delta before this one is missing. `inapplicable`: the delta does not apply to the view. */
export type ApplyResult = "applied" | "ignored" | "gap" | "inapplicable"

type Rows = Map<string, string>
type Data = Message["data"]

export class ViewReplica {
  readonly #level: Level
  view: View | undefined
  /** Position at `control.v1`. */
  position: Position | undefined

  constructor(level: Level, previous?: ViewReplica) {
    this.#level = level
    this.view = previous?.view
    this.position = previous?.position
  }

  /** Whether the view belongs to the client with this id. */
  isOf(id: string): boolean {
    return this.view?.own.includes(`"id":${JSON.stringify(id)}`) === true
  }

  apply(message: Message): ApplyResult {
    if (message.type === "config") {
      this.view = fromConfig(message.data)
      this.position = { timeline: message.timeline ?? "", revision: message.revision ?? 0 }
      return "applied"
    }
    const [, entity = "", operation] =
      /^(tunnel|agent|gateway|certificate)_(create|update|delete)$/u.exec(message.type) ??
        []
    if (operation === undefined) return "ignored"
    return this.#level === "plain"
      ? this.#applyPlain(entity, operation, message.data)
      : this.#applyV1(entity, operation, message)
  }

  /** Plain-level deltas: a create needs an unknown tunnel, an update or delete a known one. */
  #applyPlain(entity: string, operation: string, data: Data): ApplyResult {
    if (entity !== "tunnel" || this.view === undefined) return "inapplicable"
    const isKnown = this.view.tunnels.has(String(data["id"]))
    if (isKnown === (operation === "create")) return "inapplicable"
    this.#apply(entity, operation, data)
    return "applied"
  }

  /** Deltas of `control.v1` apply in order of revision; see protocol.md. */
  #applyV1(
    entity: string,
    operation: string,
    { data, previous = Number.NaN, revision = Number.NaN }: Message
  ): ApplyResult {
    const { position } = this
    if (this.view === undefined || position === undefined) return "gap"
    if (revision <= position.revision) return "ignored"
    if (!(previous <= position.revision)) return "gap"
    this.#apply(entity, operation, data)
    this.position = { ...position, revision }
    return "applied"
  }

  #apply(entity: string, operation: string, data: Data): void {
    const { view } = this
    if (view === undefined) return
    const id = String(data[entity === "certificate" ? "domain" : "id"])
    const changeRow = (rows: ReadonlyMap<string, string>): Rows => {
      const next = new Map(rows)
      if (operation === "delete") next.delete(id)
      else next.set(id, canonical(data))
      return next
    }
    this.view = entity === "tunnel"
      ? { ...view, tunnels: changeRow(view.tunnels) }
      : entity === "certificate"
      ? { ...view, certificates: changeRow(view.certificates) }
      : { ...view, peers: changeRow(view.peers) }
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
  if (!Array.isArray(rows)) throw new Error("the config lacks a list")
  return new Map(rows.map((row: Record<string, unknown>) => [String(row[key]), canonical(row)]))
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null
}
