/** What keeps both ports up on a hostile network: fresh certificates, bounded connections, and an operator who is warned. */
import { loopTurn } from "#time/eventLoop.ts"
import { isOpenInPlaintext, isOwnMachineShutOut, Settings, type SettingsValues } from "#server/Settings.ts"
import { Clock, Context, Effect, Layer, Metric, Queue, Schedule, type Scope } from "effect"
import type { RequestListener, Server } from "node:http"
import { Server as TlsServer } from "node:https"
import { CertificateUnusable, complaintOf, type Pair, pairFrom, readContents, readPair } from "./certificate.ts"
import { headerPhaseOf } from "./headerPhase.ts"
import { type Bounds, makeServer, openFilesLimit, placesOf, type Port } from "./servers.ts"

export class Ingress extends Context.Service<Ingress, {
  /** A server that does not listen yet; it speaks TLS if the settings have a certificate. */
  create(port: Port, bounds: Bounds, answer?: RequestListener): Server
  /**
   * Until the scope ends, the server has the newest certificate, has no more connections than its share, and no fault of its
   * socket ends the process.
   */
  keep(port: Port, server: Server): Effect.Effect<void, never, Scope.Scope>
}>()("control/ingress/Ingress") {
  static readonly layer: Layer.Layer<Ingress, CertificateUnusable, Settings> = Layer.effect(
    Ingress,
    Effect.gen(function*() {
      const settings = yield* Settings
      const openFiles = openFilesLimit()
      const places = placesOf(settings, openFiles)
      const servers = new Set<Server>()
      let pair = yield* attempt(() => readPair(settings))
      if (pair !== undefined) {
        if (pair.isKeyExposed) {
          yield* Effect.logWarning("the file of CONTROL_TLS_PRIVATE_KEY may be read by others than its owner and group")
        }
        yield* Effect.forkScoped(Effect.repeat(Effect.suspend(() => tellDates(pair)), Schedule.spaced("1 day")))
        yield* Effect.forkScoped(follow(settings, pair, (next) => {
          pair = next
          for (const server of servers) renew(server, next)
        }))
      }

      const troubles = yield* Queue.dropping<string>(1)
      yield* Effect.forkScoped(tellTroubles(troubles))

      const create = (port: Port, bounds: Bounds, answer?: RequestListener) =>
        makeServer(port, settings, pair, bounds, answer)

      const keep = Effect.fnUntraced(function*(port: Port, server: Server) {
        yield* tellPlaintext(port, settings)
        if (port === "api" && isOwnMachineShutOut(settings)) yield* Effect.logWarning(shutOut)
        if (pair !== undefined) renew(server, pair)
        server.maxConnections = places[port]
        // Where no descriptor is left the system accepts nobody, and says so here.
        const onError = (error: Error) =>
          void (server.listening && Queue.offerUnsafe(troubles, `a connection could not be accepted: ${error.message}`))
        const onDrop = () =>
          void Queue.offerUnsafe(
            troubles,
            `connections are cut as they come: ${portNames[port].who} have ${places[port]}`
          )
        server.on("error", onError).on("drop", onDrop)
        yield* keepHeaderPhase(server, troubles)
        servers.add(server)
        yield* Effect.addFinalizer(() => Effect.sync(() => servers.delete(server)))
      })

      // No warning yet, since few ever have as many clients: when the first is cut, there is one.
      if (places.ws < settings.maxConnections) {
        yield* Effect.logInfo(
          `this process may open ${openFiles} files, so at most ${places.ws} connections of agents and gateways are ` +
            `accepted: raise the limit (ulimit -n), or lower CONTROL_MAX_CONNECTIONS`
        )
      }
      return Ingress.of({ create, keep })
    })
  )
}

