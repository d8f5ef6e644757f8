/** Simulated PostgreSQL: tables, change log, presence rows and LISTEN connections. Outlives the nodes. */
import type { RecordedNack } from "#schema/messagesFromClients.ts"
import { type ClientRef, formatClientRef, type Revision } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { type DatabaseFaults, noDatabaseFaults } from "./databaseFaults.ts"
import type { Process } from "./Process.ts"
import { applyChange, emptyTables, isSameRow, type RowChange, type Tables } from "./databaseTables.ts"
import { type ChangeDetails, type ReleasedPorts, Transaction } from "./Transaction.ts"
import type { World } from "./World.ts"

/** One entry of the change log. */
export type LogEntry = RowChange & ChangeDetails & {
  readonly revision: number
  readonly tag: string
}

/** The tables at one revision of one timeline. */
export interface DatabaseState {
  readonly timeline: string
  readonly revision: number
  readonly tables: Tables
  /** Presence rows at that time. */
  readonly presence: ReadonlyMap<string, PresenceRow>
  /** Whether a transaction ended here. A backup never ends inside a transaction. */
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
  readonly nack: RecordedNack | null
}

interface Listener {
  readonly process: Process
  readonly onNotification: (payload: string) => void
  readonly onLost: () => void
  /** The connection no longer delivers notifications, and its node has received no error. */
  isDead: boolean
}

export class Database {
  #releasedPorts: ReleasedPorts = new Map()
  readonly world: World
  readonly faults: DatabaseFaults
  tables: Tables = emptyTables
  timeline = "t1"
  revision = 0
  /** In order of revision. Compaction removes the oldest entries. */
  log: ReadonlyArray<LogEntry> = []
  /** Every committed state in order of time. A restore adds one more state. */
  readonly history: Array<DatabaseState> = []
  readonly presence = new Map<string, PresenceRow>()
  /**
   * Leases by node, and takeovers that nodes have not collected yet. A backup contains neither, because running nodes
   * rewrite them.
   */
  readonly nodes = new Map<string, { readonly until: number; readonly draining: boolean; readonly epoch: number }>()
  takeovers: Array<{ readonly node: string; readonly session: string }> = []
  nodeEvents: Array<{ readonly node: string; readonly number: number; readonly at: number; readonly events: string }> =
    []
  /** Revision of each tunnel's row, and the status that its agent reported. */
  readonly tunnelRevisions = new Map<string, number>()
  readonly reports = new Map<
    string,
    { readonly status: string; readonly detail: string | null; readonly session: string; readonly at: number }
  >()
  readonly times = new Map<string, { readonly created: number; readonly updated: number }>()
  /** Simulated times of commits whose response did not reach the node. */
  readonly commitsWithoutAnswer = new Set<number>()
  readonly keyUsed = new Map<string, number>()
  readonly claims: Array<{ readonly name: string; readonly at: number }> = []
  /** Owner of each secret: the name of a client or of a certificate. */
  readonly secrets = new Map<string, string>()
  readonly #listeners = new Set<Listener>()
  #timelines = 1
  #tags = 0
  #newest!: DatabaseState
  /** The database was restored under the same timeline, and no node has noticed. */
  isRestoreUnnoticed = false
  /** Time of the last restore. */
  restoredAt = Number.NEGATIVE_INFINITY
  /** Number of crashes. Connections opened before a crash fail after it. */
  incarnation = 0

  constructor(world: World) {
    this.world = world
    this.faults = noDatabaseFaults()
    this.#saveState(true)
  }

  /** Number of sessions claimed for this client since `at`. */
  countClaims(ref: ClientRef, at: number): number {
    return this.claims.filter((claim) => claim.name === formatClientRef(ref) && claim.at >= at).length
  }

  hasLease(node: string): boolean {
    return (this.nodes.get(node)?.until ?? Number.NEGATIVE_INFINITY) > this.world.now
  }

  /** L2: a sweep marks a client offline only if its node's lease has expired or its row was not touched for 20 s. */
  checkSwept({ lastSeenAt, node, ref }: PresenceRow): void {
    if (this.hasLease(node) && lastSeenAt > this.world.now - 20_000) {
      this.world.violate("L2 presence", `${formatClientRef(ref)} was marked offline although its node is alive`)
    }
  }

  get listenerCount(): number {
    return this.#listeners.size
  }

