/** Commands of the kernel device: input, errors as sentences, and the time limit. */
import { runCommand } from "#wireguard/kernel/runCommand.ts"
import { untilGone } from "#support/processTree.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { readFileSync } from "node:fs"
import { join } from "node:path"

const failure = async (running: Promise<string>): Promise<NodeJS.ErrnoException> => {
  try {
    throw new Error(`the command succeeded: ${await running}`)
  } catch (error) {
    return error as NodeJS.ErrnoException
  }
}

it("a command reads its input, and sees no variable of this program", async () => {
  assert.strictEqual(await runCommand("cat", [], "secret"), "secret")
  assert.notInclude(await runCommand("env", []), "HOME=")
  assert.notInclude(await runCommand("env", [], "input"), "HOME=")
})

it("a failed command is named with the reason that it gave, and a missing one with the remedy", async () => {
  const failed = await failure(runCommand("sh", ["-c", "echo first >&2; echo second >&2; exit 3"]))
  assert.match(failed.message, /^sh -c .*: first$/u)
  for (const input of ["", "input"]) {
    const missing = await failure(runCommand("no-such-tool", ["-V"], input))
    assert.strictEqual(missing.code, "ENOENT")
    assert.strictEqual(missing.message, "the command no-such-tool is missing; install it, or use --device userspace")
  }
  const taken = await failure(runCommand("sh", ["-c", "echo 'cannot set: Address already in use' >&2; exit 1"]))
  assert.strictEqual(taken.code, "EADDRINUSE")
})

it.live("the time limit ends the command itself, also behind a pipe and when it ignores SIGTERM", () =>
  Effect.gen(function*() {
    const directory = yield* temporaryDirectory
    for (const input of ["", "input"]) {
      const file = join(directory, `pid${input}`)
      const script = `trap '' TERM; echo $$ > ${file}; while :; do sleep 1; done`
      const failed = yield* Effect.promise(() => failure(runCommand("sh", ["-c", script], input, 300)))
      assert.include(failed.message, "a command may take 300 ms")
      yield* Effect.promise(() => untilGone([Number(readFileSync(file, "utf8"))]))
    }
  }))
