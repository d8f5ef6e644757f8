/** Command line of the attacks on a real server and of the Autobahn cases. */
import { readOptions } from "#conformance/programOptions.ts"
import { openDatabase } from "#bench/support/BenchDatabase.ts"
import { killAll, stopAll } from "#bench/support/childProcesses.ts"
import { removeRunDirectory } from "#bench/support/runDirectory.ts"
import { numberOption } from "#support/numberOption.ts"
import { framingCases } from "./autobahnCases.ts"
import { failedCases } from "./echoServer.ts"
import { fuzz } from "./fuzz.ts"
import { fuzzParsers } from "./fuzzParsers.ts"
import { sizeLimitCases } from "./sizeLimitCases.ts"
import { utf8Cases } from "./utf8Cases.ts"

const help =
  `Attack a real server, and check the WebSocket server by the cases of the Autobahn test suite. docs/hostile.md describes the attacks.

Usage: npm run fuzz -- [options]

Options:
  --frames N   Number of hostile frames; 20000 by default
  --streams N  Number of hostile byte streams; 2000 by default
  --inputs N   Number of mutated inputs for each parser of the gateway; 100000 by default
  --seed N     Seed of the attacks; 1 by default
  --only N     Repeat one attack of the seed by its index, without the Autobahn cases
  --help, -h   Show this help

Example:
  npm run fuzz -- --frames 1000000 --streams 100000 --seed 1`

const { values } = readOptions(help, {
  options: {
    frames: { type: "string", default: "20000" },
    streams: { type: "string", default: "2000" },
    inputs: { type: "string", default: "100000" },
    seed: { type: "string", default: "1" },
    only: { type: "string" }
  }
})

const options = {
  frames: numberOption("frames", values.frames),
  streams: numberOption("streams", values.streams),
  seed: numberOption("seed", values.seed, 0),
  ...(values.only === undefined ? {} : { only: numberOption("only", values.only, 0) })
}

process.on("exit", () => {
  killAll()
  removeRunDirectory()
})
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130))

const print = (line: string) => void process.stdout.write(`${line}\n`)
const rfcCases = [...framingCases, ...utf8Cases, ...sizeLimitCases]
const rfcFailures = values.only === undefined ? await failedCases(rfcCases) : []
for (const failure of rfcFailures) print(`FAULT: RFC 6455 case ${failure}`)
if (values.only === undefined)
  print(`${rfcCases.length - rfcFailures.length} of ${rfcCases.length} RFC 6455 cases passed`)

const parserFaults = values.only === undefined
  ? (await fuzzParsers({ count: numberOption("inputs", values.inputs), seed: options.seed, print })).flatMap((
    { faults }
  ) => faults)
  : []

const database = await openDatabase()
const began = performance.now()
try {
  const findings = await fuzz(database, { ...options, print })
  const { changes, openDescriptors: descriptors, faults, outcomes, sent } = findings
  print(`${sent.frames} frames and ${sent.streams} streams in ${Math.round((performance.now() - began) / 1_000)} s`)
  print(`connections: ${JSON.stringify(outcomes)}`)
  print(
    `${changes} changes reached every well-behaved client; ${descriptors.before} descriptors before, ${descriptors.after} after`
  )
  for (const fault of [...parserFaults, ...faults]) print(`FAULT: ${fault}`)
  const count = parserFaults.length + faults.length + rfcFailures.length
  print(count === 0 ? "no fault" : `${count} faults (seed ${values.seed})`)
  process.exitCode = count === 0 ? 0 : 1
} finally {
  await stopAll()
  await database.close()
}
