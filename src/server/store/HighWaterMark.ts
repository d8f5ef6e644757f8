/** How far this process has seen the history, kept outside the database: a restored backup is behind it. */
import { Revision, Timeline } from "#schema/ids.ts"
import { RowCounts } from "#schema/rowKinds.ts"
import { Settings } from "#server/Settings.ts"
import { Context, Effect, Layer, Option, Schema } from "effect"
import { readFile, rename, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { Directory } from "./Directory.ts"

/** A change that was seen: which one of which history, and its tag. */
export const HighWaterMark = Schema.Struct({
  timeline: Timeline,
  revision: Revision,
  tag: Schema.NullOr(Schema.String),
  /** How many rows there were; version 0.2.0 did not say. */
  rows: Schema.optionalKey(RowCounts)
})
export type HighWaterMark = typeof HighWaterMark.Type

/** `unused`: this process has no place of its own to keep a mark in. */
export type MarkState = "kept" | "none" | "damaged" | "unused"

export class HighWaterMarkStore extends Context.Service<HighWaterMarkStore, {
  /** The mark that was kept last; none at first, or where it cannot be read, which is reported. */
  readonly kept: Effect.Effect<Option.Option<HighWaterMark>>
  /** What this process found where the mark should be. */
  readonly state: Effect.Effect<MarkState>
  /** Keeps this one instead. A mark that cannot be written is reported: it is a precaution, and nothing waits for it. */
  keep(mark: HighWaterMark): Effect.Effect<void>
}>()("control/store/HighWaterMark") {
  /** In the data directory; a process that has none, since all its secrets and its database were given to it, keeps no mark. */
  static readonly layer = Layer.effect(
    HighWaterMarkStore,
    Effect.gen(function*() {
      const settings = yield* Settings
      const isNeeded = [settings.databaseUrl, settings.masterKey, settings.adminToken].some(Option.isNone)
      if (!isNeeded) {
        return HighWaterMarkStore.of({
          kept: Effect.succeedNone,
          state: Effect.succeed("unused"),
          keep: () => Effect.void
        })
      }
      const { path } = yield* (yield* Directory).opened
      const file = join(path, "high-water.json")

      let wasDamaged = false
      const read = Effect.promise(() =>
        readFile(file, "utf8").catch((error) => error.code === "ENOENT" ? undefined : "")
      )

      const kept = Effect.gen(function*() {
        const text = yield* read
        const mark = decodeMark(text)
        wasDamaged = text !== undefined && Option.isNone(mark)
        // Without a mark, a backup that was restored meanwhile is taken for the history that it once was.
        if (wasDamaged) {
          yield* Effect.logWarning(
            `${file} is damaged, and counts as none: if the database was restored from a backup while this process was ` +
              "stopped, that goes unnoticed. The file is written anew; look after the disk"
          )
        }
        return mark
      })
      const state = Effect.map(
        read,
        (text) => wasDamaged ? "damaged" as const : text === undefined ? "none" as const : "kept" as const
      )

      const keep = (mark: HighWaterMark) =>
        Effect.tryPromise(async () => {
          await writeFile(`${file}.new`, `${JSON.stringify(mark)}\n`, { mode: 0o600 })
          await rename(`${file}.new`, file)
        }).pipe(Effect.catchCause((cause) => Effect.logWarning(`${file} could not be written`, cause)))

      return HighWaterMarkStore.of({ kept, state, keep })
    })
  )
}

const decodeMark = Schema.decodeUnknownOption(Schema.fromJsonString(HighWaterMark))
