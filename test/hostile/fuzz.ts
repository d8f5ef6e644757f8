/** Attacks a real server process and checks its clients, rows, memory and file descriptors. */
import type { Database, Network } from "#bench/support/BenchDatabase.ts"
import { type Control, startControl } from "#bench/support/servers.ts"
import { readdir } from "node:fs/promises"
import { type Attack, attackWithFrames, attackWithStream, framesPerAttack } from "./attack.ts"
import { type Outcome, runAttacks } from "./runAttacks.ts"
import { runWellBehavedClients } from "./WellBehavedClients.ts"
import { makeMessagePool } from "./randomMessages.ts"

export interface FuzzOptions {
  readonly frames: number
  readonly streams: number
  readonly seed: number
  /** Runs only the attack with this index. */
  readonly only?: number
  readonly print: (line: string) => void
}

export interface Sample {
  readonly done: number
  readonly heap: number
  readonly resident: number
}

export interface Findings {
  /** Descriptions of all faults; empty if there is none. */
  readonly faults: ReadonlyArray<string>
  readonly samples: ReadonlyArray<Sample>
  readonly outcomes: Readonly<Record<string, number>>
  readonly sent: { readonly frames: number; readonly streams: number }
  readonly openDescriptors: { readonly before: number; readonly after: number }
  readonly changes: number
}

const wellBehavedPairs = 2

export const fuzz = async (database: Database, options: FuzzOptions): Promise<Findings> => {
  const network = await database.createNetwork({ agents: 200, gateways: 20, tunnels: 200 })
  const control = await startControl(network, undefined, {
    // Frames must reach the decoder. Other tests cover the rate limits.
    CONTROL_MAX_MESSAGES_PER_SECOND: "100000",
    CONTROL_AUTH_TIMEOUT: "10 seconds"
  })
  try {
    return await attackAndCheck(network, control, options)
  } finally {
    await control.stop()
    await network.close()
  }
}

async function attackAndCheck(network: Network, control: Control, options: FuzzOptions): Promise<Findings> {
  const { agentIds, agentKeys, gatewayKeys } = network
  // No attack uses the keys and tunnels of the well-behaved clients.
  const own = await Promise.all(
    agentIds.slice(0, wellBehavedPairs).map((agentId, index) =>
      control.request("POST", "/api/tunnels", {
        agentId,
        domain: `well-behaved${index}.example.com`,
        target: "before:1"
      })
    )
  ) as ReadonlyArray<{ readonly id: string }>
  const descriptorsBefore = await descriptors(control.pid)
  const before = await protectedRows(network)
  const clients = await runWellBehavedClients({
    port: control.port,
    agentKeys: [agentKeys[0] ?? "", agentKeys[1] ?? ""],
    gatewayKeys: [gatewayKeys[0] ?? "", gatewayKeys[1] ?? ""],
    change: (target) => Promise.all(own.map(({ id }) => control.request("PATCH", `/api/tunnels/${id}`, { target })))
  })
  const attacked = await attackInTenths(network, control, options, clients.fault)
  const { changes, fault, heartbeatAcks } = await clients.end()
  const faults = [...attacked.faults]
  if (fault !== undefined) faults.push(fault)
  if (heartbeatAcks === 0 && changes > 1) faults.push("no heartbeat of a well-behaved client was answered")
  const descriptorsAfter = await pollUntil(() => descriptors(control.pid), (count) => count <= descriptorsBefore + 4)
  if (descriptorsAfter > descriptorsBefore + 4)
    faults.push(`${descriptorsAfter} file descriptors, ${descriptorsBefore} before`)
  faults.push(...memoryGrowth(attacked.samples, options.frames))
  if (await protectedRows(network) !== before) faults.push("rows or the schema have changed")
  faults.push(...await serverDefects(control))
  const { outcomes, samples, sent } = attacked
  return {
    faults,
    samples,
    outcomes,
    sent,
    changes,
    openDescriptors: { before: descriptorsBefore, after: descriptorsAfter }
  }
}

