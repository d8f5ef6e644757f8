/** The class of the specification: runs Control inside an application, with promises. */
import { type Client as ConnectedClient, ClientRegistry } from "#clients/ClientRegistry.ts"
import { Deliveries } from "#clients/Deliveries.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { answerPlainRequest, ListeningServer, requestBounds } from "#connection/Listener.ts"
import * as Control from "#server/Control.ts"
import { readKeyPair } from "#ingress/tlsKeyPair.ts"
import { currentLimits } from "#ingress/connectionLimits.ts"
import { makeServer } from "#ingress/servers.ts"
import * as Logging from "#server/logging.ts"
import { type ClientType, Revision } from "#schema/ids.ts"
import { type Environment, listenOptions, readProcessSettings, Settings } from "#server/Settings.ts"
import { actingAs } from "#store/AuditActor.ts"
import { type TunnelInput, Tunnels } from "#services/Tunnels.ts"
import { Clock, Effect, Layer, ManagedRuntime } from "effect"
import type { IncomingMessage, Server } from "node:http"
import type { Duplex } from "node:stream"

/** A connected and authenticated client. The API key and the socket are not exposed. */
export interface Client {
  readonly id: string
  readonly type: ClientType
  readonly authenticated: true
  /** Time of the last valid message, in milliseconds since 1970. */
  readonly lastHeartbeat: number
}

export interface Options {
  /** Settings by environment variable, for example `{ DATABASE_URL: "…" }`. They override `process.env`. */
  readonly env?: Environment
}

type Services = Layer.Success<typeof Control.layerWithoutApi>

/** Actor of the writes in the audit log. */
const asLibrary = actingAs("library", null)

/** Resolves when the previous server has released the data directory, which only one server can lock. */
let previousClosed: Promise<unknown> = Promise.resolve()

export class WSServer {
  /** Resolves when the server serves clients. Rejects if the server cannot start, for example because the port is in use. */
  readonly ready: Promise<void>
  /** Resolves when `close` is called. From then on the application may start another server. */
  readonly closed: Promise<void>
  readonly #server: Server
  readonly #runtime: ManagedRuntime.ManagedRuntime<Services, unknown>
  #clients: Effect.Effect<Array<Client>> = Effect.succeed([])
  #closing: Promise<void> | undefined
  readonly #resolveClosed: () => void

