/** Rotation of the master key: the writing key, its readers, and re-encryption. */
import { Context, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { advisoryLockNamespace, advisoryLocks } from "#store/advisoryLocks.ts"
import { SessionConnection } from "#store/SessionConnection.ts"
import { encryptedColumns } from "./encryptedColumns.ts"
import { findKeyReaders, listLiveProcesses, registerKeyReader } from "./keyReaders.ts"
import { reEncryptAll, type ReEncryptionPass } from "./reEncrypt.ts"
import { Secrets } from "./Secrets.ts"
import { auditedTransaction, StoreUnavailable, withStoreErrors } from "#store/sql.ts"

/** Some live processes cannot decrypt values of the new writing key. */
export class KeyNotEverywhere extends Schema.TaggedError<KeyNotEverywhere>()("KeyNotEverywhere", {
  keyId: Schema.String,
  processes: Schema.Array(Schema.String)
}) {
  override get message(): string {
    return `these processes do not have master key ${this.keyId}: ${this.processes.join(", ")}; set it there as ` +
      "CONTROL_MASTER_KEY or in CONTROL_MASTER_KEYS_OLD (a stopped process counts for 2 minutes)"
  }
}

const WritingKeyState = Schema.Struct({
  /** Id of the writing key, which encrypts new values. */
  writing: Schema.String,
  /** Ids of the keys whose values still await re-encryption; empty when no rotation is in progress. */
  rotatingFrom: Schema.Array(Schema.String)
})
export type WritingKeyState = typeof WritingKeyState.Type

/** Reads and changes the state of the master key rotation. */
export class MasterKeyStore extends Context.Service<MasterKeyStore, {
  readonly readState: Effect.Effect<WritingKeyState, StoreUnavailable>
  /** The number of values by key id. Of the change log, only the newest 10,000 changes count. */
  readonly countByKey: Effect.Effect<Readonly<Record<string, number>>, StoreUnavailable>
  /** Registers this process as live, with the keys that it can read. Repeat it at least every 30 s. */
  readonly registerKeys: Effect.Effect<void, StoreUnavailable>
  /** The other live processes. */
  readonly listOtherProcesses: Effect.Effect<ReadonlyArray<string>, StoreUnavailable>
  /** Makes this key the writing key. After the transaction, every process encrypts with it. */
  switchWritingKey(keyId: string): Effect.Effect<void, KeyNotEverywhere | StoreUnavailable>
  /** Adds keys whose values await re-encryption. */
  addPendingKeys(keyIds: ReadonlyArray<string>): Effect.Effect<void, StoreUnavailable>
  /** Re-encrypts the values of other keys with the writing key, in one pass over all values. */
  readonly reEncrypt: Effect.Effect<ReEncryptionPass, StoreUnavailable>
  /** Ends the rotation to this key. Does nothing if another key is the writing key now. */
  finishRotation(writing: string): Effect.Effect<void, StoreUnavailable>
  /** Runs the effect, and returns true; returns false without running it while another process runs one. */
  runExclusively<E>(effect: Effect.Effect<void, E>): Effect.Effect<boolean, E | StoreUnavailable>
}>()("control/store/secrets/MasterKeyStore") {
  static readonly layer = Layer.effect(
    MasterKeyStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const session = yield* SessionConnection
      const { cipher, processName } = yield* Secrets

      const readState = Effect.map(
        withStoreErrors(sql`select master_key_id as writing, rotating_from as "rotatingFrom" from control_meta`),
        (rows) => decodeState(rows)[0]
      )
      const countByKey = Effect.map(
        withStoreErrors(sql.unsafe(countByKeyQuery)),
        (rows) => Object.fromEntries(decodeCounts(rows).map(({ count, id }) => [id, count]))
      )
      const reEncrypt = Effect.gen(function*() {
        const { writing } = yield* readState
        const under = cipher.forWritingKey(writing)
        if (under === undefined) {
          return yield* new StoreUnavailable({ reason: `this process does not have master key ${writing}` })
        }
        return yield* reEncryptAll(sql, under)
      })

      return MasterKeyStore.of({
        readState,
        countByKey,
        reEncrypt,
        registerKeys: Effect.asVoid(
          withStoreErrors(Effect.suspend(() => registerKeyReader(sql, processName, cipher.readableIds)))
        ),
        listOtherProcesses: Effect.map(
          withStoreErrors(listLiveProcesses(sql)),
          (processes) => processes.filter((process) => process !== processName)
        ),
        switchWritingKey: Effect.fn("MasterKeyStore.switchWritingKey")((keyId) =>
          auditedTransaction(sql)(switchWritingKeyIn(sql, keyId))
        ),
        addPendingKeys: Effect.fn("MasterKeyStore.addPendingKeys")((keyIds) =>
          Effect.asVoid(withStoreErrors(sql`update control_meta set rotating_from =
            array(select distinct unnest(rotating_from || ${[...keyIds]}::text[]) except select master_key_id)`))
        ),
        finishRotation: Effect.fn("MasterKeyStore.finishRotation")((keyId) =>
          Effect.asVoid(
            withStoreErrors(sql`update control_meta set rotating_from = '{}' where master_key_id = ${keyId}`)
          )
        ),
        runExclusively: (effect) =>
          Effect.scoped(Effect.gen(function*() {
            const isLocked = yield* tryLockRotation(session).pipe(
              Effect.catchTag("SqlError", () =>
                Effect.fail(new StoreUnavailable({ reason: "cannot take the lock of re-encryption" })))
            )
            if (isLocked)
              yield* effect
            return isLocked
          }))
      })
    })
  )
}

