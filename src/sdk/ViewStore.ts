/** The last good view on disk, so that a client that starts while Control is away still knows what to do. */
import type { ClientType } from "#schema/ids.ts"
import { Effect, Option, Schema } from "effect"
import { randomUUID } from "node:crypto"
import { constants } from "node:fs"
import { mkdir, open, rename, rm } from "node:fs/promises"
import { dirname } from "node:path"
import { configFor } from "./messages.ts"
import { fromConfig, type Held, toConfigData } from "./view.ts"

/** The file could not be written; the view is in force all the same. */
export class ViewNotStored extends Schema.TaggedError<ViewNotStored>()("ViewNotStored", { reason: Schema.String }) {}

/**
 * The view in the file; none when there is no file, or it is damaged, or it is one of the other kind of client, or it is none
 * that this client has written: a pipe, or a file that everybody may write.
 */
export const load = (path: string, self: ClientType): Effect.Effect<Held | undefined> =>
  Effect.tryPromise(() => read(path)).pipe(
    Effect.flatMap(Schema.decodeUnknownEffect(Schema.fromJsonString(configFor[self]))),
    Effect.map(fromConfig),
    Effect.option,
    Effect.map(Option.getOrUndefined)
  )

/**
 * Writes the view as JSON in the form of a `config` message, mode 0600, since it has private keys in it. Whoever reads the
 * file at any moment, also after a crash, finds the old one or the new one whole.
 */
export const save = (path: string, { revision, timeline, view }: Held): Effect.Effect<void, ViewNotStored> =>
  Effect.tryPromise({
    try: () => replace(path, JSON.stringify({ type: "config", revision, timeline, data: toConfigData(view) })),
    catch: (error) => new ViewNotStored({ reason: error instanceof Error ? error.message : String(error) })
  })

const writableByAll = 0o002

async function read(path: string): Promise<string> {
  // To open a pipe that nobody writes would else last for ever.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const about = await file.stat()
    if (!about.isFile() || (about.mode & writableByAll) !== 0) throw new Error("this is no file of this client alone")
    return await file.readFile("utf8")
  } finally {
    await file.close()
  }
}

async function replace(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const temporary = `${path}.${randomUUID()}`
  try {
    const file = await open(temporary, "wx", 0o600)
    try {
      await file.writeFile(text)
      // Without it a crash of the machine could leave the new name with no content.
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}
