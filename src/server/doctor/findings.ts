/** From what was looked at to what an operator is told: how bad it is, why it matters, and what to do. Pure. */
import { certificateFacts } from "#crypto/certificateFacts.ts"
import { namesCovering } from "#network/certificateNames.ts"
import type { Finding } from "#schema/doctor.ts"
import type { Node } from "#schema/nodes.ts"
import type { MarkState } from "#store/HighWaterMark.ts"
import type { DiskSpace, Facts } from "#store/DoctorStore.ts"

type Worse = Exclude<Finding["severity"], "ok">

export const fine = (check: string, what: string): Finding => ({ check, severity: "ok", what, why: "", remedy: "" })

export const found = (
  check: string,
  severity: Worse,
  [what, why, remedy]: readonly [string, string, string]
): Finding => ({
  check,
  severity,
  what,
  why,
  remedy
})

/** The first few by name, and how many more. */
export const some = (names: ReadonlyArray<string>): string =>
  names.length <= mostNamed
    ? names.join(", ")
    : `${names.slice(0, mostNamed).join(", ")} and ${names.length - mostNamed} more`

const mostNamed = 5

const dayMillis = 86_400_000
const gibibyte = 1024 ** 3

export const clockFinding = ({ clockSkew }: Facts): Finding => {
  const seconds = Math.abs(clockSkew) / 1000
  if (seconds < 2) return fine("clock", "the clocks of this process and the database agree")
  const which = clockSkew > 0 ? "ahead of" : "behind"
  return found("clock", seconds < 30 ? "warn" : "fail", [
    `the database's clock is ${seconds.toFixed(1)} seconds ${which} this process's`,
    "who is silent is judged by one and shown by the other, and certificates are judged by this process's",
    "let both machines take the time from NTP"
  ])
}

export const diskFinding = (path: string, space: DiskSpace | undefined): Finding => {
  if (space === undefined) return fine("disk", "there is no data directory here to run full")
  const percent = Math.floor(space.free / space.total * 100)
  const what = `${(space.free / gibibyte).toFixed(1)} GiB, ${percent} %, are free for the data directory ${path}`
  if (space.free >= gibibyte && percent >= 10) return fine("disk", what)
  return found("disk", space.free < gibibyte / 4 ? "fail" : "warn", [
    what,
    "on a full disk an embedded database refuses every change, and secrets and marks cannot be written",
    "make room, or move the data directory"
  ])
}

export const certificateFindings = ({ certificates, tunnels }: Facts, now: number): ReadonlyArray<Finding> => {
  const read = certificates.map(({ certificate, domain }) => ({ domain, facts: certificateFacts(certificate, domain) }))
  const domains = (test: (endsAt: number, covers: boolean) => boolean) =>
    read.filter(({ facts }) => facts !== undefined && test(facts.endsAt, facts.covers)).map(({ domain }) => domain)
  const unreadable = read.filter(({ facts }) => facts === undefined).map(({ domain }) => domain)
  const expired = domains((endsAt) => endsAt < now)
  const soon = domains((endsAt) => endsAt >= now && endsAt < now + 14 * dayMillis)
  const foreign = domains((_, covers) => !covers)
  const stored = new Set(certificates.map(({ domain }) => domain))
  const bare = tunnels.filter((domain) => !namesCovering(domain).some((name) => stored.has(name)))
  const problems = [
    ...unreadable.length === 0 ? [] : [found("certificates", "fail", [
      `the certificates of ${some(unreadable)} cannot be read`,
      "no gateway can serve them",
      "store them again: PUT /api/certificates/:domain, or `control certificate create`"
    ])],
    ...expired.length === 0 ? [] : [found("certificates", "fail", [
      `the certificates of ${some(expired)} have expired`,
      "visitors of these domains are warned off",
      "renew them, and see why the gateway that obtains them has not"
    ])],
    ...soon.length === 0 ? [] : [found("certificates", "warn", [
      `the certificates of ${some(soon)} end within two weeks`,
      "gateways usually renew them a month before",
      "see why the gateway that obtains them has not"
    ])],
    ...foreign.length === 0 ? [] : [found("certificates", "fail", [
      `the certificates stored for ${some(foreign)} do not cover that domain`,
      "somebody wrote them past Control, and visitors are warned off",
      "store the right ones"
    ])],
    ...bare.length === 0 ? [] : [found("certificates", "note", [
      `no certificate is stored for ${some(bare)}`,
      "HTTPS of these tunnels depends on each gateway's own certificates",
      "none, if gateways have their own; else see why none was obtained"
    ])]
  ]
  return problems.length > 0 ? problems : [fine("certificates", `${certificates.length} certificates, all in force`)]
}

export const keyFindings = ({ neverUsedKeys, staleKeys }: Facts): ReadonlyArray<Finding> => {
  const problems = [
    ...staleKeys.length === 0 ? [] : [found("keys", "warn", [
      `not used for 90 days: ${some(staleKeys)}`,
      "a key that nobody needs can still be stolen and used",
      "revoke it: `control key delete`"
    ])],
    ...neverUsedKeys.length === 0 ? [] : [found("keys", "note", [
      `never used: ${some(neverUsedKeys)}`,
      "its client was not set up, or uses another key",
      "set up the client, or revoke the key: `control key delete`"
    ])]
  ]
  return problems.length > 0 ? problems : [fine("keys", "every key is used")]
}

