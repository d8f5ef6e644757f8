/** After the fault was healed: whether nothing acknowledged was lost, every view is right, and whoever is there is shown so. */
import { now, sleep } from "#bench/support/clock.ts"
import { seconds } from "./waitUntil.ts"
import { Ledger } from "./WriteLedger.ts"
import { readWorld, viewFaults, type World } from "./expectedView.ts"
import { leaksIn } from "./secretScan.ts"
import type { Stage } from "./TestCluster.ts"
import type { Trial } from "./FaultRun.ts"

export interface Wanted {
  /** How long after healing every view may take. */
  readonly convergenceMillis?: number
  /** The same for presence. */
  readonly presenceMillis?: number
  /** Nodes that the fault has killed. */
  readonly mayRestart?: boolean
  readonly http?: number
  readonly sql?: number
}

/** A fault while writers write: the ledger is begun before it, and judged after everything was healed. */
export const underLoad = async (
  trial: Trial,
  stage: Stage,
  inject: (ledger: Ledger) => Promise<void>,
  wanted: Wanted = {}
): Promise<Ledger> => {
  await stage.isCalm()
  stage.crowd.reset()
  const pids = stage.nodes.map(({ pid }) => pid)
  const ledger = await Ledger.begin(stage, trial.random)
  await ledger.startWriters(wanted.http, wanted.sql)
  await sleep(300)
  try {
    await inject(ledger)
  } finally {
    await stage.heal()
    await sleep(200)
    await ledger.stopWriters()
  }
  await judge(trial, stage, ledger, wanted)
  const same = stage.nodes.every(({ isAlive, pid }, index) => isAlive && pid === pids[index])
  if (wanted.mayRestart !== true) trial.check(same, "a node has ended")
  return ledger
}

const judge = async (trial: Trial, stage: Stage, ledger: Ledger, wanted: Wanted = {}): Promise<void> => {
  const { convergenceMillis = 15_000, presenceMillis = 25_000 } = wanted
  const converged = await settle(stage, convergenceMillis, (world) => contentFaults(stage, world))
  trial.check(converged.faults.length === 0, `views: ${summary(converged.faults)}`)
  if (converged.faults.length === 0) trial.saw(`views right ${seconds(converged.millis)} after healing`)
  const present = await settle(stage, presenceMillis, (world) => presenceFaults(stage, world))
  trial.check(present.faults.length === 0, `presence: ${summary(present.faults)}`)
  if (present.millis > 1_000) trial.saw(`presence right after ${seconds(converged.millis + present.millis)}`)
  await judgeLedger(trial, stage, ledger)
  for (const { faults } of stage.crowd.clients) {
    for (const fault of faults.splice(0)) trial.check(false, `protocol: ${fault}`)
  }
  judgeSecrets(trial, stage)
}

/** `acked <= revisions <= acked + unknown`, no gap in the log, and every row as its last acknowledged write made it, or a later one. */
const judgeLedger = async (trial: Trial, stage: Stage, ledger: Ledger): Promise<void> => {
  const revisions = await stage.revision() - ledger.startRevision
  const { acked, refused, unknown } = ledger
  trial.writes.acked += acked
  trial.writes.unknown += unknown
  trial.writes.refused += refused
  trial.saw(`${acked} acked, ${unknown} unknown, ${revisions} revisions`)
  trial.check(acked <= revisions, `${acked} writes were acknowledged, and there are only ${revisions} revisions`)
  trial.check(
    revisions <= acked + unknown,
    `${revisions} revisions of ${acked} acknowledged and ${unknown} unknown writes`
  )
  const [log] = await stage.postgres.query(
    "select count(*)::int as count, (coalesce(max(revision), 0) - coalesce(min(revision), 1) + 1)::int as span, " +
      "coalesce(max(revision), 0)::float8 as newest from changes"
  )
  trial.check(log?.["count"] === log?.["span"], `the log has ${log?.["count"]} changes over ${log?.["span"]} revisions`)
  trial.check(
    log?.["newest"] === await stage.revision(),
    `the log ends at ${log?.["newest"]}, before the counter`
  )
  const rows = await stage.postgres.query("select domain, target from tunnels")
  const targets = new Map(rows.map(({ domain, target }) => [String(domain), String(target)]))
  for (const [domain, { possible }] of ledger.book) {
    const found = targets.get(domain)
    trial.check(possible.includes(found), `${domain} is ${found}, and was acknowledged as ${possible.join(" or ")}`)
  }
}

const contentFaults = (stage: Stage, world: World): ReadonlyArray<string> =>
  stage.crowd.live.flatMap((client) =>
    client.isReady && client.isCurrent
      ? viewFaults(client, world, stage.certificateKeys)
      : [`${client.account.name} is not connected (${client.lastError})`]
  ).concat(stage.crowd.clients.filter(({ isStopped }) => isStopped).map(({ account }) => `${account.name} has stopped`))

export const presenceFaults = (stage: Stage, world: World): ReadonlyArray<string> =>
  stage.crowd.clients.flatMap(({ account, isReady }) =>
    world.online.has(account.id) === isReady
      ? []
      : [`${account.name} is ${isReady ? "connected and shown offline" : "away and shown online"}`]
  )

/** No secret in anything that was printed since it was looked at last. */
const judgeSecrets = (trial: Trial, stage: Stage): void => {
  for (const { name, text } of stage.outputs) {
    const from = Math.max(0, (stage.searched.get(name) ?? 0) - 4_096)
    for (const leak of leaksIn(text.slice(from), stage.canaries)) trial.check(false, `${name} has printed ${leak}`)
    stage.searched.set(name, text.length)
  }
}

/** Asks until nothing is wrong, or the time is over: then what is still wrong. */
export const settle = async (
  stage: Stage,
  millis: number,
  wrong: (world: World) => ReadonlyArray<string>
): Promise<{ readonly millis: number; readonly faults: ReadonlyArray<string> }> => {
  const began = now()
  while (true) {
    const world = await readWorld(stage.postgres)
    const faults = wrong(world)
    const took = now() - began
    if (faults.length === 0 || took > millis) return { millis: took, faults }
    await sleep(Math.min(250, Math.max(50, took / 10)))
  }
}

export const summary = (faults: ReadonlyArray<string>): string =>
  faults.slice(0, 3).join("; ") + (faults.length > 3 ? `; and ${faults.length - 3} more` : "")
