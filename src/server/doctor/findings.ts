/** From what was looked at to what an operator is told: how bad it is, why it matters, and what to do. Pure. */
import { certificateFacts } from "#crypto/certificateFacts.ts"
import { namesCovering } from "#network/certificateNames.ts"
import type { Finding } from "#schema/doctor.ts"
import type { Node } from "#schema/nodes.ts"
import type { HighWaterMarkState } from "#store/HighWaterMark.ts"
import type { DatabaseFacts, DiskSpace } from "#store/DoctorStore.ts"

type ProblemSeverity = Exclude<Finding["severity"], "ok">

export const okFinding = (check: string, what: string): Finding => ({
  check,
  severity: "ok",
  what,
  why: "",
  remedy: ""
})

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

/** The first few by name, and how many more. */
export const firstNames = (names: ReadonlyArray<string>): string =>
  names.length <= maxNames
    ? names.join(", ")
    : `${names.slice(0, maxNames).join(", ")} and ${names.length - maxNames} more`

const maxNames = 5

const dayMillis = 86_400_000
const gibibyte = 1024 ** 3

export const clockFinding = ({ clockSkew }: DatabaseFacts): Finding => {
  const seconds = Math.abs(clockSkew) / 1000
  if (seconds < 2) return okFinding("clock", "the clocks of this process and the database agree")
  const which = clockSkew > 0 ? "ahead of" : "behind"
  return problemFinding("clock", seconds < 30 ? "warn" : "fail", [
    `the database's clock is ${seconds.toFixed(1)} seconds ${which} this process's`,
    "who is silent is judged by one and shown by the other, and certificates are judged by this process's",
    "let both machines take the time from NTP"
  ])
}

export const diskFinding = (path: string, space: DiskSpace | undefined): Finding => {
  if (space === undefined) return okFinding("disk", "there is no data directory here to run full")
  const percent = Math.floor(space.free / space.total * 100)
  const what = `${(space.free / gibibyte).toFixed(1)} GiB, ${percent} %, are free for the data directory ${path}`
  if (space.free >= gibibyte && percent >= 10) return okFinding("disk", what)
  return problemFinding("disk", space.free < gibibyte / 4 ? "fail" : "warn", [
    what,
    "on a full disk an embedded database refuses every change, and secrets and marks cannot be written",
    "make room, or move the data directory"
  ])
}

export const certificateFindings = ({ certificates, tunnels }: DatabaseFacts, now: number): ReadonlyArray<Finding> => {
  const read = certificates.map(({ certificate, domain }) => ({ domain, facts: certificateFacts(certificate, domain) }))
  const domains = (test: (endsAt: number, covers: boolean) => boolean) =>
    read.filter(({ facts }) => facts !== undefined && test(facts.endsAt, facts.coversDomain)).map(({ domain }) =>
      domain
    )
  const unreadable = read.filter(({ facts }) => facts === undefined).map(({ domain }) => domain)
  const expired = domains((endsAt) => endsAt < now)
  const soon = domains((endsAt) => endsAt >= now && endsAt < now + 14 * dayMillis)
  const foreign = domains((_, covers) => !covers)
  const stored = new Set(certificates.map(({ domain }) => domain))
  const bare = tunnels.filter((domain) => !namesCovering(domain).some((name) => stored.has(name)))
  const problems = [
    ...unreadable.length === 0 ? [] : [problemFinding("certificates", "fail", [
      `the certificates of ${firstNames(unreadable)} cannot be read`,
      "no gateway can serve them",
      "store them again: PUT /api/certificates/:domain, or `control certificate create`"
    ])],
    ...expired.length === 0 ? [] : [problemFinding("certificates", "fail", [
      `the certificates of ${firstNames(expired)} have expired`,
      "visitors of these domains are warned off",
      "renew them, and see why the gateway that obtains them has not"
    ])],
    ...soon.length === 0 ? [] : [problemFinding("certificates", "warn", [
      `the certificates of ${firstNames(soon)} end within two weeks`,
      "gateways usually renew them a month before",
      "see why the gateway that obtains them has not"
    ])],
    ...foreign.length === 0 ? [] : [problemFinding("certificates", "fail", [
      `the certificates stored for ${firstNames(foreign)} do not cover that domain`,
      "somebody wrote them past Control, and visitors are warned off",
      "store the right ones"
    ])],
    ...bare.length === 0 ? [] : [problemFinding("certificates", "note", [
      `no certificate is stored for ${firstNames(bare)}`,
      "HTTPS of these tunnels depends on each gateway's own certificates",
      "none, if gateways have their own; else see why none was obtained"
    ])]
  ]
  return problems.length > 0
    ? problems
    : [okFinding("certificates", `${certificates.length} certificates, all in force`)]
}

export const keyFindings = ({ neverUsedKeys, staleKeys }: DatabaseFacts): ReadonlyArray<Finding> => {
  const problems = [
    ...staleKeys.length === 0 ? [] : [problemFinding("keys", "warn", [
      `not used for 90 days: ${firstNames(staleKeys)}`,
      "a key that nobody needs can still be stolen and used",
      "revoke it: `control key delete`"
    ])],
    ...neverUsedKeys.length === 0 ? [] : [problemFinding("keys", "note", [
      `never used: ${firstNames(neverUsedKeys)}`,
      "its client was not set up, or uses another key",
      "set up the client, or revoke the key: `control key delete`"
    ])]
  ]
  return problems.length > 0 ? problems : [okFinding("keys", "every key is used")]
}

type Named = DatabaseFacts["offlineGateways"][number]

const nameOf = ({ id, name, type }: Named): string => `${type} ${name} (${id})`

