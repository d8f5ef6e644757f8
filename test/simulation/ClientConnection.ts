/** One connection of a simulated client: sends messages and checks everything that arrives. */
import { Network } from "#feed/Network.ts"
import { formatClientRef } from "#schema/ids.ts"
import { Effect } from "effect"
import { checkClose, checkMessage, checkPosition, checkView } from "./safety.ts"
import { ClientConnectionState, type ClientState } from "./ClientConnectionState.ts"
import { type Message, ViewReplica } from "./ViewReplica.ts"
import type { Node } from "./Node.ts"
import type { SimulatedSocket, SocketClient } from "./SimulatedSocket.ts"

/** Milliseconds without any message after which a client closes the connection. */
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
  #isAckScheduled = false

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

  /** Sends `auth`. */
  auth(apiKey: string): void {
    const { client } = this
    const { database, world } = client.simulation
    if (this.authAt === undefined) {
      this.authAt = world.now
      this.authHash = client.simulation.hashOf(apiKey)
      this.authIndex = database.history.length - 1
      client.simulation.authAttempts.push({ name: formatClientRef(client.key.ref), at: world.now })
      this.nodeIndex = this.#findNodeIndex()
    } else this.protocolErrors += 1
    const publicIp = client.publicIp === undefined ? {} : { publicIp: client.publicIp }
    this.send({ type: "auth", data: { apiKey, ...publicIp, ...(client.level === "plain" ? {} : this.#v1Fields()) } })
  }

  send(message: object | string, isValid = true): void {
    this.messagesSent += 1
    const text = typeof message === "string" ? message : JSON.stringify(message)
    this.client.simulation.world.trace(() => `${this.client.name} sends ${truncate(text)}`)
    this.socket?.send({ _tag: "Text", text }, isValid)
  }

  sendBinary(): void {
    this.protocolErrors += 100
    this.socket?.send({ _tag: "Binary" }, false)
  }

  /** Sends a message that the server must answer with this error code. */
  sendExpectingError(code: string, message: object): void {
    this.expectedErrors.set(code, (this.expectedErrors.get(code) ?? 0) + 1)
    this.send(message)
  }

  sendHeartbeat(): void {
    if (!this.isReady) return
    const { world } = this.client.simulation
    this.send({ type: "heartbeat", data: { timestamp: world.now } })
    // At the plain level clients send a WebSocket ping. No fiber of the server sees a ping, so the pong counts as received
    // here.
    const { socket } = this
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
      world.trace(() => `${client.name} receives ${truncate(text)}`)
      world.addToHash(3, client.ordinal * 1_000 + text.length)
      const message: Message = JSON.parse(text)
      checkMessage(this, message, text)
      this.#receive(message)
      if (world.violation !== undefined) return
    }
    if (this.#isReplaying) {
      this.#isReplaying = false
      world.count("resumed")
      // An interrupted replay ends between two database states. The next connection resumes from there.
      if (isWhole) checkView(this, this.nodeIndex)
    }
    this.#scheduleAck()
  }

  closed(code: number): void {
    if (this.isClosed) return
    this.isClosed = true
    const { client } = this
    client.simulation.world.trace(() => `${client.name} is closed with code ${code}`)
    client.simulation.world.addToHash(4, code)
    checkClose(this, code)
    this.#observer.connectionClosed(this, code)
  }

  /** Gives up the connection without a close frame. */
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

  #v1Fields(): object {
    const { client } = this
    // A view belongs to one client. Another client must not resume from it.
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

  #findNodeIndex(): number {
    const state = this.node?.peek(Effect.flatMap(Network, ({ state }) => state))
    const index = this.client.simulation.database.history.findIndex(({ revision, timeline }) =>
      timeline === state?.timeline && revision === state.revision
    )
    return index < 0 ? this.authIndex : index
  }

  #receive(message: Message): void {
    const { client } = this
    const { world } = client.simulation
    switch (message.type) {
      case "auth_success":
        return this.#authenticated(message)
      case "error": {
        const code = String(message.data["code"])
        this.errors.set(code, (this.errors.get(code) ?? 0) + 1)
        return this.#observer.errorReceived(code)
      }
      case "heartbeat_ack":
        // A message dropped by the rate limit may have been an `ack`.
        if (this.errors.has("rate_limited")) this.acknowledged = undefined
        return
      case "certificate_accepted":
        return this.#observer.certificateAccepted(String(message.data["domain"]))
      case "drain":
        this.drainMillis = Number(message.data["reconnectAfterMs"])
        return
    }
    const previousTimeline = client.replica.position?.timeline
    const result = client.replica.apply(message)
    if (this.hasView && client.replica.position?.timeline !== previousTimeline) {
      // Acknowledged revisions of the previous timeline mean nothing in the new one.
      this.acknowledged = undefined
      world.count("timeline changed on a connection")
    }
    if (result === "inapplicable")
      world.violate("I3 no invention", `${client.name}: ${message.type} does not apply to its view`)
    if (result === "gap")
      world.violate("I2 monotone", `${client.name}: a message before this ${message.type} is missing`)
    if (result !== "applied") return
    this.updates += 1
    this.hasView = true
    if (this.#isReplaying) return
    if (client.level === "plain") checkView(this, 0)
    else checkPosition(this)
  }

  #authenticated({ data }: Message): void {
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
      client.simulation.world.violate("I12 timeline", `${client.name} was resumed from a position that it never had`)
    }
  }

  /** Acknowledges everything received so far with one `ack`, up to 300 ms later. */
  #scheduleAck(): void {
    const { client } = this
    const { world } = client.simulation
    if (client.level === "plain" || this.#isAckScheduled || !this.isReady || client.replica.position === undefined)
      return
    if (client.replica.position.revision === this.acknowledged) return
    this.#isAckScheduled = true
    world.after(world.random.between(0, 300), () => {
      this.#isAckScheduled = false
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

function truncate(text: string): string {
  return text.length > 400 ? `${text.slice(0, 400)}… (${text.length})` : text
}
