/** After every test file: nothing secret is in anything that came out while it ran. */
import { openSync, readSync, statSync } from "node:fs"
import { format } from "node:util"
import { afterAll, inject } from "vitest"
import { canaries } from "./canaries.ts"

const serverLog = inject("serverLog")
const from = serverLog === "" ? 0 : statSync(serverLog).size

/** What was said past the loggers of the tests: by a program's own loggers, or by Node. */
for (const name of ["log", "info", "warn", "error", "debug"] as const) {
  const say = console[name].bind(console)
  console[name] = (...parts: ReadonlyArray<unknown>) => {
    canaries.collect("console", format(...parts))
    say(...parts)
  }
}

/** PostgreSQL's own log, of which the other test files that run now have written a part. */
const collectServerLog = (): void => {
  if (serverLog === "") return
  const bytes = Buffer.alloc(Math.min(Math.max(0, statSync(serverLog).size - from), 16_000_000))
  readSync(openSync(serverLog, "r"), bytes, 0, bytes.length, from)
  canaries.collect("PostgreSQL's log", bytes.toString("latin1"))
}

afterAll(() => {
  collectServerLog()
  const leaks = canaries.leaks()
  if (leaks.length === 0) return
  throw new Error(
    `secrets came out:\n${leaks.map(({ kind, path, spelling }) => `${kind} (${spelling}) in ${path}`).join("\n")}`
  )
})
