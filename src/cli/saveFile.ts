/** A file that is there as a whole or not at all, and stays there after a power cut; only its owner may read it. */
import { Effect, Stream } from "effect"
import { randomBytes } from "node:crypto"
import { type FileHandle, open, rename, rm } from "node:fs/promises"
import { dirname } from "node:path"
import { type CommandFailed, fail } from "./CommandFailed.ts"

/** `check` looks at what was written before it takes the place of an older file. */
export const saveFile = <E>(
  path: string,
  bytes: Stream.Stream<Uint8Array, E>,
  check: (draft: string) => Effect.Effect<void, E>
): Effect.Effect<void, E | CommandFailed> => {
  const attempt = <A>(run: () => Promise<A>) =>
    Effect.tryPromise({ try: run, catch: (error) => fail("failed", `${path} cannot be written: ${reasonOf(error)}`) })
  const draft = `${path}.${randomBytes(6).toString("hex")}`
  return Effect.acquireUseRelease(
    attempt(() => open(draft, "wx", 0o600)),
    (file: FileHandle) =>
      Effect.gen(function*() {
        yield* Stream.runForEach(bytes, (chunk) => attempt(() => file.writeFile(chunk)))
        yield* attempt(() => file.sync())
        yield* check(draft)
        yield* attempt(() => rename(draft, path))
        yield* attempt(() => syncDirectory(dirname(path)))
      }),
    (file) =>
      Effect.promise(async () => {
        await file.close()
        await rm(draft, { force: true })
      })
  )
}

const syncDirectory = async (path: string): Promise<void> => {
  await using directory = await open(path, "r")
  await directory.sync()
}

const reasonOf = (error: unknown): string => error instanceof Error ? error.message : String(error)
