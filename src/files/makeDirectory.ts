/** Creates a directory and its parents, closed to other accounts. */
import { existsSync } from "node:fs"
import { mkdir, stat } from "node:fs/promises"
import { dirname } from "node:path"

/**
 * Creates the directory with mode 0700, and its missing parents. Does nothing if it exists. Rejects with an error of `node:fs`.
 *
 * Node's `mkdir` with `recursive` never returns below /proc, where a new directory is `ENOENT` although its parent exists.
 */
export const makeDirectory = async (path: string): Promise<void> => {
  try {
    await mkdir(path, { mode: 0o700 })
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined
    if (code === "EEXIST" && (await stat(path)).isDirectory()) return
    const parent = dirname(path)
    if (code !== "ENOENT" || parent === path || existsSync(parent)) throw error
    await makeDirectory(parent)
    await makeDirectory(path)
  }
}
