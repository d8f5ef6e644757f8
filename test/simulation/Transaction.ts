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

export class Transaction {
  tables: Tables
  readonly changes: Array<DetailedChange> = []

  constructor(tables: Tables) {
    this.tables = tables
  }

  /** Inserts or updates a row. An identical row is no change. */
  put<E extends Entity>(entity: E, row: Rows[E]): void {
    if (isSameRow(this.tables[entity].get(row.id), row)) return
    this.#record({ entity, id: row.id, row } as RowChange)
    this.#check(entity, row)
  }

  /** Removes a row and returns whether it existed. Removing an agent or gateway also removes its keys. */
  remove(entity: Entity, id: string): boolean {
    if (!this.tables[entity].has(id)) return false
    if (entity === "agent" && [...this.tables.tunnel.values()].some(({ agentId }) => agentId === id)) {
      throw new ConstraintViolated("agent exists")
    }
    this.#record({ entity, id, row: undefined })
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
