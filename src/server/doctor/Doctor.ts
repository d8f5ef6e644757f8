/** Diagnostics: checks the database, the disk, the settings and the clients, and returns findings. */
import packageJson from "#package.json" with { type: "json" }
import type { DoctorReport, Finding } from "#schema/doctor.ts"
import { Settings } from "#server/Settings.ts"
import { Backup } from "#store/backup/Backup.ts"
import { type HighWaterMarkState, HighWaterMarkStore } from "#store/HighWaterMark.ts"
import { NodeStore } from "#store/NodeStore.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import { DoctorStore, readDiskSpace } from "#store/DoctorStore.ts"
import { Clock, Context, DateTime, Effect, Layer, Option } from "effect"
import { certificateFindings } from "./certificateFindings.ts"
import * as Findings from "./findings.ts"
import { settingsFindings } from "./settingsFindings.ts"

export class Doctor extends Context.Service<Doctor, {
  /** Checks everything that the stores show. `known` adds what only the caller can check. */
  examine(known: {
    /** Findings of the caller, for example whether its feed has caught up. */
    readonly findings: ReadonlyArray<Finding>
    /** One sentence for each unreadable row. */
    readonly unreadable: ReadonlyArray<string>
    /** State of the high-water mark when the process started; absent in a command, which does not use the mark. */
    readonly highWaterMark?: HighWaterMarkState
  }): Effect.Effect<DoctorReport, StoreUnavailable>
}>()("control/doctor/Doctor") {
  static readonly layer = Layer.effect(
    Doctor,
    Effect.gen(function*() {
      const settings = yield* Settings
      const store = yield* DoctorStore
      const backup = yield* Backup
      const nodes = yield* NodeStore
      return Doctor.of({
        examine: Effect.fn("Doctor.examine")(function*({ findings, highWaterMark, unreadable }) {
          const facts = yield* store.readFacts
          const now = yield* Clock.currentTimeMillis
          const last = Option.getOrUndefined(Option.flatMap(yield* backup.lastBackupAt, DateTime.make))
          return diagnosis(now, [
            ...findings,
            Findings.clockFinding(facts),
            Findings.diskFinding(settings.dataDir, yield* readDiskSpace(settings.dataDir)),
            Findings.schemaFinding(yield* store.findSchemaDrift),
            Findings.unreadableRowsFinding(unreadable),
            Findings.sequencesFinding(facts),
            ...highWaterMark === undefined ? [] : [Findings.highWaterMarkFinding(highWaterMark)],
            Findings.backupFinding(last?.epochMilliseconds, now),
            ...certificateFindings(facts, now),
            ...Findings.keyFindings(facts),
            ...Findings.clientFindings(facts),
            ...Findings.nodeFindings(yield* nodes.list),
            ...settingsFindings(settings, facts)
          ])
        })
      })
    })
  )
}

/** Returns a diagnosis of this version. `now` is in milliseconds since 1970. */
export const diagnosis = (now: number, findings: ReadonlyArray<Finding>): DoctorReport => ({
  at: DateTime.formatIso(DateTime.makeUnsafe(now)),
  version: packageJson.version,
  findings
})

/** The effect that returns the state of the high-water mark when this process started. */
export const highWaterMarkState = Effect.map(HighWaterMarkStore, ({ readState: state }) => state)
