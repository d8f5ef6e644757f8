/** Protects both ports: replaces certificates, bounds connections, enforces the PROXY header timeout, logs warnings. */
import { eventLoopTurn } from "#time/eventLoop.ts"
import { Intervals } from "#time/Intervals.ts"
import {
  acceptsRemotePlaintext,
  defaults,
  exposedFileWarning,
  requiresProxyHeaderFromLoopback,
  Settings,
  type SettingsValues
} from "#server/Settings.ts"
import { Clock, Context, Effect, Layer, Metric, Queue, Schedule, type Scope } from "effect"
import type { RequestListener, Server } from "node:http"
import { Server as TlsServer } from "node:https"
import type { AddressInfo } from "node:net"
import {
  CertificateUnusable,
  parseKeyPair,
  readKeyPair,
  readKeyPairFiles,
  type TlsKeyPair,
  validityWarning
} from "./tlsKeyPair.ts"
import { proxyHeaderPhaseOf } from "./proxyHeaderPhase.ts"
import { connectionGateOf, type RefusedConnection } from "./ConnectionGate.ts"
import { connectionLimitsOf, OpenFiles } from "./connectionLimits.ts"
import type { RequestLimits } from "./requestLimits.ts"
import { makeServer, type PortName } from "./servers.ts"

/** `total` and `address`: limits of TCP connections. `upgrade`: limits of WebSockets, which get 503. */
type RefusalReason = "total" | "address" | "upgrade"

/** `unusable`: the previous certificate stays. `absent`: TLS is not configured. */
export type CertificateReload = "replaced" | "unchanged" | "unusable" | "absent"

export class Ingress extends Context.Service<Ingress, {
  /** Creates a server that does not listen yet. It uses TLS if the settings have a certificate. */
  create(port: PortName, limits: RequestLimits, listener?: RequestListener): Server
  /**
   * Supervises the server until the scope closes. The server gets each new certificate, and its connections are limited to
   * its share of the open files. Errors of the listening socket are logged, because they would otherwise end the process.
   */
  supervise(port: PortName, server: Server): Effect.Effect<void, never, Scope.Scope>
  /** The bound address of a supervised server; undefined if there is none. */
  boundAddress(port: PortName): AddressInfo | undefined
  /** Reads the files of the certificate now instead of at the next poll. */
  readonly reloadCertificate: Effect.Effect<CertificateReload>
  /** Counts a refused connection, and logs the warning unless another one was logged in the last 10 s. */
  reportRefusal(port: PortName, reason: RefusalReason, warning: string): void
}>()("control/ingress/Ingress") {
  static readonly layer: Layer.Layer<Ingress, CertificateUnusable, Settings> = Layer.effect(
    Ingress,
    Effect.gen(function*() {
      const settings = yield* Settings
      const openFiles = yield* OpenFiles
      const limits = connectionLimitsOf(settings, openFiles)
      const servers = new Map<Server, PortName>()
      let keyPair = yield* readOrUnusable(() => readKeyPair(settings))
      let reloadCertificate: Effect.Effect<CertificateReload> = Effect.succeed("absent")
      if (keyPair !== undefined) {
        if (keyPair.isKeyExposed) {
          yield* Effect.logWarning(exposedFileWarning("CONTROL_TLS_PRIVATE_KEY"))
        }
        yield* Effect.forkScoped(Effect.repeat(Effect.suspend(() => reportExpiry(keyPair)), Schedule.spaced("1 day")))
        reloadCertificate = makeReload(settings, keyPair, (next) => {
          keyPair = next
          for (const server of servers.keys()) replaceCertificate(server, next)
        })
        const { certificatePollInterval } = yield* Intervals
        yield* Effect.forkScoped(Effect.repeat(reloadCertificate, Schedule.spaced(certificatePollInterval)))
      }

      const warnings = yield* Queue.dropping<string>(1)
      yield* Effect.forkScoped(logWarnings(warnings))

      const context = yield* Effect.context()
      const reportRefusal = (port: PortName, reason: RefusalReason, warning: string) => {
        Metric.withAttributes(refusedConnections, { port, reason }).updateUnsafe(1, context)
        Queue.offerUnsafe(warnings, warning)
      }

      const create = (port: PortName, requests: RequestLimits, listener?: RequestListener) =>
        makeServer(port, settings, keyPair, limits, requests, listener)

      const supervise = Effect.fnUntraced(function*(port: PortName, server: Server) {
        yield* warnAboutPlaintext(port, settings)
        if (port === "api" && requiresProxyHeaderFromLoopback(settings))
          yield* Effect.logWarning(loopbackShutOutWarning)
        if (keyPair !== undefined) replaceCertificate(server, keyPair)
        server.maxConnections = limits[port].connections
        // Without a free file descriptor `accept` fails, and Node reports the failure here.
        const onError = (error: Error) =>
          void (server.listening &&
            Queue.offerUnsafe(
              warnings,
              `cannot accept a connection on the ${port} port: ${error.message}; raise the limit of open files (ulimit -n)`
            ))
        const onDrop = () => reportRefusal(port, "total", tooManyText(port, limits[port].connections))
        const gate = connectionGateOf(server)
        if (gate !== undefined) {
          gate.onRefuse = (refused) =>
            reportRefusal(port, refused.isLimitOfAddress ? "address" : "total", refusedText(port, refused))
        }
        server.on("error", onError).on("drop", onDrop)
        yield* superviseProxyHeaderPhase(server, warnings)
        servers.set(server, port)
        yield* Effect.addFinalizer(() => Effect.sync(() => servers.delete(server)))
      })

      if (limits.ws.open < settings.maxConnections) {
        // Not logged for the default, which few installations reach. The first closed connection logs a warning in any case.
        const isConfigured = settings.maxConnections !== defaults.maxConnections
        yield* (isConfigured ? Effect.logInfo : Effect.logDebug)(
          `the limit of ${openFiles} open files allows ${limits.ws.open} connections of agents and gateways, fewer than ` +
            `CONTROL_MAX_CONNECTIONS=${settings.maxConnections}; raise the limit (ulimit -n) or lower CONTROL_MAX_CONNECTIONS`
        )
      }
      return Ingress.of({ create, supervise, boundAddress: boundAddressIn(servers), reloadCertificate, reportRefusal })
    })
  )
}

