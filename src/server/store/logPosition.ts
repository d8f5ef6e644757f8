/** Position of the change log: its timeline, newest revision and tag, and the position of the last accepted loss of rows. */
import { Revision, Timeline } from "#schema/ids.ts"
import { Schema } from "effect"

/** Random tag of a change. It distinguishes changes with equal revisions, because a restored backup reuses revisions. */
export type ChangeTag = string | null

/** The position at which an operator has accepted the loss of rows (see the loss guard). */
export type AcceptedPosition = { readonly timeline: Timeline; readonly revision: Revision } | undefined

/**
 * SQL expression of the timeline: a hash of the stored timeline, the identity of the PostgreSQL cluster, and PostgreSQL's own
 * timeline. A promoted standby and a point-in-time recovery change the last one. `row` is the alias of `control_meta`.
 */
export const timelineExpressionOf = (row: string) =>
  `md5(concat_ws(':', ${row}.timeline, (select system_identifier from pg_control_system()),
  substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)))::uuid::text`

/** The same expression for a statement in which `control_meta` has the alias `m`. */
export const timelineExpression = timelineExpressionOf("m")

export const tagColumn = Schema.NullOr(Schema.String)

export const positionColumns = {
  timeline: Timeline,
  newest: Revision,
  oldest: Schema.NullOr(Revision),
  accepted_timeline: Schema.NullOr(Timeline),
  accepted_revision: Schema.NullOr(Revision)
}

export const acceptedIn = (
  { accepted_revision: revision, accepted_timeline: timeline }: {
    readonly accepted_timeline: Timeline | null
    readonly accepted_revision: Revision | null
  }
): AcceptedPosition => timeline === null || revision === null ? undefined : { timeline, revision }
