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

export class Viewer {
  view: View | undefined

  /** Follows one message; anything but a config or a step changes nothing. */
  take({ type, data }: Message): void {
    if (type === "config") this.view = fromConfig(data)
    if (this.view === undefined) return
    const { tunnels } = this.view
    if (type === "tunnel_create") this.#check(!(data["id"] in tunnels), "tunnel_create of a tunnel that is there")
    if (type === "tunnel_update") this.#check(data["id"] in tunnels, "tunnel_update of a tunnel that is not there")
    if (type === "tunnel_delete") this.#check(data["id"] in tunnels, "tunnel_delete of a tunnel that is not there")
    if (type === "tunnel_create" || type === "tunnel_update") {
      this.view = { ...this.view, tunnels: { ...tunnels, [data["id"]]: data } }
    }
    if (type === "tunnel_delete") {
      this.view = {
        ...this.view,
        tunnels: Object.fromEntries(Object.entries(tunnels).filter(([id]) => id !== data["id"]))
      }
    }
  }

  #check(holds: boolean, fault: string): void {
    if (!holds) throw new Error(fault)
  }
}

/** The data of a `config`, from the wire or from `view`. */
export const fromConfig = (data: Record<string, unknown>): View => ({
  own: data["agent"] ?? data["gateway"],
  peers: byKey(data["gateways"] ?? data["agents"]),
  tunnels: byKey(data["tunnels"]),
  certificates: byKey(data["certificates"] ?? [])
})

function byKey(rows: unknown): Rows {
  return Object.fromEntries((rows as ReadonlyArray<Row>).map((row) => [row.id ?? row.domain ?? "", row]))
}
