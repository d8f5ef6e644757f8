/** Temporary directory for all files of a run. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

export const runDirectory = mkdtempSync(join(tmpdir(), "control-bench-"))

export const removeRunDirectory = (): void => rmSync(runDirectory, { recursive: true, force: true })
