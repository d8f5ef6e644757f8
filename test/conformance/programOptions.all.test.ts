/** Help and mistakes of the programs that test, measure and demonstrate Control. */
import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { readFile } from "node:fs/promises"

const programs = ["bench", "conformance", "demo", "demo:messages", "faults", "fuzz", "sim", "sim:mutants", "soak"]

/** Runs the program of an npm script. */
const run = async (script: string, option: string) => {
  const { scripts } = JSON.parse(await readFile("package.json", "utf8")) as { readonly scripts: Record<string, string> }
  const file = /\S+\.ts$/u.exec(scripts[script] ?? "")?.[0] ?? assert.fail(script)
  return new Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }>((resolve) => {
    const child = execFile(
      process.execPath,
      [file, option],
      (_, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr })
    )
  })
}

describe("npm run PROGRAM", () => {
  it.each(programs)("npm run %s prints help, and rejects an unknown option with one sentence", async (script) => {
    const [help, mistake] = await Promise.all([run(script, "--help"), run(script, "--nonsense")])
    assert.strictEqual(help.code, 0, help.stderr)
    assert.include(help.stdout, `Usage: npm run ${script}`)
    assert.strictEqual(mistake.code, 2)
    assert.strictEqual(mistake.stdout, "")
    assert.match(mistake.stderr, /^Unknown option '--nonsense'.*; --help lists the options\n$/u)
  }, 60_000)
})