  /** Runs one transaction and commits it. An exception from `body` rolls everything back. */
  transact<A>(body: (transaction: Transaction) => A): A {
    const transaction = new Transaction(this.tables, this.#releasedPorts)
    const result = body(transaction)
    this.#releasedPorts = transaction.releasedPorts
    for (const change of transaction.changes) this.#applyNumbered(change)
    if (transaction.changes.length > 0) {
      this.#newest.isTransactionEnd = true
      this.notify("")
    }
    return result
  }

  #saveState(isWhole: boolean): void {
    const { revision, tables, timeline } = this
    this.#newest = { timeline, revision, tables, presence: new Map(this.presence), isTransactionEnd: isWhole }
    this.history.push(this.#newest)
  }

  #applyNumbered(change: RowChange & ChangeDetails): void {
    const revision = this.revision + 1
    const before = this.tables[change.entity].get(change.id)
    this.revision = revision
    this.tables = applyChange(this.tables, change)
    this.#saveState(false)
    this.#append({ ...change, revision, tag: `tag ${this.#tags += 1}` })
    const name = `${change.entity}:${change.id}`
    const { now } = this.world
    if (change.row !== undefined && "privateKey" in change.row && change.row.privateKey !== null) {
      this.secrets.set(secretLine(change.row.privateKey), name)
    }
    if (change.row === undefined) this.#removeMetadata(change, name)
    else {
      if (change.entity === "tunnel") this.tunnelRevisions.set(change.id, revision)
      const times = this.times.get(name)
      this.times.set(name, { created: before === undefined || times === undefined ? now : times.created, updated: now })
    }
    this.world.trace(() => `  db ${revision} ${change.entity} ${change.id.slice(0, 4)} ${describe(before, change.row)}`)
    this.world.addToHash(1, revision)
  }

  /** Readers see a revision only together with all lower ones, because its writer held the counter until its commit. */
  #append(logged: LogEntry): void {
    this.log = [...this.log, logged]
  }

  #removeMetadata(change: RowChange, name: string): void {
    this.times.delete(name)
    if (change.entity === "key") this.keyUsed.delete(change.id)
    if (change.entity === "tunnel") {
      this.tunnelRevisions.delete(change.id)
      this.reports.delete(change.id)
    }
    if (change.entity === "agent" || change.entity === "gateway") this.presence.delete(name)
  }

  // ---- LISTEN and NOTIFY

  listen(process: Process, onNotification: (payload: string) => void, onLost: () => void): () => void {
    const listener: Listener = { process, onNotification, onLost, isDead: false }
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

  /** Every LISTEN connection fails, silently or with an error. */
  killListeners(silently: boolean): void {
    for (const listener of this.#listeners) {
      if (silently) listener.isDead = true
      else {
        this.#listeners.delete(listener)
        listener.process.deliver(1, listener.onLost)
      }
    }
  }

  // ---- crash, restore, compaction

  goDown(): void {
    this.faults.mode = "down"
    this.incarnation += 1
    this.killListeners(false)
  }

  /**
   * Goes back to an older state. With `isNamed` a failover to a standby that lacks the last changes starts a new timeline.
   * Without it a backup is restored into the same server, and the timeline keeps its name.
   */
  restore(to: number, isNamed: boolean): void {
    const target = this.history.findLast(({ isTransactionEnd: isWhole, revision, timeline }) =>
      isWhole && timeline === this.timeline && revision <= to
    )
    if (target === undefined) return
    this.restoredAt = this.world.now
    if (isNamed) this.#startTimeline()
    else this.isRestoreUnnoticed = true
    this.tables = target.tables
    this.revision = target.revision
    this.log = this.log.filter(({ revision }) => revision <= target.revision)
    this.presence.clear()
    for (const [name, row] of target.presence) this.presence.set(name, row)
    this.#saveState(true)
    this.world.trace(() => `  db restored to ${target.revision}, timeline ${this.timeline}`)
  }

  /**
   * Starts a new timeline when a node notices that the history does not continue. Later reports for the same timeline
   * change nothing.
   */
  beginTimeline(lostTimeline: string): void {
    if (this.timeline !== lostTimeline) return
    this.world.count("lost changes noticed")
    this.#startTimeline()
    this.#saveState(true)
  }

  tagAt(revision: number): string | null {
    return this.log.find((logged) => logged.revision === revision)?.tag ?? null
  }

  #startTimeline(): void {
    this.isRestoreUnnoticed = false
    this.#timelines += 1
    this.timeline = `t${this.#timelines}`
  }

  /** Removes entries of the log up to a revision; the newest entry stays. */
  compact(upTo: number): void {
    this.log = this.log.filter(({ revision }) => revision > upTo || revision === this.revision)
  }

  exists(ref: ClientRef): boolean {
    return this.tables[ref.type].has(ref.id)
  }

  presenceOf(ref: ClientRef): PresenceRow | undefined {
    return this.presence.get(formatClientRef(ref))
  }

  /** I6: the log has no gap and ends at the revision counter. */
  checkLog(): void {
    let expected: number | undefined
    for (const { revision } of this.log) {
      if (expected !== undefined && revision !== expected) {
        this.world.violate("I6 gap-free log", `revision ${revision} follows ${expected - 1}`)
      }
      expected = revision + 1
    }
    if (expected !== undefined && expected !== this.revision + 1) {
      this.world.violate("I6 gap-free log", `the log ends at ${expected - 1}, the counter is at ${this.revision}`)
    }
  }
}

/** A line of a secret that JSON encoding does not change. */
function secretLine(secret: string): string {
  return secret.split("\n").find((line) => line !== "" && !line.startsWith("-")) ?? secret
}

function describe(before: object | undefined, after: object | undefined): string {
  return after === undefined ? "removed" : before === undefined ? "new" : isSameRow(before, after) ? "same" : "changed"
}