/** Runs frame and stream attacks alternately, and samples memory after each tenth. */
async function attackInTenths(
  network: Network,
  control: Control,
  { frames, only, print, seed, streams }: FuzzOptions,
  clientFault: () => string | undefined
) {
  const pool = makeMessagePool(seed)
  const keys = {
    agent: network.agentKeys.slice(wellBehavedPairs),
    gateway: network.gatewayKeys.slice(wellBehavedPairs)
  }
  const samples: Array<Sample> = []
  const outcomes: Record<string, number> = {}
  const faults: Array<string> = []
  const latest = { frames: 0, streams: 0 }
  const alive = () => isAlive(control.pid) && clientFault() === undefined && faults.length < 10
  const record = (kind: string, make: (index: number) => Attack) => (index: number, outcome: Outcome) => {
    outcomes[`${kind} ${outcome}`] = (outcomes[`${kind} ${outcome}`] ?? 0) + 1
    if (outcome !== "left open" && outcome !== "not accepted") return
    const { auth, frames, upgrade } = make(index)
    const bytes = Buffer.concat([upgrade, auth ?? Buffer.alloc(0), frames]).toString("base64")
    faults.push(`${kind} ${index} of seed ${seed} was ${outcome}: ${bytes.slice(0, 2_000)}`)
  }
  const byFrame = (index: number) => attackWithFrames(pool, keys, seed, index)
  const byStream = (index: number) => attackWithStream(seed, index)
  const frameAttacks = Math.ceil(frames / framesPerAttack)
  for (let tenth = 0; tenth < 10 && alive(); tenth++) {
    const range = (count: number) => [Math.floor(count * tenth / 10), Math.floor(count * (tenth + 1) / 10)] as const
    for (const [kind, count, make] of [["frames", frameAttacks, byFrame], ["stream", streams, byStream]] as const) {
      const [from, to] = only === undefined ? range(count) : [only, only + 1]
      const at = (index: number) => make(from + index)
      await runAttacks(
        control.port,
        to - from,
        at,
        (index, outcome) => record(kind, make)(from + index, outcome),
        alive
      )
      if (kind === "frames") latest.frames += (to - from) * framesPerAttack
      else latest.streams += to - from
    }
    if (!isAlive(control.pid)) break
    const sample = { done: tenth + 1, ...await control.probe.call("memory", undefined as never) }
    samples.push(sample)
    print(`${sample.done}/10: heap ${mib(sample.heap)}, resident ${mib(sample.resident)}`)
  }
  if (!isAlive(control.pid)) faults.push(`the server has ended: ${control.output()}`)
  return { samples, outcomes, faults, sent: latest }
}

/** Faults of more than 10 % growth, after a warm-up. RSS counts from the middle on, because V8 keeps memory that it once used. */
function memoryGrowth(samples: ReadonlyArray<Sample>, frames: number): ReadonlyArray<string> {
  const [first, middle, last] = [samples[0], samples[4], samples.at(-1)]
  if (frames < 100_000 || first === undefined || middle === undefined || last === undefined) return []
  return [
    ...(last.heap > first.heap * 1.1 ? [`the heap grew from ${mib(first.heap)} to ${mib(last.heap)}`] : []),
    ...(last.resident > middle.resident * 1.1 ? [`resident memory grew to ${mib(last.resident)}`] : [])
  ]
}

/** Returns the rows that no client may change, and the schema, as one text. */
async function protectedRows(network: Network): Promise<string> {
  const rows = await Promise.all([
    network.query("select id, name, virtual_ip::text, subnet::text from agents order by id"),
    network.query("select id, name from gateways order by id"),
    network.query("select id, agent_id, domain, enabled from tunnels order by id"),
    network.query("select * from api_keys order by id"),
    network.query("select count(*) from certificates"),
    network.query(
      "select table_name, column_name, data_type from information_schema.columns where table_schema = 'public' order by 1, 2"
    ),
    network.query("select proname, prosrc from pg_proc where pronamespace = 'public'::regnamespace order by 1"),
    network.query("select tgname, tgrelid::regclass::text as of from pg_trigger where not tgisinternal order by 1, 2")
  ])
  // A valid `auth` may change only the last use of a key.
  return JSON.stringify(
    rows,
    (key, value: unknown) => key === "last_used_at" ? undefined : typeof value === "bigint" ? value.toString() : value
  )
}

async function serverDefects(
  { adminToken, apiUrl, output }: Control
): Promise<ReadonlyArray<string>> {
  const answer = await fetch(`${apiUrl}/metrics`, { headers: { Authorization: `Bearer ${adminToken}` } })
  const text = await answer.text()
  const counted = /^control_session_defects_total(?:\{[^}]*\})? (\S+)$/mu.exec(text)?.[1] ?? "0"
  const faults = Number(counted) === 0 ? [] : [`control_session_defects_total is ${counted}`]
  const logged = output().split("\n").filter((line) =>
    /"level":"(?:ERROR|FATAL|error|fatal)"|unhandled|internal error while handling|failed with a defect/iu.test(line)
  )
  return [...faults, ...logged.slice(0, 5).map((line) => `logged: ${line}`)]
}

async function descriptors(pid: number): Promise<number> {
  return (await readdir(`/proc/${pid}/fd`)).length
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

async function pollUntil(read: () => Promise<number>, condition: (value: number) => boolean): Promise<number> {
  let value = await read()
  for (let times = 0; times < 50 && !condition(value); times++) {
    await new Promise((resolve) => setTimeout(resolve, 200))
    value = await read()
  }
  return value
}

const mib = (bytes: number): string => `${(bytes / 1_048_576).toFixed(1)} MiB`
