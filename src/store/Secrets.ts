/** The two secrets that Control itself needs, from the settings or else from files in its data directory. */
import { type Cipher, makeCipher } from "#crypto/Cipher.ts"
import { mintApiKey } from "#crypto/apiKeys.ts"
import { Settings } from "#Settings.ts"
import { Context, Effect, Layer, Option, Redacted, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"
import { Directory } from "./Directory.ts"
import { atEdge } from "./sql.ts"

/** The database was written under another master key than this process was given. */
export class WrongMasterKey extends Schema.TaggedError<WrongMasterKey>()("WrongMasterKey", {
  writtenUnder: Schema.String,
  given: Schema.UndefinedOr(Schema.String)
}) {
  override get message(): string {
    const given = this.given === undefined ? "no master key" : `master key ${this.given}`
    return `the database is encrypted under master key ${this.writtenUnder}, but this process has ${given}: ` +
      "give it the right one as CONTROL_MASTER_KEY or CONTROL_MASTER_KEY_FILE (a second node needs the first one's key)"
  }
}

/** The one row that names the database's history and its master key is gone. */
export class MetaMissing extends Schema.TaggedError<MetaMissing>()("MetaMissing", {}) {
  override get message(): string {
    return "the database's table control_meta has lost its one row: restore the database from a backup"
  }
}

export class Secrets extends Context.Service<Secrets, {
  /** Opens and closes what the database keeps encrypted. */
  readonly cipher: Cipher
  readonly adminToken: Redacted.Redacted
  /** Where a person finds the admin token; none when it came from the settings. */
  readonly adminTokenFile: Option.Option<string>
}>()("control/store/Secrets") {
  static readonly layer = Layer.effect(
    Secrets,
    Effect.gen(function*() {
      const settings = yield* Settings
      const directory = yield* Directory
      const sql = yield* SqlClient.SqlClient

      const generate = Effect.flatMap(keyIdOf(sql), (writtenUnder) =>
        writtenUnder === null
          ? Effect.sync(() => randomBytes(32).toString("base64"))
          : Effect.fail(new WrongMasterKey({ writtenUnder, given: undefined })))
      const masterKey = Option.isSome(settings.masterKey)
        ? settings.masterKey.value
        : yield* Effect.flatMap(directory.opened, (opened) => opened.secret("master-key", generate))
      const cipher = makeCipher(masterKey)
      yield* claimDatabase(sql, cipher.keyId)

      if (Option.isSome(settings.adminToken)) {
        return Secrets.of({ cipher, adminToken: settings.adminToken.value, adminTokenFile: Option.none() })
      }
      const opened = yield* directory.opened
      const adminToken = yield* opened.secret(
        "admin-token",
        Effect.sync(() => Redacted.value(mintApiKey("admin").apiKey))
      )
      return Secrets.of({ cipher, adminToken, adminTokenFile: Option.some(opened.pathOf("admin-token")) })
    })
  )
}

/** The id of the master key that the database is written under; null while nobody has claimed it. */
const keyIdOf = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  return yield* idIn(yield* atEdge(sql`select master_key_id as id from control_meta`))
})

/** The first process to come leaves the id of its key; every later one must have the same key. */
const claimDatabase = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, keyId: string) {
  const rows = yield* atEdge(sql`
    update control_meta set master_key_id = coalesce(master_key_id, ${keyId}) returning master_key_id as id`)
  const writtenUnder = yield* idIn(rows)
  if (writtenUnder !== null && writtenUnder !== keyId) return yield* new WrongMasterKey({ writtenUnder, given: keyId })
})

const idIn = (rows: ReadonlyArray<object>): Effect.Effect<string | null, MetaMissing> => {
  const [row] = decodeIds(rows)
  return row === undefined ? Effect.fail(new MetaMissing()) : Effect.succeed(row.id)
}

const decodeIds = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ id: Schema.NullOr(Schema.String) })))
