#!/usr/bin/env node
/** Launcher of `control`. Runs `bin/node`, because the machine's Node may be too old. */
import { spawn } from "node:child_process"
import { constants } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const here = dirname(fileURLToPath(import.meta.url))
const node = join(here, "node")
const args = process.argv.slice(2)
const programs = [
  { words: ["start"], file: ["src", "server", "main.ts"], takesOptions: false },
  { words: ["demo"], file: ["demo", "main.ts"], takesOptions: false },
  { words: ["agent", "run"], file: ["src", "agent", "main.ts"], takesOptions: true },
  { words: ["gateway", "run"], file: ["src", "gateway", "main.ts"], takesOptions: true }
]
const program = programs.find(({ takesOptions, words }) =>
  words.every((word, index) => args[index] === word) && (takesOptions || args.length === words.length)
)
const file = program?.file ?? ["src", "cli", "main.ts"]
const child = spawn(node, [join(here, "..", ...file), ...args.slice(program?.words.length ?? 0)], {
  // The programs stop when the channel ends, so that none outlives a killed launcher.
  stdio: ["inherit", "inherit", "inherit", "ipc"]
})

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal))
child.on("error", (error) => {
  process.stderr.write(`control: cannot start ${node}: ${error.message}\n`)
  process.exitCode = 1
})
child.on("exit", (code, signal) => {
  process.exitCode = code ?? 128 + (constants.signals[signal] ?? 0)
})
