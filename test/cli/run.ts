/** The command line as people and scripts run it: a process of its own, through the launcher. */
import { sawOutput } from "#support/seen.ts"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { resolve } from "node:path"

export interface Ran {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export const runIn = (env: Record<string, string>) => (...args: ReadonlyArray<string>): Effect.Effect<Ran> =>
  Effect.callback((resume) => {
    const child = spawn(process.execPath, [resolve("bin/control.mjs"), ...args], {
      env: { PATH: process.env["PATH"], ...env },
      stdio: ["ignore", "pipe", "pipe"]
    })
    let stdout = ""
    let stderr = ""
    child.stdout.on("data", (data) => stdout += String(data))
    child.stderr.on("data", (data) => stderr += String(data))
    child.once("close", (code) => {
      sawOutput(`control ${args.slice(0, 2).join(" ")}`, stdout, args[1] === "create")
      sawOutput(`control ${args.slice(0, 2).join(" ")}`, stderr)
      resume(Effect.succeed({ code, stdout, stderr }))
    })
    return Effect.sync(() => child.kill("SIGKILL"))
  })
