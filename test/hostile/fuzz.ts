/** A real server in a process of its own, on a real PostgreSQL, under attack; and what must be as it was before. */
import type { Database, Network } from "#bench/support/Database.ts"
import { type Control, startControl } from "#bench/support/servers.ts"
import { readdir } from "node:fs/promises"
import { type Attack, attackWithFrames, attackWithStream, framesOfOne } from "./attack.ts"
import { type Outcome, strikeAll } from "./attacker.ts"
import { watchBystanders } from "./Bystanders.ts"
import { makePool } from "./grammar.ts"

export interface FuzzChoice {
  readonly frames: number
  readonly streams: number
  readonly seed: number
  /** Makes only the attack with this index. */
  readonly only?: number
  readonly print: (line: string) => void
}

export interface Sample {
  readonly done: number
  readonly heap: number
  readonly resident: number
}

export interface Findings {
  /** Everything that is not as it must be; empty when all is well. */
  readonly faults: ReadonlyArray<string>
  readonly samples: ReadonlyArray<Sample>
  readonly outcomes: Readonly<Record<string, number>>
  readonly sent: { readonly frames: number; readonly streams: number }
  readonly descriptors: { readonly before: number; readonly after: number }
  readonly changes: number
}

const bystanders = 2

export const fuzz = async (database: Database, choice: FuzzChoice): Promise<Findings> => {
  const network = await database.newNetwork({ agents: 200, gateways: 20, tunnels: 200 })
  const control = await startControl(network, undefined, {
    // Here frames are to reach the decoder, not the limits, which have tests of their own.
    CONTROL_MAX_MESSAGES_PER_SECOND: "100000",
    CONTROL_AUTH_TIMEOUT: "10 seconds"
  })
  try {
    return await attackAndJudge(network, control, choice)
  } finally {
    await control.stop()
    await network.close()
  }
}

async function attackAndJudge(network: Network, control: Control, choice: FuzzChoice): Promise<Findings> {
  const { agentIds, agentKeys, gatewayKeys } = network
  // The first ones have their keys to themselves; the tunnels that they are told of are theirs alone, too.
  const own = await Promise.all(
    agentIds.slice(0, bystanders).map((agentId, index) =>
      control.request("POST", "/api/tunnels", { agentId, domain: `bystander${index}.example.com`, target: "before:1" })
    )
  ) as ReadonlyArray<{ readonly id: string }>
  const descriptorsBefore = await descriptors(control.pid)
  const before = await lasting(network)
  const watched = await watchBystanders({
    port: control.port,
    agentKeys: [agentKeys[0] ?? "", agentKeys[1] ?? ""],
    gatewayKeys: [gatewayKeys[0] ?? "", gatewayKeys[1] ?? ""],
    change: (target) => Promise.all(own.map(({ id }) => control.request("PATCH", `/api/tunnels/${id}`, { target })))
  })
  const attacked = await attackInTenths(network, control, choice, watched.complaint)
  const { answered, changes, complaint } = await watched.end()
  const faults = [...attacked.faults]
  if (complaint !== undefined) faults.push(complaint)
  if (answered === 0 && changes > 1) faults.push("no heartbeat of a bystander was answered")
  const settled = await settle(() => descriptors(control.pid), (count) => count <= descriptorsBefore + 4)
  if (settled > descriptorsBefore + 4) faults.push(`${settled} file descriptors, ${descriptorsBefore} before`)
  faults.push(...growthIn(attacked.samples, choice.frames))
  if (await lasting(network) !== before) faults.push("rows or the schema are not what they were")
  faults.push(...await defectsOf(control))
  const { outcomes, samples, sent } = attacked
  return { faults, samples, outcomes, sent, changes, descriptors: { before: descriptorsBefore, after: settled } }
}

