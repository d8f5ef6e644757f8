/** Decodes the result rows of the presence statements. */
import { AgentId, formatClientRef, GatewayId, SessionId } from "#schema/ids.ts"
import { Schema } from "effect"
import type { ResultRows } from "./presenceStatements.ts"
import type { ClaimResult, LossCauses, ReleaseResult, TouchResult } from "./presenceTypes.ts"

/** Decodes the rows of `classifyLostRows`. */
export function lossCausesOf(rows: ResultRows): LossCauses {
  const lost = decodeLost(rows)
  const sessionsWith = (isTakenOver: boolean) =>
    new Set(lost.filter((row) => row.isTakenOver === isTakenOver).map(({ session }) => session))
  return { takenOver: sessionsWith(true), forgotten: sessionsWith(false) }
}

const decodeLost = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ session: SessionId, isTakenOver: Schema.Boolean }))
)

/** Decodes the rows of `claimRows` for both tables. */
export function claimResultOf(rows: ResultRows): ClaimResult {
  const decoded = decodeUnclaimed(rows)
  const clients = (reason: "deleted" | "keyTaken" | "locked") =>
    new Set(
      decoded.flatMap((row) =>
        row.at !== null || reason !== (row.isStored ? row.isKeyTaken ? "keyTaken" : "locked" : "deleted") ?
          [] :
          [formatClientRef(
            row.kind === "agents"
              ? { type: "agent", id: AgentId.make(row.id) }
              : { type: "gateway", id: GatewayId.make(row.id) }
          )]
      )
    )
  return {
    at: latestOf(decoded.map(({ at }) => at)),
    deleted: clients("deleted"),
    locked: clients("locked"),
    keyTaken: clients("keyTaken")
  }
}

/** The last row of a result, with the time of the write. */
const TimeRow = Schema.Struct({ at: Schema.Finite })

const decodeUnclaimed = Schema.decodeUnknownSync(Schema.Array(Schema.Union([
  TimeRow,
  Schema.Struct({
    id: Schema.String,
    kind: Schema.Literals(["agents", "gateways"]),
    isStored: Schema.Boolean,
    isKeyTaken: Schema.Boolean,
    at: Schema.Null
  })
])))

/** Decodes the rows of `releaseRows` for both tables. */
export function releaseResultOf(rows: ResultRows): ReleaseResult {
  const decoded = decodeUnreleased(rows)
  const sessions = (reason: "locked" | "takenOver" | "unclaimed") =>
    new Set(decoded.flatMap((row) => row.at === null && row.reason === reason ? [row.session] : []))
  return {
    at: latestOf(decoded.map(({ at }) => at)),
    locked: sessions("locked"),
    takenOver: sessions("takenOver"),
    unclaimed: sessions("unclaimed")
  }
}

const decodeUnreleased = Schema.decodeUnknownSync(Schema.Array(Schema.Union([
  TimeRow,
  Schema.Struct({ session: SessionId, reason: Schema.Literals(["locked", "takenOver", "unclaimed"]), at: Schema.Null })
])))

/** Decodes the rows of `touchRows` for both tables. */
export function touchResultOf(rows: ResultRows): TouchResult {
  const touched = decodeTouched(rows)
  return {
    at: latestOf(touched.map(({ againAt }) => againAt)),
    held: new Set(touched.map(({ session }) => session)),
    backOnline: new Set(touched.flatMap(({ againAt, session }) => againAt === null ? [] : [session]))
  }
}

const decodeTouched = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ session: SessionId, againAt: Schema.NullOr(Schema.Finite) }))
)

/** The latest time is valid for both tables, because one transaction holds all row locks until its commit. */
function latestOf(times: ReadonlyArray<number | null>): number {
  return times.reduce<number>((latest, at) => at !== null && at > latest ? at : latest, 0)
}
