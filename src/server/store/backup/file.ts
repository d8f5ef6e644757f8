/**
 * The backup file: gzip of JSON lines. The first line is the header, then follows one line for each row. The last line is
 * the footer, with the number of rows and the SHA-256 of all lines before it. So a truncated or damaged file is detected
 * before any row of it is used. A signature follows (signature.ts).
 *
 * The reader splits lines itself, because `Ndjson` of Effect returns values only. The SHA-256 needs the bytes of each line,
 * and a last line without a line feed must count as truncated.
 */
import { Revision, Timeline, Timestamp } from "#schema/ids.ts"
import { Effect, Option, Schema, Stream } from "effect"
import { createHash } from "node:crypto"
import { encryptedColumns } from "#store/secrets/encryptedColumns.ts"
import { BackupUnusable, reasonOf, truncated, Unusable } from "./BackupUnusable.ts"
import { linesOf, parseLine, trailingData } from "./lines.ts"
import { type Content, readContent } from "./signature.ts"

const RowCounts = Schema.Record(Schema.String, Schema.Int)

/** The first line of a backup. */
export const BackupHeader = Schema.Struct({
  format: Schema.Literal("control-backup"),
  version: Schema.Literal(1),
  /** Version of the database schema. */
  schema: Schema.Int,
  timeline: Timeline,
  revision: Revision,
  /** Id of the master key that was the writing key at the time of the backup. */
  masterKey: Schema.NullOr(Schema.String),
  at: Timestamp
})
export type BackupHeader = typeof BackupHeader.Type

const BackupFooter = Schema.Struct({ rows: RowCounts, sha256: Schema.String })

/** The content of a complete file. */
export interface BackupSummary {
  readonly header: BackupHeader
  /** Number of rows by table. */
  readonly rows: Readonly<Record<string, number>>
  readonly sha256: string
  /** Ids of the master keys that encrypt values in the file. */
  readonly keyIds: ReadonlySet<string>
}

/** One row of a backup; `row` has the column names of the table. */
export interface BackupRow {
  readonly table: string
  readonly row: Readonly<Record<string, unknown>>
}

/** Formats the lines of a backup in order: header, rows, footer. Counts and hashes them for the footer. */
export class BackupWriter {
  readonly #hash = createHash("sha256")
  readonly #rows: Record<string, number> = {}

  header(header: BackupHeader): string {
    return this.#line(JSON.stringify(header))
  }

  /** `images`: rows as JSON text. */
  rows(table: string, images: ReadonlyArray<string>): string {
    this.#rows[table] = (this.#rows[table] ?? 0) + images.length
    return images.map((image) => this.#line(`{"table":${JSON.stringify(table)},"row":${image}}`)).join("")
  }

  footer(): string {
    return `${JSON.stringify({ rows: this.#rows, sha256: this.#hash.digest("hex") })}\n`
  }

  #line(text: string): string {
    const line = `${text}\n`
    this.#hash.update(line)
    return line
  }
}

/** Reads and verifies a complete file. */
export const verifyBackup = (file: string): Effect.Effect<BackupSummary, BackupUnusable> =>
  readBackup(file, () => Effect.void)

/** Runs `use` on batches of at most 500 rows of one table. Fails at the end if the file is not the one that was verified. */
export const forEachRowBatch = <E, R>(
  file: string,
  { sha256 }: BackupSummary,
  use: (table: string, rows: ReadonlyArray<BackupRow["row"]>) => Effect.Effect<void, E, R>
): Effect.Effect<void, E | BackupUnusable, R> =>
  Effect.flatMap(readBackup(file, use), (summary) =>
    summary.sha256 === sha256
      ? Effect.void
      : Effect.fail(new BackupUnusable({ file, reason: "the file was changed while it was read" })))

const readBackup = <E, R>(
  file: string,
  use: (table: string, rows: ReadonlyArray<BackupRow["row"]>) => Effect.Effect<void, E, R>
): Effect.Effect<BackupSummary, E | BackupUnusable, R> =>
  Effect.flatMap(readContent(file), (content) => {
    const reader = new BackupReader()
    const toUnusable = (error: unknown) => new BackupUnusable({ file, reason: reasonOf(error) })
    return Stream.fromAsyncIterable(batchesOf(file, content, reader), toUnusable).pipe(
      Stream.runForEach(({ rows, table }) => use(table, rows)),
      Effect.andThen(Effect.try({ try: () => reader.summary(), catch: toUnusable }))
    )
  })

const batchSize = 500

/** Characters of the lines of a batch, so that long lines do not fill the memory. */
const maxBatchLength = 4 * 1024 * 1024
const encryptedValue = /^v1\.([0-9a-f]{16})\./u

/** Numbers up to here leave room for later ids and revisions, and JSON keeps them exact. */
const maxNumber = 2 ** 52

interface RowBatch {
  readonly table: string
  readonly rows: Array<BackupRow["row"]>
  length: number
}

