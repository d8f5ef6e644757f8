/** One connection of a simulated client: what it said, what it was told, and whether that was right. */
import { Network } from "#feed/Network.ts"
import { nameOf } from "#schema/ids.ts"
import { Effect } from "effect"
import { checkClose, checkMessage, checkPosition, checkView } from "./safety.ts"
import { ClientConnectionState, type ClientState } from "./ClientConnectionState.ts"
import { type Message, ViewReplica } from "./ViewReplica.ts"
import type { Node } from "./Node.ts"
import type { SimulatedSocket, SocketClient } from "./SimulatedSocket.ts"

/** How long a client waits for anything at all. */
const receiveTimeout = 15_000

/** The client that owns the connection. */
export interface ConnectionOwner {
  /** The server has stored a certificate for this domain. */
  certificateAccepted(domain: string): void
  /** The server has answered with an error. */
  errorReceived(code: string): void
  /** The position to resume from, once, in place of the real one. */
  takeResume(): object | string | undefined
  /** The connection is closed; 1006 when it was lost. */
  connectionClosed(connection: ClientConnectionState, code: number): void
}

export class ClientConnection extends ClientConnectionState implements SocketClient {
  readonly #observer: ConnectionOwner
  #isReplaying = false
  #acks = false

  constructor(client: ClientState, observer: ConnectionOwner) {
    super(client)
    this.#observer = observer
  }

  get readyMillis(): number {
    return this.isReady ? this.client.simulation.world.now - this.readyAt : 0
  }

  open(socket: SimulatedSocket, node: Node): void {
    this.socket = socket
    this.node = node
    if (!this.client.withholdsAuth) this.auth(this.client.key.text)
  }

