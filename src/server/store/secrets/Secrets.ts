/** The master keys and the admin token, from the settings or the data directory. */
import type { Cipher } from "#crypto/Cipher.ts"
import { mintApiKey } from "#crypto/apiKeys.ts"
import { exposedFileWarning, Settings } from "#server/Settings.ts"
import { Context, Effect, Layer, Option, Redacted, Schema } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { DataDirectory } from "#store/DataDirectory.ts"
import { type KeyRing, newMasterKey, openKeyRing } from "./KeyRing.ts"
import { newProcessName, registerKeyReader, unregisterKeyReader } from "./keyReaders.ts"
import { StoreUnavailable, withStoreErrors } from "#store/sql.ts"

/** The database has values of a master key that this process does not have. */
export class WrongMasterKey extends Schema.TaggedError<WrongMasterKey>()("WrongMasterKey", {
  writtenUnder: Schema.Array(Schema.String),
  given: Schema.Array(Schema.String),
  why: Schema.Literals(["written", "leftOver"]).annotate({
    description:
      "`written`: the writing key is missing. `leftOver`: a rotation has not ended, and a key of older values is missing."
  })
}) {
  override get message(): string {
    const keys = (ids: ReadonlyArray<string>) => `master key${ids.length === 1 ? "" : "s"} ${ids.join(", ")}`
    const given = this.given.length === 0 ? "no master key" : keys(this.given)
    return this.why === "written"
      ? `the database is encrypted under ${keys(this.writtenUnder)}, but this process has ${given}; ` +
        "set CONTROL_MASTER_KEY or CONTROL_MASTER_KEY_FILE (all nodes need the same key)"
      : `the rotation of the master key has not ended, and values may still be encrypted ` +
        `under ${
          keys(this.writtenUnder)
        }, but this process has ${given}; add the missing keys to CONTROL_MASTER_KEYS_OLD`
  }
}

/** The row of `control_meta`, with the timeline and the id of the master key, is missing. */
export class MetaMissing extends Schema.TaggedError<MetaMissing>()("MetaMissing", {}) {
  override get message(): string {
    return "the table control_meta has no row; restore the database from a backup"
  }
}

/** The secrets of this process. Its layer fails with `WrongMasterKey` if a master key of the database is missing. */
export class Secrets extends Context.Service<Secrets, {
  /** Decrypts stored values. To encrypt, use `writingCipher`. */
  readonly cipher: Cipher
  /**
   * The cipher of the database's writing key. Call it inside the transaction that writes, with the client of that
   * transaction: its lock prevents a change of the writing key until the commit.
   */
  writingCipher(sql: SqlClient.SqlClient): Effect.Effect<Cipher, SqlError.SqlError | StoreUnavailable>
  readonly keyRing: KeyRing
  /** Name of this process in the registry of readable keys. */
  readonly processName: string
  readonly adminToken: Redacted.Redacted
  /** The file with the admin token; none if the token comes from the settings. */
  readonly adminTokenFile: Option.Option<string>
}>()("control/store/secrets/Secrets") {
  static readonly layer = Layer.effect(
    Secrets,
    Effect.gen(function*() {
      const settings = yield* Settings
      yield* Effect.forEach(settings.exposedFiles, (name) => Effect.logWarning(exposedFileWarning(name)))
      const directory = yield* DataDirectory
      const sql = yield* SqlClient.SqlClient

      const generate = Effect.flatMap(readMasterKeyId(sql), (writtenUnder) =>
        writtenUnder === null
          ? newMasterKey
          : Effect.fail(new WrongMasterKey({ writtenUnder: [writtenUnder], given: [], why: "written" })))
      const keyRing = yield* openKeyRing(settings, directory, generate)
      const { cipher } = keyRing
      const processName = newProcessName()
      yield* Effect.acquireRelease(
        withStoreErrors(registerKeyReader(sql, processName, cipher.readableIds)),
        () => Effect.ignore(withStoreErrors(unregisterKeyReader(sql, processName)))
      )
      yield* verifyMasterKeys(sql, cipher)
      const keys = { cipher, writingCipher: writingCipherOf(cipher), keyRing, processName }

      if (Option.isSome(settings.adminToken)) {
        return Secrets.of({ ...keys, adminToken: settings.adminToken.value, adminTokenFile: Option.none() })
      }
      const opened = yield* directory.open
      const adminToken = yield* opened.readOrCreateSecret(
        "admin-token",
        Effect.sync(() => Redacted.value(mintApiKey("admin").apiKey))
      )
      return Secrets.of({ ...keys, adminToken, adminTokenFile: Option.some(opened.secretPath("admin-token")) })
    })
  )
}

/** The id of the writing key; null for a new database. */
const readMasterKeyId = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  return yield* masterKeyIdIn(yield* withStoreErrors(sql`select master_key_id as id from control_meta`))
})

/**
 * The first process stores the id of its key. Every later process must have the writing key and the keys of an unfinished
 * rotation. The process has registered its keys before, so no other writing key can be chosen without it while it starts.
 */
const verifyMasterKeys = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, cipher: Cipher) {
  const readableIds = [...cipher.readableIds]
  yield* withStoreErrors(sql`update control_meta set master_key_id = ${cipher.keyId} where master_key_id is null`)
  const writtenUnder = yield* masterKeyIdIn(
    yield* withStoreErrors(sql`select control_writing_key() as id from control_meta`)
  )
  if (writtenUnder !== null && !cipher.readableIds.has(writtenUnder)) {
    return yield* new WrongMasterKey({ writtenUnder: [writtenUnder], given: readableIds, why: "written" })
  }
  const [{ pending }] = decodePending(yield* withStoreErrors(sql`select rotating_from as pending from control_meta`))
  const missing = pending.filter((id) => !cipher.readableIds.has(id))
  if (missing.length > 0)
    return yield* new WrongMasterKey({ writtenUnder: missing, given: readableIds, why: "leftOver" })
})

const decodePending = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ pending: Schema.Array(Schema.String) })]))

const writingCipherOf = (cipher: Cipher) =>
  Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
    const [row] = decodeIds(yield* sql`select control_writing_key() as id`)
    const writing = row?.id === undefined || row.id === null ? undefined : cipher.forWritingKey(row.id)
    if (writing !== undefined) return writing
    return yield* new StoreUnavailable({
      reason: `the database is encrypted under master key ${row?.id ?? "(none)"}, which this process does not have`
    })
  })

const masterKeyIdIn = (rows: ReadonlyArray<object>): Effect.Effect<string | null, MetaMissing> => {
  const [row] = decodeIds(rows)
  return row === undefined ? Effect.fail(new MetaMissing()) : Effect.succeed(row.id)
}

const decodeIds = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ id: Schema.NullOr(Schema.String) })))
