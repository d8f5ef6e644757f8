/** Saves a byte stream as a file, completely or not at all. */
import { createDraft } from "#files/writeFileAtomic.ts"
import { Effect, Stream } from "effect"
import { type CommandFailed, commandFailed } from "./CommandFailed.ts"

/**
 * Writes `bytes` to a draft, runs `check` on the path of the draft, and replaces the file at `path` if `check` succeeds. Only
 * the owner can read the file. A power cut leaves either the older or the complete new file.
 */
export const saveFile = <E>(
  path: string,
  bytes: Stream.Stream<Uint8Array, E>,
  check: (draft: string) => Effect.Effect<void, E>
): Effect.Effect<void, E | CommandFailed> => {
  const attempt = <A>(run: () => Promise<A>) =>
    Effect.tryPromise({
      try: run,
      catch: (error) => commandFailed("failed", `cannot write ${path}: ${reasonOf(error)}`)
    })
  return Effect.acquireUseRelease(
    attempt(() => createDraft(path)),
    (draft) =>
      Effect.gen(function*() {
        yield* Stream.runForEach(bytes, (chunk) => attempt(() => draft.handle.writeFile(chunk)))
        yield* check(draft.path)
        yield* Effect.uninterruptible(attempt(draft.commit))
      }),
    (draft) => Effect.promise(draft.discard)
  )
}

const reasonOf = (error: unknown): string => error instanceof Error ? error.message : String(error)
