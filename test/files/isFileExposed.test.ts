/** `isFileExposed` finds files that other accounts can read or write. */
import { isFileExposed } from "#files/isFileExposed.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"

it.effect("a file is exposed by its mode, except for reading where an orchestrator has mounted it", () =>
  Effect.gen(function*() {
    const directory = yield* temporaryDirectory
    // Kubernetes mounts a secret as a link through the link ..data into a directory with the time in its name.
    mkdirSync(join(directory, "..2026_12_01_04_04_48.123"))
    symlinkSync("..2026_12_01_04_04_48.123", join(directory, "..data"))
    symlinkSync("..data/token", join(directory, "mounted"))
    const files = { plain: join(directory, "plain"), mounted: join(directory, "..data", "token") }
    for (const path of Object.values(files)) writeFileSync(path, "")
    const isExposed = (path: string, mode: number) => {
      chmodSync(path, mode)
      return isFileExposed(path === files.plain ? path : join(directory, "mounted"))
    }
    for (const mode of [0o600, 0o400, 0o640, 0o440]) assert.isFalse(isExposed(files.plain, mode), mode.toString(8))
    for (const mode of [0o644, 0o604, 0o660, 0o602]) assert.isTrue(isExposed(files.plain, mode), mode.toString(8))
    for (const mode of [0o644, 0o444, 0o440]) assert.isFalse(isExposed(files.mounted, mode), mode.toString(8))
    for (const mode of [0o664, 0o666]) assert.isTrue(isExposed(files.mounted, mode), mode.toString(8))
    assert.isFalse(isFileExposed(join(directory, "missing")))
  }))
