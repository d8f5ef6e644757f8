/** Which master key the database is written under, who can read it, and what is under which; and the way from one to another. */
import { Context, Effect, Layer, Schema, type Scope } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { locks, lockSpace } from "#store/advisoryLocks.ts"
import { liveProcesses, readersOf, register } from "./keyReaders.ts"
import { type Pass, reEncryptAll } from "./reEncrypt.ts"
import { Secrets } from "./Secrets.ts"
import { atEdge, StoreUnavailable, writing } from "#store/sql.ts"

/** A process that could not read what is written under this key. */
export class KeyNotEverywhere extends Schema.TaggedError<KeyNotEverywhere>()("KeyNotEverywhere", {
  keyId: Schema.String,
  processes: Schema.Array(Schema.String)
}) {
  override get message(): string {
    return `these processes do not have master key ${this.keyId}: ${this.processes.join(", ")}. Give it to them as ` +
      "CONTROL_MASTER_KEY or in CONTROL_MASTER_KEYS_OLD; one that is gone counts for two minutes"
  }
}

const State = Schema.Struct({
  /** The key that is written under. */
  writing: Schema.String,
  /** The keys that something may still be under, while values are being encrypted anew. */
  rotatingFrom: Schema.Array(Schema.String)
})
export type State = typeof State.Type

export class MasterKeyStore extends Context.Service<MasterKeyStore, {
  readonly state: Effect.Effect<State, StoreUnavailable>
  /** How many values are under which key; of the log, the newest ten thousand changes. */
  readonly counts: Effect.Effect<Readonly<Record<string, number>>, StoreUnavailable>
  /** Says that this process lives, and which keys it can read; to be repeated every half minute or sooner. */
  readonly register: Effect.Effect<void, StoreUnavailable>
  /** The other live processes. */
  readonly others: Effect.Effect<ReadonlyArray<string>, StoreUnavailable>
  /** From the end of this on, all that is encrypted anywhere is encrypted under this key. */
  switchTo(keyId: string): Effect.Effect<void, KeyNotEverywhere | StoreUnavailable>
  /** Values under these keys are to be encrypted anew. */
  noteLeft(keyIds: ReadonlyArray<string>): Effect.Effect<void, StoreUnavailable>
  /** Encrypts under the writing key what is not; one look at every value. */
  readonly pass: Effect.Effect<Pass, StoreUnavailable>
  /** Nothing is left under another key than this one; has no effect if another one is written under by now. */
  finish(writing: string): Effect.Effect<void, StoreUnavailable>
  /** Runs the effect while no other process runs one; `false` and nothing if one does. */
  alone<E>(effect: Effect.Effect<void, E>): Effect.Effect<boolean, E | StoreUnavailable>
}>()("control/store/secrets/MasterKeyStore") {
  static readonly layer = Layer.effect(
    MasterKeyStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { cipher, processName } = yield* Secrets

      const state = Effect.map(
        atEdge(sql`select master_key_id as writing, rotating_from as "rotatingFrom" from control_meta`),
        (rows) => decodeState(rows)[0]
      )
      const counts = Effect.map(
        atEdge(sql.unsafe(countsOfAll)),
        (rows) => Object.fromEntries(decodeCounts(rows).map(({ count, id }) => [id, count]))
      )
      const pass = Effect.gen(function*() {
        const { writing } = yield* state
        const under = cipher.under(writing)
        if (under === undefined) return yield* new StoreUnavailable({ reason: `master key ${writing} is not here` })
        return yield* reEncryptAll(sql, under)
      })

      return MasterKeyStore.of({
        state,
        counts,
        pass,
        register: Effect.asVoid(atEdge(Effect.suspend(() => register(sql, processName, cipher.readableIds)))),
        others: Effect.map(
          atEdge(liveProcesses(sql)),
          (processes) => processes.filter((process) => process !== processName)
        ),
        switchTo: Effect.fn("MasterKeyStore.switchTo")((keyId) => writing(sql)(switchIn(sql, keyId))),
        noteLeft: Effect.fn("MasterKeyStore.noteLeft")((keyIds) =>
          Effect.asVoid(atEdge(sql`update control_meta set rotating_from =
            array(select distinct unnest(rotating_from || ${[...keyIds]}::text[]) except select master_key_id)`))
        ),
        finish: Effect.fn("MasterKeyStore.finish")((keyId) =>
          Effect.asVoid(atEdge(sql`update control_meta set rotating_from = '{}' where master_key_id = ${keyId}`))
        ),
        alone: (effect) =>
          Effect.scoped(Effect.gen(function*() {
            const isAlone = yield* locked(sql).pipe(
              Effect.catchTag("SqlError", () => Effect.fail(new StoreUnavailable({ reason: "no lock was given" })))
            )
            if (isAlone) yield* effect
            return isAlone
          }))
      })
    })
  )
}

/** Waits until nobody encrypts, and keeps everybody from it until the other key is named. */
const switchIn = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, keyId: string) {
  yield* sql`select pg_advisory_xact_lock(${lockSpace}::int, ${locks.writingKey}::int)`
  const lacking = (yield* readersOf(sql, keyId)).filter(({ reads }) => !reads)
  if (lacking.length > 0) {
    return yield* new KeyNotEverywhere({ keyId, processes: lacking.map(({ process }) => process) })
  }
  yield* sql`with switched as (
      update control_meta set master_key_id = ${keyId},
        rotating_from = array(select distinct unnest(rotating_from || master_key_id) except select ${keyId})
      where master_key_id <> ${keyId} returning revision)
    select control_audit('master_key', 'update', ${keyId}, null, null, revision) from switched`
})

/** Lasts as long as its connection at most: a process that is killed holds nothing. */
const locked = (
  sql: SqlClient.SqlClient
): Effect.Effect<boolean, SqlError.SqlError, Scope.Scope> =>
  Effect.gen(function*() {
    const connection = yield* sql.reserve
    const ask = (name: string) =>
      connection.execute(`select ${name}($1::int, $2::int) as done`, [lockSpace, locks.rotation], undefined)
    const rows = yield* Effect.acquireRelease(
      ask("pg_try_advisory_lock"),
      (rows) => decodeDone(rows)[0].done ? Effect.ignore(ask("pg_advisory_unlock")) : Effect.void
    )
    return decodeDone(rows)[0].done
  })

const decodeState = Schema.decodeUnknownSync(Schema.Tuple([State]))
const decodeDone = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ done: Schema.Boolean })]))
const decodeCounts = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ id: Schema.String, count: Schema.Int }))
)

const countsOfAll = `select split_part(value, '.', 2) as id, count(*)::int as count from (
    select wireguard_private_key as value from agents
    union all select wireguard_private_key from gateways
    union all select private_key from certificates
    union all (select coalesce(row_image ->> 'wireguard_private_key', row_image ->> 'private_key') from changes
      order by revision desc limit 10000)
  ) as all_values where value ~ '^v1\\.[0-9a-f]{16}\\.' group by 1 order by 1`
