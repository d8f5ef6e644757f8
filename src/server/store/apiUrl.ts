/** Publishes the API URL in the data directory, where local CLI commands find it. */
import { Effect, Option, type Scope } from "effect"
import { readFile, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"

const urlFile = (dataDir: string): string => join(dataDir, "api-url")

/** The URL that reaches a listener from its own machine: an unspecified address (`0.0.0.0`, `::`) becomes `127.0.0.1`. */
export const localUrl = (scheme: "http" | "https", host: string, port: number | string): string => {
  const reachable = host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host
  return `${scheme}://${reachable.includes(":") ? `[${reachable}]` : reachable}:${port}`
}

/** Writes the URL, and removes it when the scope ends. Failures are only logged, because no work depends on the file. */
export const publishApiUrl = (dataDir: string, url: string): Effect.Effect<void, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.tryPromise(() => writeFile(urlFile(dataDir), `${url}\n`, { mode: 0o600 })).pipe(
      Effect.catch(() =>
        Effect.logWarning(
          `cannot write ${urlFile(dataDir)}: commands on this machine find the API only at its default port; ` +
            "set CONTROL_API_URL for them"
        )
      )
    ),
    () => Effect.promise(() => rm(urlFile(dataDir), { force: true }).catch(() => {}))
  )

/** Reads the published URL; none without a file. A killed server leaves its URL behind. */
export const readApiUrl = (dataDir: string): Effect.Effect<Option.Option<string>> =>
  Effect.option(Effect.tryPromise(async () => (await readFile(urlFile(dataDir), "utf8")).trim())).pipe(
    Effect.map(Option.filter((url) => url !== ""))
  )
