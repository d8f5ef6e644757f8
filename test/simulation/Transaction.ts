/** Changes of one transaction, and what its deferred triggers record at commit. */
import { type ClientRef, formatClientRef } from "#schema/ids.ts"
import { applyChange, type Entity, isSameRow, type RowChange, type Rows, type Tables } from "./databaseTables.ts"

/** A constraint of the schema was violated. */
export class ConstraintViolated extends Error {
  readonly constraint: "domain" | "agent exists" | "unique"

  constructor(constraint: ConstraintViolated["constraint"]) {
    super(constraint)
    this.constraint = constraint
  }
}

/** Details of a change that triggers record, because the new row no longer shows them. */
export interface ChangeDetails {
  readonly oldAgentId: string | undefined
  readonly renumbered: boolean
  readonly own: boolean
}

type DetailedChange = RowChange & ChangeDetails

export type ReleasedPorts = ReadonlyMap<string, ReadonlySet<number>>

export class Transaction {
  tables: Tables
  /** Ports by agent that tunnels have given back. Simulations are shorter than the day until a port is given again. */
  releasedPorts: ReleasedPorts
  readonly changes: Array<DetailedChange> = []

  constructor(tables: Tables, releasedPorts: ReleasedPorts) {
    this.tables = tables
    this.releasedPorts = releasedPorts
  }

  /** Inserts or updates a row. An identical row is no change. */
  put<E extends Entity>(entity: E, given: Rows[E]): void {
    const row = entity === "tunnel" ? this.#withPort(given as Rows["tunnel"]) : given
    if (isSameRow(this.tables[entity].get(row.id), row as Rows[E])) return
    this.#record({ entity, id: row.id, row } as RowChange)
    this.#check(entity, row)
  }

  /** Removes a row and returns whether it existed. Removing an agent or gateway also removes its keys. */
  remove(entity: Entity, id: string): boolean {
    if (!this.tables[entity].has(id)) return false
    if (entity === "agent" && [...this.tables.tunnel.values()].some(({ agentId }) => agentId === id)) {
      throw new ConstraintViolated("agent exists")
    }
    const tunnel = entity === "tunnel" ? this.tables.tunnel.get(id) : undefined
    if (tunnel !== undefined) this.#release(tunnel)
    this.#record({ entity, id, row: undefined })
    if (entity === "agent") this.releasedPorts = new Map([...this.releasedPorts].filter(([agent]) => agent !== id))
    if (entity === "agent" || entity === "gateway") {
      for (const { id: key, owner } of this.tables.key.values()) {
        if (owner.type === entity && owner.id === id) this.#record({ entity: "key", id: key, row: undefined })
      }
    }
    return true
  }

  keysOf(owner: ClientRef): ReadonlyArray<Rows["key"]> {
    return [...this.tables.key.values()].filter((key) => formatClientRef(key.owner) === formatClientRef(owner))
  }

  /** As the triggers and defaults of migration 17. The order of the fields is fixed, because rows are compared as text. */
  #withPort(given: Rows["tunnel"]): Rows["tunnel"] {
    const { agentId, domain, enabled, id, port: givenPort, protocol = "http", target } = given
    const row = { id, agentId, domain, target, enabled, protocol }
    const old = this.tables.tunnel.get(row.id)
    if (old?.agentId === agentId) return { ...row, port: old.port ?? 0 }
    const wanted = old?.port ?? givenPort
    const used = [...this.tables.tunnel.values()]
      .filter(({ agentId, id }) => agentId === row.agentId && id !== row.id)
      .map(({ port }) => port ?? 0)
    const released = this.releasedPorts.get(row.agentId) ?? new Set<number>()
    const isFree = wanted !== undefined && !used.includes(wanted) && (old === undefined || !released.has(wanted))
    if (old !== undefined) this.#release(old)
    return { ...row, port: isFree ? wanted : 1 + Math.max(19_999, ...used, ...released) }
  }

  #release({ agentId, port = 0 }: Rows["tunnel"]): void {
    const released = new Set(this.releasedPorts.get(agentId)).add(port)
    this.releasedPorts = new Map(this.releasedPorts).set(agentId, released)
  }

  #record(change: RowChange): void {
    const old = this.tables[change.entity].get(change.id)
    this.tables = applyChange(this.tables, change)
    this.changes.push({
      ...change,
      oldAgentId: old !== undefined && "agentId" in old ? old.agentId : undefined,
      renumbered: old !== undefined && change.row !== undefined && addressesOf(old) !== addressesOf(change.row),
      own: old === undefined || change.row === undefined || !isSameRow(withoutAddress(old), withoutAddress(change.row))
    })
  }

  #check(entity: Entity, row: Rows[Entity]): void {
    if (entity === "tunnel" && "agentId" in row) {
      // PostgreSQL checks the unique index with each row, and the foreign key at the end of the statement.
      for (const { domain, id } of this.tables.tunnel.values()) {
        if (id !== row.id && domain === row.domain) throw new ConstraintViolated("domain")
      }
      if (!this.tables.agent.has(row.agentId)) throw new ConstraintViolated("agent exists")
    }
    if (entity === "agent" && "subnet" in row) {
      for (const { id, subnet } of this.tables.agent.values()) {
        if (id !== row.id && subnet === row.subnet) throw new ConstraintViolated("unique")
      }
    }
  }
}

function addressesOf(row: Rows[Entity]): string {
  return "subnet" in row ? `${row.virtualIp} ${row.subnet}` : ""
}

function withoutAddress(row: Rows[Entity]): object {
  return "publicIp" in row ? { ...row, publicIp: null } : row
}
