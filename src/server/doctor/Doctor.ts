/** Looks at everything that an operator would look at, and says what is wrong. */
import packageJson from "#package.json" with { type: "json" }
import type { DoctorReport, Finding } from "#schema/doctor.ts"
import { Settings } from "#server/Settings.ts"
import { Backup } from "#store/backup/Backup.ts"
import { type HighWaterMarkState, HighWaterMarkStore } from "#store/HighWaterMark.ts"
import { NodeStore } from "#store/NodeStore.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import { DoctorStore, readDiskSpace } from "#store/DoctorStore.ts"
import { Clock, Context, DateTime, Effect, Layer, Option } from "effect"
import * as Findings from "./findings.ts"
import { settingsFindings } from "./settingsFindings.ts"

export class Doctor extends Context.Service<Doctor, {
  /** `known`: what only the caller can tell, such as whether the feed is caught up, and which rows are left out. */
  examine(known: {
    readonly findings: ReadonlyArray<Finding>
    readonly unreadable: ReadonlyArray<string>
    /** What was found where the mark of the history should be; left out where nobody has looked. */
    readonly mark?: HighWaterMarkState
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
        examine: Effect.fn("Doctor.examine")(function*({ findings, mark, unreadable }) {
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
            ...mark === undefined ? [] : [Findings.highWaterMarkFinding(mark)],
            Findings.backupFinding(last?.epochMilliseconds, now),
            ...Findings.certificateFindings(facts, now),
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

/** What this version has found at this moment. */
export const diagnosis = (now: number, findings: ReadonlyArray<Finding>): DoctorReport => ({
  at: DateTime.formatIso(DateTime.makeUnsafe(now)),
  version: packageJson.version,
  findings
})

/** Gives what this process found where its mark of the history should be. */
export const highWaterMarkState = Effect.map(HighWaterMarkStore, ({ readState: state }) => state)