const boundAddressIn = (servers: ReadonlyMap<Server, PortName>) => (port: PortName): AddressInfo | undefined => {
  for (const [server, name] of servers) {
    const address = server.address()
    if (name === port && typeof address === "object" && address !== null) return address
  }
  return undefined
}

/** Terminates connections without a PROXY header after 5 to 10 s, and logs rejected headers of trusted proxies. */
const superviseProxyHeaderPhase = Effect.fnUntraced(function*(server: Server, warnings: Queue.Enqueue<string>) {
  const phase = proxyHeaderPhaseOf(server)
  if (phase === undefined) return
  phase.onReject = (warning) => void Queue.offerUnsafe(warnings, warning)
  // After a stall of this process, bytes that have arrived are read before a connection counts as overdue.
  const sweep = Effect.andThen(eventLoopTurn, Effect.sync(() => phase.terminateOverdue()))
  yield* Effect.forkScoped(Effect.repeat(sweep, Schedule.spaced(headerSweepInterval)))
})

/** A connection without a header is terminated at the second sweep, so after 5 to 10 s. */
const headerSweepInterval = "5 seconds"

const readOrUnusable = <A>(read: () => A): Effect.Effect<A, CertificateUnusable> =>
  Effect.try({
    try: read,
    catch: (cause) => cause instanceof CertificateUnusable ? cause : new CertificateUnusable({ reason: String(cause) })
  })

/** Uses the certificate for new connections. Open connections stay open with the certificate of their handshake. */
function replaceCertificate(server: Server, { options }: TlsKeyPair): void {
  if (server instanceof TlsServer) server.setSecureContext(options)
}

