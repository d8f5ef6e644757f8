/** PostgreSQL of the whole run, with fsync: the embedded one or the server of `BENCH_DATABASE_URL`. */
import { defaults, Settings } from "#server/Settings.ts"
import * as Schema from "#store/Database.ts"
import { DataDirectory, openDataDirectory } from "#store/DataDirectory.ts"
import { startEmbeddedPostgres } from "#store/postgres/EmbeddedPostgres.ts"
import { PgClient } from "@effect/sql-pg"
import { Effect, Exit, Layer, ManagedRuntime, Option, Redacted, References, Scope } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { now, sleep } from "./timing.ts"
import { postgresCpuMillis } from "./postgresCpu.ts"
import { type NetworkSize, type SeededNetwork, seedNetwork } from "./seedNetwork.ts"
import { runDirectory } from "./runDirectory.ts"

type Rows = ReadonlyArray<Record<string, unknown>>

/** One database with the schema and one seeded network. */
export interface Network extends SeededNetwork {
  readonly databaseUrl: string
  readonly masterKey: string
  query(statement: string, parameters?: ReadonlyArray<unknown>): Promise<Rows>
  close(): Promise<void>
}

export interface WriteCounters {
  /** Number of writing transactions so far in the whole server, counted by transaction ids. */
  readonly transactions: number
  /** Bytes of write-ahead log so far. */
  readonly walBytes: number
}

export interface Database {
  readonly description: string
  createNetwork(size: NetworkSize): Promise<Network>
  writeCounters(): Promise<WriteCounters>
  /** CPU time so far in milliseconds. Undefined with `BENCH_DATABASE_URL` and on systems without /proc. */
  cpuMillis(): number | undefined
  /** Stops the embedded database for `downMillis`. Returns the milliseconds until the database answers again. */
  restart(downMillis: number): Promise<number>
  close(): Promise<void>
}

export const openDatabase = async (): Promise<Database> => {
  let scope = Effect.runSync(Scope.make())
  const external = process.env["BENCH_DATABASE_URL"]
  const directory = join(runDirectory, "database")
  const url = external !== undefined && external !== "" ? external : await startEmbedded(directory, scope)
  const server = ManagedRuntime.make(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 }))
  const query = (statement: string): Promise<Rows> =>
    server.runPromise(Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe<Record<string, unknown>>(statement)))

  const [serverInfo] = await query(
    "select version(), current_setting('fsync') as fsync, current_setting('synchronous_commit') as sync"
  )
  const postmasterPid = () => external === undefined ? readPostmasterPid(directory) : undefined
  let networkCount = 0

  return {
    description:
      `${String(serverInfo?.["version"]).split(" on ")[0]}, fsync ${serverInfo?.["fsync"]}, synchronous_commit ${
        serverInfo?.["sync"]
      }, ` +
      (external === undefined ? "embedded" : "BENCH_DATABASE_URL"),
    createNetwork: async (size) => {
      const name = `control_bench_${process.pid}_${networkCount += 1}`
      await query(`create database ${name}`)
      const networkUrl = new URL(url)
      networkUrl.pathname = `/${name}`
      const network = await openNetwork(networkUrl.toString(), size)
      const close = async () => {
        await network.close()
        await query(`drop database if exists ${name} with (force)`)
      }
      return { ...network, close }
    },
    writeCounters: async () => {
      const [row] = await query(
        "select pg_snapshot_xmax(pg_current_snapshot())::text as xid, (pg_current_wal_insert_lsn() - '0/0')::text as wal"
      )
      return { transactions: Number(row?.["xid"]), walBytes: Number(row?.["wal"]) }
    },
    cpuMillis: () => postgresCpuMillis(postmasterPid()),
    restart: async (awayMillis) => {
      if (external !== undefined)
        throw new Error(
          "cannot restart the server of BENCH_DATABASE_URL; unset the variable to use the embedded database"
        )
      const stoppedAt = now()
      await Effect.runPromise(Scope.close(scope, Exit.void))
      await sleep(awayMillis)
      scope = Effect.runSync(Scope.make())
      await startEmbedded(directory, scope)
      await query("select 1").catch(() => query("select 1"))
      return now() - stoppedAt
    },
    close: async () => {
      await server.dispose()
      await Effect.runPromise(Scope.close(scope, Exit.void))
    }
  }
}

async function startEmbedded(directory: string, scope: Scope.Closeable): Promise<string> {
  const started = Effect.flatMap(openDataDirectory(directory), () => startEmbeddedPostgres({ dataDir: directory }))
  return Redacted.value((await Effect.runPromise(Scope.provide(started, scope))).url)
}

function readPostmasterPid(directory: string): number | undefined {
  const file = join(directory, "postgres", "postmaster.pid")
  return existsSync(file) ? Number(readFileSync(file, "utf8").split("\n")[0]) : undefined
}

/** Migrates the database to the current schema, as a start of Control does, and seeds the network. */
async function openNetwork(url: string, size: NetworkSize): Promise<Network> {
  const masterKey = randomBytes(32).toString("base64")
  const settings = Settings.layerOf({ ...defaults, databaseUrl: Option.some(Redacted.make(url)) })
  const runtime = ManagedRuntime.make(Schema.layer.pipe(
    Layer.provide(DataDirectory.layer),
    Layer.provide(settings),
    Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "Warn"))
  ))
  const seeded = await runtime.runPromise(seedNetwork(size, masterKey))
  return {
    ...seeded,
    databaseUrl: url,
    masterKey,
    query: (statement, parameters = []) =>
      runtime.runPromise(
        Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe<Record<string, unknown>>(statement, [...parameters]))
      ),
    close: () => runtime.dispose()
  }
}