export const clientFindings = (facts: DatabaseFacts): ReadonlyArray<Finding> => {
  const { laggingClients: behind, offlineAgents, offlineGateways, rejectingClients: refusing } = facts
  const problems = [
    ...behind.length === 0 ? [] : [problemFinding("clients", "warn", [
      `far behind what they were sent: ${
        firstNames(behind.map((client) => `${nameOf(client)} by ${client.revisions}`))
      }`,
      "they do not do what the network is meant to be",
      "look at their logs; a restart of the client gives it its whole view anew"
    ])],
    ...refusing.length === 0 ? [] : [problemFinding("clients", "warn", [
      `could not apply what they were sent: ${
        firstNames(refusing.map((client) => `${nameOf(client)}: ${client.code}, ${client.message}`))
      }`,
      "they go on with what they had before",
      "mend what they name; the next change, or a restart of the client, tries again"
    ])],
    ...offlineAgents.length === 0 ? [] : [problemFinding("clients", "warn", [
      `offline, with tunnels that are enabled: ${
        firstNames(offlineAgents.map((agent) => `${nameOf(agent)}, ${agent.tunnels}`))
      }`,
      "changes do not reach them, and their tunnels are most likely down",
      "start the agent, or disable its tunnels"
    ])],
    ...offlineGateways.length === 0 ? [] : [problemFinding("clients", "warn", [
      `offline: ${firstNames(offlineGateways.map(nameOf))}`,
      "changes do not reach them, and agents go on reckoning with them",
      "start the gateway, or delete it"
    ])]
  ]
  return problems.length > 0 ? problems : [okFinding("clients", "who has tunnels is online, and up to date")]
}

export const nodeFindings = (nodes: ReadonlyArray<Node>): ReadonlyArray<Finding> => {
  const live = nodes.filter(({ state }) => state === "live")
  const lost = nodes.filter(({ state }) => state === "lost")
  const versions = new Set(live.map(({ version }) => version))
  const problems = [
    ...lost.length === 0 ? [] : [problemFinding("nodes", "warn", [
      `went away without a word: ${firstNames(lost.map(({ lastSeenAt, name }) => `${name}, last seen ${lastSeenAt}`))}`,
      "its clients were shown offline until they came to another node",
      "see why it ended, or cannot reach the database; it is forgotten after an hour"
    ])],
    ...versions.size < 2 ? [] : [problemFinding("nodes", "warn", [
      `nodes are of different versions: ${firstNames(live.map(({ name, version }) => `${name} ${version}`))}`,
      "the older ones know nothing of what the newer ones can",
      "upgrade the others, too"
    ])]
  ]
  return problems.length > 0
    ? problems
    : [okFinding("nodes", live.length === 1 ? "one node, alive" : `${live.length} nodes, of one version`)]
}

export const schemaFinding = (drift: ReadonlyArray<string> | undefined): Finding => {
  if (drift === undefined) {
    return problemFinding("schema", "note", [
      "the database's schema could not be compared with what it should be",
      "the comparison needs the right to create a schema, which is rolled back at once",
      "grant CREATE on the database to Control's role, if you want it compared"
    ])
  }
  if (drift.length === 0) return okFinding("schema", "the database's schema is as the migrations make it")
  return problemFinding("schema", "fail", [
    `the database's schema is not what the migrations make: ${firstNames(drift)}`,
    "without its triggers a committed change is pushed to nobody, and without its constraints rows need not make sense",
    "undo what was done to it by hand; or restore a backup into an empty database"
  ])
}

export const sequencesFinding = ({ outdatedSequences: numberedTwice }: DatabaseFacts): Finding =>
  numberedTwice.length === 0
    ? okFinding("numbers", "rows are numbered after the last")
    : problemFinding("numbers", "fail", [
      `the next number is one that a row has: ${firstNames(numberedTwice)}`,
      "every write that needs a number fails until they are used up",
      numberedTwice.map((table) =>
        `select setval(pg_get_serial_sequence('${table}', 'id'), (select max(id) from ${table}))`
      ).join("; ")
    ])

export const unreadableRowsFinding = (unreadable: ReadonlyArray<string>): Finding =>
  unreadable.length === 0
    ? okFinding("rows", "every row can be read")
    : problemFinding("rows", "fail", [
      `left out, since they cannot be read: ${firstNames(unreadable)}`,
      "clients do not know of them, or keep what was known before",
      "write these rows anew, or delete them; many at once mean another master key, or a damaged database"
    ])

export const highWaterMarkFinding = (state: HighWaterMarkState): Finding => {
  if (state === "damaged") {
    return problemFinding("high-water", "warn", [
      "high-water.json was damaged when this process started",
      "had the database been restored from a backup meanwhile, clients would hold on to what it has lost",
      "if it was restored, restart the clients; look after the disk in any case"
    ])
  }
  return okFinding(
    "high-water",
    {
      kept: "how far the history was seen is kept outside the database",
      none: "there is no mark of an earlier run",
      unused: "this process keeps no mark: it has no data directory"
    }[state]
  )
}

/** `last`: milliseconds since 1970. */
export const backupFinding = (last: number | undefined, now: number): Finding => {
  const advice = "run `control backup FILE` every night, keep the file elsewhere, and the master key apart from it"
  if (last === undefined) {
    return problemFinding("backup", "note", [
      "no backup by `control backup` is known",
      "what is not backed up is lost with its disk",
      advice
    ])
  }
  const days = Math.floor((now - last) / dayMillis)
  if (days < 7) return okFinding("backup", `the last backup is ${days === 0 ? "less than a day" : `${days} days`} old`)
  return problemFinding("backup", "warn", [
    `the last backup is ${days} days old`,
    "all that was changed since is lost with its disk",
    advice
  ])
}
