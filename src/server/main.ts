/** Starts Control and keeps it running until it is told to stop; a second signal does not wait. */
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Clock, Console, Duration, Effect, Exit, Layer, Option, Runtime } from "effect"
import { HttpServer } from "effect/http"
import { Listener } from "./connection/Listener.ts"
import * as Control from "./Control.ts"
import * as Logging from "./logging.ts"
import { Settings } from "./Settings.ts"
import { localUrl, publishApiUrl } from "./store/apiUrl.ts"
import { DataDirectory } from "./store/DataDirectory.ts"
import { Secrets } from "./store/secrets/Secrets.ts"
import { DatabaseDamaged } from "./store/sql.ts"

/** The one line that says all is up: where, on what, and where the admin token is found; never the token. */
const reportReady = Layer.effectDiscard(Effect.gen(function*() {
  const settings = yield* Settings
  const listener = yield* Listener
  const api = yield* HttpServer.HttpServer
  const { adminTokenFile } = yield* Secrets
  const apiPort = "port" in api.address ? api.address.port : settings.apiPort
  const database = Option.isSome(settings.databaseUrl)
    ? "the PostgreSQL of DATABASE_URL"
    : `an embedded PostgreSQL in ${settings.dataDir}`
  const token = Option.match(adminTokenFile, { onNone: () => "from the settings", onSome: (path) => `in ${path}` })
  const secured = Option.isSome(settings.tlsCertificate) ? "s" : ""
  const directory = yield* (yield* DataDirectory).opened
  if (Option.isSome(directory))
    yield* publishApiUrl(directory.value.path, localUrl(`http${secured}`, settings.apiHost, apiPort))
  yield* Effect.logInfo(
    `Control serves agents and gateways on ws${secured}://${listener.host}:${listener.port} and operators on ` +
      `http${secured}://${settings.apiHost}:${apiPort}, with ${database}; the admin token is ${token}`
  )
}))

/** A failure that was foreseen is one sentence; only a defect shows where it happened. */
const printFailure = (cause: Cause.Cause<unknown>) => {
  const expected = cause.reasons.find(Cause.isFailReason)?.error ??
    cause.reasons.filter(Cause.isDieReason).map(({ defect }) => defect).find((defect) =>
      defect instanceof DatabaseDamaged
    )
  return Console.error(expected instanceof Error ? `control: ${expected.message}` : Cause.pretty(cause))
}

/**
 * A drain that hangs is ended in time, and who asks again means at once. Not within a second of the first time, though: npm
 * passes on a Ctrl-C that the terminal has sent to this process as well. A terminal that is closed says stop, too.
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

const main = Effect.andThen(exitOnSecondSignal, Layer.launch(reportReady.pipe(Layer.provide(Control.layer)))).pipe(
  Effect.provide(Logging.layer),
  Effect.tapCause((cause) => Cause.hasInterruptsOnly(cause) ? Effect.void : printFailure(cause)),
  Effect.provide(Settings.layer.pipe(Layer.tapCause(printFailure)))
)

/** Being told to stop is no failure. */
const teardown: Runtime.Teardown = (exit, onExit) =>
  Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? onExit(0) : Runtime.defaultTeardown(exit, onExit)

NodeRuntime.runMain(main, { disableErrorReporting: true, teardown })
