/** Setup of every test file: after its tests, it fails if an output contained a secret. */
import { openSync, readSync, statSync } from "node:fs"
import { format } from "node:util"
import { afterAll, inject } from "vitest"
import { secretScanner } from "./SecretScanner.ts"

const serverLog = inject("serverLog")
const from = serverLog === "" ? 0 : statSync(serverLog).size

/** Collects output of `console`, which bypasses the loggers of the tests. */
for (const name of ["log", "info", "warn", "error", "debug"] as const) {
  const print = console[name].bind(console)
  console[name] = (...parts: ReadonlyArray<unknown>) => {
    secretScanner.addOutput("console", format(...parts))
    print(...parts)
  }
}

/** Collects the part of PostgreSQL's log since the start of this file. Test files that run in parallel write to it too. */
const collectServerLog = (): void => {
  if (serverLog === "") return
  const bytes = Buffer.alloc(Math.min(Math.max(0, statSync(serverLog).size - from), 16_000_000))
  readSync(openSync(serverLog, "r"), bytes, 0, bytes.length, from)
  secretScanner.addOutput("PostgreSQL's log", bytes.toString("latin1"))
}

afterAll(() => {
  collectServerLog()
  const leaks = secretScanner.findLeaks()
  if (leaks.length === 0) return
  throw new Error(
    `the output contains secrets:\n${
      leaks.map(({ encoding, kind, source }) => `${kind} (${encoding}) in ${source}`).join("\n")
    }`
  )
})