/** Reads the files, and uses a new key pair. An unusable pair is logged once, and the previous pair stays. */
const makeReload = (settings: SettingsValues, first: TlsKeyPair, use: (keyPair: TlsKeyPair) => void) => {
  /** Fingerprint of the files, or the error of reading them, at the last read. */
  let lastSeen = first.fingerprint
  let lastResult: "unchanged" | "unusable" = "unchanged"
  const onChange = (seen: string, handle: Effect.Effect<CertificateReload>): Effect.Effect<CertificateReload> =>
    Effect.suspend(() => {
      if (seen === lastSeen) return Effect.succeed(lastResult)
      lastSeen = seen
      return Effect.tap(handle, (result) =>
        Effect.sync(() => {
          lastResult = result === "unusable" ? result : "unchanged"
        }))
    })
  const keepPrevious = (error: CertificateUnusable) =>
    Effect.as(Effect.logWarning(`keeping the previous TLS certificate: ${error.message}`), "unusable" as const)
  const replace = Effect.fnUntraced(function*(keyPair: TlsKeyPair) {
    use(keyPair)
    yield* Effect.logInfo("replaced the TLS certificate; new connections use the new one")
    yield* reportExpiry(keyPair)
    return "replaced" as const
  })
  return Effect.matchEffect(readOrUnusable(() => readKeyPairFiles(settings)), {
    onFailure: (error) => onChange(error.reason, keepPrevious(error)),
    onSuccess: (files) =>
      files === undefined ? Effect.succeed<CertificateReload>("absent") : onChange(
        files.fingerprint,
        Effect.matchEffect(readOrUnusable(() => parseKeyPair(files)), { onFailure: keepPrevious, onSuccess: replace })
      )
  })
}

const reportExpiry = Effect.fnUntraced(function*(keyPair: TlsKeyPair | undefined) {
  if (keyPair === undefined) return
  yield* Metric.update(expiryGauge, Math.floor(keyPair.notAfter / 1_000))
  const warning = validityWarning(keyPair, yield* Clock.currentTimeMillis)
  if (warning !== undefined) yield* Effect.logWarning(`the certificate of CONTROL_TLS_CERTIFICATE ${warning}`)
})

const tooManyText = (port: PortName, limit: number): string =>
  `closing new connections of ${portUsers[port].users}: the limit of ${limit} connections is reached; ` +
  `raise the limit of open files (ulimit -n)${port === "ws" ? " or CONTROL_MAX_CONNECTIONS" : ""}`

/** A place of the WebSocket port is free again with the first request, of the API port with the end of the connection. */
const refusedText = (port: PortName, { address, isLimitOfAddress, limit }: RefusedConnection): string => {
  const kind = port === "ws" ? `${limit} connections without a request` : `${limit} connections`
  return isLimitOfAddress
    ? `closing new connections of ${
      portUsers[port].users
    } from ${address}: the limit of ${kind} for one address is reached; ` +
      "if the address is a proxy, add it to CONTROL_TRUSTED_PROXIES"
    : `closing new connections of ${portUsers[port].users}, now from ${address}: the limit of ${kind} is reached`
}

const portUsers = {
  ws: { users: "agents and gateways", secrets: "API keys and WireGuard keys" },
  api: { users: "operators", secrets: "the admin token" }
}

const warnAboutPlaintext = Effect.fnUntraced(function*(port: PortName, settings: SettingsValues) {
  const host = port === "ws" ? settings.wsHost : settings.apiHost
  if (!acceptsRemotePlaintext(host, settings)) return
  const { secrets, users } = portUsers[port]
  yield* Effect.logWarning(
    `${users} connect in plaintext on ${host}, so anyone on the network path can read ${secrets}; set ` +
      "CONTROL_TLS_CERTIFICATE and CONTROL_TLS_PRIVATE_KEY, or list the encrypting proxy in CONTROL_TRUSTED_PROXIES"
  )
})

const loopbackShutOutWarning =
  "health checks on this machine send no PROXY header, so the API closes their connections; set " +
  "CONTROL_PROXY_PROTOCOL=ws or remove loopback addresses from CONTROL_TRUSTED_PROXIES"

/** Logs at most one line in 10 s, so that a flood of connections does not flood the log. */
const logWarnings = (warnings: Queue.Dequeue<string>) =>
  Effect.forever(
    Effect.flatMap(Queue.take(warnings), (warning) => Effect.logWarning(warning)).pipe(
      Effect.andThen(Effect.sleep("10 seconds"))
    )
  )

const expiryGauge = Metric.gauge("control_tls_certificate_expiry_seconds", {
  description: "Expiry of the TLS certificate in seconds since 1970"
})

const refusedConnections = Metric.counter("control_connections_refused_total", {
  description: "Connections refused because one address or all addresses together had too many",
  incremental: true
})
