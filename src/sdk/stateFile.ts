/** Reads and writes the state file, which keeps the last applied view for starts without Control. */
import { makeDirectory } from "#files/makeDirectory.ts"
import { writeFileAtomic } from "#files/writeFileAtomic.ts"
import type { ClientType } from "#schema/ids.ts"
import { Effect, Option, Schema } from "effect"
import { constants } from "node:fs"
import { open } from "node:fs/promises"
import { dirname } from "node:path"
import { configSchemas } from "./messages.ts"
import { type Snapshot, snapshotOf, toConfigData } from "./view.ts"

/** The state file could not be written. The view is applied all the same. */
export class StateFileNotWritten extends Schema.TaggedError<StateFileNotWritten>()("StateFileNotWritten", {
  reason: Schema.String
}) {}

/**
 * The snapshot in the file. Undefined if the file is missing, is damaged, or belongs to the other type of client. Undefined
 * also for a pipe and for a file that every user may write, because another program could have written it.
 */
export const readStateFile = (path: string, clientType: ClientType): Effect.Effect<Snapshot | undefined> =>
  Effect.tryPromise(() => readTrustedFile(path)).pipe(
    Effect.flatMap(Schema.decodeUnknownEffect(Schema.fromJsonString(configSchemas[clientType]))),
    Effect.map(snapshotOf),
    Effect.option,
    Effect.map(Option.getOrUndefined)
  )

/**
 * Writes the snapshot as the JSON of a `config` message. The mode is 0600, because the view contains private keys. The
 * replacement is atomic: a reader sees the old or the new content, also after a crash.
 */
export const writeStateFile = (
  path: string,
  { revision, timeline, view }: Snapshot
): Effect.Effect<void, StateFileNotWritten> =>
  Effect.tryPromise({
    try: () => replaceFile(path, JSON.stringify({ type: "config", revision, timeline, data: toConfigData(view) })),
    catch: (error) => new StateFileNotWritten({ reason: error instanceof Error ? error.message : String(error) })
  })

const writableByOthers = 0o002

async function readTrustedFile(path: string): Promise<string> {
  // Without O_NONBLOCK, opening a pipe that has no writer blocks without end.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const stats = await file.stat()
    if (!stats.isFile() || (stats.mode & writableByOthers) !== 0) {
      throw new Error(`${path} is not a regular file, or every user may write it`)
    }
    return await file.readFile("utf8")
  } finally {
    await file.close()
  }
}

async function replaceFile(path: string, text: string): Promise<void> {
  await makeDirectory(dirname(path))
  await writeFileAtomic(path, text)
}