  /** Says who it is. */
  auth(apiKey: string): void {
    const { client } = this
    const { database, world } = client.simulation
    if (this.authAt === undefined) {
      this.authAt = world.now
      this.authHash = client.simulation.hashOf(apiKey)
      this.authIndex = database.history.length - 1
      client.simulation.authAttempts.push({ name: nameOf(client.key.ref), at: world.now })
      this.nodeIndex = this.#whatItsNodeKnows()
    } else this.protocolErrors += 1
    const publicIp = client.publicIp === undefined ? {} : { publicIp: client.publicIp }
    this.send({ type: "auth", data: { apiKey, ...publicIp, ...(client.level === "plain" ? {} : this.#more()) } })
  }

  send(message: object | string, isValid = true): void {
    this.messagesSent += 1
    const text = typeof message === "string" ? message : JSON.stringify(message)
    this.client.simulation.world.trace(() => `${this.client.name} says ${brief(text)}`)
    this.socket?.send({ _tag: "Text", text }, isValid)
  }

  sendBinary(): void {
    this.protocolErrors += 100
    this.socket?.send({ _tag: "Binary" }, false)
  }

  /** Says something that will be answered with this error. */
  sendExpectingError(code: string, message: object): void {
    this.expectedErrors.set(code, (this.expectedErrors.get(code) ?? 0) + 1)
    this.send(message)
  }

  sendHeartbeat(): void {
    if (!this.isReady) return
    const { world } = this.client.simulation
    this.send({ type: "heartbeat", data: { timestamp: world.now } })
    // At the plain level, the WebSocket ping and its pong, which no fiber of the server sees.
    const { socket: socket } = this
    if (this.client.level === "plain" && socket?.isBlackhole === false && !socket.isEnded)
      this.lastReceivedAt = world.now
  }

  hasTimedOut(): boolean {
    return this.client.simulation.world.now - this.lastReceivedAt > receiveTimeout
  }

  received(texts: ReadonlyArray<string>, isWhole: boolean): void {
    if (this.isClosed) return
    const { client } = this
    const { world } = client.simulation
    this.lastReceivedAt = world.now
    for (const text of texts) {
      world.trace(() => `${client.name} hears ${brief(text)}`)
      world.addToHash(3, client.ordinal * 1_000 + text.length)
      const message: Message = JSON.parse(text)
      checkMessage(this, message, text)
      this.#take(message)
      if (world.violation !== undefined) return
    }
    if (this.#isReplaying) {
      this.#isReplaying = false
      world.count("resumed")
      // Cut off in the middle of what it missed, it is between two states; the next connection makes up for it.
      if (isWhole) checkView(this, this.nodeIndex)
    }
    this.#acknowledge()
  }

  closed(code: number): void {
    if (this.isClosed) return
    this.isClosed = true
    const { client } = this
    client.simulation.world.trace(() => `${client.name} is closed with ${code}`)
    client.simulation.world.addToHash(4, code)
    checkClose(this, code)
    this.#observer.connectionClosed(this, code)
  }

  /** Gives up without a word to anybody who could hear it. */
  abandon(): void {
    if (this.isClosed) return
    this.isClosed = true
    this.socket?.abandon()
    this.#observer.connectionClosed(this, 1006)
  }

  close(): void {
    this.isClosed = true
    this.socket?.closeByClient()
  }

  #more(): object {
    const { client } = this
    // A view is its owner's, and of no use to another.
    if (!client.replica.isOf(client.key.ref.id)) client.replica = new ViewReplica(client.level)
    const { position, view } = client.replica
    const resume = this.#observer.takeResume() ?? (view === undefined ? undefined : position)
    this.resumedFrom = view === undefined ? undefined : position
    this.announcedKey = client.ownKey
    return {
      clientVersion: `simulated/${client.ordinal}`,
      ...(resume === undefined ? {} : { resume }),
      ...(client.ownKey === undefined ? {} : { wireguardPublicKey: client.ownKey })
    }
  }

  #whatItsNodeKnows(): number {
    const known = this.node?.peek(Effect.flatMap(Network, ({ state }) => state))
    const index = this.client.simulation.database.history.findIndex(({ revision, timeline }) =>
      timeline === known?.timeline && revision === known.revision
    )
    return index < 0 ? this.authIndex : index
  }

  #take(message: Message): void {
    const { client } = this
    const { world } = client.simulation
    switch (message.type) {
      case "auth_success":
        return this.#begin(message)
      case "error": {
        const code = String(message.data["code"])
        this.errors.set(code, (this.errors.get(code) ?? 0) + 1)
        return this.#observer.errorReceived(code)
      }
      case "heartbeat_ack":
        // What was dropped for being too much may have been an acknowledgement.
        if (this.errors.has("rate_limited")) this.acknowledged = undefined
        return
      case "certificate_accepted":
        return this.#observer.certificateAccepted(String(message.data["domain"]))
      case "drain":
        this.drainMillis = Number(message.data["reconnectAfterMs"])
        return
    }
    const before = client.replica.position?.timeline
    const taken = client.replica.apply(message)
    if (this.hasView && client.replica.position?.timeline !== before) {
      // What was in force before is none of this timeline.
      this.acknowledged = undefined
      world.count("timeline changed on a connection")
    }
    if (taken === "strange")
      world.violate("I3 no invention", `${client.name}: ${message.type} does not go with its view`)
    if (taken === "gap")
      world.violate("I2 monotone", `${client.name}: something before this ${message.type} is missing`)
    if (taken !== "applied") return
    this.updates += 1
    this.hasView = true
    if (this.#isReplaying) return
    if (client.level === "plain") checkView(this, 0)
    else checkPosition(this)
  }

  #begin({ data }: Message): void {
    const { client } = this
    this.isReady = true
    this.readyAt = client.simulation.world.now
    if (data["resumed"] !== true) {
      client.replica = new ViewReplica(client.level)
      return
    }
    this.#isReplaying = true
    this.hasView = true
    if (this.resumedFrom === undefined || this.resumedFrom.timeline !== data["timeline"]) {
      client.simulation.world.violate("I12 timeline", `${client.name} was resumed from where it never was`)
    }
  }

  /** Everything that has come is in force, some time later; what has come by then is said at one go. */
  #acknowledge(): void {
    const { client } = this
    const { world } = client.simulation
    if (client.level === "plain" || this.#acks || !this.isReady || client.replica.position === undefined) return
    if (client.replica.position.revision === this.acknowledged) return
    this.#acks = true
    world.after(world.random.between(0, 300), () => {
      this.#acks = false
      const { position } = client.replica
      if (this.isClosed || position === undefined || client.connection !== this) return
      this.acknowledged = position.revision
      const clearsNack = this.node?.registeredClients.some(({ delivery, peer }) =>
        peer === this.socket && delivery.rejected !== undefined
      )
      if (clearsNack === true) world.count("nack cleared")
      this.send({ type: "ack", data: { revision: position.revision } })
    })
  }
}

function brief(text: string): string {
  return text.length > 400 ? `${text.slice(0, 400)}… (${text.length})` : text
}
