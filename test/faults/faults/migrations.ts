/** F14 and F15: interrupted migrations, and concurrent migrations by two nodes. */
import { ControlNode } from "#faults/ControlNode.ts"
import { makeTemporaryDirectory, operatorApi, removeDirectory } from "#faults/embeddedNodeHelpers.ts"
import { Postgres, type Rows } from "#faults/Postgres.ts"
import { Proxy } from "#faults/Proxy.ts"
import type { Fault, FaultRun } from "#faults/FaultRun.ts"
import { waitUntil } from "#faults/waitUntil.ts"
import { schemaVersion } from "#store/Database.ts"
import { PgClient } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { createHash, randomBytes } from "node:crypto"
import { chmod } from "node:fs/promises"
import { join } from "node:path"

/** A PostgreSQL with one database per attempt, and a proxy for its nodes. */
class MigrationSetup {
  readonly directory: string
  readonly postgres: Postgres
  readonly proxy: Proxy
  readonly #masterKey = randomBytes(32).toString("base64")
  #made = 0

  private constructor(directory: string, postgres: Postgres, proxy: Proxy) {
    this.directory = directory
    this.postgres = postgres
    this.proxy = proxy
  }

  static async open(): Promise<MigrationSetup> {
    const directory = await makeTemporaryDirectory()
    await chmod(directory, 0o755)
    const postgres = await Postgres.open(join(directory, "postgres"))
    return new MigrationSetup(directory, postgres, await Proxy.to(postgres.port))
  }

  async newDatabase(): Promise<string> {
    const name = `migrated_${this.#made += 1}`
    await this.postgres.administer(`create database ${name}`)
    return name
  }

  newNode(database: string): Promise<ControlNode> {
    const name = `${database}-${this.#made += 1}`
    return ControlNode.make({
      name,
      dataDir: join(this.directory, name),
      env: { CONTROL_MASTER_KEY: this.#masterKey, DATABASE_URL: this.postgres.urlAt(this.proxy.port, database) }
    })
  }

  query(database: string, statement: string): Promise<Rows> {
    const layer = PgClient.layer({
      url: Redacted.make(this.postgres.urlAt(this.postgres.port, database)),
      maxConnections: 1
    })
    return Effect.runPromise(
      Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe<Record<string, unknown>>(statement)).pipe(
        Effect.provide(layer),
        Effect.scoped
      )
    )
  }

  /** Hash of columns, constraints, indexes, functions, triggers and completed migrations. */
  async hashOf(database: string): Promise<string> {
    return createHash("sha256").update(JSON.stringify(await this.query(database, shapeQuery))).digest("hex").slice(
      0,
      12
    )
  }

  async close(): Promise<void> {
    await this.proxy.close()
    await this.postgres.close()
    removeDirectory(this.directory)
  }
}

const shapeQuery = `
  select table_name || '.' || column_name as name, concat_ws(' ', data_type, is_nullable, column_default, is_identity) as text
    from information_schema.columns where table_schema = 'public'
  union all select conname, pg_get_constraintdef(oid) from pg_constraint where connamespace = 'public'::regnamespace
  union all select indexname, indexdef from pg_indexes where schemaname = 'public'
  union all select proname, pg_get_functiondef(oid) from pg_proc
    where pronamespace = 'public'::regnamespace and prokind in ('f', 'p')
  union all select tgrelid::regclass || ' ' || tgname, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
  union all select 'migration ' || migration_id, name from control_migrations
  order by 1, 2`

/** Calls `act` at one message to the database. Every statement is one chunk, because a migration waits for each response. */
const atChunk = (proxy: Proxy, wanted: number, act: () => void): { readonly seen: () => number } => {
  let seen = 0
  proxy.onChunk = (_, direction) => {
    if (direction !== "up") return
    seen += 1
    if (seen === wanted) act()
  }
  return { seen: () => seen }
}

/** Starts a node again without a fault, and compares its schema with that of an undisturbed start. */
const checkRestart = async (
  run: FaultRun,
  setup: MigrationSetup,
  database: string,
  clean: string,
  what: string
): Promise<void> => {
  const node = await setup.newNode(database)
  try {
    await node.start()
    const made = await operatorApi(node).post("/api/agents", { name: "after" })
    run.check(made.status === 201, `${what}: a later write was answered with ${made.status}`)
    const hash = await setup.hashOf(database)
    run.check(hash === clean, `${what}: the schema is ${hash} instead of ${clean}`)
  } finally {
    await node.stop()
  }
}

const cleanStart = async (setup: MigrationSetup): Promise<{ readonly hash: string; readonly chunks: number }> => {
  const database = await setup.newDatabase()
  const node = await setup.newNode(database)
  const counter = atChunk(setup.proxy, -1, () => {})
  let chunks = 0
  node.spawn()
  await waitUntil(30_000, async () => {
    const done = await setup.query(database, "select to_regclass('control_migrations') is not null as there")
    if (done[0]?.["there"] !== true) return false
    const [row] = await setup.query(database, "select coalesce(max(migration_id), 0) as newest from control_migrations")
    chunks = counter.seen()
    return row?.["newest"] === schemaVersion
  })
  await node.waitUntilReady()
  const hash = await setup.hashOf(database)
  await node.stop()
  setup.proxy.heal()
  return { hash, chunks }
}

