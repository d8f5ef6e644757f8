/** `writeFileAtomic` replaces files completely or not at all. */
import { createDraft, writeFileAtomic } from "#files/writeFileAtomic.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs"
import { type FileHandle } from "node:fs/promises"
import { join } from "node:path"

const write = (path: string, content: string | ((handle: FileHandle) => Promise<void>)) =>
  Effect.promise(() => writeFileAtomic(path, content))

/** Runs a write that must fail, and returns its error. */
const failure = (path: string, content: string | ((handle: FileHandle) => Promise<void>)) =>
  Effect.flip(Effect.tryPromise({ try: () => writeFileAtomic(path, content), catch: (error) => error as Error }))

const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8)

/** Content that is larger than one write of a stream. */
const large = (letter: string) => letter.repeat(1024 * 1024)

describe("writeFileAtomic", () => {
  it.live("an atomic write creates a file with mode 0600 and leaves no draft behind", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = join(directory, "file")
      yield* write(path, "content")
      assert.strictEqual(readFileSync(path, "utf8"), "content")
      assert.strictEqual(modeOf(path), "600")
      assert.deepStrictEqual(readdirSync(directory), ["file"])
    }))

  it.live("an atomic write gives a replaced file the new content and mode 0600, whatever its mode was", () =>
    Effect.gen(function*() {
      const path = join(yield* temporaryDirectory, "file")
      writeFileSync(path, "old", { mode: 0o644 })
      yield* write(path, "new")
      assert.strictEqual(readFileSync(path, "utf8"), "new")
      assert.strictEqual(modeOf(path), "600")
    }))

  it.live("an atomic write lets a function write the content in parts", () =>
    Effect.gen(function*() {
      const path = join(yield* temporaryDirectory, "file")
      yield* write(path, async (handle) => {
        await handle.writeFile("first, ")
        await handle.writeFile("second")
      })
      assert.strictEqual(readFileSync(path, "utf8"), "first, second")
    }))

  it.live("an atomic write keeps the old file and removes the draft when the function fails halfway", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = join(directory, "file")
      writeFileSync(path, "old")
      const error = yield* failure(path, async (handle) => {
        await handle.writeFile("half of the new con")
        assert.strictEqual(readFileSync(path, "utf8"), "old")
        throw new Error("no more content")
      })
      assert.strictEqual(error.message, "no more content")
      assert.strictEqual(readFileSync(path, "utf8"), "old")
      assert.deepStrictEqual(readdirSync(directory), ["file"])
    }))

  it.live("an atomic write leaves no file at all when the first write fails", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* failure(join(directory, "file"), () => Promise.reject(new Error("no content")))
      assert.deepStrictEqual(readdirSync(directory), [])
    }))

  it.live("an atomic write removes the draft when the rename fails", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = join(directory, "occupied")
      mkdirSync(path)
      const error = yield* failure(path, "content")
      assert.include(error.message, "EISDIR")
      assert.deepStrictEqual(readdirSync(directory), ["occupied"])
    }))

  it.live("an atomic write fails with the error of the file system when the directory does not exist", () =>
    Effect.gen(function*() {
      const error = yield* failure(join(yield* temporaryDirectory, "missing", "file"), "content")
      assert.include(error.message, "ENOENT")
    }))

  it.live("an atomic write replaces a symbolic link and leaves the target of the link alone", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const [target, path] = [join(directory, "target"), join(directory, "file")]
      writeFileSync(target, "target")
      symlinkSync(target, path)
      yield* write(path, "new")
      assert.strictEqual(readFileSync(target, "utf8"), "target")
      assert.strictEqual(readFileSync(path, "utf8"), "new")
    }))

  it.live("an atomic write shows readers complete content only, while many writers replace the file", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = join(directory, "file")
      const contents = ["a", "b", "c", "d"].map(large)
      yield* write(path, contents[0] ?? "")
      const writersDone = { done: false }
      const reader = Effect.gen(function*() {
        let reads = 0
        while (!writersDone.done || reads === 0) {
          assert.include(contents, readFileSync(path, "utf8"))
          reads += 1
          yield* Effect.sleep("1 millis")
        }
        return reads
      })
      const writers = Effect.forEach([...contents, ...contents, ...contents], (content) => write(path, content), {
        concurrency: "unbounded",
        discard: true
      }).pipe(Effect.andThen(Effect.sync(() => writersDone.done = true)))
      const [reads] = yield* Effect.all([reader, writers], { concurrency: 2 })
      assert.isAbove(reads, 0)
      assert.deepStrictEqual(readdirSync(directory), ["file"])
    }))
})

describe("a draft", () => {
  it.live("a draft does not touch the target before its commit, and disappears on discard", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = join(directory, "file")
      const draft = yield* Effect.promise(() => createDraft(path))
      yield* Effect.promise(() => draft.handle.writeFile("content"))
      assert.strictEqual(readFileSync(draft.path, "utf8"), "content")
      assert.strictEqual(modeOf(draft.path), "600")
      yield* Effect.promise(() => draft.discard())
      assert.deepStrictEqual(readdirSync(directory), [])
    }))

  it.live("discarding a draft after its commit keeps the committed file", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const draft = yield* Effect.promise(() => createDraft(join(directory, "file")))
      yield* Effect.promise(async () => {
        await draft.handle.writeFile("content")
        await draft.commit()
        await draft.discard()
      })
      assert.deepStrictEqual(readdirSync(directory), ["file"])
    }))
})
