/** Access of other accounts to a file. */
import { realpathSync, statSync } from "node:fs"

/** Whether accounts other than owner and group can read the file, or accounts other than the owner can write it. */
export const isFileExposed = (path: string): boolean => {
  try {
    const { mode } = statSync(path)
    return (mode & 0o022) !== 0 || (mode & 0o004) !== 0 && !isContainerMount(realpathSync(path))
  } catch {
    return false
  }
}

/**
 * Docker and Kubernetes mount secrets that every account of one container can read: in `/run/secrets`, and as links into a
 * directory such as `..2026_12_01_04_04_48`.
 */
const isContainerMount = (path: string): boolean => path.startsWith("/run/secrets/") || /\/\.\.\d{4}_/u.test(path)