const interrupted: Fault = {
  id: "F14",
  name: "Interrupted migration",
  injected:
    "the first start on an empty database is killed, or loses its connections, at the k-th message, or its k-th DDL statement fails",
  expected: "the next start completes the migration: the same schema as without a fault, for all k",
  nodes: 0,
  execute: async (run) => {
    const setup = await MigrationSetup.open()
    try {
      const { chunks, hash } = await cleanStart(setup)
      const tries = run.fleetSize < 100 ? 1 : 3
      const tried: Record<string, Array<number>> = { killed: [], cut: [], failed: [] }
      for (let index = 0; index < tries; index += 1) {
        for (const how of ["killed", "cut"] as const) {
          const at = 1 + Math.floor((index + run.random.next()) * chunks / tries)
          tried[how]?.push(at)
          await interrupt(setup, how, at, hash, run)
        }
        const statement = 1 + Math.floor((index + run.random.next()) * ddlStatements / tries)
        tried["failed"]?.push(statement)
        await failStatement(setup, statement, hash, run)
      }
      const text = Object.entries(tried).map(([how, ks]) => `${how} at ${ks.join(", ")}`).join("; ")
      run.observe(`${chunks} messages in a start: ${text}; each time the schema ${hash} in the end`)
      if (tries < chunks) run.notTested("every k; each seed tests another sample")
    } finally {
      await setup.close()
    }
  }
}

const interrupt = async (
  setup: MigrationSetup,
  how: "killed" | "cut",
  at: number,
  clean: string,
  run: FaultRun
): Promise<void> => {
  const database = await setup.newDatabase()
  const node = await setup.newNode(database)
  let fired = false
  atChunk(setup.proxy, at, () => {
    fired = true
    if (how === "killed") node.signal("SIGKILL")
    setup.proxy.cut()
  })
  node.spawn()
  await waitUntil(30_000, async () => !node.isAlive || fired && how === "cut" && await node.isReady())
  setup.proxy.heal()
  if (node.isAlive) await node.stop()
  else if (how === "cut") {
    const code = await node.exited
    run.check(code === 1, `cut at ${at}: the node exited with ${code}`)
  }
  await checkRestart(run, setup, database, clean, `${how} at ${at}`)
}

/** Approximate number of DDL statements of all migrations. A number above the real one fails nothing. */
const ddlStatements = 60

/**
 * Fails one DDL statement with an event trigger. The sequence counts outside of transactions, in a schema that the hash
 * ignores.
 */
const failStatement = async (setup: MigrationSetup, at: number, clean: string, run: FaultRun): Promise<void> => {
  const database = await setup.newDatabase()
  await setup.query(database, "create schema faults")
  await setup.query(database, "create sequence faults.statements")
  await setup.query(
    database,
    `create function faults.fail() returns event_trigger language plpgsql as $$ begin
      if nextval('faults.statements') = ${at} then raise exception 'the fault at statement ${at}'; end if; end $$`
  )
  await setup.query(database, "create event trigger faults_fail on ddl_command_start execute function faults.fail()")
  const node = await setup.newNode(database)
  node.spawn()
  await waitUntil(30_000, async () => !node.isAlive || await node.isReady())
  if (node.isAlive) await node.stop()
  else {
    run.check(await node.exited === 1, `a failing statement ${at}: the node exited with ${await node.exited}`)
    run.check(
      node.output.includes("SQLSTATE P0001"),
      `the output does not contain the reason: ${node.output.slice(-300)}`
    )
  }
  await setup.query(database, "drop event trigger faults_fail")
  await checkRestart(run, setup, database, clean, `failed at ${at}`)
}

const concurrent: Fault = {
  id: "F15",
  name: "Concurrent migrations; older node on a newer schema",
  injected:
    "two nodes start at once on an empty database, several times; a node starts on a newer schema than it knows",
  expected: "both serve with the schema of one undisturbed start; the older node refuses to start and changes nothing",
  nodes: 0,
  execute: async (run) => {
    const setup = await MigrationSetup.open()
    try {
      const { hash } = await cleanStart(setup)
      const rounds = run.fleetSize < 100 ? 1 : 3
      for (let round = 0; round < rounds; round += 1) {
        const database = await setup.newDatabase()
        const pair = [await setup.newNode(database), await setup.newNode(database)]
        try {
          for (const node of pair) node.spawn()
          await Promise.all(pair.map((node) => node.waitUntilReady()))
          const statuses = await Promise.all(
            pair.map((node, index) => operatorApi(node).post("/api/agents", { name: `by ${index}` }))
          )
          run.check(statuses.every(({ status }) => status === 201), "one of the two nodes rejects writes")
          const found = await setup.hashOf(database)
          run.check(found === hash, `two concurrent starts created ${found} instead of ${hash}`)
        } finally {
          await Promise.all(pair.map((node) => node.stop()))
        }
      }
      run.observe(`${rounds} pairs at once, each with the schema ${hash}`)
      await newerSchema(run, setup)
      run.notTested(
        "programs of an older version, because a checkout contains none"
      )
    } finally {
      await setup.close()
    }
  }
}

const newerSchema = async (run: FaultRun, setup: MigrationSetup): Promise<void> => {
  const database = await setup.newDatabase()
  const first = await setup.newNode(database)
  await first.start()
  await setup.query(database, "insert into control_migrations (migration_id, name) values (9000, 'of the future')")
  const before = await setup.hashOf(database)
  const writes = await operatorApi(first).post("/api/agents", { name: "by the one that runs" })
  run.check(writes.status === 201, `the running node rejects writes: ${writes.status}`)
  const second = await setup.newNode(database)
  second.spawn()
  await waitUntil(30_000, () => !second.isAlive)
  const code = second.isAlive ? "nothing" : await second.exited
  run.check(code === 1, `on a newer schema a node exited with ${code}`)
  run.check(second.output.includes("schema version 9000"), "the node does not name the schema version")
  run.check(await setup.hashOf(database) === before, "the node changed the newer schema")
  run.observe(`on a newer schema: exit ${code}, nothing changed, and the running node kept serving`)
  await second.kill()
  await first.stop()
}

export const migrations: ReadonlyArray<Fault> = [interrupted, concurrent]
