/** The simulated PostgreSQL: rows, the numbered log of their changes, who is online, and those who listen. It outlives nodes. */
import type { NotedNack } from "#schema/clientMessages.ts"
import { type ClientRef, nameOf, type Revision } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { type DatabaseFaults, noDatabaseFaults } from "./databaseFaults.ts"
import type { Process } from "./Process.ts"
import { applyChange, emptyTables, isSameRow, type RowChange, type Tables } from "./databaseTables.ts"
import { type ChangeDetails, Transaction } from "./Transaction.ts"
import type { World } from "./World.ts"

/** One line of the log. */
export type LogEntry = RowChange & ChangeDetails & {
  readonly revision: number
  readonly tag: string
}

/** The tables as they were at one revision of one history. */
export interface DatabaseState {
  readonly timeline: string
  readonly revision: number
  readonly tables: Tables
  /** Who was online by then. */
  readonly presence: ReadonlyMap<string, PresenceRow>
  /** Whether a transaction ended here: no backup ends in the middle of one. */
  isTransactionEnd: boolean
}

export interface PresenceRow {
  readonly ref: ClientRef
  readonly status: "online" | "offline"
  readonly lastSeenAt: number
  readonly session: string | null
  readonly node: string
  readonly since: number
  readonly address: string
  readonly level: Level
  readonly version: string | null
  readonly sent: Revision | null
  readonly applied: Revision | null
  readonly nack: NotedNack | null
}

interface Listener {
  readonly process: Process
  readonly onNotification: (payload: string) => void
  readonly onLost: () => void
  /** A connection that has died without a word. */
  isDead: boolean
}

export class Database {
  readonly world: World
  readonly faults: DatabaseFaults
  tables: Tables = emptyTables
  timeline = "t1"
  revision = 0
  /** In order of revision; its beginning may be gone. */
  log: ReadonlyArray<LogEntry> = []
  /** Every state that was ever committed, in order of time; a restore is one more of them. */
  readonly history: Array<DatabaseState> = []
  readonly presence = new Map<string, PresenceRow>()
  /** Leases by node, and who is to be told that its session was taken over. They are in no backup: nodes come back by themselves. */
  readonly nodes = new Map<string, { readonly until: number; readonly draining: boolean; readonly epoch: number }>()
  takeovers: Array<{ readonly node: string; readonly session: string }> = []
  nodeEvents: Array<{ readonly node: string; readonly number: number; readonly at: number; readonly events: string }> =
    []
  /** The newest revision of each tunnel's row, and what its agent has said of it. */
  readonly tunnelRevisions = new Map<string, number>()
  readonly reports = new Map<string, { readonly status: string; readonly at: number }>()
  readonly times = new Map<string, { readonly created: number; readonly updated: number }>()
  /** When something was committed without its node hearing of it. */
  readonly commitsWithoutAnswer = new Set<number>()
  readonly keyUsed = new Map<string, number>()
  readonly claims: Array<{ readonly name: string; readonly at: number }> = []
  /** Whose secret it is: a client's name, or a certificate's. */
  readonly secrets = new Map<string, string>()
  readonly #listeners = new Set<Listener>()
  #timelines = 1
  #tags = 0
  #newest!: DatabaseState
  /** It was set back under the same name, and nobody has noticed. */
  isRestoreUnnoticed = false
  /** When the history was last set back. */
  restoredAt = Number.NEGATIVE_INFINITY
  /** Connections of before a crash are no good after it. */
  incarnation = 0

  constructor(world: World) {
    this.world = world
    this.faults = noDatabaseFaults()
    this.#remember(true)
  }

  /** How many sessions were claimed for this client since then. */
  countClaims(ref: ClientRef, at: number): number {
    return this.claims.filter((claim) => claim.name === nameOf(ref) && claim.at >= at).length
  }

  hasLease(node: string): boolean {
    return (this.nodes.get(node)?.until ?? Number.NEGATIVE_INFINITY) > this.world.now
  }

  /** Who is shown offline had nobody to speak for it: neither its node's lease, nor a touch for long. */
  checkSwept({ lastSeenAt, node, ref }: PresenceRow): void {
    if (this.hasLease(node) && lastSeenAt > this.world.now - 20_000) {
      this.world.violate("L2 presence", `${nameOf(ref)} was swept away, and its node lives`)
    }
  }

  get listenerCount(): number {
    return this.#listeners.size
  }

  /** Runs one transaction and commits it; what it throws undoes all of it. */
  transact<A>(body: (transaction: Transaction) => A): A {
    const transaction = new Transaction(this.tables)
    const result = body(transaction)
    for (const change of transaction.changes) this.#number(change)
    if (transaction.changes.length > 0) {
      this.#newest.isTransactionEnd = true
      this.notify("")
    }
    return result
  }

  #remember(isWhole: boolean): void {
    const { revision, tables, timeline } = this
    this.#newest = { timeline, revision, tables, presence: new Map(this.presence), isTransactionEnd: isWhole }
    this.history.push(this.#newest)
  }

