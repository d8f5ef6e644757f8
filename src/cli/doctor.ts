/** `control doctor`: asks the server, or where none answers, looks at what can be seen without one. */
import { Diagnosis, type Finding } from "#schema/doctor.ts"
import { Settings } from "#server/Settings.ts"
import { schemaVersion } from "#store/Database.ts"
import { diskSpace, DoctorStore } from "#store/DoctorStore.ts"
import { diagnosis, Doctor } from "#doctor/Doctor.ts"
import { diskFinding, found } from "#doctor/findings.ts"
import { fightingSettings } from "#doctor/settingsFindings.ts"
import { Clock, Effect, Layer, Option, Schema } from "effect"
import { fail } from "./CommandFailed.ts"
import { type Format, visible } from "./output.ts"
import * as Offline from "./offline.ts"
import { ask, findServer, givenUrl } from "./apiClient.ts"

/** A server that was named, or that refuses the token, is no reason to look elsewhere. */
export const examine = Effect.gen(function*() {
  const isNamed = Option.isSome(yield* givenUrl)
  const server = yield* Effect.result(findServer)
  if (server._tag === "Failure")
    return yield* isNamed ? Effect.fail(server.failure) : withoutServer(server.failure.reason)
  const { url } = server.success
  const answer = yield* Effect.result(ask(server.success, { method: "GET", path: "/api/doctor" }))
  if (answer._tag === "Failure") {
    const { kind, reason } = answer.failure
    return yield* isNamed || kind !== "unreachable" ? Effect.fail(answer.failure) : withoutServer(reason)
  }
  return yield* Effect.mapError(
    decodeDiagnosis(answer.success),
    () => fail("failed", `the server at ${url} is of another version: run its own control doctor`)
  )
})

const decodeDiagnosis = Schema.decodeUnknownEffect(Diagnosis)

const withoutServer = Effect.fnUntraced(function*(reason: string) {
  const server = found("server", "warn", [
    `no server was asked: ${reason}`,
    "while none runs, no change reaches a client; and only some of what can go wrong was looked at",
    "start it, and run this again with its token"
  ])
  const looked = yield* Effect.result(Effect.provide(lookAtDatabase(server, reason), Offline.settings))
  if (looked._tag === "Success") return looked.success
  return diagnosis(yield* Clock.currentTimeMillis, [
    server,
    found("settings", "fail", [looked.failure.reason, "with these settings Control does not start", "correct them"])
  ])
})

/** What is wrong with the database is a finding too, and the settings and the disk can be looked at whatever it is. */
const lookAtDatabase = Effect.fnUntraced(function*(server: Finding, reason: string) {
  const settings = yield* Settings
  const database = Layer.provideMerge(Doctor.layer, Offline.asItIs)
  const seen = yield* Effect.result(lookAtRows(server).pipe(Effect.provide(database), Effect.provide(Offline.quietLog)))
  if (seen._tag === "Success") return seen.success
  const { failure } = seen
  const beside = [diskFinding(settings.dataDir, yield* diskSpace(settings.dataDir)), ...fightingSettings(settings)]
  if (failure._tag === "DataDirectoryBusy")
    return diagnosis(yield* Clock.currentTimeMillis, [runningFinding(failure.holder, reason), ...beside])
  return diagnosis(yield* Clock.currentTimeMillis, [
    server,
    found("database", "fail", [
      failure._tag === "SqlError" ? "the database of DATABASE_URL does not answer" : failure.message,
      "Control does not start without it",
      "see to the database; if its files are damaged, `control restore FILE` into a new data directory"
    ]),
    ...beside
  ])
})

/** Who holds the data directory has its database, too: nothing can be told of it but by asking. */
const runningFinding = (holder: string, reason: string): Finding =>
  found("server", "warn", [
    `a server runs here (${holder}), and it was not asked: ${reason}`,
    "it has the database for itself, so only the disk and the settings were looked at",
    "say with CONTROL_API_URL where it serves operators: it has logged that when it started"
  ])

const lookAtRows = Effect.fnUntraced(function*(server: Finding) {
  const store = yield* DoctorStore
  const version = yield* store.version
  if (version !== schemaVersion) {
    return yield* fail(
      "failed",
      `the database has schema version ${version}, and this version of Control is made for ${schemaVersion}: ` +
        (version < schemaVersion ? "its start brings it up to date" : "run a newer Control")
    )
  }
  const key = yield* keyFindings
  const cipher = Option.getOrUndefined(yield* Offline.cipher)
  const unreadable = cipher === undefined || key.length > 0 ? [] : yield* store.unreadable(cipher)
  return yield* (yield* Doctor).examine({ findings: [server, ...key], unreadable })
})

/** Under another master key no row with a secret can be read: that is said once, and not of each row. */
const keyFindings = Effect.gen(function*() {
  const { masterKey: writtenUnder } = yield* (yield* DoctorStore).facts
  const cipher = Option.getOrUndefined(yield* Offline.cipher)
  if (writtenUnder === null || cipher?.readableIds.has(writtenUnder)) return []
  return [found("master-key", "fail", [
    `the database is encrypted under master key ${writtenUnder}, and here is ${
      cipher === undefined ? "none" : `master key ${cipher.keyId}`
    }`,
    "Control does not start with another one, and nothing else can read the private keys in the database",
    "give the right one as CONTROL_MASTER_KEY_FILE, or as the file master-key in the data directory"
  ])]
})

export const isWell = ({ findings }: Diagnosis): boolean => findings.every(({ severity }) => severity !== "fail")

/** For people: what is wrong first, with why and what to do. What clients have said is quoted in it. */
export const describe = (format: Format, found: Diagnosis): unknown => {
  if (format !== "table") return found
  const order: ReadonlyArray<Finding["severity"]> = ["fail", "warn", "note", "ok"]
  // A line break in what is quoted must not begin what looks like another finding.
  const text = (words: string) => visible(words).replaceAll("\n", `\n${indent}`)
  return found.findings.toSorted((one, other) => order.indexOf(one.severity) - order.indexOf(other.severity)).map(
    ({ check, remedy, severity, what, why }) =>
      `${severity.padEnd(4)}  ${check.padEnd(12)}  ${text(what)}` +
      (severity === "ok" ? "" : `\n${indent}why: ${text(why)}\n${indent}do:  ${text(remedy)}`)
  ).join("\n")
}

const indent = " ".repeat(20)
