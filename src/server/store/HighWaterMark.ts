/** High-water mark: the newest revision seen, kept outside the database to detect restored backups. */
import { writeFileAtomic } from "#files/writeFileAtomic.ts"
import { Revision, Timeline } from "#schema/ids.ts"
import { RowCounts } from "#schema/rowKinds.ts"
import { Settings } from "#server/Settings.ts"
import { Context, Effect, Layer, Option, Schema } from "effect"
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { DataDirectory } from "./DataDirectory.ts"

/** The newest change that this process has seen: its timeline, revision and tag. A restored backup is older. */
export const HighWaterMark = Schema.Struct({
  timeline: Timeline,
  revision: Revision,
  tag: Schema.NullOr(Schema.String),
  /** Number of rows of each kind at this revision. Files of version 0.2.0 do not have it. */
  rows: Schema.optionalKey(RowCounts)
})
export type HighWaterMark = typeof HighWaterMark.Type

/** `unused`: this process has no data directory, so it keeps no mark. */
export type HighWaterMarkState = "kept" | "none" | "damaged" | "unused"

/** Reads and replaces the high-water mark of this process. */
export class HighWaterMarkStore extends Context.Service<HighWaterMarkStore, {
  /** Reads the mark. None without a file, or if the file is damaged, which is logged as a warning. */
  readonly read: Effect.Effect<Option.Option<HighWaterMark>>
  /** Whether there is a mark. `damaged` if the last `read` found a damaged file. */
  readonly readState: Effect.Effect<HighWaterMarkState>
  /** Replaces the mark. A failure is only logged, because the mark is a precaution and no work depends on it. */
  write(mark: HighWaterMark): Effect.Effect<void>
}>()("control/store/HighWaterMark") {
  /**
   * Keeps the mark in the data directory. A process with an external database and both secrets in its settings keeps none.
   */
  static readonly layer = Layer.effect(
    HighWaterMarkStore,
    Effect.gen(function*() {
      const settings = yield* Settings
      const usesDataDirectory = [settings.databaseUrl, settings.masterKey, settings.adminToken].some(Option.isNone)
      if (!usesDataDirectory) {
        return HighWaterMarkStore.of({
          read: Effect.succeedNone,
          readState: Effect.succeed("unused"),
          write: () => Effect.void
        })
      }
      const { path } = yield* (yield* DataDirectory).open
      const file = join(path, "high-water.json")

      let wasDamaged = false
      const readText = Effect.promise(() =>
        readFile(file, "utf8").catch((error) => error.code === "ENOENT" ? undefined : "")
      )

      const read = Effect.gen(function*() {
        const text = yield* readText
        const mark = decodeMark(text)
        wasDamaged = text !== undefined && Option.isNone(mark)
        if (wasDamaged) {
          yield* Effect.logWarning(
            `high-water mark ${file} is damaged and ignored; Control cannot detect a backup that was restored while this ` +
              "process was stopped, and writes the file again; check the disk"
          )
        }
        return mark
      })
      const readState = Effect.map(
        readText,
        (text) => wasDamaged ? "damaged" as const : text === undefined ? "none" as const : "kept" as const
      )

      const write = (mark: HighWaterMark) =>
        Effect.tryPromise(() => writeFileAtomic(file, `${JSON.stringify(mark)}\n`)).pipe(
          Effect.catchCause((cause) => Effect.logWarning(`cannot write high-water mark ${file}; check the disk`, cause))
        )

      return HighWaterMarkStore.of({ read, readState, write })
    })
  )
}

const decodeMark = Schema.decodeUnknownOption(Schema.fromJsonString(HighWaterMark))