/** The exclusive lock waits for all transactions that encrypt, and blocks new ones until the commit. */
const switchWritingKeyIn = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, keyId: string) {
  yield* sql`select pg_advisory_xact_lock(${advisoryLockNamespace}::int, ${advisoryLocks.writingKey}::int)`
  const lacking = (yield* findKeyReaders(sql, keyId)).filter(({ reads }) => !reads)
  if (lacking.length > 0) {
    return yield* new KeyNotEverywhere({ keyId, processes: lacking.map(({ process }) => process) })
  }
  yield* sql`with switched as (
      update control_meta set master_key_id = ${keyId},
        rotating_from = array(select distinct unnest(rotating_from || master_key_id) except select ${keyId})
      where master_key_id <> ${keyId} returning revision)
    select control_audit('master_key', 'update', ${keyId}, null, null, revision) from switched`
})

/** A session lock: PostgreSQL releases it with the connection, also for a killed process. */
const tryLockRotation = Effect.fnUntraced(function*(session: SessionConnection["Service"]) {
  if (!session.isAvailable) {
    return yield* new StoreUnavailable({
      reason:
        "re-encryption needs a session lock, which a pooler in transaction mode does not keep; set CONTROL_LISTEN_URL"
    })
  }
  const connection = yield* session.open
  const { rows } = yield* connection.query("select pg_try_advisory_lock($1::int, $2::int) as done", [
    advisoryLockNamespace,
    advisoryLocks.reEncryption
  ])
  return decodeDone(rows)[0].done
})

const decodeState = Schema.decodeUnknownSync(Schema.Tuple([WritingKeyState]))
const decodeDone = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ done: Schema.Boolean })]))
const decodeCounts = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ id: Schema.String, count: Schema.Int }))
)

const countByKeyQuery = `select split_part(value, '.', 2) as id, count(*)::int as count from (
    ${encryptedColumns.map(({ column, table }) => `select ${column} as value from ${table} union all`).join(" ")}
    (select coalesce(row_image ->> 'wireguard_private_key', row_image ->> 'private_key') from changes
      order by revision desc limit 10000)
  ) as all_values where value ~ '^v1\\.[0-9a-f]{16}\\.' group by 1 order by 1`
