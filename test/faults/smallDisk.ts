/** Small file system for tests of a full disk: a tmpfs, where the system permits mounts. */
import { execFile } from "node:child_process"
import { mkdir, rm, statfs, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"

const run = promisify(execFile)

export interface SmallDisk {
  readonly path: string
  /** Fills the file system up to `leaving` free bytes. */
  fill(leaving: number): Promise<void>
  empty(): Promise<void>
  close(): Promise<void>
}

/** Mounts the file system; undefined when mounts are not permitted. */
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

export const cannotMount = "mounting a file system of fixed size needs root and the permission to mount"
