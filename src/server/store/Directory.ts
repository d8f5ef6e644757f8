/** The data directory of this process, opened at the first need: a node with a database and secrets of its own has none. */
import { Settings } from "#server/Settings.ts"
import { Context, Effect, Layer, Option, Scope } from "effect"
import {
  type DataDirectory,
  type DataDirectoryBusy,
  type DataDirectoryUnusable,
  openDataDirectory
} from "./DataDirectory.ts"

export class Directory extends Context.Service<Directory, {
  /** Locked for this process until the layer is released. */
  readonly opened: Effect.Effect<DataDirectory, DataDirectoryBusy | DataDirectoryUnusable>
  /** The directory if this process has needed one by now. */
  readonly held: Effect.Effect<Option.Option<DataDirectory>>
}>()("control/store/Directory") {
  static readonly layer = Layer.effect(
    Directory,
    Effect.gen(function*() {
      const settings = yield* Settings
      const scope = yield* Effect.scope
      let held = Option.none<DataDirectory>()
      const opened = yield* Effect.cached(
        Scope.provide(openDataDirectory(settings.dataDir), scope).pipe(
          Effect.tap((directory) =>
            Effect.sync(() => {
              held = Option.some(directory)
            })
          )
        )
      )
      return Directory.of({ opened, held: Effect.sync(() => held) })
    })
  )
}
