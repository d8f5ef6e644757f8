/** One connection of a simulated client: what it said, what it was told, and whether that was right. */
import { Network } from "#feed/Network.ts"
import { nameOf } from "#schema/ids.ts"
import { Effect } from "effect"
import { checkClose, checkMessage, checkPosition, checkView } from "./safety.ts"
import { type ClientState, ConversationState } from "./ClientConnectionState.ts"
import { Follower, type Message } from "./ViewReplica.ts"
import type { Node } from "./Node.ts"
import type { Peer, Wire } from "./SimulatedSocket.ts"

/** How long a client waits for anything at all. */
const patience = 15_000

/** The client that owns the connection. */
export interface ConversationObserver {
  /** The server has stored a certificate for this domain. */
  accepted(domain: string): void
  /** The server has answered with an error. */
  refused(code: string): void
  /** The position to resume from, once, in place of the real one. */
  takeResume(): object | string | undefined
  /** The connection is closed; 1006 when it was lost. */
  ended(conversation: ConversationState, code: number): void
}

export class Conversation extends ConversationState implements Peer {
  readonly #observer: ConversationObserver
  #isReplaying = false
  #acks = false

  constructor(client: ClientState, observer: ConversationObserver) {
    super(client)
    this.#observer = observer
  }

  get wasReadyFor(): number {
    return this.isReady ? this.client.simulation.world.now - this.readyAt : 0
  }

  open(wire: Wire, node: Node): void {
    this.wire = wire
    this.node = node
    if (!this.client.hesitates) this.auth(this.client.key.text)
  }

  /** Says who it is. */
  auth(apiKey: string): void {
    const { client } = this
    const { database, world } = client.simulation
    if (this.authAt === undefined) {
      this.authAt = world.now
      this.authHash = client.simulation.hashOf(apiKey)
      this.authIndex = database.history.length - 1
      client.simulation.attempts.push({ name: nameOf(client.key.ref), at: world.now })
      this.knownIndex = this.#whatItsNodeKnows()
    } else this.faults += 1
    const publicIp = client.publicIp === undefined ? {} : { publicIp: client.publicIp }
    this.say({ type: "auth", data: { apiKey, ...publicIp, ...(client.level === "plain" ? {} : this.#more()) } })
  }

  say(message: object | string, isValid = true): void {
    this.said += 1
    const text = typeof message === "string" ? message : JSON.stringify(message)
    this.client.simulation.world.note(() => `${this.client.name} says ${brief(text)}`)
    this.wire?.send({ _tag: "Text", text }, isValid)
  }

  sayBinary(): void {
    this.faults += 100
    this.wire?.send({ _tag: "Binary" }, false)
  }

  /** Says something that will be answered with this error. */
  provoke(code: string, message: object): void {
    this.provoked.set(code, (this.provoked.get(code) ?? 0) + 1)
    this.say(message)
  }

  beat(): void {
    if (!this.isReady) return
    const { world } = this.client.simulation
    this.say({ type: "heartbeat", data: { timestamp: world.now } })
    // At the plain level, the WebSocket ping and its pong, which no fiber of the server sees.
    const { wire } = this
    if (this.client.level === "plain" && wire?.isBlackhole === false && !wire.isEnded) this.lastHeardAt = world.now
  }

  isDead(): boolean {
    return this.client.simulation.world.now - this.lastHeardAt > patience
  }

  received(texts: ReadonlyArray<string>, isWhole: boolean): void {
    if (this.isOver) return
    const { client } = this
    const { world } = client.simulation
    this.lastHeardAt = world.now
    for (const text of texts) {
      world.note(() => `${client.name} hears ${brief(text)}`)
      world.mark(3, client.ordinal * 1_000 + text.length)
      const message: Message = JSON.parse(text)
      checkMessage(this, message, text)
      this.#take(message)
      if (world.violation !== undefined) return
    }
    if (this.#isReplaying) {
      this.#isReplaying = false
      world.count("resumed")
      // Cut off in the middle of what it missed, it is between two states; the next connection makes up for it.
      if (isWhole) checkView(this, this.knownIndex)
    }
    this.#acknowledge()
  }

  closed(code: number): void {
    if (this.isOver) return
    this.isOver = true
    const { client } = this
    client.simulation.world.note(() => `${client.name} is closed with ${code}`)
    client.simulation.world.mark(4, code)
    checkClose(this, code)
    this.#observer.ended(this, code)
  }

  /** Gives up without a word to anybody who could hear it. */
  abandon(): void {
    if (this.isOver) return
    this.isOver = true
    this.wire?.abandon()
    this.#observer.ended(this, 1006)
  }

  leave(): void {
    this.isOver = true
    this.wire?.leave()
  }

  #more(): object {
    const { client } = this
    // A view is its owner's, and of no use to another.
    if (!client.follower.isOf(client.key.ref.id)) client.follower = new Follower(client.level)
    const { position, view } = client.follower
    const resume = this.#observer.takeResume() ?? (view === undefined ? undefined : position)
    this.offered = view === undefined ? undefined : position
    this.broughtKey = client.ownKey
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
        return this.#observer.refused(code)
      }
      case "heartbeat_ack":
        // What was dropped for being too much may have been an acknowledgement.
        if (this.errors.has("rate_limited")) this.acked = undefined
        return
      case "certificate_accepted":
        return this.#observer.accepted(String(message.data["domain"]))
      case "drain":
        this.drainMillis = Number(message.data["reconnectAfterMs"])
        return
    }
    const before = client.follower.position?.timeline
    const taken = client.follower.take(message)
    if (this.hasBegun && client.follower.position?.timeline !== before) {
      // What was in force before is none of this timeline.
      this.acked = undefined
      world.count("timeline changed on a connection")
    }
    if (taken === "strange")
      world.violate("I3 no invention", `${client.name}: ${message.type} does not go with its view`)
    if (taken === "gap")
      world.violate("I2 monotone", `${client.name}: something before this ${message.type} is missing`)
    if (taken !== "applied") return
    this.pushes += 1
    this.hasBegun = true
    if (this.#isReplaying) return
    if (client.level === "plain") checkView(this, 0)
    else checkPosition(this)
  }

  #begin({ data }: Message): void {
    const { client } = this
    this.isReady = true
    this.readyAt = client.simulation.world.now
    if (data["resumed"] !== true) {
      client.follower = new Follower(client.level)
      return
    }
    this.#isReplaying = true
    this.hasBegun = true
    if (this.offered === undefined || this.offered.timeline !== data["timeline"]) {
      client.simulation.world.violate("I12 timeline", `${client.name} was resumed from where it never was`)
    }
  }

  /** Everything that has come is in force, some time later; what has come by then is said at one go. */
  #acknowledge(): void {
    const { client } = this
    const { world } = client.simulation
    if (client.level === "plain" || this.#acks || !this.isReady || client.follower.position === undefined) return
    if (client.follower.position.revision === this.acked) return
    this.#acks = true
    world.after(world.random.between(0, 300), () => {
      this.#acks = false
      const { position } = client.follower
      if (this.isOver || position === undefined || client.conversation !== this) return
      this.acked = position.revision
      const stands = this.node?.members.some(({ nack, peer }) => peer === this.wire && nack !== undefined)
      if (stands === true) world.count("nack cleared")
      this.say({ type: "ack", data: { revision: position.revision } })
    })
  }
}

function brief(text: string): string {
  return text.length > 400 ? `${text.slice(0, 400)}… (${text.length})` : text
}
