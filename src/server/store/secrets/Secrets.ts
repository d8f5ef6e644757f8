/** The two secrets that Control itself needs, from the settings or else from files in its data directory. */
import type { Cipher } from "#crypto/Cipher.ts"
import { mintApiKey } from "#crypto/apiKeys.ts"
import { Settings } from "#server/Settings.ts"
import { Context, Effect, Layer, Option, Redacted, Schema } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { Directory } from "#store/Directory.ts"
import { type KeyRing, newMasterKey, openKeyRing } from "./KeyRing.ts"
import { newProcessName, register, unregister } from "./keyReaders.ts"
import { atEdge, StoreUnavailable } from "#store/sql.ts"

/** What the database is encrypted under needs a master key that this process does not have. */
export class WrongMasterKey extends Schema.TaggedError<WrongMasterKey>()("WrongMasterKey", {
  writtenUnder: Schema.Array(Schema.String),
  given: Schema.Array(Schema.String),
  why: Schema.Literals(["written", "leftOver"]).annotate({
    description: "`leftOver`: a change of the master key has not ended, and values under an older key may be left."
  })
}) {
  override get message(): string {
    const keys = (ids: ReadonlyArray<string>) => `master key${ids.length === 1 ? "" : "s"} ${ids.join(", ")}`
    const given = this.given.length === 0 ? "no master key" : keys(this.given)
    return this.why === "written"
      ? `the database is encrypted under ${keys(this.writtenUnder)}, but this process has ${given}: ` +
        "give it the right one as CONTROL_MASTER_KEY or CONTROL_MASTER_KEY_FILE (a second node needs the first one's key)"
      : `the change of the master key has not ended, and something may still be encrypted under ` +
        `${keys(this.writtenUnder)}, but this process has ${given}: add what is missing to CONTROL_MASTER_KEYS_OLD`
  }
}

/** The one row that names the database's history and its master key is gone. */
export class MetaMissing extends Schema.TaggedError<MetaMissing>()("MetaMissing", {}) {
  override get message(): string {
    return "the database's table control_meta has lost its one row: restore the database from a backup"
  }
}

export class Secrets extends Context.Service<Secrets, {
  /** Opens what the database keeps encrypted. To close something, ask for `writingCipher`. */
  readonly cipher: Cipher
  /**
   * The cipher of the key that the database says is written under. To be asked for inside the transaction that writes, of its own client: no
   * other key is named before it has ended.
   */
  writingCipher(sql: SqlClient.SqlClient): Effect.Effect<Cipher, SqlError.SqlError | StoreUnavailable>
  readonly keyRing: KeyRing
  /** This process, where it says which keys it can read. */
  readonly processName: string
  readonly adminToken: Redacted.Redacted
  /** Where a person finds the admin token; none when it came from the settings. */
  readonly adminTokenFile: Option.Option<string>
}>()("control/store/secrets/Secrets") {
  static readonly layer = Layer.effect(
    Secrets,
    Effect.gen(function*() {
      const settings = yield* Settings
      const directory = yield* Directory
      const sql = yield* SqlClient.SqlClient

      const generate = Effect.flatMap(keyIdOf(sql), (writtenUnder) =>
        writtenUnder === null
          ? newMasterKey
          : Effect.fail(new WrongMasterKey({ writtenUnder: [writtenUnder], given: [], why: "written" })))
      const keyRing = yield* openKeyRing(settings, directory, generate)
      const { cipher } = keyRing
      const processName = newProcessName()
      yield* Effect.acquireRelease(
        atEdge(register(sql, processName, cipher.readableIds)),
        () => Effect.ignore(atEdge(unregister(sql, processName)))
      )
      yield* claimDatabase(sql, cipher)
      const keys = { cipher, writingCipher: writingCipherOf(cipher), keyRing, processName }

      if (Option.isSome(settings.adminToken)) {
        return Secrets.of({ ...keys, adminToken: settings.adminToken.value, adminTokenFile: Option.none() })
      }
      const opened = yield* directory.opened
      const adminToken = yield* opened.secret(
        "admin-token",
        Effect.sync(() => Redacted.value(mintApiKey("admin").apiKey))
      )
      return Secrets.of({ ...keys, adminToken, adminTokenFile: Option.some(opened.pathOf("admin-token")) })
    })
  )
}

/** The id of the master key that the database is written under; null while nobody has claimed it. */
const keyIdOf = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  return yield* idIn(yield* atEdge(sql`select master_key_id as id from control_meta`))
})

/**
 * The first process to come leaves the id of its key; every later one must be able to read and write under what the database
 * names. It has said before what it can read, so another key cannot be named unseen while it starts.
 */
const claimDatabase = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, cipher: Cipher) {
  const given = [...cipher.readableIds]
  yield* atEdge(sql`update control_meta set master_key_id = ${cipher.keyId} where master_key_id is null`)
  const writtenUnder = yield* idIn(yield* atEdge(sql`select control_writing_key() as id from control_meta`))
  if (writtenUnder !== null && !cipher.readableIds.has(writtenUnder)) {
    return yield* new WrongMasterKey({ writtenUnder: [writtenUnder], given, why: "written" })
  }
  const [{ left }] = decodeLeft(yield* atEdge(sql`select rotating_from as left from control_meta`))
  const missing = left.filter((id) => !cipher.readableIds.has(id))
  if (missing.length > 0) return yield* new WrongMasterKey({ writtenUnder: missing, given, why: "leftOver" })
})

const decodeLeft = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ left: Schema.Array(Schema.String) })]))

const writingCipherOf = (cipher: Cipher) =>
  Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
    const [row] = decodeIds(yield* sql`select control_writing_key() as id`)
    const writing = row?.id === undefined || row.id === null ? undefined : cipher.under(row.id)
    if (writing !== undefined) return writing
    return yield* new StoreUnavailable({
      reason: `it is encrypted under master key ${row?.id ?? "(none)"}, which this process does not have`
    })
  })

const idIn = (rows: ReadonlyArray<object>): Effect.Effect<string | null, MetaMissing> => {
  const [row] = decodeIds(rows)
  return row === undefined ? Effect.fail(new MetaMissing()) : Effect.succeed(row.id)
}

const decodeIds = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ id: Schema.NullOr(Schema.String) })))
