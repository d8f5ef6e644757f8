/** One simulated node: the real Control from its sessions down to its feed, over a simulated store and simulated sockets. */
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
import { Context, Duration, Effect, Exit, Layer, Metric, Option, Scope } from "effect"
import { agentStore, gatewayStore, keyStore } from "./clientStores.ts"
import { certificateStore, tunnelStore } from "./tunnelAndCertificateStores.ts"
import type { Database } from "./Database.ts"
import { changeLog } from "./changeLogStore.ts"
import { presenceStore } from "./presenceStore.ts"
import { acceptedFaults } from "./acceptedFaults.ts"
import { DatabaseLink } from "./DatabaseLink.ts"
import { eventStore, nodeStore } from "./nodeStores.ts"
import { Process } from "./Process.ts"
import { observedBus, OpenSubscriptions } from "./observedBus.ts"
import { SimulatedSocket, type SocketClient } from "./SimulatedSocket.ts"
import type { World } from "./World.ts"

/** Shorter than in earnest, so that little time must be simulated. */
export const settings = {
  ...defaults,
  heartbeatInterval: Duration.seconds(5),
  heartbeatTimeout: Duration.seconds(12),
  authTimeout: Duration.seconds(6),
  maxMessagesPerSecond: 5,
  maxUnauthenticated: 8,
  maxUnauthenticatedPerIp: 4
}

/** A supervisor starts a node again after so long. */
const restartDelay = 500

const layerOf = (link: DatabaseLink, queues: OpenSubscriptions, highWater: Layer.Layer<HighWaterMarkStore>) => {
  const store = Layer.mergeAll(
    agentStore(link),
    gatewayStore(link),
    tunnelStore(link),
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

/** What is reported as an error although nothing is wrong here: a database that was set back. */
const lostHistoryMessage = "the database does not have what it had"

export type Services = Layer.Success<ReturnType<typeof layerOf>>

export class Node {
  readonly #world: World
  readonly #database: Database
  readonly #turnMillis: number
  process: Process
  services: Context.Context<Services> | undefined
  subscriptions = new OpenSubscriptions()
  sockets = new Set<SimulatedSocket>()
  /** Its file outside the database. */
  #mark: HighWaterMark | undefined
  readonly #highWater = Layer.succeed(
    HighWaterMarkStore,
    HighWaterMarkStore.of({
      readState: Effect.succeed("kept"),
      read: Effect.sync(() => Option.fromUndefinedOr(this.#mark)),
      write: (mark) =>
        Effect.sync(() => {
          this.#mark = mark
        })
    })
  )
  /** Whether a supervisor keeps it running. */
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
      else this.#failed(process)
    })
  }

  /** As kill -9: its sockets are reset by its system, and what it was about to write is not written. */
  kill(): void {
    if (!this.process.alive) return
    this.#world.count("node killed")
    if (acceptedFaults.unnoticedRestore && this.#database.isRestoreUnnoticed)
      this.#database.beginTimeline(this.#database.timeline)
    this.#end()
  }

  /** Drains and exits by itself. */
  stop(): void {
    this.isSupervised = false
    if (this.#scope === undefined || !this.isServing) return this.kill()
    this.#world.count("node stopped")
    this.isStopping = true
    const { process } = this
    process.run(Scope.close(this.#scope, Exit.void), () => {
      if (this.process !== process || !process.alive) return
      this.#checkNothingLeft()
      this.#end()
    })
  }

  /** A connection from outside; refused when nobody listens. The type is what the URL names. */
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
      const place = sessions?.reserve(address)
      if (sessions === undefined || place === undefined || this.isStopping) {
        this.#world.count("connection refused")
        socket.reset()
        return
      }
      socket.isServed = true
      process.run(Effect.andThen(
        socket.ended,
        Effect.sync(() => {
          place.release()
          this.sockets.delete(socket)
        })
      ))
      sessions.serve(socket, place, { type, level, address })
    })
    return socket
  }

  /** Runs something with this node's services. */
  run<A, E>(effect: Effect.Effect<A, E, Services>, onExit?: (exit: Exit.Exit<A, E>) => void): void {
    if (this.services !== undefined) this.process.run(Effect.provide(effect, this.services), onExit)
  }

  /** What the node knows now, without disturbing it. */
  peek<A>(effect: Effect.Effect<A, never, Services>): A | undefined {
    return this.services === undefined ? undefined : Effect.runSync(Effect.provide(effect, this.services))
  }

  /** Everybody who is connected to it and authenticated. */
  get registeredClients(): ReadonlyArray<ServedClient> {
    return this.peek(Effect.flatMap(ClientRegistry, ({ all }) => all)) ?? []
  }

  /** What the node itself has counted. */
  countMetrics(): void {
    for (const { attributes, id, state, type } of Metric.snapshotUnsafe(this.process.context)) {
      if (type !== "Counter" || !("count" in state) || Number(state.count) === 0) continue
      const labels = Object.values(attributes ?? {}).join(" ")
      for (let left = Number(state.count); left > 0; left--) this.#world.count(`${id} ${labels}`.trim())
    }
  }

  #newProcess(): Process {
    return new Process(this.#world, this.#turnMillis, (level, message, why) => {
      if (message.startsWith("this process stood still")) this.#world.count("stall forgiven")
      this.#world.trace(() => `  log ${level}: ${message} ${why().split("\n")[0]}`)
      if (level !== "Error" && level !== "Fatal" || message.startsWith(lostHistoryMessage)) return
      this.#world.violate("I17 total function", `${message} ${why()}`.slice(0, 1_500))
    })
  }

  #failed(process: Process): void {
    if (!process.alive) return
    this.#world.count("start failed")
    this.#end()
  }

  #end(): void {
    this.countMetrics()
    this.process.kill()
    this.services = undefined
    // What it leaves open is reset by its system.
    for (const socket of this.sockets) socket.reset()
    this.sockets = new Set()
    this.#world.after(restartDelay, () => {
      if (this.isSupervised && !this.process.alive) this.start()
    })
  }

  /** L4: what was begun for clients has ended with them. */
  #checkNothingLeft(): void {
    const { process, subscriptions: queues } = this
    const open = [...this.sockets].filter(({ isEnded, isServed }) => isServed && !isEnded).length
    if (open > 0) this.#world.violate("L4 no leak", `${open} sockets are left after the drain`)
    if (process.timerCount > 0)
      this.#world.violate("L4 no leak", `${process.timerCount} timers are left after the drain`)
    if (queues.size > 0) this.#world.violate("L4 no leak", `${queues.size} subscriptions are left after the drain`)
    const { registeredClients: members } = this
    if (members.length > 0) this.#world.violate("L4 no leak", `${members.length} members are left after the drain`)
  }
}
