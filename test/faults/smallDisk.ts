/** A file system so small that it can be filled: a tmpfs, where this machine lets us mount one. */
import { execFile } from "node:child_process"
import { mkdir, rm, statfs, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"

const run = promisify(execFile)

export interface SmallDisk {
  readonly path: string
  /** Leaves only so many bytes free. */
  fill(leaving: number): Promise<void>
  empty(): Promise<void>
  close(): Promise<void>
}

/** Undefined where mounting is not allowed: then the caller says so. */
export const mountSmallDisk = async (path: string, mebibytes: number): Promise<SmallDisk | undefined> => {
  await mkdir(path, { recursive: true })
  try {
    await run("mount", ["-t", "tmpfs", "-o", `size=${mebibytes}m`, "control-faults", path])
  } catch {
    return undefined
  }
  const ballast = join(path, "ballast")
  return {
    path,
    fill: async (leaving) => {
      const { bavail, bsize } = await statfs(path)
      await writeFile(ballast, Buffer.alloc(Math.max(0, bavail * bsize - leaving)))
    },
    empty: () => rm(ballast, { force: true }),
    close: async () => {
      await run("umount", [path]).catch(() => run("umount", ["-l", path]))
    }
  }
}

export const cannotMount =
  "no file system of a fixed size can be mounted here (that takes root, and the right to mount)"
