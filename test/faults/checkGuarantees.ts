/** Checks after healing: no acknowledged write lost, every view correct, presence correct, no secret printed. */
import { now, sleep } from "#bench/support/timing.ts"
import { formatSeconds } from "./waitUntil.ts"
import { WriteLedger } from "./WriteLedger.ts"
import { type DatabaseRows, findViewErrors, readRows } from "./expectedView.ts"
import { findLeaks } from "./findSecretsInOutput.ts"
import type { TestCluster } from "./TestCluster.ts"
import type { FaultRun } from "./FaultRun.ts"

export interface Expectations {
  /** Maximum time from healing until every view is correct. */
  readonly convergenceMillis?: number
  /** Maximum time until presence is correct. */
  readonly presenceMillis?: number
  /** Whether the fault may restart nodes. */
  readonly nodesMayRestart?: boolean
  readonly httpWriters?: number
  readonly sqlWriters?: number
}

/** Injects a fault while writers run, heals it, and checks all guarantees. */
export const withWriters = async (
  run: FaultRun,
  cluster: TestCluster,
  inject: (ledger: WriteLedger) => Promise<void>,
  expectations: Expectations = {}
): Promise<WriteLedger> => {
  await cluster.waitUntilCalm()
  cluster.fleet.reset()
  const pids = cluster.nodes.map(({ pid }) => pid)
  const ledger = await WriteLedger.open(cluster, run.random)
  await ledger.startWriters(expectations.httpWriters, expectations.sqlWriters)
  await sleep(300)
  try {
    await inject(ledger)
  } finally {
    await cluster.heal()
    await sleep(200)
    await ledger.stopWriters()
  }
  await checkGuarantees(run, cluster, ledger, expectations)
  const same = cluster.nodes.every(({ isAlive, pid }, index) => isAlive && pid === pids[index])
  if (expectations.nodesMayRestart !== true) run.check(same, "a node has exited")
  return ledger
}

const checkGuarantees = async (
  run: FaultRun,
  cluster: TestCluster,
  ledger: WriteLedger,
  expectations: Expectations = {}
): Promise<void> => {
  const { convergenceMillis = 15_000, presenceMillis = 25_000 } = expectations
  const converged = await pollErrors(cluster, convergenceMillis * run.timeFactor, (rows) => viewErrors(cluster, rows))
  run.check(converged.errors.length === 0, `views: ${summarize(converged.errors)}`)
  if (converged.errors.length === 0) run.observe(`views correct ${formatSeconds(converged.millis)} after healing`)
  const present = await pollErrors(cluster, presenceMillis * run.timeFactor, (rows) => presenceErrors(cluster, rows))
  run.check(present.errors.length === 0, `presence: ${summarize(present.errors)}`)
  if (present.millis > 1_000) run.observe(`presence correct after ${formatSeconds(converged.millis + present.millis)}`)
  await checkLedger(run, cluster, ledger)
  for (const { protocolErrors: faults } of cluster.fleet.clients) {
    for (const fault of faults.splice(0)) run.check(false, `protocol: ${fault}`)
  }
  checkSecrets(run, cluster)
}

/**
 * Checks that `acknowledged <= revisions <= acknowledged + unknown`, that the log has no gap, and that every row has a
 * possible target.
 */
const checkLedger = async (run: FaultRun, cluster: TestCluster, ledger: WriteLedger): Promise<void> => {
  const revisions = await cluster.revision() - ledger.startRevision
  const { acknowledged, rejected, unknown } = ledger
  run.writes.acknowledged += acknowledged
  run.writes.unknown += unknown
  run.writes.rejected += rejected
  run.observe(`${acknowledged} acknowledged, ${unknown} unknown, ${revisions} revisions`)
  run.check(
    acknowledged <= revisions,
    `${acknowledged} writes were acknowledged, but there are only ${revisions} revisions`
  )
  run.check(
    revisions <= acknowledged + unknown,
    `${revisions} revisions of ${acknowledged} acknowledged and ${unknown} unknown writes`
  )
  const [log] = await cluster.postgres.query(
    "select count(*)::int as count, (coalesce(max(revision), 0) - coalesce(min(revision), 1) + 1)::int as span, " +
      "coalesce(max(revision), 0)::float8 as newest from changes"
  )
  run.check(log?.["count"] === log?.["span"], `the log has ${log?.["count"]} changes over ${log?.["span"]} revisions`)
  run.check(
    log?.["newest"] === await cluster.revision(),
    `the log ends at ${log?.["newest"]}, below the revision counter`
  )
  const tunnels = await cluster.postgres.query("select domain, target from tunnels")
  const targets = new Map(tunnels.map(({ domain, target }) => [String(domain), String(target)]))
  for (const [domain, { possibleTargets: possible }] of ledger.expectedTargets) {
    const found = targets.get(domain)
    run.check(possible.includes(found), `${domain} has target ${found} instead of ${possible.join(" or ")}`)
  }
}

const viewErrors = (cluster: TestCluster, rows: DatabaseRows): ReadonlyArray<string> =>
  cluster.fleet.runningClients.flatMap((client) =>
    client.isReady && client.hasCurrentView
      ? findViewErrors(client, rows, cluster.certificateKeys)
      : [`${client.account.name} is not connected (${client.lastError})`]
  ).concat(
    cluster.fleet.clients.filter(({ isStopped }) => isStopped).map(({ account }) =>
      `${account.name} has stopped for good`
    )
  )

export const presenceErrors = (cluster: TestCluster, rows: DatabaseRows): ReadonlyArray<string> =>
  cluster.fleet.clients.flatMap(({ account, isReady }) =>
    rows.online.has(account.id) === isReady
      ? []
      : [`${account.name} is ${isReady ? "connected but shown offline" : "disconnected but shown online"}`]
  )

/** Searches all output since the last search for secrets. */
const checkSecrets = (run: FaultRun, cluster: TestCluster): void => {
  for (const { name, text } of cluster.outputs) {
    const from = Math.max(0, (cluster.searchedUpTo.get(name) ?? 0) - 4_096)
    for (const leak of findLeaks(text.slice(from), cluster.secrets)) {
      run.check(false, `the output of ${name} contains ${leak}`)
    }
    cluster.searchedUpTo.set(name, text.length)
  }
}

/** Polls until there are no errors or the time is over, and returns the remaining errors. */
export const pollErrors = async (
  cluster: TestCluster,
  millis: number,
  findErrors: (rows: DatabaseRows) => ReadonlyArray<string>
): Promise<{ readonly millis: number; readonly errors: ReadonlyArray<string> }> => {
  const began = now()
  while (true) {
    const rows = await readRows(cluster.postgres)
    const errors = findErrors(rows)
    const took = now() - began
    if (errors.length === 0 || took > millis) return { millis: took, errors }
    await sleep(Math.min(250, Math.max(50, took / 10)))
  }
}

export const summarize = (errors: ReadonlyArray<string>): string =>
  errors.slice(0, 3).join("; ") + (errors.length > 3 ? `; and ${errors.length - 3} more` : "")
