/** PostgreSQL server of the fault suite: the embedded binaries, listening on loopback TCP for a proxy. */
import { requireWithin } from "./waitUntil.ts"
import { findBinaries } from "#store/postgres/binaries.ts"
import { accountFor } from "#store/postgres/account.ts"
import { clusterDirectory, clusterPathFor, prepareCluster } from "#store/postgres/cluster.ts"
import { childEnvironment } from "#store/postgres/processes.ts"
import { PgClient } from "@effect/sql-pg"
import { Effect, ManagedRuntime, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { closeSync, openSync, readFileSync } from "node:fs"
import { chown, cp, lchown, mkdir, readdir, writeFile } from "node:fs/promises"
import { connect } from "node:net"
import { join } from "node:path"
import { endWithSuite } from "./childProcesses.ts"
import { freePort } from "#support/freePort.ts"

export type Rows = ReadonlyArray<Record<string, unknown>>

/** Timeouts of a node's own connections: PostgreSQL ends a lock holder that hangs. */
const nodeTimeouts = { lock_timeout: "3000", idle_in_transaction_session_timeout: "5000", statement_timeout: "10000" }

export class Postgres {
  readonly dataDir: string
  readonly port: number
  readonly settings: Readonly<Record<string, string>>
  #child: ChildProcess | undefined
  #runtime: ManagedRuntime.ManagedRuntime<SqlClient.SqlClient | PgClient.PgClient, unknown> | undefined

  private constructor(dataDir: string, port: number, settings: Readonly<Record<string, string>>) {
    this.dataDir = dataDir
    this.port = port
    this.settings = settings
  }

  /** Starts a server on the cluster in this directory, and creates the cluster if necessary. */
  static async open(dataDir: string, settings: Readonly<Record<string, string>> = {}): Promise<Postgres> {
    await mkdir(dataDir, { recursive: true, mode: 0o755 })
    const account = await Effect.runPromise(accountFor(dataDir))
    const binaries = await Effect.runPromise(findBinaries(account))
    await Effect.runPromise(prepareCluster(dataDir, binaries, account, false))
    await writeFile(join(clusterDirectory(dataDir), "pg_hba.conf"), "host all all 127.0.0.1/32 trust\n")
    const postgres = new Postgres(dataDir, await freePort(), settings)
    await postgres.start()
    return postgres
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  get isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  get log(): string {
    return readFileSync(join(this.dataDir, "postgres.log"), "utf8")
  }

  urlAt(port: number, database = "control"): string {
    return `postgres://control@127.0.0.1:${port}/${database}?sslmode=disable`
  }

  async start(): Promise<void> {
    await this.spawn()
    await requireWithin("PostgreSQL accepts connections", 60_000, () => this.acceptsConnections())
  }

  /** Starts the server without waiting until it accepts connections. */
  async spawn(): Promise<void> {
    const account = await Effect.runPromise(accountFor(this.dataDir))
    const binaries = await Effect.runPromise(findBinaries(account))
    const cluster = clusterDirectory(this.dataDir)
    const settings = {
      listen_addresses: "127.0.0.1",
      port: String(this.port),
      unix_socket_directories: "",
      shared_buffers: "64MB",
      max_connections: "100",
      timezone: "UTC",
      logging_collector: "off",
      ...this.settings
    }
    const file = openSync(join(this.dataDir, "postgres.log"), "a", 0o600)
    const args = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])
    this.#child = spawn(binaries.postgres, ["-D", clusterPathFor(cluster, account), ...args], {
      ...account,
      cwd: cluster,
      env: childEnvironment,
      stdio: ["ignore", file, file],
      detached: true
    })
    this.#child.on("error", () => {})
    endWithSuite(this.#child, "SIGQUIT")
    closeSync(file)
  }

  /** Stops the server. SIGINT shuts down in order and disconnects clients. */
  async stop(signal: "SIGINT" | "SIGQUIT" = "SIGINT"): Promise<void> {
    const child = this.#child
    if (child === undefined || !this.isRunning) return
    const exited = once(child, "exit")
    child.kill(signal)
    await exited
  }

  /** Sends SIGKILL to the postmaster and to every backend. */
  async kill(): Promise<void> {
    const child = this.#child
    if (child === undefined || !this.isRunning) return
    const below = (await this.query("select pid from pg_stat_activity where pid <> pg_backend_pid()"))
      .map(({ pid }) => Number(pid))
    const exited = once(child, "exit")
    for (const pid of [this.pid, ...below]) {
      try {
        process.kill(pid, "SIGKILL")
      } catch {
        // The backend has exited since it was listed.
      }
    }
    await exited
  }

  /** Whether the server accepts connections. Uses a separate connection, so that no pool interferes. */
  async acceptsConnections(): Promise<boolean> {
    const socket = connect({ host: "127.0.0.1", port: this.port })
    const first = await new Promise<Buffer | undefined>((resolve) => {
      socket.once("error", () => resolve(undefined))
      socket.once("close", () => resolve(undefined))
      socket.once("data", resolve)
      socket.once("connect", () => socket.write(startupMessage))
    })
    socket.destroy()
    // `R` is an authentication request or its success. A server that starts or recovers answers with `E`.
    return first?.[0] === 0x52
  }

  /** Runs a statement on the suite's own connections, which bypass every proxy. */
  async query(statement: string, parameters: ReadonlyArray<unknown> = []): Promise<Rows> {
    this.#runtime ??= ManagedRuntime.make(
      PgClient.layer({
        url: Redacted.make(this.urlAt(this.port)),
        maxConnections: 8,
        applicationName: "faults",
        connectTimeout: "5 seconds"
      })
    )
    return this.#runtime.runPromise(
      Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe<Record<string, unknown>>(statement, [...parameters]))
    )
  }

  /** Runs statements in the database `postgres`, so that the nodes' database can be copied and replaced. */
  async administer(...statements: ReadonlyArray<string>): Promise<void> {
    const layer = PgClient.layer({ url: Redacted.make(this.urlAt(this.port, "postgres")), maxConnections: 1 })
    await Effect.runPromise(
      Effect.flatMap(
        SqlClient.SqlClient,
        (sql) => Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
      ).pipe(Effect.provide(layer), Effect.scoped)
    )
  }

  /** Opens one connection with a node's timeouts. `run` sends statements and leaves a transaction open. */
  async openSession(): Promise<{ run(...statements: ReadonlyArray<string>): Promise<void>; close(): Promise<void> }> {
    const runtime = ManagedRuntime.make(PgClient.layer({
      url: Redacted.make(this.urlAt(this.port)),
      maxConnections: 1,
      minConnections: 1,
      applicationName: "faults-session",
      startupParameters: nodeTimeouts
    }))
    return {
      run: (...statements) =>
        runtime.runPromise(
          Effect.flatMap(
            SqlClient.SqlClient,
            (sql) => Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
          )
        ),
      close: () => runtime.dispose().catch(() => {})
    }
  }

  /** Copies the files of a stopped server to another data directory. */
  async copyTo(dataDir: string): Promise<void> {
    await mkdir(dataDir, { recursive: true, mode: 0o755 })
    const { gid, uid } = await Effect.runPromise(accountFor(this.dataDir)) as { uid?: number; gid?: number }
    await cp(clusterDirectory(this.dataDir), clusterDirectory(dataDir), { recursive: true })
    if (uid === undefined || gid === undefined) return
    const entries = await readdir(clusterDirectory(dataDir), { recursive: true, withFileTypes: true })
    await Promise.all(entries.map((entry) => lchown(join(entry.parentPath, entry.name), uid, gid)))
    await chown(clusterDirectory(dataDir), uid, gid)
  }

  async close(): Promise<void> {
    await this.#runtime?.dispose().catch(() => {})
    this.#runtime = undefined
    await this.stop("SIGQUIT")
  }
}

/** StartupMessage of protocol 3.0 for the user `control`. */
const startupMessage = (() => {
  const body = Buffer.from("\0\x03\0\0user\0control\0database\0control\0\0", "latin1")
  const length = Buffer.alloc(4)
  length.writeInt32BE(body.length + 4)
  return Buffer.concat([length, body])
})()
