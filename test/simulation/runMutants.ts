/** Mutation test of the simulator. */
import { readOptions } from "#conformance/programOptions.ts"
import { endWithThisProcess } from "#processes/endWithParent.ts"
import { numberOption } from "#support/numberOption.ts"
import { spawn } from "node:child_process"
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Mutant } from "./Mutant.ts"
import { mutants } from "./mutations.ts"

const help =
  `Apply each mutant to a copy of the project, and run seeds of the simulator until one fails. Exits with 1 if a mutant survives.

Usage: npm run sim:mutants -- [options]

Options:
  --seeds N   Number of seeds for each mutant; 1000 by default
  --jobs N    Number of processes; 2 by default
  --only TEXT Run only mutants with TEXT in their name
  --help, -h  Show this help`

const { values } = readOptions(help, {
  options: {
    seeds: { type: "string", default: "1000" },
    jobs: { type: "string", default: "2" },
    only: { type: "string", default: "" }
  }
})

/** Files of the project that the simulator needs. */
const parts = ["src", "schema", "test/simulation", "test/support", "conformance", "package.json", "tsconfig.json"]

const root = join(import.meta.dirname, "..", "..")
const print = (line: string) => process.stdout.write(`${line}\n`)

interface Result {
  readonly mutant: Mutant
  /** The guarantee and seed that exposed the mutant; undefined when it survived. */
  readonly found: string | undefined
}

const seeds = numberOption("seeds", values.seeds)
const jobs = numberOption("jobs", values.jobs)
const queue = mutants.filter(({ name }) => name.includes(values.only))
if (queue.length === 0) {
  process.stderr.write(`--only ${values.only}: no mutant has this text in its name\n`)
  process.exit(2)
}
const results: Array<Result> = []
await Promise.all(Array.from({ length: jobs }, runQueue))

const survivors = results.filter(({ found }) => found === undefined)
print(`${results.length - survivors.length} of ${results.length} mutants found`)
for (const { mutant } of survivors) print(`SURVIVED: ${mutant.name}`)
process.exitCode = survivors.length === 0 ? 0 : 1

async function runQueue(): Promise<void> {
  const copy = mkdtempSync(join(tmpdir(), "control-mutants-"))
  try {
    for (const part of parts) {
      cpSync(join(root, part), join(copy, part), { recursive: true })
    }
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"))
    // Otherwise every mutant would count as found, because it keeps the program from starting.
    const unchanged = await run(copy, 1)
    if (!hasPassed(unchanged)) throw new Error(`the simulator does not run without a mutant: ${unchanged}`)
    for (let mutant = queue.shift(); mutant !== undefined; mutant = queue.shift()) {
      const found = await testMutant(mutant, copy)
      results.push({ mutant, found })
      print(
        `${found === undefined ? "SURVIVED" : "found   "}  ${mutant.name}${found === undefined ? "" : `: ${found}`}`
      )
    }
  } finally {
    rmSync(copy, { recursive: true, force: true })
  }
}

async function testMutant({ edits }: Mutant, copy: string): Promise<string | undefined> {
  const before = new Map(edits.map(({ file }) => [file, readFileSync(join(copy, file), "utf8")]))
  try {
    for (const { file, find, replace } of edits) {
      const text = readFileSync(join(copy, file), "utf8")
      if (text.split(find).length !== 2) {
        print(`${file} does not contain this text exactly once: ${find}`)
        return undefined
      }
      writeFileSync(join(copy, file), text.replace(find, () => replace))
    }
    const output = await run(copy, seeds)
    const [, seed, rule] = /^seed (\d+) broke "([^"]+)"/mu.exec(output) ?? []
    if (seed !== undefined) return `${rule} at seed ${seed}`
    // A mutant that keeps the program from starting counts as found.
    return hasPassed(output) ? undefined : `the program does not run: ${output.slice(0, 200)}`
  } finally {
    for (const [file, text] of before) writeFileSync(join(copy, file), text)
  }
}

function hasPassed(output: string): boolean {
  return / seeds, 0 failures/u.test(output)
}

function run(cwd: string, seeds: number): Promise<string> {
  const args = ["test/simulation/main.ts", "--seeds", String(seeds), "--max-failures", "1"]
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd })
    endWithThisProcess(child)
    let output = ""
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk) => {
        output += String(chunk)
      })
    }
    child.once("error", reject)
    child.once("close", () => resolve(output))
  })
}
