/** The spec's class over the same layers, with promises: for an application that runs Control in its own process. */
import { type Client as Member, ClientRegistry } from "#clients/ClientRegistry.ts"
import { Deliveries } from "#clients/Deliveries.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { answerPlainRequest, ListeningServer, requestBounds } from "#connection/Listener.ts"
import * as Control from "#server/Control.ts"
import { readKeyPair } from "#ingress/tlsKeyPair.ts"
import { makeServer } from "#ingress/servers.ts"
import * as Logging from "#server/logging.ts"
import { type ClientType, Revision } from "#schema/ids.ts"
import { type Environment, readProcessSettings, Settings } from "#server/Settings.ts"
import { actingAs } from "#store/AuditActor.ts"
import { type TunnelInput, Tunnels } from "#services/Tunnels.ts"
import { Clock, Effect, Layer, ManagedRuntime } from "effect"
import type { IncomingMessage, Server } from "node:http"
import type { Duplex } from "node:stream"

/** A client that is connected and authenticated. Its key and its socket stay inside. */
export interface Client {
  readonly id: string
  readonly type: ClientType
  readonly authenticated: true
  /** When it last said something valid: milliseconds since 1970. */
  readonly lastHeartbeat: number
}

export interface Options {
  /** Settings by the names of the environment, such as `{ DATABASE_URL: "…" }`; they go before `process.env`. */
  readonly env?: Environment
}

type Running = Layer.Success<typeof Control.layerWithoutApi>

/** Whose writes they are, in the audit. */
const asLibrary = actingAs("library", null)

/** One server at a time has the data directory, so each waits until the one before has let go of it. */
let lastClosed: Promise<unknown> = Promise.resolve()

export class WSServer {
  /** Resolves when clients are served; rejects when the server cannot start (a port in use, no database). */
  readonly ready: Promise<void>
  /** Resolves as soon as `close` is called: from then on another server may be started. */
  readonly closed: Promise<void>
  readonly #server: Server
  readonly #runtime: ManagedRuntime.ManagedRuntime<Running, unknown>
  #members: Effect.Effect<Array<Client>> = Effect.succeed([])
  #closing: Promise<void> | undefined
  readonly #beginClosing: () => void

  /**
   * Listens at once: who connects before everything else is up is served as soon as it is. Throws `SettingsInvalid` when a
   * setting cannot be used, and `CertificateUnusable` when TLS cannot be served with the files that they name.
   */
  constructor(port = 3001, options: Options = {}) {
    const settings = Effect.runSync(readProcessSettings({ CONTROL_WS_PORT: String(port), ...options.env }))
    const closing = Promise.withResolvers<void>()
    this.closed = closing.promise
    this.#beginClosing = closing.resolve
    this.#server = makeServer("ws", settings, readKeyPair(settings), requestBounds, answerPlainRequest)
    this.#runtime = ManagedRuntime.make(
      Control.layerWithoutApi.pipe(
        Layer.provide(Layer.succeed(ListeningServer, this.#server)),
        Layer.provide(Logging.layer),
        Layer.provide(Settings.layerOf(settings))
      )
    )
    const release = holdUpgrades(this.#server, settings.maxUnauthenticated)
    const abandoned = this.closed.then(() => Promise.reject(new Error("the server was closed before it was ready")))
    const listening = Promise.race([listen(this.#server, settings.wsHost, settings.wsPort), abandoned])
    // A name that is still being looked up would be listened on although `close` has been called meanwhile.
    this.#server.on("listening", () => this.#closing !== undefined && this.#server.close())
    this.ready = Promise.all([listening, lastClosed]).then(() => this.#start()).then(release)
    // Whoever does not ask for it must not be ended by an unhandled rejection.
    this.ready.catch(() => this.#server.close())
  }

  /** The clients that are connected and authenticated now. */
  getConnectedClients(): Array<Client> {
    return Effect.runSync(this.#members)
  }

  /**
   * Makes it so and sees it sent: stores the tunnel unless the database already holds it so, and resolves when every
   * connected client that it concerns was sent that revision. A change is pushed by itself, so this never sends it twice.
   * Rejects with `InvalidTunnel`, `DomainTaken`, `NoSuchAgent`, or `StoreUnavailable`.
   */
  async broadcastTunnelCreate(tunnel: TunnelInput): Promise<void> {
    await this.#put(tunnel)
  }

  /** As `broadcastTunnelCreate`. */
  async broadcastTunnelUpdate(tunnel: TunnelInput): Promise<void> {
    await this.#put(tunnel)
  }

  /**
   * Deletes the tunnel unless it is gone already, and resolves when every connected client that it concerns was sent that
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

  /** Stops listening at once, closes every connection (1012), and resolves when all is released. */
  close(): Promise<void> {
    return this.#closing ??= this.#stop()
  }

  async #start(): Promise<void> {
    const registry = await this.#runtime.runPromise(ClientRegistry)
    this.#members = Effect.flatMap(registry.newest, (members) => Effect.forEach(members, describe))
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
    this.#beginClosing()
    this.#server.close()
    lastClosed = this.ready.catch(() => {}).then(() => this.#runtime.dispose())
    await lastClosed
    this.#server.closeAllConnections()
  }
}

const describe = Effect.fnUntraced(function*(member: Member) {
  const silentFor = (yield* monotonicMillis) - member.lastSeen.millis
  const client: Client = {
    id: member.ref.id,
    type: member.ref.type,
    authenticated: true,
    lastHeartbeat: (yield* Clock.currentTimeMillis) - silentFor
  }
  return client
})

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject)
    server.listen({ host, port }, () => resolve())
  })
}

/** Keeps upgrades back until the function that it gives is called; from then on the listener gets them, the early ones first. */
function holdUpgrades(server: Server, limit: number): () => void {
  const held: Array<[IncomingMessage, Duplex, Buffer]> = []
  const hold = (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    // Once the listener is there, it gets the upgrade as well: then it is not held too.
    if (server.listenerCount("upgrade") > 1) return
    if (held.length >= limit) socket.destroy()
    else held.push([request, socket, head])
  }
  server.on("upgrade", hold)
  return () => {
    server.off("upgrade", hold)
    for (const upgrade of held) server.emit("upgrade", ...upgrade)
  }
}
