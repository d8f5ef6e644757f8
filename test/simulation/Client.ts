/** A simulated client that follows the protocol, until it is told not to: it connects, authenticates, beats, and comes back. */
import { generateWireguardKeyPair } from "#crypto/wireguardKeys.ts"
import type { ClientType } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import type { IssuedCertificate } from "./certificates.ts"
import { ClientConnection, type ConnectionOwner } from "./ClientConnection.ts"
import type { ClientConnectionState, ClientState } from "./ClientConnectionState.ts"
import type { Credential } from "./Credential.ts"
import { ViewReplica } from "./ViewReplica.ts"
import type { Node } from "./Node.ts"
import type { SimulationContext } from "./SimulationContext.ts"

/** What to do after a close, by its code: see the table of close codes in protocol.md. */
const finalCloseCodes: ReadonlySet<number> = new Set([4400, 4401, 4403, 4409, 4410])

const heartbeatInterval = 4_000

/** Long enough to be evicted at the other end, short enough to simulate. */
const maxBackOff = 4_000

/** In earnest a minute. */
const backOffAfterRateLimit = 5_000

const certificateRetryInterval = 3_000

export class Client implements ClientState, ConnectionOwner {
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
  replica: ViewReplica
  /** Up to where in the database's history it has come; never back. */
  historyIndex = 0
  connection: ClientConnection | undefined
  /** Does not beat. */
  isSilent = false
  /** Comes back by itself. */
  reconnects = true
  /** Comes back even after it was replaced. */
  ignoresReplacement = false
  /** Does not authenticate by itself. */
  withholdsAuth = false
  /** The code after which it does not come back by itself. */
  finalCloseCode: number | undefined
  /** What it has obtained and not been told to be stored, by domain. */
  readonly unconfirmedCertificates = new Map<string, IssuedCertificate>()
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
    this.replica = new ViewReplica(level)
  }

  get name(): string {
    return `c${this.ordinal}`
  }

  get isReady(): boolean {
    return this.connection?.isReady === true
  }

  /** Connects now, in the place of any connection that it has. */
  connect(): void {
    const before = this.connection
    this.connection = undefined
    before?.abandon()
    this.finalCloseCode = undefined
    const { simulation } = this
    // One node may know less than another.
    if (simulation.nodes.length > 1) this.historyIndex = 0
    this.#generation += 1
    const node: Node | undefined = simulation.chooseNode()
    const connection = new ClientConnection(this, this)
    this.connection = connection
    const { address, level, urlType: type } = this
    const socket = node?.connect(connection, { type, level, address })
    if (socket === undefined || node === undefined) {
      this.connection = undefined
      simulation.world.trace(() => `${this.name} finds nobody`)
      return this.#comeBack()
    }
    simulation.world.trace(() => `${this.name} connects`)
    connection.open(socket, node)
    this.#beat(connection)
  }

  /** The connection that this client has, and no older one, is over. */
  connectionClosed(ended: ClientConnectionState, code: number): void {
    const { connection } = this
    if (connection === undefined || ended !== connection) return
    this.connection = undefined
    if (connection.readyMillis > 10_000) this.#attempts = 0
    if (this.ignoresReplacement && code === 4409) this.#comeBack(this.simulation.world.random.between(1, 40))
    else if (finalCloseCodes.has(code)) this.finalCloseCode = code
    else this.#comeBack(code === 4429 ? backOffAfterRateLimit : connection.drainMillis)
  }

  /** Leaves properly and stays away. */
  disconnect(): void {
    this.reconnects = false
    this.#generation += 1
    this.connection?.close()
    this.connection = undefined
  }

  generateOwnKey(): void {
    this.ownKey = generateWireguardKeyPair().publicKey
  }

  /** What the next `auth` is to say of where the client was. */
  overrideResume(resume: object | string): void {
    this.#resume = resume
  }

  takeResume(): object | string | undefined {
    const resume = this.#resume
    this.#resume = undefined
    return resume
  }

  /** A gateway has a certificate, and repeats it until it has heard that it is stored; at the plain level it says it once. */
  obtainCertificate(issued: IssuedCertificate): void {
    if (this.level !== "plain") this.unconfirmedCertificates.set(issued.domain, issued)
    this.#sendCertificate(issued)
  }

  certificateAccepted(domain: string): void {
    this.unconfirmedCertificates.delete(domain)
    this.simulation.world.count("certificate accepted")
  }

  errorReceived(code: string): void {
    // Which one it was is not told: the oldest, since answers come in the order of what they answer.
    const [domain] = this.unconfirmedCertificates.keys()
    if (code === "wireguard_key_rejected") this.generateOwnKey()
    if (code === "certificate_rejected" && domain !== undefined) this.unconfirmedCertificates.delete(domain)
  }

  #sendCertificate(issued: IssuedCertificate): void {
    const { connection } = this
    const { database, world } = this.simulation
    // It has become another client meanwhile.
    if (this.key.ref.type === "agent") this.unconfirmedCertificates.clear()
    // What follows `auth` at once is read once that is answered.
    if (connection?.authAt !== undefined) {
      if (!connection.certificatesSent.has(issued.domain))
        connection.certificatesSent.set(issued.domain, database.history.length - 1)
      connection.send({ type: "certificate_obtained", data: issued })
    }
    if (this.unconfirmedCertificates.get(issued.domain) !== issued) return
    world.after(certificateRetryInterval, () => {
      if (this.unconfirmedCertificates.get(issued.domain) === issued) this.#sendCertificate(issued)
    })
  }

  #comeBack(delay?: number): void {
    if (!this.reconnects) return
    const generation = this.#generation += 1
    const { random } = this.simulation.world
    const longest = Math.min(maxBackOff, 250 * 2 ** this.#attempts)
    this.#attempts += 1
    this.simulation.world.after(delay ?? random.between(0, longest), () => {
      if (generation === this.#generation && this.connection === undefined) this.connect()
    })
  }

  #beat(connection: ClientConnection): void {
    const { world } = this.simulation
    world.after(Math.round(heartbeatInterval * (0.9 + world.random.next() * 0.2)), () => {
      if (connection !== this.connection) return
      if (!this.isSilent) connection.sendHeartbeat()
      // A connection on which nothing comes any more is given up.
      if (!this.isSilent && connection.hasTimedOut()) {
        world.count("client gave up a dead connection")
        connection.abandon()
        return
      }
      this.#beat(connection)
    })
  }
}
