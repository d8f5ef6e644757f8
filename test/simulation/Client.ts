/** A simulated client that follows the protocol, until it is told not to: it connects, authenticates, beats, and comes back. */
import { generateWireguardKeyPair } from "#crypto/wireguardKeys.ts"
import type { ClientType } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import type { Issued } from "./certificates.ts"
import { Conversation, type ConversationObserver } from "./ClientConnection.ts"
import type { ClientState, ConversationState } from "./ClientConnectionState.ts"
import type { Credential } from "./Credential.ts"
import { Follower } from "./ViewReplica.ts"
import type { Node } from "./Node.ts"
import type { SimulationContext } from "./SimulationContext.ts"

/** What to do after a close, by its code: see the table of close codes in protocol.md. */
const stopsAfter: ReadonlySet<number> = new Set([4400, 4401, 4403, 4409, 4410])

const heartbeatEvery = 4_000

/** Long enough to be evicted at the other end, short enough to simulate. */
const longestBackOff = 4_000

/** In earnest a minute. */
const afterTooMany = 5_000

const sendCertificateAgain = 3_000

export class Client implements ClientState, ConversationObserver {
  readonly simulation: SimulationContext
  readonly ordinal: number
  readonly level: Level
  readonly address: string
  key: Credential
  /** What it tells in the URL. */
  urlType: ClientType | undefined
  /** A gateway's own address, told in `auth`. */
  publicIp: string | undefined
  /** The public key of a pair that it made itself. */
  ownKey: string | undefined
  /** What it knew when it was last connected. */
  follower: Follower
  /** Up to where in the database's history it has come; never back. */
  historyIndex = 0
  conversation: Conversation | undefined
  /** Does not beat. */
  isMute = false
  /** Comes back by itself. */
  isPersistent = true
  /** Comes back even after it was replaced. */
  fights = false
  /** Does not authenticate by itself. */
  hesitates = false
  /** The code after which it does not come back by itself. */
  stoppedBy: number | undefined
  /** What it has obtained and not been told to be stored, by domain. */
  readonly certificates = new Map<string, Issued>()
  #attempts = 0
  #generation = 0
  #resume: object | string | undefined

  constructor(simulation: SimulationContext, ordinal: number, key: Credential, level: Level) {
    this.simulation = simulation
    this.ordinal = ordinal
    this.level = level
    this.key = key
    this.urlType = key.ref.type
    this.address = `192.0.2.${ordinal}`
    this.follower = new Follower(level)
  }

  get name(): string {
    return `c${this.ordinal}`
  }

  get isReady(): boolean {
    return this.conversation?.isReady === true
  }

  /** Connects now, in the place of any connection that it has. */
  connect(): void {
    const before = this.conversation
    this.conversation = undefined
    before?.abandon()
    this.stoppedBy = undefined
    const { simulation } = this
    // One node may know less than another.
    if (simulation.nodes.length > 1) this.historyIndex = 0
    this.#generation += 1
    const node: Node | undefined = simulation.chooseNode()
    const conversation = new Conversation(this, this)
    this.conversation = conversation
    const { address, level, urlType: type } = this
    const wire = node?.connect(conversation, { type, level, address })
    if (wire === undefined || node === undefined) {
      this.conversation = undefined
      simulation.world.note(() => `${this.name} finds nobody`)
      return this.#comeBack()
    }
    simulation.world.note(() => `${this.name} connects`)
    conversation.open(wire, node)
    this.#beat(conversation)
  }

  /** The conversation that this client has, and no older one, is over. */
  ended(ended: ConversationState, code: number): void {
    const { conversation } = this
    if (conversation === undefined || ended !== conversation) return
    this.conversation = undefined
    if (conversation.wasReadyFor > 10_000) this.#attempts = 0
    if (this.fights && code === 4409) this.#comeBack(this.simulation.world.random.between(1, 40))
    else if (stopsAfter.has(code)) this.stoppedBy = code
    else this.#comeBack(code === 4429 ? afterTooMany : conversation.drainMillis)
  }

  /** Leaves properly and stays away. */
  leave(): void {
    this.isPersistent = false
    this.#generation += 1
    this.conversation?.leave()
    this.conversation = undefined
  }

  makeOwnKey(): void {
    this.ownKey = generateWireguardKeyPair().publicKey
  }

  /** What the next `auth` is to say of where the client was. */
  willResume(resume: object | string): void {
    this.#resume = resume
  }

  takeResume(): object | string | undefined {
    const resume = this.#resume
    this.#resume = undefined
    return resume
  }

  /** A gateway has a certificate, and repeats it until it has heard that it is stored; at the plain level it says it once. */
  obtained(issued: Issued): void {
    if (this.level !== "plain") this.certificates.set(issued.domain, issued)
    this.#sendCertificate(issued)
  }

  accepted(domain: string): void {
    this.certificates.delete(domain)
    this.simulation.world.count("certificate accepted")
  }

  refused(code: string): void {
    // Which one it was is not told: the oldest, since answers come in the order of what they answer.
    const [domain] = this.certificates.keys()
    if (code === "wireguard_key_rejected") this.makeOwnKey()
    if (code === "certificate_rejected" && domain !== undefined) this.certificates.delete(domain)
  }

  #sendCertificate(issued: Issued): void {
    const { conversation } = this
    const { database, world } = this.simulation
    // It has become another client meanwhile.
    if (this.key.ref.type === "agent") this.certificates.clear()
    // What follows `auth` at once is read once that is answered.
    if (conversation?.authAt !== undefined) {
      if (!conversation.obtained.has(issued.domain))
        conversation.obtained.set(issued.domain, database.history.length - 1)
      conversation.say({ type: "certificate_obtained", data: issued })
    }
    if (this.certificates.get(issued.domain) !== issued) return
    world.after(sendCertificateAgain, () => {
      if (this.certificates.get(issued.domain) === issued) this.#sendCertificate(issued)
    })
  }

  #comeBack(delay?: number): void {
    if (!this.isPersistent) return
    const generation = this.#generation += 1
    const { random } = this.simulation.world
    const longest = Math.min(longestBackOff, 250 * 2 ** this.#attempts)
    this.#attempts += 1
    this.simulation.world.after(delay ?? random.between(0, longest), () => {
      if (generation === this.#generation && this.conversation === undefined) this.connect()
    })
  }

  #beat(conversation: Conversation): void {
    const { world } = this.simulation
    world.after(Math.round(heartbeatEvery * (0.9 + world.random.next() * 0.2)), () => {
      if (conversation !== this.conversation) return
      if (!this.isMute) conversation.beat()
      // A connection on which nothing comes any more is given up.
      if (!this.isMute && conversation.isDead()) {
        world.count("client gave up a dead connection")
        conversation.abandon()
        return
      }
      this.#beat(conversation)
    })
  }
}
