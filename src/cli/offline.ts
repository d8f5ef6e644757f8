/** Database access without a server: `DATABASE_URL`, or the embedded database while no server uses it. */
import { type Cipher, makeCipher } from "#crypto/Cipher.ts"
import { readSettings, Settings } from "#server/Settings.ts"
import { Backup } from "#store/backup/Backup.ts"
import { Restore } from "#store/backup/Restore.ts"
import * as Database from "#store/Database.ts"
import { DataDirectory } from "#store/DataDirectory.ts"
import { DoctorStore } from "#store/DoctorStore.ts"
import { NodeStore } from "#store/NodeStore.ts"
import { parseOldMasterKeys } from "#store/secrets/KeyRing.ts"
import { Effect, Layer, Logger, Option, Redacted, References } from "effect"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { commandFailed } from "./CommandFailed.ts"
import { Environment } from "./environment.ts"

/** The settings of the server. Settings that the server would reject are a usage error. */
export const settings = Layer.effect(
  Settings,
  Effect.mapError(
    Effect.flatMap(Environment, (variables) => readSettings(variables)),
    (error) => commandFailed("usage", error.message)
  )
)

/** Prints warnings and errors of the server's modules on standard error, and nothing below. */
export const warningLog = Layer.merge(
  Logger.layer([Logger.withConsoleError(Logger.make(({ message }) => `control: ${String(message)}`))]),
  Layer.succeed(References.MinimumLogLevel, "Warn")
)

/** Fails if the embedded database does not exist, because opening it would create it. */
const requireDatabase = Layer.effectDiscard(Effect.gen(function*() {
  const { dataDir, databaseUrl } = yield* Settings
  if (Option.isSome(databaseUrl) || existsSync(join(dataDir, "postgres"))) return
  return yield* commandFailed(
    "failed",
    `there is no database in ${dataDir}; set CONTROL_DATA_DIR or DATABASE_URL, or CONTROL_API_URL to ask a server`
  )
}))

const stores = Layer.mergeAll(Backup.layer, DoctorStore.layer, NodeStore.layer, Restore.layer)

/** Stores of an existing database, which keeps its schema version. */
export const existingDatabase = stores.pipe(
  Layer.provideMerge(Database.connectionLayer),
  Layer.provideMerge(DataDirectory.layer),
  Layer.provide(requireDatabase)
)

/** Stores of a database that is created if it does not exist, and migrated to this version's schema. */
export const migratedDatabase = stores.pipe(
  Layer.provideMerge(Database.layer),
  Layer.provideMerge(DataDirectory.layer)
)

/** Cipher of this machine's master key. None is generated, because a new key could not decrypt the existing data. */
export const cipher: Effect.Effect<Option.Option<Cipher>, never, Settings> = Effect.gen(function*() {
  const settings = yield* Settings
  const others = parseOldMasterKeys(settings)
  if (Option.isSome(settings.masterKey)) return Option.some(makeCipher(settings.masterKey.value, others))
  const files = ["master-key", "master-key.old"].map((name) => join(settings.dataDir, name)).filter(existsSync)
  return yield* Effect.option(Effect.try(() => {
    const [own, ...old] = files.map((file) => Redacted.make(readFileSync(file, "utf8").trim()))
    if (own === undefined) throw new Error("there is no master key")
    return makeCipher(own, [...old, ...others])
  }))
})