/** Checks the lines of a backup in order, and collects rows into batches. Its methods throw `Unusable`. */
class BackupReader {
  readonly #hash = createHash("sha256")
  readonly #rows = new Map<string, number>()
  readonly #keyIds = new Set<string>()
  #header: BackupHeader | undefined
  #sha256: string | undefined
  #batch: RowBatch | undefined

  /** Takes the next line, without its line feed. Returns the batch that this line completes, if any. */
  accept(line: string): RowBatch | undefined {
    if (this.#sha256 !== undefined) throw new Unusable(trailingData)
    const value = parseLine(line)
    let completed: RowBatch | undefined
    if (this.#header === undefined) {
      this.#header = headerIn(value)
    } else if (isRow(value)) {
      completed = this.#addRow(value, line.length)
    } else {
      this.#sha256 = checkFooter(value, Object.fromEntries(this.#rows), this.#hash.digest("hex"))
      return this.#batch
    }
    this.#hash.update(line).update("\n")
    return completed
  }

  summary(): BackupSummary {
    if (this.#header === undefined) throw new Unusable("the file is empty")
    if (this.#sha256 === undefined) throw new Unusable(truncated)
    return { header: this.#header, rows: Object.fromEntries(this.#rows), sha256: this.#sha256, keyIds: this.#keyIds }
  }

  #addRow({ row, table }: BackupRow, length: number): RowBatch | undefined {
    this.#rows.set(table, (this.#rows.get(table) ?? 0) + 1)
    for (const column of encryptedColumns) {
      const value = column.table === table ? row[column.column] : undefined
      const keyId = typeof value === "string" ? encryptedValue.exec(value)?.[1] : undefined
      if (keyId !== undefined) this.#keyIds.add(keyId)
    }
    checkNumbers(table, row)
    const current = this.#batch
    if (
      current !== undefined && current.table === table && current.rows.length < batchSize &&
      current.length + length <= maxBatchLength
    ) {
      current.rows.push(row)
      current.length += length
      return undefined
    }
    this.#batch = { table, rows: [row], length }
    return current
  }
}

async function* batchesOf(file: string, content: Content, reader: BackupReader): AsyncGenerator<RowBatch> {
  for await (const line of linesOf(file, content)) {
    const batch = reader.accept(line)
    if (batch !== undefined) yield batch
  }
}

/** PostgreSQL also reads a number from text, so these columns must not have text. */
const numberColumns = new Set(["revision", "sent_revision", "applied_revision", "subnet_index", "slot", "listen_port"])

/** A number that is too large or negative breaks each later write that counts on from it. */
function checkNumbers(table: string, row: BackupRow["row"]): void {
  for (const [column, value] of Object.entries(row)) {
    const isNumber = typeof value === "number"
    const isAllowed = isNumber ? Number.isInteger(value) && value >= 0 && value <= maxNumber : value === null
    const isJudged = isNumber || numberColumns.has(column) || (table === "audit" && column === "id")
    if (isAllowed || !isJudged) continue
    throw new Unusable(
      `a row of its table ${table} has ${column} ${String(value)}, but numbers must be integers from 0 to 2^52`
    )
  }
}

const isBackup = Schema.is(Schema.Struct({ format: Schema.Literal("control-backup"), version: Schema.Int }))
const decodeHeader = Schema.decodeUnknownOption(BackupHeader)

function headerIn(value: unknown): BackupHeader {
  const header = Option.getOrUndefined(decodeHeader(value))
  if (header !== undefined && header.revision > maxNumber) {
    throw new Unusable(`its revision ${header.revision} is larger than 2^52, so that later changes would get no number`)
  }
  if (header !== undefined) return header
  throw new Unusable(
    isBackup(value) && value.version !== 1
      ? `the file has format ${value.version}, but this version of Control reads only format 1: use a newer Control`
      : "the file is no backup of Control, or is damaged"
  )
}

function isRow(value: unknown): value is BackupRow {
  return typeof value === "object" && value !== null && "table" in value && typeof value.table === "string" &&
    "row" in value && typeof value.row === "object" && value.row !== null && !Array.isArray(value.row)
}

const decodeFooter = Schema.decodeUnknownOption(BackupFooter)

function checkFooter(value: unknown, rows: Readonly<Record<string, number>>, digest: string): string {
  const footer = Option.getOrUndefined(decodeFooter(value))
  if (footer === undefined) throw new Unusable("the file is damaged: a line is neither a row nor the footer")
  if (footer.sha256 !== digest) throw new Unusable("the file was altered: its rows do not match its SHA-256")
  const tables = new Set([...Object.keys(rows), ...Object.keys(footer.rows)])
  if ([...tables].some((table) => (footer.rows[table] ?? 0) !== (rows[table] ?? 0))) {
    throw new Unusable("the file was altered: its number of rows does not match its footer")
  }
  return digest
}
