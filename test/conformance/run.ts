/** The kit as its users run it: a process, of which the exit code and what it prints are all there is. */
import { sawOutput } from "#support/seen.ts"
import { Effect } from "effect"
import { spawn, spawnSync } from "node:child_process"
import { resolve } from "node:path"

/** The program itself: a wrapper that chooses between versions of it may take seconds when several start at once. */
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
    let printed = ""
    child.stdout.on("data", (data) => printed += String(data))
    child.stderr.on("data", (data) => printed += String(data))
    child.once("close", (code) => {
      sawOutput("the conformance kit", printed)
      resume(Effect.succeed({ code, printed }))
    })
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** What is of interest when a kit has failed: all but the transcripts that went well. */
export const failuresIn = ({ printed }: Outcome): string =>
  printed.split("\n").filter((line) => !line.startsWith("ok ")).join("\n")
