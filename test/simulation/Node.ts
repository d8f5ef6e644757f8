/** One simulated node: the real Control above a simulated store and simulated sockets. */
import { type Client as ServedClient, ClientRegistry } from "#clients/ClientRegistry.ts"
import { Connections } from "#connection/Connections.ts"
import * as Control from "#server/Control.ts"
import { Events } from "#events/Events.ts"
import { ChangeNotifier } from "#feed/ChangeNotifier.ts"
import { Network } from "#feed/Network.ts"
import type { ClientType } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { defaults, Settings } from "#server/Settings.ts"
import { type HighWaterMark, HighWaterMarkStore } from "#store/HighWaterMark.ts"
import { Context, Duration, Effect, Exit, Layer, Metric, Option, Redacted, Scope } from "effect"
import { agentStore, gatewayStore, keyStore } from "./clientStores.ts"
import { certificateStore, reportStore, tunnelStore } from "./tunnelAndCertificateStores.ts"
import type { Database } from "./SimulatedDatabase.ts"
import { changeLog } from "./changeLogStore.ts"
import { presenceStore } from "./presenceStore.ts"
import { acceptedFaults } from "./acceptedFaults.ts"
import { DatabaseLink } from "./DatabaseLink.ts"
import { eventStore, nodeStore } from "./nodeStores.ts"
import { Process } from "./Process.ts"
import { observedBus, OpenSubscriptions } from "./observedBus.ts"
import { SimulatedSocket, type SocketClient } from "./SimulatedSocket.ts"
import type { World } from "./World.ts"

/** Shorter than the defaults, so that a simulation covers them in little simulated time. */
export const settings = {
  ...defaults,
  databaseUrl: Option.some(Redacted.make("postgres://simulated")),
  heartbeatInterval: Duration.seconds(5),
  heartbeatTimeout: Duration.seconds(12),
  authTimeout: Duration.seconds(6),
  maxMessagesPerSecond: 5,
  maxUnauthenticated: 8,
  maxUnauthenticatedPerIp: 4
}

/** Milliseconds until a supervisor restarts a node. */
const restartDelay = 500

const layerOf = (link: DatabaseLink, queues: OpenSubscriptions, highWater: Layer.Layer<HighWaterMarkStore>) => {
  const store = Layer.mergeAll(
    agentStore(link),
    gatewayStore(link),
    tunnelStore(link),
    reportStore(link),
    certificateStore(link),
    keyStore(link),
    presenceStore(link),
    nodeStore(link),
    changeLog(link),
    highWater,
    eventStore(link)
  )
  const feed = Network.layer.pipe(
    Layer.provideMerge(observedBus(queues)),
    Layer.provideMerge(ChangeNotifier.layer),
    Layer.provideMerge(Events.layer)
  )
  return Connections.layer.pipe(
    Layer.provideMerge(Control.clients),
    Layer.provideMerge(Control.services),
    Layer.provideMerge(feed),
    Layer.provide(store),
    Layer.provide(Settings.layerOf(settings))
  )
}

/** Start of the error log for a restored older database. The simulator causes it on purpose, so it is no violation. */
const lostHistoryMessage = "the database no longer has revision"

export type Services = Layer.Success<ReturnType<typeof layerOf>>

