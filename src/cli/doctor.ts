/** `control doctor`: asks the server, or examines this machine if no server answers. */
import { diagnosis, Doctor } from "#doctor/Doctor.ts"
import { diskFinding, problemFinding } from "#doctor/findings.ts"
import { riskySettings } from "#doctor/settingsFindings.ts"
import { DoctorReport, type Finding } from "#schema/doctor.ts"
import { Settings } from "#server/Settings.ts"
import { schemaVersion } from "#store/Database.ts"
import { DoctorStore, readDiskSpace } from "#store/DoctorStore.ts"
import { Clock, Effect, Layer, Option, Schema } from "effect"
import { requestJson } from "./apiClient.ts"
import { commandFailed } from "./CommandFailed.ts"
import { configuredUrl, findServer } from "./findServer.ts"
import * as Offline from "./offline.ts"
import type { Format } from "./output.ts"
import { replaceControlCharacters } from "./valueText.ts"
import { warningLog } from "./warningLog.ts"

/**
 * Returns the diagnosis. Fails if the server of `CONTROL_API_URL` does not answer, or if any server rejects the token,
 * because an examination of this machine would not describe that server.
 */
export const examine = Effect.gen(function*() {
  const hasConfiguredUrl = Option.isSome(yield* configuredUrl)
  const server = yield* Effect.result(findServer)
  if (server._tag === "Failure") {
    return yield* hasConfiguredUrl ? Effect.fail(server.failure) : examineWithoutServer(server.failure.reason)
  }
  const { name } = server.success
  const response = yield* Effect.result(requestJson(server.success, { method: "GET", path: "/api/doctor" }))
  if (response._tag === "Failure") {
    const { kind, reason } = response.failure
    return yield* hasConfiguredUrl || kind !== "unreachable"
      ? Effect.fail(response.failure)
      : examineWithoutServer(reason)
  }
  return yield* Effect.mapError(
    decodeDiagnosis(response.success),
    () => commandFailed("failed", `the server at ${name} has another version; run control doctor of that version`)
  )
})

const decodeDiagnosis = Schema.decodeUnknownEffect(DoctorReport)

const examineWithoutServer = Effect.fnUntraced(function*(reason: string) {
  const server = problemFinding("server", "warn", [
    `no server was asked: ${reason}`,
    "without a server no change reaches a client, and this diagnosis covers only the database, the disk and the settings",
    "start the server, then run control doctor again with its admin token"
  ])
  const result = yield* Effect.result(Effect.provide(examineMachine(server, reason), Offline.settings))
  if (result._tag === "Success") return result.success
  return diagnosis(yield* Clock.currentTimeMillis, [
    server,
    problemFinding("settings", "fail", [
      result.failure.reason,
      "Control does not start with these settings",
      "correct the settings"
    ])
  ])
})

/** A failure of the database is a finding, and does not prevent the checks of the disk and the settings. */
const examineMachine = Effect.fnUntraced(function*(server: Finding, reason: string) {
  const settings = yield* Settings
  const database = Layer.provideMerge(Doctor.layer, Offline.existingDatabase)
  const result = yield* Effect.result(
    examineDatabase(server).pipe(Effect.provide(database), Effect.provide(warningLog))
  )
  if (result._tag === "Success") return result.success
  const { failure } = result
  const others = [diskFinding(settings.dataDir, yield* readDiskSpace(settings.dataDir)), ...riskySettings(settings)]
  if (failure._tag === "DataDirectoryBusy") {
    return diagnosis(yield* Clock.currentTimeMillis, [unreachedServerFinding(failure.holder, reason), ...others])
  }
  return diagnosis(yield* Clock.currentTimeMillis, [
    server,
    problemFinding("database", "fail", [
      failure._tag === "SqlError" ? "no answer from the database of DATABASE_URL" : failure.message,
      "Control does not start without its database",
      "start the database; if its files are damaged, run control restore FILE with a new data directory"
    ]),
    ...others
  ])
})

/** The process that holds the data directory also holds the embedded database, so that only this process can examine it. */
const unreachedServerFinding = (holder: string, reason: string): Finding =>
  problemFinding("server", "warn", [
    `a server runs here (${holder}), but was not asked: ${reason}`,
    "the server has locked the database, so that only the disk and the settings were checked",
    "set CONTROL_API_URL to the operators' URL that the server has logged at its start, and CONTROL_ADMIN_TOKEN"
  ])

const examineDatabase = Effect.fnUntraced(function*(server: Finding) {
  const store = yield* DoctorStore
  const version = yield* store.readSchemaVersion
  if (version !== schemaVersion) {
    return yield* commandFailed(
      "failed",
      `the database has schema version ${version}, but this version of Control needs ${schemaVersion}; ` +
        (version < schemaVersion ? "start the server to migrate the database" : "install a newer version of Control")
    )
  }
  const key = yield* masterKeyFindings
  const cipher = Option.getOrUndefined(yield* Offline.cipher)
  const unreadable = cipher === undefined || key.length > 0 ? [] : yield* store.describeUnreadable(cipher)
  return yield* (yield* Doctor).examine({ findings: [server, ...key], unreadable })
})

/** With a wrong master key every row with a secret is unreadable. One finding replaces one entry for each row. */
const masterKeyFindings = Effect.gen(function*() {
  const { masterKey } = yield* (yield* DoctorStore).readFacts
  const cipher = Option.getOrUndefined(yield* Offline.cipher)
  if (masterKey === null || cipher?.readableIds.has(masterKey)) return []
  return [problemFinding("master-key", "fail", [
    `the database is encrypted with master key ${masterKey}, but this machine has ${
      cipher === undefined ? "no master key" : `master key ${cipher.keyId}`
    }`,
    "Control does not start with another master key, and the private keys in the database cannot be read",
    "set CONTROL_MASTER_KEY_FILE to the right key, or copy the key to the file master-key in the data directory"
  ])]
})

export const isHealthy = ({ findings }: DoctorReport): boolean => findings.every(({ severity }) => severity !== "fail")

/** Returns text for people, problems first; for other formats the diagnosis itself. */
export const formatDiagnosis = (format: Format, { findings, ...rest }: DoctorReport): unknown => {
  if (format !== "table") return { ...rest, findings }
  const order: ReadonlyArray<Finding["severity"]> = ["fail", "warn", "note", "ok"]
  // Findings quote messages of clients: an indented line break cannot look like the start of another finding.
  const text = (sentence: string) => replaceControlCharacters(sentence).replaceAll("\n", `\n${indent}`)
  return findings.toSorted((one, other) => order.indexOf(one.severity) - order.indexOf(other.severity)).map(
    ({ check, remedy, severity, what, why }) =>
      `${severity.padEnd(4)}  ${check.padEnd(12)}  ${text(what)}` +
      (severity === "ok" ? "" : `\n${indent}why: ${text(why)}\n${indent}do:  ${text(remedy)}`)
  ).join("\n")
}

const indent = " ".repeat(20)
