import { assert, describe, it } from "@effect/vitest"
import { DataDirectoryBusy, DataDirectoryUnusable, openDataDirectory } from "#store/DataDirectory.ts"
import { Cause, Effect, Exit, Logger, Redacted, Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { hostname } from "node:os"
import { join } from "node:path"
import { end, temporaryDirectory } from "#support/temporary.ts"

/** Opens the directory in a process of its own, says `open` or the error, and holds it until that process ends. */
const script = `
  import { Effect } from "effect"
  import { openDataDirectory } from "#store/DataDirectory.ts"
  const path = process.argv[1]
  process.stdin.resume()
  await Effect.runPromise(Effect.scoped(
    openDataDirectory(path).pipe(
      Effect.matchEffect({
        onSuccess: () => Effect.andThen(Effect.sync(() => process.stdout.write("open\\n")), Effect.never),
        onFailure: (error) => Effect.sync(() => process.stdout.write(error.message + "\\n", () => process.exit()))
      })
    )
  ))
`

const startHolder = (path: string): ChildProcess =>
  spawn(process.execPath, ["--input-type=module-typescript", "--eval", script, path], {
    stdio: ["pipe", "pipe", "inherit"]
  })

/** The first line that the process says. */
const firstLine = (child: ChildProcess) =>
  Effect.promise(async () => {
    if (child.stdout === null) throw new Error("no output")
    const [data] = await once(child.stdout, "data")
    return String(data).trim()
  })

const holder = (path: string) => Effect.acquireRelease(Effect.sync(() => startHolder(path)), end)

const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8)

describe("one process at a time", () => {
  it.live("a directory that is not there is created, closed to others", () =>
    Effect.gen(function*() {
      const path = join(yield* temporaryDirectory, "deep", "data")
      const directory = yield* openDataDirectory(path)
      assert.strictEqual(directory.path, path)
      assert.strictEqual(modeOf(path), "700")
    }))

  it.live("a second process is refused with the holder's process id and host, also while the holder is stopped", () =>
    Effect.gen(function*() {
      const path = yield* temporaryDirectory
      const child = yield* holder(path)
      assert.strictEqual(yield* firstLine(child), "open")

      const refused = yield* Effect.flip(openDataDirectory(path))
      assert.instanceOf(refused, DataDirectoryBusy)
      assert.include(refused.message, `process ${child.pid} on ${hostname()}`)

      child.kill("SIGSTOP")
      assert.instanceOf(yield* Effect.flip(openDataDirectory(path)), DataDirectoryBusy)
    }))

  it.live("what a killed process held is taken over, although its traces lie about", () =>
    Effect.gen(function*() {
      const path = yield* temporaryDirectory
      const child = yield* holder(path)
      assert.strictEqual(yield* firstLine(child), "open")
      yield* end(child)
      assert.include(readFileSync(join(path, "holder"), "utf8"), `${child.pid}`)

      yield* openDataDirectory(path)
      assert.include(readFileSync(join(path, "holder"), "utf8"), `process ${process.pid} `)
    }))

  it.live("of many processes that race for what a killed one held, exactly one wins", () =>
    Effect.gen(function*() {
      const path = yield* temporaryDirectory
      const killed = yield* holder(path)
      yield* firstLine(killed)
      yield* end(killed)

      const racers = yield* Effect.all(Array.from({ length: 6 }, () => holder(path)))
      const words = yield* Effect.forEach(racers, firstLine, { concurrency: "unbounded" })
      assert.strictEqual(words.filter((word) => word === "open").length, 1, words.join("\n"))
      assert.strictEqual(words.filter((word) => word.includes("is in use by")).length, 5)
    }))

  it.live("the same process is refused too until it has let go, and then nothing says that it is held", () =>
    Effect.gen(function*() {
      const path = yield* temporaryDirectory
      const first = yield* Scope.make()
      yield* Scope.provide(openDataDirectory(path), first)
      assert.include((yield* Effect.flip(openDataDirectory(path))).message, `process ${process.pid} on`)
      assert.instanceOf(yield* Effect.flip(openDataDirectory(path)), DataDirectoryBusy, "a refusal frees nothing")

      yield* Scope.close(first, Exit.void)
      assert.isFalse(existsSync(join(path, "holder")))
      yield* openDataDirectory(path)
    }))

  it.live("a path that is no directory fails with its name", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "file")
      writeFileSync(file, "")
      const error = yield* Effect.flip(openDataDirectory(file))
      assert.instanceOf(error, DataDirectoryUnusable)
      assert.include(error.message, file)
    }))
})

describe("secrets", () => {
  it.live("a secret is generated once, kept in a file for its owner only, and read from then on", () =>
    Effect.gen(function*() {
      const path = yield* temporaryDirectory
      const directory = yield* openDataDirectory(path)
      const first = yield* directory.readOrCreateSecret("admin-token", Effect.succeed("canary"))
      const second = yield* directory.readOrCreateSecret("admin-token", Effect.die("generated twice"))
      assert.deepStrictEqual([Redacted.value(first), Redacted.value(second)], ["canary", "canary"])
      assert.strictEqual(modeOf(join(path, "admin-token")), "600")
      assert.deepStrictEqual(readdirSync(path).toSorted(), ["admin-token", "holder", "lock"], "no drafts are left")
    }))

  it.live("a secret that others could read is closed to them, with a warning that does not hold it", () =>
    Effect.gen(function*() {
      const path = yield* temporaryDirectory
      const file = join(path, "master-key")
      writeFileSync(file, "canary\n")
      chmodSync(file, 0o644)
      const logged: Array<string> = []
      const logger = Logger.make(({ message, logLevel }) => logged.push(`${logLevel}: ${message}`))

      const secret = yield* openDataDirectory(path).pipe(
        Effect.flatMap((directory) => directory.readOrCreateSecret("master-key", Effect.die("it exists"))),
        Effect.provide(Logger.layer([logger]))
      )
      assert.strictEqual(Redacted.value(secret), "canary")
      assert.strictEqual(modeOf(file), "600")
      assert.strictEqual(logged.length, 1)
      assert.match(logged[0] ?? "", /^Warn: .*master-key/u)
      assert.notInclude(logged.join(""), "canary")
    }))

  it.live("an empty secret is refused, never replaced: what it encrypted would be lost", () =>
    Effect.gen(function*() {
      const path = yield* temporaryDirectory
      writeFileSync(join(path, "master-key"), "\n")
      const directory = yield* openDataDirectory(path)
      const exit = yield* Effect.exit(directory.readOrCreateSecret("master-key", Effect.succeed("another")))
      assert.isTrue(Exit.isFailure(exit))
      if (Exit.isFailure(exit)) assert.include(Cause.pretty(exit.cause), "the file is empty")
      assert.strictEqual(readFileSync(join(path, "master-key"), "utf8"), "\n")
    }))
})
