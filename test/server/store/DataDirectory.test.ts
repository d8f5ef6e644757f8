/** The data directory has one owner at a time, and keeps secrets private. */
import { assert, describe, it } from "@effect/vitest"
import { DataDirectoryBusy, DataDirectoryUnusable, openDataDirectory } from "#store/DataDirectory.ts"
import { Cause, Effect, Exit, Logger, Redacted, Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import {
  chmodSync,
  chownSync,
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { hostname } from "node:os"
import { join } from "node:path"
import { killProcess, scopedProcess, temporaryDirectory } from "#support/temporaryFiles.ts"

/** A process that opens the directory, prints `open` or the error message, and keeps the directory until it ends. */
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

const spawnHolder = (path: string): ChildProcess =>
  spawn(process.execPath, ["--input-type=module-typescript", "--eval", script, path], {
    stdio: ["pipe", "pipe", "inherit"]
  })

/** The first line that the process prints. */
const firstLine = (child: ChildProcess) =>
  Effect.promise(async () => {
    if (child.stdout === null) throw new Error("no output")
    const [data] = await once(child.stdout, "data")
    return String(data).trim()
  })

const startHolder = (path: string) => scopedProcess(() => spawnHolder(path))

const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8)

describe("the lock of the data directory", () => {
  it.live("opening creates a missing directory with mode 0700", () =>
    Effect.gen(function*() {
      const path = join(yield* temporaryDirectory, "deep", "data")
      const directory = yield* openDataDirectory(path)
      assert.strictEqual(directory.path, path)
      assert.strictEqual(modeOf(path), "700")
    }))

  it.live("a second process gets an error with the holder's process id and host, also while the holder is stopped (SIGSTOP)", () =>
    Effect.gen(function*() {
      const path = yield* temporaryDirectory
      const child = yield* startHolder(path)
      assert.strictEqual(yield* firstLine(child), "open")

      const refused = yield* Effect.flip(openDataDirectory(path))
      assert.instanceOf(refused, DataDirectoryBusy)
      assert.include(refused.message, `process ${child.pid} on ${hostname()}`)

      child.kill("SIGSTOP")
      assert.instanceOf(yield* Effect.flip(openDataDirectory(path)), DataDirectoryBusy)
    }))

  it.live("a process can open the directory of a killed process, whose holder file still exists", () =>
    Effect.gen(function*() {
      const path = yield* temporaryDirectory
      const child = yield* startHolder(path)
      assert.strictEqual(yield* firstLine(child), "open")
      yield* killProcess(child)
      assert.include(readFileSync(join(path, "holder"), "utf8"), `${child.pid}`)

      yield* openDataDirectory(path)
      assert.include(readFileSync(join(path, "holder"), "utf8"), `process ${process.pid} `)
    }))

  it.live("exactly one of six processes that race for the directory of a killed process opens it", () =>
    Effect.gen(function*() {
      const path = yield* temporaryDirectory
      const killed = yield* startHolder(path)
      yield* firstLine(killed)
      yield* killProcess(killed)

      const racers = yield* Effect.all(Array.from({ length: 6 }, () => startHolder(path)))
      const words = yield* Effect.forEach(racers, firstLine, { concurrency: "unbounded" })
      assert.strictEqual(words.filter((word) => word === "open").length, 1, words.join("\n"))
      assert.strictEqual(words.filter((word) => word.includes("is in use by")).length, 5)
    }))

  it.live("the same process cannot open the directory twice, and closing removes the holder file", () =>
    Effect.gen(function*() {
      const path = yield* temporaryDirectory
      const first = yield* Scope.make()
      yield* Scope.provide(openDataDirectory(path), first)
      assert.include((yield* Effect.flip(openDataDirectory(path))).message, `process ${process.pid} on`)
      assert.instanceOf(
        yield* Effect.flip(openDataDirectory(path)),
        DataDirectoryBusy,
        "a failed attempt does not release the lock"
      )

      yield* Scope.close(first, Exit.void)
      assert.isFalse(existsSync(join(path, "holder")))
      yield* openDataDirectory(path)
    }))

  it.live("opening a path that is a file fails with an error that names the path", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "file")
      writeFileSync(file, "")
      const error = yield* Effect.flip(openDataDirectory(file))
      assert.instanceOf(error, DataDirectoryUnusable)
      assert.include(error.message, file)
    }))
})