export class Node {
  readonly #world: World
  readonly #database: Database
  readonly #turnMillis: number
  process: Process
  services: Context.Context<Services> | undefined
  subscriptions = new OpenSubscriptions()
  sockets = new Set<SimulatedSocket>()
  /** Content of the high-water mark's file, which survives restarts of the node. */
  #highWaterMark: HighWaterMark | undefined
  readonly #highWater = Layer.succeed(
    HighWaterMarkStore,
    HighWaterMarkStore.of({
      readState: Effect.succeed("kept"),
      read: Effect.sync(() => Option.fromUndefinedOr(this.#highWaterMark)),
      write: (mark) =>
        Effect.sync(() => {
          this.#highWaterMark = mark
        })
    })
  )
  /** Whether a supervisor restarts the node. */
  isSupervised = false
  isStopping = false
  #scope: Scope.Closeable | undefined

  constructor(world: World, database: Database, turnMillis: number) {
    this.#world = world
    this.#database = database
    this.#turnMillis = turnMillis
    this.process = this.#newProcess()
    this.process.kill()
  }

  get isServing(): boolean {
    return this.services !== undefined && this.process.alive && !this.isStopping
  }

  start(): void {
    this.isSupervised = true
    if (this.process.alive) return
    this.process = this.#newProcess()
    this.subscriptions = new OpenSubscriptions()
    this.isStopping = false
    const scope = Effect.runSync(Scope.make())
    this.#scope = scope
    const build = Layer.buildWithScope(
      layerOf(new DatabaseLink(this.#database, this.process), this.subscriptions, this.#highWater),
      scope
    )
    const { process } = this
    process.run(build, (exit) => {
      if (Exit.isSuccess(exit)) this.services = exit.value
      else this.#startFailed(process)
    })
  }

  /** Like kill -9: the operating system resets the sockets, and pending writes are lost. */
  kill(): void {
    if (!this.process.alive) return
    this.#world.count("node killed")
    if (acceptedFaults.unnoticedRestore && this.#database.isRestoreUnnoticed)
      this.#database.beginTimeline(this.#database.timeline)
    this.#terminate()
  }

  /** Drains the node and lets it exit. */
  stop(): void {
    this.isSupervised = false
    if (this.#scope === undefined || !this.isServing) return this.kill()
    this.#world.count("node stopped")
    this.isStopping = true
    const { process } = this
    process.run(Scope.close(this.#scope, Exit.void), () => {
      if (this.process !== process || !process.alive) return
      this.#checkNothingLeft()
      this.#terminate()
    })
  }

  /** Opens a connection to the node; undefined when the node does not listen. `type` is the client type in the URL. */
  connect(
    peer: SocketClient,
    { address, level, type }: { readonly type: ClientType | undefined; readonly level: Level; readonly address: string }
  ): SimulatedSocket | undefined {
    if (!this.isServing) return undefined
    const { process } = this
    const socket = new SimulatedSocket(this.#world, process, peer)
    this.sockets.add(socket)
    process.deliver(this.#world.random.between(1, socket.latency), () => {
      const sessions = this.services === undefined ? undefined : Context.get(this.services, Connections)
      const slot = sessions?.reserve(address)
      if (sessions === undefined || slot === undefined || this.isStopping) {
        this.#world.count("connection refused")
        socket.reset()
        return
      }
      socket.isServed = true
      process.run(Effect.andThen(
        socket.ended,
        Effect.sync(() => {
          slot.release()
          this.sockets.delete(socket)
        })
      ))
      sessions.serve(socket, slot, { type, level, address })
    })
    return socket
  }

  /** Runs an effect with this node's services. */
  run<A, E>(effect: Effect.Effect<A, E, Services>, onExit?: (exit: Exit.Exit<A, E>) => void): void {
    if (this.services !== undefined) this.process.run(Effect.provide(effect, this.services), onExit)
  }

  /** Reads state of the node without running any of its fibers. */
  peek<A>(effect: Effect.Effect<A, never, Services>): A | undefined {
    return this.services === undefined ? undefined : Effect.runSync(Effect.provide(effect, this.services))
  }

  /** Authenticated clients of this node. */
  get registeredClients(): ReadonlyArray<ServedClient> {
    return this.peek(Effect.flatMap(ClientRegistry, ({ all }) => all)) ?? []
  }

  /** Adds the node's own metrics to the counters of the simulation. */
  countMetrics(): void {
    for (const { attributes, id, state, type } of Metric.snapshotUnsafe(this.process.context)) {
      if (type !== "Counter" || !("count" in state) || Number(state.count) === 0) continue
      const labels = Object.values(attributes ?? {}).join(" ")
      for (let left = Number(state.count); left > 0; left--) this.#world.count(`${id} ${labels}`.trim())
    }
  }

  #newProcess(): Process {
    return new Process(this.#world, this.#turnMillis, (level, message, why) => {
      if (message.startsWith("this process was stalled")) this.#world.count("pause forgiven")
      this.#world.trace(() => `  log ${level}: ${message} ${why().split("\n")[0]}`)
      if (level !== "Error" && level !== "Fatal" || message.startsWith(lostHistoryMessage)) return
      this.#world.violate("I17 total function", `${message} ${why()}`.slice(0, 1_500))
    })
  }

  #startFailed(process: Process): void {
    if (!process.alive) return
    this.#world.count("start failed")
    this.#terminate()
  }

  #terminate(): void {
    this.countMetrics()
    this.process.kill()
    this.services = undefined
    // The operating system resets the sockets that the node left open.
    for (const socket of this.sockets) socket.reset()
    this.sockets = new Set()
    this.#world.after(restartDelay, () => {
      if (this.isSupervised && !this.process.alive) this.start()
    })
  }

  /** L4: everything that was started for clients has ended. */
  #checkNothingLeft(): void {
    const { process, subscriptions } = this
    const open = [...this.sockets].filter(({ isEnded, isServed }) => isServed && !isEnded).length
    if (open > 0) this.#world.violate("L4 no leak", `${open} sockets are left after the drain`)
    if (process.timerCount > 0)
      this.#world.violate("L4 no leak", `${process.timerCount} timers are left after the drain`)
    if (subscriptions.size > 0)
      this.#world.violate("L4 no leak", `${subscriptions.size} subscriptions are left after the drain`)
    const registered = this.registeredClients.length
    if (registered > 0) this.#world.violate("L4 no leak", `${registered} registered clients are left after the drain`)
  }
}
