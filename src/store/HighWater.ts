/** How far this process has seen the history, kept outside the database: a restored backup is behind it. */
import { Revision, Timeline } from "#schema/ids.ts"
import { Settings } from "#Settings.ts"
import { Context, Effect, Layer, Option, Schema } from "effect"
import { readFile, rename, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { Directory } from "./Directory.ts"

/** A change that was seen: which one of which history, and its tag. */
export const Mark = Schema.Struct({
  timeline: Timeline,
  revision: Revision,
  tag: Schema.NullOr(Schema.String),
  /** How many rows there were; version 0.2.0 did not say. */
  rows: Schema.optionalKey(
    Schema.Struct({
      agents: Schema.Int,
      gateways: Schema.Int,
      tunnels: Schema.Int,
      certificates: Schema.Int,
      keys: Schema.Int
    })
  )
})
export type Mark = typeof Mark.Type

export class HighWater extends Context.Service<HighWater, {
  /** The mark that was kept last; none at first, or where it cannot be read. */
  readonly kept: Effect.Effect<Option.Option<Mark>>
  /** Keeps this one instead. A mark that cannot be written is reported: it is a precaution, and nothing waits for it. */
  keep(mark: Mark): Effect.Effect<void>
}>()("control/store/HighWater") {
  /** In the data directory; a process that has none, since all its secrets and its database were given to it, keeps no mark. */
  static readonly layer = Layer.effect(
    HighWater,
    Effect.gen(function*() {
      const settings = yield* Settings
      const isNeeded = [settings.databaseUrl, settings.masterKey, settings.adminToken].some(Option.isNone)
      if (!isNeeded) return HighWater.of({ kept: Effect.succeedNone, keep: () => Effect.void })
      const { path } = yield* (yield* Directory).opened
      const file = join(path, "high-water.json")

      const kept = Effect.promise(() => readFile(file, "utf8").catch(() => "")).pipe(
        Effect.map(Schema.decodeUnknownOption(Schema.fromJsonString(Mark)))
      )

      const keep = (mark: Mark) =>
        Effect.tryPromise(async () => {
          await writeFile(`${file}.new`, `${JSON.stringify(mark)}\n`, { mode: 0o600 })
          await rename(`${file}.new`, file)
        }).pipe(Effect.catchCause((cause) => Effect.logWarning(`${file} could not be written`, cause)))

      return HighWater.of({ kept, keep })
    })
  )
}
