/** Findings of the doctor: severity, problem (`what`), consequence (`why`) and `remedy`. Pure. */
import type { Finding } from "#schema/doctor.ts"
import type { Node } from "#schema/nodes.ts"
import type { HighWaterMarkState } from "#store/HighWaterMark.ts"
import type { DatabaseFacts, DiskSpace } from "#store/DoctorStore.ts"

type ProblemSeverity = Exclude<Finding["severity"], "ok">

/** A check without a problem. */
export const okFinding = (check: string, what: string): Finding => ({
  check,
  severity: "ok",
  what,
  why: "",
  remedy: ""
})

/** A problem, with the sentences `what`, `why` and `remedy`. */
export const problemFinding = (
  check: string,
  severity: ProblemSeverity,
  [what, why, remedy]: readonly [string, string, string]
): Finding => ({
  check,
  severity,
  what,
  why,
  remedy
})

/** `a, b, c, d, e and 2 more` */
export const firstNames = (names: ReadonlyArray<string>): string =>
  names.length <= maxNames
    ? names.join(", ")
    : `${names.slice(0, maxNames).join(", ")} and ${names.length - maxNames} more`

const maxNames = 5

const dayMillis = 86_400_000
const gibibyte = 1024 ** 3

export const clockFinding = ({ clockSkew }: DatabaseFacts): Finding => {
  const seconds = Math.abs(clockSkew) / 1000
  if (seconds < 2) return okFinding("clock", "this machine and the database have the same time")
  const which = clockSkew > 0 ? "ahead of" : "behind"
  return problemFinding("clock", seconds < 30 ? "warn" : "fail", [
    `the database's clock is ${seconds.toFixed(1)} seconds ${which} this machine's clock`,
    "timeouts, leases and expiry dates are wrong by this difference",
    "synchronize both machines with NTP"
  ])
}

export const diskFinding = (path: string, space: DiskSpace | undefined): Finding => {
  if (space === undefined) return okFinding("disk", "there is no data directory on this machine")
  const percent = Math.floor(space.free / space.total * 100)
  const what = `${(space.free / gibibyte).toFixed(1)} GiB (${percent} %) are free in the data directory ${path}`
  if (space.free >= gibibyte && percent >= 10) return okFinding("disk", what)
  return problemFinding("disk", space.free < gibibyte / 4 ? "fail" : "warn", [
    what,
    "on a full disk the embedded database rejects every change, and secrets and the high-water mark cannot be saved",
    "free disk space, or move the data directory"
  ])
}

export const keyFindings = ({ neverUsedKeys, staleKeys }: DatabaseFacts): ReadonlyArray<Finding> => {
  const problems = [
    ...staleKeys.length === 0 ? [] : [problemFinding("keys", "warn", [
      `API keys not used for 90 days: ${firstNames(staleKeys)}`,
      "an unused key can still be stolen and used",
      "revoke the keys with `control key delete`"
    ])],
    ...neverUsedKeys.length === 0 ? [] : [problemFinding("keys", "note", [
      `API keys never used: ${firstNames(neverUsedKeys)}`,
      "the client was never set up, or uses another key",
      "set up the client, or revoke the key with `control key delete`"
    ])]
  ]
  return problems.length > 0 ? problems : [okFinding("keys", "all keys are in use")]
}

type Named = DatabaseFacts["offlineGateways"][number]

const nameOf = ({ id, name, type }: Named): string => `${type} ${name} (${id})`

export const clientFindings = (facts: DatabaseFacts): ReadonlyArray<Finding> => {
  const { laggingClients, offlineAgents, offlineGateways, rejectingClients, sharedKeys } = facts
  const problems = [
    ...sharedKeys.length === 0 ? [] : [problemFinding("clients", "fail", [
      `clients share a WireGuard key: ${firstNames(sharedKeys.map((clients) => clients.map(nameOf).join(" and ")))}`,
      "WireGuard takes these clients for one, so that each of them receives traffic of the others",
      "let all but one of these clients generate a new key pair, and restart them"
    ])],
    ...laggingClients.length === 0 ? [] : [problemFinding("clients", "warn", [
      `clients have not applied changes that were sent: ${
        firstNames(laggingClients.map((client) => `${nameOf(client)}, ${client.revisions} revisions behind`))
      }`,
      "these clients run an old configuration",
      "check the logs of these clients; a restarted client receives a snapshot"
    ])],
    ...rejectingClients.length === 0 ? [] : [problemFinding("clients", "warn", [
      `clients rejected a change: ${
        firstNames(rejectingClients.map((client) => `${nameOf(client)}: ${client.code}, ${client.message}`))
      }`,
      "these clients keep their previous configuration",
      "fix the reported cause; the client tries again with the next change or after a restart"
    ])],
    ...offlineAgents.length === 0 ? [] : [problemFinding("clients", "warn", [
      `offline agents with enabled tunnels: ${
        firstNames(offlineAgents.map((agent) => `${nameOf(agent)}, ${agent.tunnels}`))
      }`,
      "these agents receive no changes, and their tunnels are probably down",
      "start the agents, or disable their tunnels"
    ])],
    ...offlineGateways.length === 0 ? [] : [problemFinding("clients", "warn", [
      `offline gateways: ${firstNames(offlineGateways.map(nameOf))}`,
      "these gateways receive no changes, and agents still try to use them",
      "start the gateways, or delete them"
    ])]
  ]
  return problems.length > 0
    ? problems
    : [okFinding("clients", "all agents with tunnels and all gateways are online and up to date")]
}