describe("a secret in the data directory", () => {
  it.live("a secret is generated once, stored with mode 0600, and read afterwards", () =>
    Effect.gen(function*() {
      const path = yield* temporaryDirectory
      const directory = yield* openDataDirectory(path)
      const first = yield* directory.readOrCreateSecret("admin-token", Effect.succeed("canary"))
      const second = yield* directory.readOrCreateSecret("admin-token", Effect.die("generated twice"))
      assert.deepStrictEqual([Redacted.value(first), Redacted.value(second)], ["canary", "canary"])
      assert.strictEqual(modeOf(join(path, "admin-token")), "600")
      assert.deepStrictEqual(readdirSync(path).toSorted(), ["admin-token", "holder", "lock"], "no draft is left")
    }))

  it.live("a secret that other accounts can read gets mode 0600, and a warning without the secret", () =>
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

  it.live("an empty secret file causes an error and is not replaced, because values under the lost key would be unreadable", () =>
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

describe("a data directory that cannot be trusted or used", () => {
  it.live("a path below /proc and a link without a target fail at once with the path and the reason", () =>
    Effect.gen(function*() {
      const dangling = join(yield* temporaryDirectory, "link")
      symlinkSync("/nowhere/at/all", dangling)
      for (const path of ["/proc/foo", "/proc/foo/bar", dangling, "/dev/null/data"]) {
        const error = yield* Effect.flip(openDataDirectory(path))
        assert.instanceOf(error, DataDirectoryUnusable)
        assert.match(error.message, new RegExp(`${path}: E[A-Z]+: `, "u"))
      }
    }))

  it.live("a directory that other accounts can write gets mode 0700 and a warning", () =>
    Effect.gen(function*() {
      const path = yield* temporaryDirectory
      chmodSync(path, 0o777)
      const logged: Array<string> = []
      const logger = Logger.make(({ message, logLevel }) => logged.push(`${logLevel}: ${message}`))
      yield* openDataDirectory(path).pipe(Effect.provide(Logger.layer([logger])))
      assert.strictEqual(modeOf(path), "700")
      assert.match(logged.join("\n"), /^Warn: other accounts could write in the data directory .* \(mode 777\)/u)
    }))

  it.live("a secret that is a symbolic link is not read", () =>
    Effect.gen(function*() {
      const [path, other] = [yield* temporaryDirectory, yield* temporaryDirectory]
      writeFileSync(join(other, "token"), "canary\n", { mode: 0o600 })
      symlinkSync(join(other, "token"), join(path, "admin-token"))
      const directory = yield* openDataDirectory(path)
      const error = yield* Effect.flip(directory.readOrCreateSecret("admin-token", Effect.succeed("another")))
      assert.match(error.message, /admin-token: it is a symbolic link/u)
    }))

  // Only root can give a file to another account.
  it.live.skipIf(process.getuid?.() !== 0)(
    "a secret that another account has planted is refused (needs root)",
    () =>
      Effect.gen(function*() {
        for (const name of ["admin-token", "master-key", "postgres-password", "postgres"]) {
          const path = yield* temporaryDirectory
          chmodSync(path, 0o777)
          writeFileSync(join(path, name), "canary\n", { mode: 0o600 })
          chownSync(join(path, name), 65_534, 65_534)
          const error = yield* Effect.flip(openDataDirectory(path))
          assert.include(
            error.message,
            `${join(path, name)}: it belongs to user id 65534, but Control runs as user id 0`
          )
        }
      })
  )

  // Only root can give a file to another account.
  it.live.skipIf(process.getuid?.() !== 0)(
    "a directory of another ordinary account is refused (needs root)",
    () =>
      Effect.gen(function*() {
        const path = yield* temporaryDirectory
        chmodSync(path, 0o777)
        chownSync(path, 54_322, 54_322)
        const child = yield* scopedProcess(() =>
          spawn(process.execPath, ["--input-type=module-typescript", "--eval", script, path], {
            uid: 54_321,
            gid: 54_321
          })
        )
        assert.include(
          yield* firstLine(child),
          "the directory belongs to user id 54322, but Control runs as user id 54321"
        )
      })
  )
})
