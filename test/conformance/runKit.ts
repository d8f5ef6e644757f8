/** Runs the conformance kit as a process, and returns its exit code and output. */
import { endWithThisProcess } from "#processes/endWithParent.ts"
import { collectProcessOutput } from "#support/collectOutput.ts"
import { Effect } from "effect"
import { spawn, spawnSync } from "node:child_process"
import { resolve } from "node:path"

/** Path of the Python executable. A version manager's wrapper may take seconds when several processes start at once. */
export const python = spawnSync("python3", ["-c", "import sys; print(sys.executable)"], { encoding: "utf8" })
  .stdout?.trim()

export interface Outcome {
  readonly code: number | null
  readonly printed: string
}

export const conformance = (...args: ReadonlyArray<string>): Effect.Effect<Outcome> =>
  Effect.callback<Outcome>((resume) => {
    const child = spawn(process.execPath, [resolve("conformance/main.ts"), ...args], {
      stdio: ["ignore", "pipe", "pipe"]
    })
    endWithThisProcess(child)
    let printed = ""
    child.stdout.on("data", (data) => printed += String(data))
    child.stderr.on("data", (data) => printed += String(data))
    child.once("close", (code) => {
      collectProcessOutput("the conformance kit", printed)
      resume(Effect.succeed({ code, printed }))
    })
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** Output of a failed run without the lines of passed transcripts. */
export const failuresIn = ({ printed }: Outcome): string =>
  printed.split("\n").filter((line) => !line.startsWith("ok ")).join("\n")