  /**
   * Listens at once. Connections that arrive before the server is ready wait until it is. Throws `SettingsInvalid` for an
   * invalid setting, and `CertificateUnusable` if the TLS files of the settings cannot be used.
   *
   * @example
   * const server = new WSServer(3001, { env: { DATABASE_URL: "postgres://…" } })
   * await server.ready
   */
  constructor(port = 3001, options: Options = {}) {
    const settings = Effect.runSync(readProcessSettings({ CONTROL_WS_PORT: String(port), ...options.env }))
    const closing = Promise.withResolvers<void>()
    this.closed = closing.promise
    this.#resolveClosed = closing.resolve
    const limits = Effect.runSync(Effect.provide(currentLimits, Settings.layerOf(settings)))
    this.#server = makeServer("ws", settings, readKeyPair(settings), limits, requestBounds, answerPlainRequest)
    this.#runtime = ManagedRuntime.make(
      Control.layerWithoutApi.pipe(
        Layer.provide(Layer.succeed(ListeningServer, this.#server)),
        Layer.provide(Logging.layer),
        Layer.provide(Settings.layerOf(settings))
      )
    )
    const releaseUpgrades = queueUpgrades(this.#server, limits.ws.silent.total)
    const closedEarly = this.closed.then(() => Promise.reject(new Error("the server was closed before it was ready")))
    const listening = Promise.race([listen(this.#server, settings.wsHost, settings.wsPort), closedEarly])
    // `close` has no effect while the host name is being resolved, so the server closes again once it listens.
    this.#server.on("listening", () => this.#closing !== undefined && this.#server.close())
    this.ready = Promise.all([listening, previousClosed]).then(() => this.#start()).then(releaseUpgrades)
    // An application that does not use `ready` must not end by an unhandled rejection.
    this.ready.catch(() => this.#server.close())
  }

  /** Returns the clients that are connected and authenticated now. */
  getConnectedClients(): Array<Client> {
    return Effect.runSync(this.#clients)
  }

  /**
   * Stores the tunnel unless the database already contains it, and resolves when every connected client that the change
   * concerns has been sent that revision. Control sends every stored change once, so this method never sends it again.
   * Rejects with `InvalidTunnel`, `DomainTaken`, `TunnelNameTaken`, `ListenPortTaken`, `TunnelRejected`, `NoSuchAgent`, or
   * `StoreUnavailable`.
   */
  async broadcastTunnelCreate(tunnel: TunnelInput): Promise<void> {
    await this.#put(tunnel)
  }

  /** The same as `broadcastTunnelCreate`. */
  async broadcastTunnelUpdate(tunnel: TunnelInput): Promise<void> {
    await this.#put(tunnel)
  }

  /**
   * Deletes the tunnel if it exists, and resolves when every connected client that the change concerns has been sent that
   * revision. Rejects with `InvalidTunnel` or `StoreUnavailable`.
   */
  async broadcastTunnelDelete(tunnelId: string, _agentId: string): Promise<void> {
    await this.ready
    await this.#runtime.runPromise(
      Effect.gen(function*() {
        const revision = yield* (yield* Tunnels).ensureRemoved(tunnelId)
        yield* (yield* Deliveries).awaitSent(revision)
      }).pipe(asLibrary)
    )
  }

  /** Stops listening, closes every connection with 1012, and resolves when all resources are released. */
  close(): Promise<void> {
    return this.#closing ??= this.#stop()
  }

  async #start(): Promise<void> {
    const registry = await this.#runtime.runPromise(ClientRegistry)
    this.#clients = Effect.flatMap(registry.newest, (clients) => Effect.forEach(clients, toClient))
  }

  async #put(tunnel: TunnelInput): Promise<void> {
    await this.ready
    await this.#runtime.runPromise(
      Effect.gen(function*() {
        const { revision } = yield* (yield* Tunnels).ensure(tunnel)
        yield* (yield* Deliveries).awaitSent(Revision.make(revision))
      }).pipe(asLibrary)
    )
  }

  async #stop(): Promise<void> {
    this.#resolveClosed()
    this.#server.close()
    previousClosed = this.ready.catch(() => {}).then(() => this.#runtime.dispose())
    await previousClosed
    this.#server.closeAllConnections()
  }
}

const toClient = Effect.fnUntraced(function*(connected: ConnectedClient) {
  const silentMillis = (yield* monotonicMillis) - connected.lastSeen.millis
  const client: Client = {
    id: connected.ref.id,
    type: connected.ref.type,
    authenticated: true,
    lastHeartbeat: (yield* Clock.currentTimeMillis) - silentMillis
  }
  return client
})

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject)
    server.listen(listenOptions(host, port), () => resolve())
  })
}

/**
 * Queues upgrade requests, at most `limit`, until the returned function is called. That function passes the queued requests to
 * the listener in the order of arrival.
 */
function queueUpgrades(server: Server, limit: number): () => void {
  const queued: Array<[IncomingMessage, Duplex, Buffer]> = []
  const enqueue = (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    // After the listener is added, it receives every upgrade itself, so that this handler must not queue it too.
    if (server.listenerCount("upgrade") > 1) return
    if (queued.length >= limit) socket.destroy()
    else queued.push([request, socket, head])
  }
  server.on("upgrade", enqueue)
  return () => {
    server.off("upgrade", enqueue)
    for (const upgrade of queued) server.emit("upgrade", ...upgrade)
  }
}