  #number(change: RowChange & ChangeDetails): void {
    const revision = this.revision + 1
    const before = this.tables[change.entity].get(change.id)
    this.revision = revision
    this.tables = applyChange(this.tables, change)
    this.#remember(false)
    this.#append({ ...change, revision, tag: `tag ${this.#tags += 1}` })
    const name = `${change.entity}:${change.id}`
    const { now } = this.world
    if (change.row !== undefined && "privateKey" in change.row && change.row.privateKey !== null) {
      this.secrets.set(canary(change.row.privateKey), name)
    }
    if (change.row === undefined) this.#forget(change, name)
    else {
      if (change.entity === "tunnel") this.tunnelRevisions.set(change.id, revision)
      const known = this.times.get(name)
      this.times.set(name, { created: before === undefined || known === undefined ? now : known.created, updated: now })
    }
    this.world.trace(() => `  db ${revision} ${change.entity} ${change.id.slice(0, 4)} ${describe(before, change.row)}`)
    this.world.addToHash(1, revision)
  }

  /** Readers see a number only when all below it are there: its writer held the counter until its commit. */
  #append(logged: LogEntry): void {
    this.log = [...this.log, logged]
  }

  #forget(change: RowChange, name: string): void {
    this.times.delete(name)
    if (change.entity === "key") this.keyUsed.delete(change.id)
    if (change.entity === "tunnel") {
      this.tunnelRevisions.delete(change.id)
      this.reports.delete(change.id)
    }
    if (change.entity === "agent" || change.entity === "gateway") this.presence.delete(name)
  }

  // ---- who listens

  listen(process: Process, hear: (payload: string) => void, lost: () => void): () => void {
    const listener: Listener = { process, onNotification: hear, onLost: lost, isDead: false }
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  notify(payload: string): void {
    for (const listener of this.#listeners) {
      if (!listener.process.alive) {
        this.#listeners.delete(listener)
        continue
      }
      if (listener.isDead) continue
      if (payload === "" && this.faults.notificationsToLose > 0) {
        this.faults.notificationsToLose -= 1
        this.world.count("notification lost")
        continue
      }
      listener.process.deliver(this.world.random.between(1, 3), () => listener.onNotification(payload))
    }
  }

  /** Every LISTEN connection dies: silently, or with an error. */
  killListeners(silently: boolean): void {
    for (const listener of this.#listeners) {
      if (silently) listener.isDead = true
      else {
        this.#listeners.delete(listener)
        listener.process.deliver(1, listener.onLost)
      }
    }
  }

  // ---- disasters

  goDown(): void {
    this.faults.mode = "down"
    this.incarnation += 1
    this.killListeners(false)
  }

  /**
   * A failover to a standby that lacks the last changes, whose history has another name; or a backup read into the same
   * server, whose has not.
   */
  restore(to: number, isNamed: boolean): void {
    const kept = this.history.findLast(({ isTransactionEnd: isWhole, revision, timeline }) =>
      isWhole && timeline === this.timeline && revision <= to
    )
    if (kept === undefined) return
    this.restoredAt = this.world.now
    if (isNamed) this.#nameAnew()
    else this.isRestoreUnnoticed = true
    this.tables = kept.tables
    this.revision = kept.revision
    this.log = this.log.filter(({ revision }) => revision <= kept.revision)
    this.presence.clear()
    for (const [name, row] of kept.presence) this.presence.set(name, row)
    this.#remember(true)
    this.world.trace(() => `  db rewound to ${kept.revision}: now ${this.timeline}`)
  }

  /** Whoever notices first that the history is not continued gives it another name. */
  beginTimeline(lost: string): void {
    if (this.timeline !== lost) return
    this.world.count("lost changes noticed")
    this.#nameAnew()
    this.#remember(true)
  }

  tagAt(revision: number): string | null {
    return this.log.find((logged) => logged.revision === revision)?.tag ?? null
  }

  #nameAnew(): void {
    this.isRestoreUnnoticed = false
    this.#timelines += 1
    this.timeline = `t${this.#timelines}`
  }

  /** Forgets the log up to a revision; the newest line stays. */
  compact(upTo: number): void {
    this.log = this.log.filter(({ revision }) => revision > upTo || revision === this.revision)
  }

  exists(ref: ClientRef): boolean {
    return this.tables[ref.type].has(ref.id)
  }

  presenceOf(ref: ClientRef): PresenceRow | undefined {
    return this.presence.get(nameOf(ref))
  }

  /** I6: the log is gap-free and is what the tables are made of. */
  checkLog(): void {
    let expected: number | undefined
    for (const { revision } of this.log) {
      if (expected !== undefined && revision !== expected) {
        this.world.violate("I6 gap-free log", `after ${expected - 1} comes ${revision}`)
      }
      expected = revision + 1
    }
    if (expected !== undefined && expected !== this.revision + 1) {
      this.world.violate("I6 gap-free log", `it ends at ${expected - 1}, the counter is ${this.revision}`)
    }
  }
}

/** A piece of a secret that is written the same in JSON. */
function canary(secret: string): string {
  return secret.split("\n").find((line) => line !== "" && !line.startsWith("-")) ?? secret
}

function describe(before: object | undefined, after: object | undefined): string {
  return after === undefined ? "gone" : before === undefined ? "new" : isSameRow(before, after) ? "same" : "changed"
}