type Named = Facts["offlineGateways"][number]

const nameOf = ({ id, name, type }: Named): string => `${type} ${name} (${id})`

export const clientFindings = (facts: Facts): ReadonlyArray<Finding> => {
  const { behind, offlineAgents, offlineGateways, refusing } = facts
  const problems = [
    ...behind.length === 0 ? [] : [found("clients", "warn", [
      `far behind what they were sent: ${some(behind.map((client) => `${nameOf(client)} by ${client.revisions}`))}`,
      "they do not do what the network is meant to be",
      "look at their logs; a restart of the client gives it its whole view anew"
    ])],
    ...refusing.length === 0 ? [] : [found("clients", "warn", [
      `could not apply what they were sent: ${
        some(refusing.map((client) => `${nameOf(client)}: ${client.code}, ${client.message}`))
      }`,
      "they go on with what they had before",
      "mend what they name; the next change, or a restart of the client, tries again"
    ])],
    ...offlineAgents.length === 0 ? [] : [found("clients", "warn", [
      `offline, with tunnels that are enabled: ${
        some(offlineAgents.map((agent) => `${nameOf(agent)}, ${agent.tunnels}`))
      }`,
      "changes do not reach them, and their tunnels are most likely down",
      "start the agent, or disable its tunnels"
    ])],
    ...offlineGateways.length === 0 ? [] : [found("clients", "warn", [
      `offline: ${some(offlineGateways.map(nameOf))}`,
      "changes do not reach them, and agents go on reckoning with them",
      "start the gateway, or delete it"
    ])]
  ]
  return problems.length > 0 ? problems : [fine("clients", "who has tunnels is online, and up to date")]
}

export const nodeFindings = (nodes: ReadonlyArray<Node>): ReadonlyArray<Finding> => {
  const live = nodes.filter(({ state }) => state === "live")
  const lost = nodes.filter(({ state }) => state === "lost")
  const versions = new Set(live.map(({ version }) => version))
  const problems = [
    ...lost.length === 0 ? [] : [found("nodes", "warn", [
      `went away without a word: ${some(lost.map(({ lastSeenAt, name }) => `${name}, last seen ${lastSeenAt}`))}`,
      "its clients were shown offline until they came to another node",
      "see why it ended, or cannot reach the database; it is forgotten after an hour"
    ])],
    ...versions.size < 2 ? [] : [found("nodes", "warn", [
      `nodes are of different versions: ${some(live.map(({ name, version }) => `${name} ${version}`))}`,
      "the older ones know nothing of what the newer ones can",
      "upgrade the others, too"
    ])]
  ]
  return problems.length > 0
    ? problems
    : [fine("nodes", live.length === 1 ? "one node, alive" : `${live.length} nodes, of one version`)]
}

export const schemaFinding = (drift: ReadonlyArray<string> | undefined): Finding => {
  if (drift === undefined) {
    return found("schema", "note", [
      "the database's schema could not be compared with what it should be",
      "the comparison needs the right to create a schema, which is rolled back at once",
      "grant CREATE on the database to Control's role, if you want it compared"
    ])
  }
  if (drift.length === 0) return fine("schema", "the database's schema is as the migrations make it")
  return found("schema", "fail", [
    `the database's schema is not what the migrations make: ${some(drift)}`,
    "without its triggers a committed change is pushed to nobody, and without its constraints rows need not make sense",
    "undo what was done to it by hand; or restore a backup into an empty database"
  ])
}

export const numbersFinding = ({ numberedTwice }: Facts): Finding =>
  numberedTwice.length === 0
    ? fine("numbers", "rows are numbered after the last")
    : found("numbers", "fail", [
      `the next number is one that a row has: ${some(numberedTwice)}`,
      "every write that needs a number fails until they are used up",
      numberedTwice.map((table) =>
        `select setval(pg_get_serial_sequence('${table}', 'id'), (select max(id) from ${table}))`
      ).join("; ")
    ])

export const rowsFinding = (unreadable: ReadonlyArray<string>): Finding =>
  unreadable.length === 0
    ? fine("rows", "every row can be read")
    : found("rows", "fail", [
      `left out, since they cannot be read: ${some(unreadable)}`,
      "clients do not know of them, or keep what was known before",
      "write these rows anew, or delete them; many at once mean another master key, or a damaged database"
    ])

export const markFinding = (state: MarkState): Finding => {
  if (state === "damaged") {
    return found("high-water", "warn", [
      "high-water.json was damaged when this process started",
      "had the database been restored from a backup meanwhile, clients would hold on to what it has lost",
      "if it was restored, restart the clients; look after the disk in any case"
    ])
  }
  return fine(
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
    return found("backup", "note", [
      "no backup by `control backup` is known",
      "what is not backed up is lost with its disk",
      advice
    ])
  }
  const days = Math.floor((now - last) / dayMillis)
  if (days < 7) return fine("backup", `the last backup is ${days === 0 ? "less than a day" : `${days} days`} old`)
  return found("backup", "warn", [
    `the last backup is ${days} days old`,
    "all that was changed since is lost with its disk",
    advice
  ])
}
