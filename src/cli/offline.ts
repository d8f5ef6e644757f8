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
import { type DataDirectoryUnusable, readSecretFile } from "#store/secretFiles.ts"
import { Effect, Layer, Option } from "effect"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { commandFailed } from "./CommandFailed.ts"
import { Environment } from "./environment.ts"
import { warningLog } from "./warningLog.ts"

/** The settings of the server. Settings that the server would reject are a usage error. */
export const settings = Layer.effect(
  Settings,
  Effect.mapError(
    Effect.flatMap(Environment, (variables) => readSettings(variables)),
    (error) => commandFailed("usage", error.message)
  )
)

/** Whether this machine can open a database: the one of `DATABASE_URL`, or an embedded one that exists. */
export const hasDatabase = Effect.map(
  Settings,
  ({ dataDir, databaseUrl }) => Option.isSome(databaseUrl) || existsSync(join(dataDir, "postgres"))
)

/** Fails without a database, because opening the embedded one would create it. */
const requireDatabase = Layer.effectDiscard(Effect.gen(function*() {
  if (yield* hasDatabase) return
  const { dataDir } = yield* Settings
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

/**
 * Cipher of this machine's master key; none without a usable key. None is generated, because a new key could not decrypt the existing
 * data. Fails for a key file that the server would not read either.
 */
export const cipher: Effect.Effect<Option.Option<Cipher>, DataDirectoryUnusable, Settings> = Effect.gen(function*() {
  const settings = yield* Settings
  const others = parseOldMasterKeys(settings)
  if (Option.isSome(settings.masterKey)) return Option.some(makeCipher(settings.masterKey.value, others))
  const [own, old] = yield* Effect.forEach(
    ["master-key", "master-key.old"],
    (name) => readSecretFile(join(settings.dataDir, name))
  )
  return own === undefined ? Option.none() : yield* Effect.option(
    Effect.try(() => makeCipher(own, [...old === undefined ? [] : [old], ...others]))
  )
}).pipe(Effect.provide(warningLog))
