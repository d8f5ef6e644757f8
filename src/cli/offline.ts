/** The database without a server: the one that `DATABASE_URL` names, or the embedded one while nobody else has it. */
import { type Cipher, makeCipher } from "#crypto/Cipher.ts"
import { Settings } from "#server/Settings.ts"
import { Backup } from "#store/backup/Backup.ts"
import * as Database from "#store/Database.ts"
import { Directory } from "#store/Directory.ts"
import { otherKeys } from "#store/secrets/KeyRing.ts"
import { NodeStore } from "#store/NodeStore.ts"
import { Restore } from "#store/backup/Restore.ts"
import { DoctorStore } from "#store/DoctorStore.ts"
import { Effect, Layer, Logger, Option, Redacted, References } from "effect"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fail } from "./CommandFailed.ts"

/** The environment as the server reads it; what a server would refuse is a usage error here. */
export const settings = Settings.layer.pipe(
  Layer.catch((error) => Layer.effect(Settings, Effect.fail(fail("usage", error.message))))
)

/** Words go to standard error, and only those that matter. */
export const quietLog = Layer.merge(
  Logger.layer([Logger.withConsoleError(Logger.make(({ message }) => `control: ${String(message)}`))]),
  Layer.succeed(References.MinimumLogLevel, "Warn")
)

/** An embedded database that is not there yet is not made by looking at it. */
const existing = Layer.effectDiscard(Effect.gen(function*() {
  const { dataDir, databaseUrl } = yield* Settings
  if (Option.isSome(databaseUrl) || existsSync(join(dataDir, "postgres"))) return
  return yield* fail(
    "failed",
    `there is no database in ${dataDir}: set CONTROL_DATA_DIR or DATABASE_URL, or CONTROL_API_URL to ask a server`
  )
}))

const stores = Layer.mergeAll(Backup.layer, DoctorStore.layer, NodeStore.layer, Restore.layer)

/** The stores on the database as it is, whatever its schema. */
export const asItIs = stores.pipe(
  Layer.provideMerge(Database.client),
  Layer.provideMerge(Directory.layer),
  Layer.provide(existing)
)

/** The stores on a database that is brought to this version's schema, and made if it is not there. */
export const upToDate = stores.pipe(Layer.provideMerge(Database.layer), Layer.provideMerge(Directory.layer))

/** The cipher of the master key that this machine has; none is made here, since it could not open what there is. */
export const cipher: Effect.Effect<Option.Option<Cipher>, never, Settings> = Effect.gen(function*() {
  const settings = yield* Settings
  const others = otherKeys(settings)
  if (Option.isSome(settings.masterKey)) return Option.some(makeCipher(settings.masterKey.value, others))
  const files = ["master-key", "master-key.old"].map((name) => join(settings.dataDir, name)).filter(existsSync)
  return yield* Effect.option(Effect.try(() => {
    const [own, ...old] = files.map((file) => Redacted.make(readFileSync(file, "utf8").trim()))
    if (own === undefined) throw new Error("there is no key")
    return makeCipher(own, [...old, ...others])
  }))
})
