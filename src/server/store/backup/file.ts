/**
 * A backup as a file: gzip of lines of JSON. First what it is, then each row, last how many there were and the SHA-256 of all
 * lines before. So a file that was cut off or altered is told from a whole one before anything is made of it.
 */
import { Revision, Timeline, Timestamp } from "#schema/ids.ts"
import { Effect, Option, Schema } from "effect"
import { createHash } from "node:crypto"
import { createReadStream } from "node:fs"
import { createGunzip } from "node:zlib"

const Counts = Schema.Record(Schema.String, Schema.Int)

export const BackupHeader = Schema.Struct({
  format: Schema.Literal("control-backup"),
  version: Schema.Literal(1),
  schema: Schema.Int,
  timeline: Timeline,
  revision: Revision,
  masterKey: Schema.NullOr(Schema.String),
  at: Timestamp
})
export type BackupHeader = typeof BackupHeader.Type

const BackupFooter = Schema.Struct({ rows: Counts, sha256: Schema.String })

/** The file is no backup, or not the one that was written. */
export class BackupUnusable extends Schema.TaggedError<BackupUnusable>()("BackupUnusable", {
  file: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `${this.file} cannot be restored: ${this.reason}`
  }
}

/** What a whole file holds. */
export interface BackupSummary {
  readonly header: BackupHeader
  readonly rows: Readonly<Record<string, number>>
  readonly sha256: string
  /** The ids of the master keys that its values are encrypted under. */
  readonly keyIds: ReadonlySet<string>
}

export interface BackupRow {
  readonly table: string
  readonly row: Readonly<Record<string, unknown>>
}

/** Writes the lines of a backup, in order, and keeps count for the last one. */
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

/** Reads the whole file, and says what it holds, or why it cannot be relied on. */
export const verifyBackup = (file: string): Effect.Effect<BackupSummary, BackupUnusable> =>
  attempt(file, () => read(file, undefined))

/** Gives the rows in batches; fails where the file is not the one that `verifyBackup` has told of. */
export const rowsOfBackup = <E, R>(
  file: string,
  { sha256 }: BackupSummary,
  use: (table: string, rows: ReadonlyArray<BackupRow["row"]>) => Effect.Effect<void, E, R>
): Effect.Effect<void, E | BackupUnusable, R> =>
  Effect.flatMap(Effect.context<R>(), (context) => {
    const failed: { error?: E } = {}
    const give = async (table: string, rows: ReadonlyArray<BackupRow["row"]>) => {
      const result = await Effect.runPromise(Effect.result(Effect.provide(use(table, rows), context)))
      if (result._tag === "Success") return
      failed.error = result.failure
      throw new Error("stopped")
    }
    return attempt(file, () => read(file, give)).pipe(
      Effect.catch((error): Effect.Effect<never, E | BackupUnusable> =>
        Effect.fail(failed.error === undefined ? error : failed.error)
      ),
      Effect.flatMap((summary) =>
        summary.sha256 === sha256
          ? Effect.void
          : Effect.fail(new BackupUnusable({ file, reason: "it was changed while it was read" }))
      )
    )
  })

class Unusable extends Error {}

const attempt = <A>(file: string, run: () => Promise<A>): Effect.Effect<A, BackupUnusable> =>
  Effect.tryPromise({ try: run, catch: (error) => new BackupUnusable({ file, reason: reasonOf(error) }) })

/** Of what zlib and the file system say, the code: it names what is wrong and quotes nothing. */
function reasonOf(error: unknown): string {
  if (error instanceof Unusable) return error.message
  const code = error instanceof Error && "code" in error ? String(error.code) : ""
  if (code === "ENOENT") return "there is no such file"
  if (code === "Z_BUF_ERROR") return "it is cut off"
  return code.startsWith("Z_") ? `it is damaged, or no gzip file (${code})` : `it cannot be read (${code})`
}

const batchSize = 500
const largestLine = 16 * 1024 * 1024
const storedValue = /^v1\.([0-9a-f]{16})\./u

