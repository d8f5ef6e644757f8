/** Replaces files atomically and durably. Readers see the old or the new content, also after a crash. */
import { randomBytes } from "node:crypto"
import { type FileHandle, open, rename, rm } from "node:fs/promises"
import { dirname } from "node:path"

/** A file that is being written under a random name, next to the file that it will replace. */
export interface Draft {
  readonly path: string
  readonly handle: FileHandle
  /**
   * Flushes the draft to disk (fsync), closes it, and renames it to the target. Then flushes the directory, so that the
   * new file survives a power cut.
   */
  readonly commit: () => Promise<void>
  /** Closes and removes the draft. Does nothing after `commit` has succeeded. */
  readonly discard: () => Promise<void>
}

/** Only the owner may read or write the file, because most of these files hold secrets. */
const ownerOnly = 0o600

/**
 * Creates an empty draft for `target`, mode 0600. The directory of `target` must exist. Rejects with an error of
 * `node:fs`. The caller ends the draft with `commit` or `discard`.
 */
export const createDraft = async (target: string): Promise<Draft> => {
  const path = `${target}.${randomBytes(6).toString("hex")}`
  // "wx" fails on an existing name, so that no symbolic link can redirect the write.
  const handle = await open(path, "wx", ownerOnly)
  return {
    path,
    handle,
    commit: async () => {
      await handle.sync()
      await handle.close()
      await rename(path, target)
      await syncDirectory(dirname(target))
    },
    discard: async () => {
      await handle.close()
      await rm(path, { force: true })
    }
  }
}

/**
 * Writes `content` to `target` by way of a draft, mode 0600. A function writes the content through the draft's handle.
 *
 * Rejects with an error of `node:fs` or of the function, and then leaves no draft behind. Until the rename, `target` keeps its
 * old content. Several writers of one file may run at once; the last rename wins.
 *
 * @example
 * await writeFileAtomic("/var/lib/control/high-water.json", "{}\n")
 */
export const writeFileAtomic = async (
  target: string,
  content: string | ((handle: FileHandle) => Promise<void>)
): Promise<void> => {
  const draft = await createDraft(target)
  try {
    await (typeof content === "string" ? draft.handle.writeFile(content) : content(draft.handle))
    await draft.commit()
  } finally {
    await draft.discard()
  }
}

/** Flushes a directory to disk, so that a rename inside it survives a power cut. Windows cannot open directories. */
export const syncDirectory = async (path: string): Promise<void> => {
  if (process.platform === "win32") return
  await using directory = await open(path, "r")
  await directory.sync()
}
