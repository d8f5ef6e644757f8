/** The server as one effect: runs until SIGTERM, SIGINT or SIGHUP, then drains. */
import { stopWithParent } from "#processes/endWithParent.ts"
import { Cause, Clock, Console, Duration, Effect, Exit, Layer, Option, Runtime } from "effect"
import { HttpServer } from "effect/http"
import { Listener } from "./connection/Listener.ts"
import * as Control from "./Control.ts"
import * as Logging from "./logging.ts"
import { formatHostPort, Settings } from "./Settings.ts"
import { localUrl, publishApiUrl } from "./store/apiUrl.ts"
import { DataDirectory } from "./store/DataDirectory.ts"
import { Secrets } from "./store/secrets/Secrets.ts"
import { DatabaseDamaged } from "./store/sql.ts"

/** Logs that the server is ready, with its URLs and the file of the admin token, never the token. */
const reportReady = Layer.effectDiscard(Effect.gen(function*() {
  const settings = yield* Settings
  const listener = yield* Listener
  const api = yield* HttpServer.HttpServer
  const { adminTokenFile } = yield* Secrets
  const apiPort = "port" in api.address ? api.address.port : settings.apiPort
  const secured = Option.isSome(settings.tlsCertificate) ? "s" : ""
  const directory = yield* (yield* DataDirectory).opened
  if (Option.isSome(directory))
    yield* publishApiUrl(directory.value.path, localUrl(`http${secured}`, settings.apiHost, apiPort))
  yield* Effect.logInfo(
    `serving agents and gateways on ws${secured}://${formatHostPort(listener.host, listener.port)} and operators on ` +
      `http${secured}://${formatHostPort(settings.apiHost, apiPort)}`
  ).pipe(Effect.annotateLogs({
    database: Option.isSome(settings.databaseUrl) ? "DATABASE_URL" : "embedded",
    ...Option.isSome(directory) ? { dataDir: directory.value.path } : {},
    adminToken: Option.getOrElse(adminTokenFile, () => "CONTROL_ADMIN_TOKEN")
  }))
}))

/** Prints an expected failure as one sentence, and a defect with its stack trace. */
const printFailure = (cause: Cause.Cause<unknown>) => {
  const expected = cause.reasons.find(Cause.isFailReason)?.error ??
    cause.reasons.filter(Cause.isDieReason).map(({ defect }) => defect).find((defect) =>
      defect instanceof DatabaseDamaged
    )
  return Console.error(expected instanceof Error ? `control: ${expected.message}` : Cause.pretty(cause))
}

/**
 * Exits after the drain timeout even if the drain hangs, and at once on a second signal. A second signal within 1 s is
 * ignored, because npm forwards a Ctrl-C that the terminal has sent to this process as well. SIGHUP (the terminal was
 * closed) counts as SIGTERM.
 */
const exitOnSecondSignal = Effect.gen(function*() {
  const { drainTimeout } = yield* Settings
  const clock = yield* Clock.Clock
  let firstSignalAt: bigint | undefined
  const onSignal = () => {
    const now = clock.monotonicTimeNanosUnsafe()
    if (firstSignalAt === undefined) {
      firstSignalAt = now
      setTimeout(() => process.exit(0), Duration.toMillis(drainTimeout)).unref()
    } else if (now - firstSignalAt > 1_000_000_000n) process.exit(130)
  }
  process.on("SIGTERM", onSignal)
  process.on("SIGINT", onSignal)
  process.on("SIGHUP", () => process.kill(process.pid, "SIGTERM"))
})

export const program = Effect.andThen(
  Effect.andThen(Effect.sync(stopWithParent), exitOnSecondSignal),
  Layer.launch(reportReady.pipe(Layer.provide(Control.layer)))
)
  .pipe(
    Effect.provide(Logging.layer),
    Effect.tapCause((cause) => Cause.hasInterruptsOnly(cause) ? Effect.void : printFailure(cause)),
    Effect.provide(Settings.layer.pipe(Layer.tapCause(printFailure)))
  )

/** A stop by a signal exits with 0. */
export const teardown: Runtime.Teardown = (exit, onExit) =>
  Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? onExit(0) : Runtime.defaultTeardown(exit, onExit)
