/** `node conformance/main.ts server|client …`: runs every transcript of one kit and says how each went. README.md has the rest. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { runClientTranscript } from "./clientKit.ts"
import { runServerTranscript } from "./serverKit.ts"
import { LineFailed, readTranscripts, type Transcript } from "./transcript.ts"

const usage =
  `node conformance/main.ts server --ws ws://127.0.0.1:3001 --api http://127.0.0.1:3000 --token-file data/admin-token
node conformance/main.ts client -- COMMAND [ARGUMENT…]
  --only TEXT   only transcripts with TEXT in their name; may be given several times
  --type agent  only transcripts for agents, or for gateways (client only)
  --jobs N      so many at a time (client only); 4 unless given
  --slow        also those that wait for a server's time-outs (server only)`

const separator = process.argv.indexOf("--")
const command = separator === -1 ? [] : process.argv.slice(separator + 1)
const own = process.argv.slice(2, separator === -1 ? undefined : separator)

const { positionals: [kit], values } = parseArgs({
  args: own,
  allowPositionals: true,
  options: {
    ws: { type: "string", default: "ws://127.0.0.1:3001" },
    api: { type: "string", default: "http://127.0.0.1:3000" },
    "token-file": { type: "string", default: "data/admin-token" },
    type: { type: "string", default: "agent,gateway" },
    only: { type: "string", multiple: true, default: [""] },
    jobs: { type: "string", default: "4" },
    slow: { type: "boolean", default: false }
  }
})

if (kit === "server") {
  const server = { ws: values.ws, api: values.api, token: readFileSync(values["token-file"], "utf8").trim() }
  // One at a time: what one changes, the clients of another would hear of.
  await runAll(kit, 1, (transcript) => runServerTranscript(transcript, server))
} else if (kit === "client" && command.length > 0) {
  await runAll(kit, Number(values.jobs), (transcript) => runClientTranscript(transcript, command))
} else {
  console.error(usage)
  process.exitCode = 2
}

/** One line a transcript, in the order of their names, and what went wrong where. */
async function runAll(kit: string, jobs: number, run: (transcript: Transcript) => Promise<void>): Promise<void> {
  const transcripts = readTranscripts(join(import.meta.dirname, kit))
    .filter(({ name }) => values.only.some((part) => name.includes(part)))
    .filter(({ header }) => values.slow || header["slow"] !== true)
    .filter(({ header }) => kit === "server" || values.type.includes(String(header["type"] ?? "agent")))
  const waiting = transcripts.map((transcript) => ({ transcript, ...Promise.withResolvers<string | undefined>() }))
  const queue = waiting.values()
  const work = async (): Promise<void> => {
    for (const { resolve, transcript } of queue) resolve(await faultOf(run(transcript)))
  }
  const workers = Array.from({ length: Math.max(1, jobs) }, work)
  let failed = 0
  for (const { promise, transcript: { header, name } } of waiting) {
    const fault = await promise
    console.log(`${fault === undefined ? "ok    " : "FAILED"}  ${name}: ${String(header["transcript"])}`)
    if (fault === undefined) continue
    failed += 1
    console.log(fault)
  }
  await Promise.all(workers)
  console.log(`${transcripts.length - failed} passed, ${failed} failed`)
  if (failed > 0 || transcripts.length === 0) process.exitCode = 1
}

async function faultOf(running: Promise<void>): Promise<string | undefined> {
  try {
    await running
    return undefined
  } catch (error) {
    const line = error instanceof LineFailed
      ? `        line ${error.line.number}: ${error.line.text.slice(0, 400)}\n`
      : ""
    return `${line}        ${error instanceof Error ? error.message : String(error)}`
  }
}
