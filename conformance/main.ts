/** Command line of the conformance kit: runs every transcript of one kit and prints each result. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { readOptions } from "./programOptions.ts"
import { runClientTranscript } from "./clientKit.ts"
import { runServerTranscript } from "./serverKit.ts"
import { LineFailed, readTranscripts, scaleLimits, TargetUnreachable, type Transcript } from "./transcript.ts"

const help = `Check a server or a client of Control's protocol by transcripts. README.md in this folder describes them.

Usage: npm run conformance -- server --token-file FILE [options]
       npm run conformance -- client [options] -- COMMAND [ARGUMENT…]

Options:
  --ws URL           WebSocket URL of the server; ws://127.0.0.1:3001 by default
  --api URL          API URL of the server; http://127.0.0.1:3000 by default
  --token-file FILE  File of the server's admin token, for example data/admin-token
  --only TEXT        Run only transcripts with TEXT in their name, for example resume; repeatable
  --type TYPE        Run only transcripts for agent or gateway (client only)
  --jobs N           Number of parallel transcripts (client only); 4 by default
  --time-factor N    Multiply every upper time limit, for example by 4 on a busy machine; 1 by default
  --slow             Also run transcripts that wait for a server's timeouts (server only)
  --help, -h         Show this help`

const separator = process.argv.indexOf("--")
const command = separator === -1 ? [] : process.argv.slice(separator + 1)
const kitArguments = process.argv.slice(2, separator === -1 ? undefined : separator)

const { positionals: [kit], values } = readOptions(help, {
  args: kitArguments,
  allowPositionals: true,
  options: {
    ws: { type: "string", default: "ws://127.0.0.1:3001" },
    api: { type: "string", default: "http://127.0.0.1:3000" },
    // Without a default, because the program on the default port can be any other than the server of ./data.
    "token-file": { type: "string" },
    type: { type: "string", default: "agent,gateway" },
    only: { type: "string", multiple: true, default: [""] },
    jobs: { type: "string", default: "4" },
    "time-factor": { type: "string", default: "1" },
    slow: { type: "boolean", default: false }
  }
})

const jobs = positiveNumber("jobs")
const timeFactor = positiveNumber("time-factor")

const tokenFile = values["token-file"]
if (kit === "server" && tokenFile !== undefined) {
  const server = { ws: values.ws, api: values.api, token: readFileSync(tokenFile, "utf8").trim() }
  // One at a time, because the clients of one transcript would receive the changes of another.
  await runAll(kit, 1, (transcript) => runServerTranscript(transcript, server))
} else if (kit === "client" && command.length > 0) {
  await runAll(kit, jobs, (transcript) => runClientTranscript(transcript, command))
} else {
  console.error(help)
  process.exitCode = 2
}

/** Exits with 2 if the option is no positive number, because nothing would run, or without a time limit. */
function positiveNumber(name: "jobs" | "time-factor"): number {
  const value = Number(values[name])
  if (value > 0 && value < Infinity) return value
  console.error(`--${name} ${values[name]}: use a number above 0`)
  return process.exit(2)
}

/** Prints one line for each transcript, in the order of their names, and the details of each failure. */
async function runAll(kit: string, jobs: number, run: (transcript: Transcript) => Promise<void>): Promise<void> {
  const all = readTranscripts(join(import.meta.dirname, kit))
  const unknown = values.only.filter((part) => !all.some(({ name }) => name.includes(part)))
  const transcripts = all
    .filter(({ name }) => values.only.some((part) => name.includes(part)))
    .filter(({ header }) => values.slow || header["slow"] !== true)
    .filter(({ header }) => kit === "server" || values.type.includes(String(header["type"] ?? "agent")))
  if (unknown.length > 0 || transcripts.length === 0) return nothingToRun(kit, unknown, all)
  const waiting = transcripts.map((transcript) => ({ transcript, ...Promise.withResolvers<Outcome>() }))
  const queue = waiting.values()
  let isOver = false
  const work = async (): Promise<void> => {
    for (const { resolve, transcript } of queue) {
      const outcome = await outcomeOf(run(scaleLimits(transcript, timeFactor)))
      isOver ||= outcome.isFatal
      resolve(outcome)
      if (isOver) return
    }
  }
  const workers = Array.from({ length: Math.ceil(jobs) }, work)
  let passed = 0
  let failed = 0
  for (const { promise, transcript: { header, name } } of waiting) {
    const { failure, isFatal } = await promise
    console.log(`${failure === undefined ? "ok    " : "FAILED"}  ${name}: ${String(header["transcript"])}`)
    if (failure === undefined) {
      passed += 1
      continue
    }
    failed += 1
    console.log(failure)
    if (isFatal) {
      console.log("        skipping all other transcripts")
      break
    }
  }
  await Promise.all(workers)
  console.log(`${passed} passed, ${failed} failed`)
  if (failed > 0) process.exitCode = 1
}

function nothingToRun(kit: string, unknown: ReadonlyArray<string>, all: ReadonlyArray<Transcript>): void {
  if (unknown.length === 0) console.error("no transcript matches --only, --type and --slow")
  for (const part of unknown) console.error(`no transcript for a ${kit} has ${JSON.stringify(part)} in its name`)
  if (unknown.length > 0) console.error(`available transcripts: ${all.map(({ name }) => name).join(" ")}`)
  process.exitCode = 1
}

interface Outcome {
  /** Description of the failure; absent if the transcript passed. */
  readonly failure?: string
  /** Whether the client or server cannot be reached, so that all other transcripts are skipped. */
  readonly isFatal: boolean
}

async function outcomeOf(running: Promise<void>): Promise<Outcome> {
  try {
    await running
    return { isFatal: false }
  } catch (error) {
    const line = error instanceof LineFailed
      ? `        line ${error.line.number}: ${error.line.text.slice(0, 400)}\n`
      : ""
    const failure = `${line}        ${error instanceof Error ? error.message : String(error)}`
    return { failure, isFatal: error instanceof TargetUnreachable }
  }
}
