/** Where a server's API is, told beside its data: whoever looks after it on the same machine need not be told the port. */
import { Effect, Option, type Scope } from "effect"
import { readFile, rm, writeFile } from "node:fs/promises"
import { isIP } from "node:net"
import { join } from "node:path"

const fileIn = (dataDir: string): string => join(dataDir, "api-url")

/** How this machine reaches what listens there. */
export const localUrlOf = (scheme: "http" | "https", host: string, port: number | string): string => {
  const reachable = host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host
  return `${scheme}://${isIP(reachable) === 6 ? `[${reachable}]` : reachable}:${port}`
}

/** Until the scope ends. Nothing depends on it but the ease of a command, so a failure is only logged. */
export const tellApiAddress = (dataDir: string, url: string): Effect.Effect<void, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.tryPromise(() => writeFile(fileIn(dataDir), `${url}\n`, { mode: 0o600 })).pipe(
      Effect.catch(() =>
        Effect.logWarning(`${fileIn(dataDir)} could not be written: control finds only the default port`)
      )
    ),
    () => Effect.promise(() => rm(fileIn(dataDir), { force: true }).catch(() => {}))
  )

/** Of the server that has the directory, or of one that was killed. */
export const toldApiAddress = (dataDir: string): Effect.Effect<Option.Option<string>> =>
  Effect.option(Effect.tryPromise(async () => (await readFile(fileIn(dataDir), "utf8")).trim())).pipe(
    Effect.map(Option.filter((url) => url !== ""))
  )