/** Frames and streams in turn, and after each tenth how much memory is in use. */
async function attackInTenths(
  network: Network,
  control: Control,
  { frames, only, print, seed, streams }: FuzzChoice,
  complaint: () => string | undefined
) {
  const pool = makePool(seed)
  const keys = { agent: network.agentKeys.slice(bystanders), gateway: network.gatewayKeys.slice(bystanders) }
  const samples: Array<Sample> = []
  const outcomes: Record<string, number> = {}
  const faults: Array<string> = []
  const latest = { frames: 0, streams: 0 }
  const alive = () => isAlive(control.pid) && complaint() === undefined && faults.length < 10
  const note = (kind: string, make: (index: number) => Attack) => (index: number, outcome: Outcome) => {
    outcomes[`${kind} ${outcome}`] = (outcomes[`${kind} ${outcome}`] ?? 0) + 1
    if (outcome !== "left open" && outcome !== "not accepted") return
    const { auth, opening, rest } = make(index)
    const bytes = Buffer.concat([opening, auth ?? Buffer.alloc(0), rest]).toString("base64")
    faults.push(`${kind} ${index} of seed ${seed} was ${outcome}: ${bytes.slice(0, 2_000)}`)
  }
  const byFrame = (index: number) => attackWithFrames(pool, keys, seed, index)
  const byStream = (index: number) => attackWithStream(seed, index)
  const wholes = Math.ceil(frames / framesOfOne)
  for (let tenth = 0; tenth < 10 && alive(); tenth++) {
    const range = (count: number) => [Math.floor(count * tenth / 10), Math.floor(count * (tenth + 1) / 10)] as const
    for (const [kind, count, make] of [["frames", wholes, byFrame], ["stream", streams, byStream]] as const) {
      const [from, to] = only === undefined ? range(count) : [only, only + 1]
      const at = (index: number) => make(from + index)
      await strikeAll(control.port, to - from, at, (index, outcome) => note(kind, make)(from + index, outcome), alive)
      if (kind === "frames") latest.frames += (to - from) * framesOfOne
      else latest.streams += to - from
    }
    if (!isAlive(control.pid)) break
    const sample = { done: tenth + 1, ...await control.probe.call("memory", undefined as never) }
    samples.push(sample)
    print(`${sample.done}/10: heap ${mib(sample.heap)}, resident ${mib(sample.resident)}`)
  }
  if (!isAlive(control.pid)) faults.push(`the server has ended: ${control.said()}`)
  return { samples, outcomes, faults, sent: latest }
}

/** Judged where there was time to warm up; what is resident, from the middle on, since V8 keeps what it once had. */
function growthIn(samples: ReadonlyArray<Sample>, frames: number): ReadonlyArray<string> {
  const [first, middle, last] = [samples[0], samples[4], samples.at(-1)]
  if (frames < 100_000 || first === undefined || middle === undefined || last === undefined) return []
  return [
    ...(last.heap > first.heap * 1.1 ? [`the heap grew from ${mib(first.heap)} to ${mib(last.heap)}`] : []),
    ...(last.resident > middle.resident * 1.1 ? [`resident memory grew to ${mib(last.resident)}`] : [])
  ]
}

/** What no client may change, and the shape of the database, as one text. */
async function lasting(network: Network): Promise<string> {
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
  // When a key was last used is what a valid `auth` may change.
  return JSON.stringify(
    rows,
    (key, value: unknown) => key === "last_used_at" ? undefined : typeof value === "bigint" ? value.toString() : value
  )
}

async function defectsOf({ api, said, token }: Control): Promise<ReadonlyArray<string>> {
  const answer = await fetch(`${api}/metrics`, { headers: { Authorization: `Bearer ${token}` } })
  const text = await answer.text()
  const counted = /^control_session_defects_total(?:\{[^}]*\})? (\S+)$/mu.exec(text)?.[1] ?? "0"
  const faults = Number(counted) === 0 ? [] : [`control_session_defects_total is ${counted}`]
  const logged = said().split("\n").filter((line) =>
    /"level":"(?:ERROR|FATAL|error|fatal)"|unhandled|internal error while handling/iu.test(line)
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

async function settle(look: () => Promise<number>, isSo: (value: number) => boolean): Promise<number> {
  let value = await look()
  for (let times = 0; times < 50 && !isSo(value); times++) {
    await new Promise((resolve) => setTimeout(resolve, 200))
    value = await look()
  }
  return value
}

const mib = (bytes: number): string => `${(bytes / 1_048_576).toFixed(1)} MiB`