type Give = (table: string, rows: ReadonlyArray<BackupRow["row"]>) => Promise<void>

async function read(file: string, give: Give | undefined): Promise<BackupSummary> {
  const hash = createHash("sha256")
  const rows: Record<string, number> = {}
  const keyIds = new Set<string>()
  let header: BackupHeader | undefined
  let sha256: string | undefined
  let batch: { readonly table: string; readonly rows: Array<BackupRow["row"]> } | undefined

  const flush = async () => {
    const full = batch
    batch = undefined
    if (full !== undefined) await give?.(full.table, full.rows)
  }
  for await (const line of linesOf(file)) {
    if (sha256 !== undefined) throw new Unusable("something follows its last line")
    const value = parse(line)
    if (header === undefined) {
      header = headerIn(value)
    } else if (isRow(value)) {
      rows[value.table] = (rows[value.table] ?? 0) + 1
      for (const text of Object.values(value.row)) {
        const keyId = typeof text === "string" ? storedValue.exec(text)?.[1] : undefined
        if (keyId !== undefined) keyIds.add(keyId)
      }
      if (batch !== undefined && (batch.table !== value.table || batch.rows.length >= batchSize)) await flush()
      batch ??= { table: value.table, rows: [] }
      batch.rows.push(value.row)
    } else {
      await flush()
      sha256 = checkFooter(value, rows, hash.digest("hex"))
      continue
    }
    hash.update(line).update("\n")
  }
  if (header === undefined) throw new Unusable("it is empty")
  if (sha256 === undefined) throw new Unusable("it is cut off")
  return { header, rows, sha256, keyIds }
}

/** Every line that ends with a line feed: one that does not was cut off. */
async function* linesOf(file: string): AsyncGenerator<string> {
  let rest: Buffer = Buffer.alloc(0)
  const source = createReadStream(file)
  const text = createGunzip()
  source.on("error", (error) => text.destroy(error))
  try {
    for await (const chunk of source.pipe(text)) {
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
      let from = 0
      for (let end = rest.indexOf(10, from); end !== -1; end = rest.indexOf(10, from)) {
        yield rest.toString("utf8", from, end)
        from = end + 1
      }
      rest = rest.subarray(from)
      if (rest.length > largestLine) throw new Unusable("it has a line that is too long")
    }
  } finally {
    source.destroy()
  }
  if (rest.length > 0) throw new Unusable("it is cut off")
  if (text.bytesWritten !== source.bytesRead) throw new Unusable("something follows its last line")
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    throw new Unusable("it is damaged: a line is no JSON")
  }
}

const isBackup = Schema.is(Schema.Struct({ format: Schema.Literal("control-backup"), version: Schema.Int }))
const decodeHeader = Schema.decodeUnknownOption(BackupHeader)

function headerIn(value: unknown): BackupHeader {
  const header = Option.getOrUndefined(decodeHeader(value))
  if (header !== undefined) return header
  throw new Unusable(
    isBackup(value) && value.version !== 1
      ? `it is in format ${value.version}, and this version of Control knows only format 1`
      : "it is no backup of Control, or damaged"
  )
}

function isRow(value: unknown): value is BackupRow {
  return typeof value === "object" && value !== null && "table" in value && typeof value.table === "string" &&
    "row" in value && typeof value.row === "object" && value.row !== null
}

const decodeFooter = Schema.decodeUnknownOption(BackupFooter)

function checkFooter(value: unknown, rows: Readonly<Record<string, number>>, digest: string): string {
  const footer = Option.getOrUndefined(decodeFooter(value))
  if (footer === undefined) throw new Unusable("it is damaged: a line is neither a row nor the end")
  if (footer.sha256 !== digest) throw new Unusable("it was altered: its contents do not match its SHA-256")
  const tables = new Set([...Object.keys(rows), ...Object.keys(footer.rows)])
  if ([...tables].some((table) => (footer.rows[table] ?? 0) !== (rows[table] ?? 0))) {
    throw new Unusable("it was altered: it does not have as many rows as it says")
  }
  return digest
}
