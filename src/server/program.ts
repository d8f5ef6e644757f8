/** The server as one effect: runs until a signal stops it, then drains. */
import { stopWithParent } from "#processes/endWithParent.ts"
import { Cause, Clock, Console, Duration, Effect, Exit, Layer, Option, Queue, Runtime } from "effect"
import { HttpServer } from "effect/http"
import { isatty } from "node:tty"
import { Listener } from "./connection/Listener.ts"
import * as Control from "./Control.ts"
import { Ingress } from "./ingress/Ingress.ts"
import * as Logging from "./logging.ts"
import { formatHostPort, Settings } from "./Settings.ts"
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

/** Exit code after SIGHUP as shells report it. A supervisor takes it for a failure, and 0 for a wanted stop. */
const hangupCode = 129

/**
 * Handles signals, and returns those that request a reload. Exits with 1 after the drain timeout if the drain hangs, and at once
 * on a second signal. A second signal within 1 s is ignored, because npm forwards a Ctrl-C that the terminal has sent to this
 * process as well. SIGHUP of a process with a terminal means that the terminal was closed, so it drains. Otherwise it reloads.
 */
const handleSignals = Effect.gen(function*() {
  const { drainTimeout } = yield* Settings
  const clock = yield* Clock.Clock
  const reloads = yield* Queue.sliding<void>(1)
  let firstSignalAt: bigint | undefined
  const exitUnfinished = () => {
    process.stderr.write(`control: the shutdown did not end within ${Duration.format(drainTimeout)}; exiting\n`)
    process.exit(1)
  }
  const onSignal = () => {
    const now = clock.monotonicTimeNanosUnsafe()
    if (firstSignalAt === undefined) {
      firstSignalAt = now
      setTimeout(exitUnfinished, Duration.toMillis(drainTimeout)).unref()
    } else if (now - firstSignalAt > 1_000_000_000n) process.exit(130)
  }
  process.on("SIGTERM", onSignal)
  process.on("SIGINT", onSignal)
  const hasTerminal = [0, 1, 2].some((descriptor) => isatty(descriptor))
  process.on("SIGHUP", () => {
    if (!hasTerminal) return Queue.offerUnsafe(reloads, undefined)
    // The kernel and the shell may both send SIGHUP.
    if (firstSignalAt !== undefined) return
    process.exitCode = hangupCode
    process.kill(process.pid, "SIGTERM")
  })
  return reloads
})

const reloadTexts = {
  replaced: "was replaced",
  unchanged: "is unchanged",
  unusable: "cannot be used, so the previous one stays",
  absent: "is not configured"
}

/** Reloads what can change without a restart, and logs the result. */
const reloadOnRequest = (requests: Queue.Dequeue<void>) =>
  Layer.effectDiscard(Effect.gen(function*() {
    const { reloadCertificate } = yield* Ingress
    const reload = Effect.flatMap(reloadCertificate, (result) =>
      Effect.logInfo(`SIGHUP: the TLS certificate ${reloadTexts[result]}; all other settings need a restart`))
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(Queue.take(requests), reload)))
  }))

const launch = Effect.gen(function*() {
  stopWithParent()
  const reloads = yield* handleSignals
  const running = Layer.merge(reportReady, reloadOnRequest(reloads))
  return yield* Layer.launch(running.pipe(Layer.provide(Control.layer)))
})

export const program = launch.pipe(
  Effect.provide(Logging.layer),
  Effect.tapCause((cause) => Cause.hasInterruptsOnly(cause) ? Effect.void : printFailure(cause)),
  Effect.provide(Settings.layer.pipe(Layer.tapCause(printFailure)))
)

/** A stop by a signal exits with 0, or with the exit code that its handler has set. */
export const teardown: Runtime.Teardown = (exit, onExit) =>
  Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
    ? onExit(Number(process.exitCode ?? 0))
    : Runtime.defaultTeardown(exit, onExit)