export const nodeFindings = (nodes: ReadonlyArray<Node>): ReadonlyArray<Finding> => {
  const live = nodes.filter(({ state }) => state === "live")
  const lost = nodes.filter(({ state }) => state === "lost")
  const versions = new Set(live.map(({ version }) => version))
  const problems = [
    ...lost.length === 0 ? [] : [problemFinding("nodes", "warn", [
      `nodes ended without a shutdown: ${
        firstNames(lost.map(({ lastSeenAt, name }) => `${name}, last seen ${lastSeenAt}`))
      }`,
      "their clients were offline until they connected to another node",
      "check why the node ended or cannot reach the database; its entry disappears after 1 hour"
    ])],
    ...versions.size < 2 ? [] : [problemFinding("nodes", "warn", [
      `nodes have different versions: ${firstNames(live.map(({ name, version }) => `${name} ${version}`))}`,
      "older nodes do not support the features of newer nodes",
      "upgrade the older nodes"
    ])]
  ]
  return problems.length > 0
    ? problems
    : [okFinding("nodes", live.length === 1 ? "1 live node" : `${live.length} live nodes, all of the same version`)]
}

export const schemaFinding = (drift: ReadonlyArray<string> | undefined): Finding => {
  if (drift === undefined) {
    return problemFinding("schema", "note", [
      "cannot compare the database schema with the migrations",
      "the comparison creates a temporary schema, and Control's role may not create one",
      "grant CREATE on the database to Control's role; the comparison rolls its schema back"
    ])
  }
  if (drift.length === 0) return okFinding("schema", "the database schema matches the migrations")
  return problemFinding("schema", "fail", [
    `the database schema differs from the migrations: ${firstNames(drift)}`,
    "without its triggers changes do not reach clients, and without its constraints invalid rows are possible",
    "undo the manual changes of the schema, or restore a backup into an empty database"
  ])
}

export const sequencesFinding = ({ outdatedSequences }: DatabaseFacts): Finding =>
  outdatedSequences.length === 0
    ? okFinding("numbers", "every sequence is ahead of its table")
    : problemFinding("numbers", "fail", [
      `sequences are behind their tables: ${firstNames(outdatedSequences)}`,
      "inserts into these tables fail because the next id already exists",
      outdatedSequences.map((table) =>
        `select setval(pg_get_serial_sequence('${table}', 'id'), (select max(id) from ${table}))`
      ).join("; ")
    ])

export const unreadableRowsFinding = (unreadable: ReadonlyArray<string>): Finding =>
  unreadable.length === 0
    ? okFinding("rows", "all rows can be read")
    : problemFinding("rows", "fail", [
      `unreadable rows: ${firstNames(unreadable)}`,
      "clients do not receive these rows, or keep the last readable version",
      "update or delete these rows; many unreadable rows mean a wrong master key or a damaged database"
    ])

export const highWaterMarkFinding = (state: HighWaterMarkState): Finding => {
  if (state === "damaged") {
    return problemFinding("high-water", "warn", [
      "high-water.json was damaged when this process started",
      "if the database was restored from a backup before that start, clients keep rows that the backup does not have",
      "if the database was restored, restart the clients; check the disk in any case"
    ])
  }
  return okFinding(
    "high-water",
    {
      kept: "the newest revision is saved outside the database",
      none: "there is no high-water mark of an earlier run",
      unused: "no high-water mark is saved, because this process has no data directory"
    }[state]
  )
}

/** `last` and `now` are in milliseconds since 1970; `last` is undefined before the first backup. */
export const backupFinding = (last: number | undefined, now: number): Finding => {
  const advice =
    "run `control backup FILE` every night; store the file on another machine, and the master key apart from it"
  if (last === undefined) {
    return problemFinding("backup", "note", [
      "no backup was made with `control backup`",
      "a failed disk loses all data",
      advice
    ])
  }
  const days = Math.floor((now - last) / dayMillis)
  if (days < 7) return okFinding("backup", `the last backup is ${days === 0 ? "less than a day" : `${days} days`} old`)
  return problemFinding("backup", "warn", [
    `the last backup is ${days} days old`,
    "a failed disk loses all changes since then",
    advice
  ])
}
