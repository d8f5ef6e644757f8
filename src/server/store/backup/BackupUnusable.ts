/** Errors of a backup file that cannot be restored. */
import { Schema } from "effect"

/** The file is not a backup, is damaged, is not signed, or does not fit this version, master key or database. */
export class BackupUnusable extends Schema.TaggedError<BackupUnusable>()("BackupUnusable", {
  file: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `cannot restore ${this.file}: ${this.reason}`
  }
}

/** Thrown by readers of a file; becomes the reason of a `BackupUnusable`. */
export class Unusable extends Error {}

export const truncated = "the file is cut off"

/** For errors of zlib and the file system only the code, because their messages can quote content. */
export function reasonOf(error: unknown): string {
  if (error instanceof Unusable) return error.message
  const code = error instanceof Error && "code" in error ? String(error.code) : ""
  if (code === "ENOENT") return "the file does not exist"
  if (code === "Z_BUF_ERROR") return truncated
  return code.startsWith("Z_") ? `the file is damaged, or no gzip file (${code})` : `the file cannot be read (${code})`
}