/** Who has not said within ten seconds at most whose connection it is, is cut; who is trusted and says it wrongly is told of. */
const keepHeaderPhase = Effect.fnUntraced(function*(server: Server, troubles: Queue.Enqueue<string>) {
  const phase = headerPhaseOf(server)
  if (phase === undefined) return
  phase.onRefusal = (trouble) => void Queue.offerUnsafe(troubles, trouble)
  // After a stall, what has come meanwhile is read before anybody is judged.
  const look = Effect.andThen(loopTurn, Effect.sync(() => phase.cutOverdue()))
  yield* Effect.forkScoped(Effect.repeat(look, Schedule.spaced("5 seconds")))
})

const attempt = <A>(read: () => A): Effect.Effect<A, CertificateUnusable> =>
  Effect.try({
    try: read,
    catch: (cause) => cause instanceof CertificateUnusable ? cause : new CertificateUnusable({ reason: String(cause) })
  })

/** Who is connected stays so, under the certificate that it was shown; who comes from now on is shown this one. */
function renew(server: Server, { options }: Pair): void {
  if (server instanceof TlsServer) server.setSecureContext(options)
}

const lookEvery = "5 seconds"

/** Looks for another pair in the files again and again. What is of no use is told once, and the pair before it stays. */
const follow = Effect.fnUntraced(function*(settings: SettingsValues, first: Pair, use: (pair: Pair) => void) {
  let seen = first.fingerprint
  const once = (what: string, tell: Effect.Effect<void>) =>
    Effect.suspend(() => {
      if (what === seen) return Effect.void
      seen = what
      return tell
    })
  const refuse = (error: CertificateUnusable) =>
    Effect.logWarning(`the TLS certificate stays as it is: ${error.message}`)
  const take = Effect.fnUntraced(function*(pair: Pair) {
    use(pair)
    yield* Effect.logInfo("the TLS certificate was replaced: new connections are shown the new one")
    yield* tellDates(pair)
  })
  const look = Effect.matchEffect(attempt(() => readContents(settings)), {
    onFailure: (error) => once(error.reason, refuse(error)),
    onSuccess: (contents) =>
      contents === undefined ? Effect.void : once(
        contents.fingerprint,
        Effect.matchEffect(attempt(() => pairFrom(contents)), { onFailure: refuse, onSuccess: take })
      )
  })
  yield* Effect.repeat(look, Schedule.spaced(lookEvery))
})

const tellDates = Effect.fnUntraced(function*(pair: Pair | undefined) {
  if (pair === undefined) return
  yield* Metric.update(expiry, Math.floor(pair.notAfter / 1_000))
  const complaint = complaintOf(pair, yield* Clock.currentTimeMillis)
  if (complaint !== undefined) yield* Effect.logWarning(`the certificate of CONTROL_TLS_CERTIFICATE ${complaint}`)
})

const portNames = {
  ws: { who: "agents and gateways", what: "API keys and WireGuard keys" },
  api: { who: "operators", what: "the admin token" }
}

const tellPlaintext = Effect.fnUntraced(function*(port: Port, settings: SettingsValues) {
  const host = port === "ws" ? settings.wsHost : settings.apiHost
  if (!isOpenInPlaintext(host, settings)) return
  const { what, who } = portNames[port]
  yield* Effect.logWarning(
    `${who} are served in plaintext on ${host}, and whoever is on the way reads ${what}: set CONTROL_TLS_CERTIFICATE and ` +
      "CONTROL_TLS_PRIVATE_KEY, or name the proxy that encrypts in CONTROL_TRUSTED_PROXIES"
  )
})

const shutOut =
  "`control` and health checks on this machine send no header, and their connections to the API are closed: set " +
  "CONTROL_PROXY_PROTOCOL to ws, or take loopback out of CONTROL_TRUSTED_PROXIES"

/** One line in ten seconds at most: a flood must not become a flood of lines. */
const tellTroubles = (troubles: Queue.Dequeue<string>) =>
  Effect.forever(
    Effect.flatMap(Queue.take(troubles), (trouble) => Effect.logWarning(trouble)).pipe(
      Effect.andThen(Effect.sleep("10 seconds"))
    )
  )

const expiry = Metric.gauge("control_tls_certificate_expiry_seconds", {
  description: "When the TLS certificate ends, in seconds since 1970"
})
