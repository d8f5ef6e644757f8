#!/usr/bin/env node
/** Launcher of `control`. Uses the package `node`, because the machine's Node may be too old. */
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { constants } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

/** Returns the Node in the nearest `node_modules` above: of the checkout, or of the application that depends on Control. */
const findNode = (directory) => {
  const node = join(directory, "node_modules", "node", "bin", "node")
  if (existsSync(node)) return node
  return dirname(directory) === directory ? undefined : findNode(dirname(directory))
}

const here = dirname(fileURLToPath(import.meta.url))
const node = findNode(here) ?? process.execPath
const args = process.argv.slice(2)
const programs = new Map([["start", ["src", "server", "main.ts"]], ["demo", ["demo", "main.ts"]]])
const program = args.length === 1 ? programs.get(args[0]) : undefined
const child = spawn(node, [join(here, "..", ...program ?? ["src", "cli", "main.ts"]), ...program ? [] : args], {
  // The programs stop when the channel ends, so that none outlives a killed launcher.
  stdio: ["inherit", "inherit", "inherit", "ipc"]
})

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal))
child.on("error", (error) => {
  process.stderr.write(`control: cannot start ${node}: ${error.message}; run npm install\n`)
  process.exitCode = 1
})
child.on("exit", (code, signal) => {
  process.exitCode = code ?? 128 + (constants.signals[signal] ?? 0)
})
