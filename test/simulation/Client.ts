/** Simulated client that follows the protocol unless a command makes it misbehave. */
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

/** Close codes after which a client does not reconnect; see the table of close codes in protocol.md. */
const finalCloseCodes: ReadonlySet<number> = new Set([4400, 4401, 4403, 4409, 4410])

const heartbeatInterval = 4_000

/** Milliseconds. Longer than the server needs to evict a client, and short enough to simulate. */
const maxBackOff = 4_000

/** Milliseconds. Real clients wait 1 min after close code 4429. */
const backOffAfterRateLimit = 5_000

const certificateRetryInterval = 3_000

export class Client implements ClientState, ConnectionOwner {
  readonly simulation: SimulationContext
  readonly ordinal: number
  readonly level: Level
  readonly address: string
  key: Credential
  /** Client type in the URL. */
  urlType: ClientType | undefined
  /** A gateway's public address, sent in `auth`. */
  publicIp: string | undefined
  /** Public key of a WireGuard key pair that the client generated itself. */
  ownKey: string | undefined
  /** View and position of the last connection. */
  replica: ViewReplica
  /** Index of the newest database state that the client has seen; never decreases. */
  historyIndex = 0
  connection: ClientConnection | undefined
  /** Sends no heartbeats, and does not notice a dead connection. */
  isSilent = false
  /** Reconnects after a close. */
  reconnects = true
  /** Reconnects even after close code 4409. */
  ignoresReplacement = false
  /** Does not send `auth` after connecting. */
  withholdsAuth = false
  /** The last connection was closed with 4429. */
  isRateLimited = false
  /** Close code after which the client does not reconnect. */
  finalCloseCode: number | undefined
  /** Certificates sent without a `certificate_accepted` so far, by domain. */
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

  /** Connects now and abandons the current connection. */
  connect(): void {
    const previous = this.connection
    this.connection = undefined
    previous?.abandon()
    this.finalCloseCode = undefined
    const { simulation } = this
    // Another node may have read an older state of the database.
    if (simulation.nodes.length > 1) this.historyIndex = 0
    this.#generation += 1
    const node: Node | undefined = simulation.chooseNode()
    const connection = new ClientConnection(this, this)
    this.connection = connection
    const { address, level, urlType: type } = this
    const socket = node?.connect(connection, { type, level, address })
    if (socket === undefined || node === undefined) {
      this.connection = undefined
      simulation.world.trace(() => `${this.name} finds no node`)
      return this.#reconnectLater()
    }
    simulation.world.trace(() => `${this.name} connects`)
    connection.open(socket, node)
    this.#scheduleHeartbeat(connection)
  }

  /** A close of an older connection changes nothing. */
  connectionClosed(ended: ClientConnectionState, code: number): void {
    const { connection } = this
    if (connection === undefined || ended !== connection) return
    this.connection = undefined
    this.isRateLimited = code === 4429
    if (connection.readyMillis > 10_000) this.#attempts = 0
    if (this.ignoresReplacement && code === 4409) this.#reconnectLater(this.simulation.world.random.between(1, 40))
    else if (finalCloseCodes.has(code)) this.finalCloseCode = code
    else this.#reconnectLater(code === 4429 ? backOffAfterRateLimit : connection.drainMillis)
  }

  /** Closes the connection and stays away. */
  disconnect(): void {
    this.reconnects = false
    this.#generation += 1
    this.connection?.close()
    this.connection = undefined
  }

  generateOwnKey(): void {
    this.ownKey = generateWireguardKeyPair().publicKey
  }

  /** Sets the value of `resume` in the next `auth`. */
  overrideResume(resume: object | string): void {
    this.#resume = resume
  }

  takeResume(): object | string | undefined {
    const resume = this.#resume
    this.#resume = undefined
    return resume
  }

  /** A gateway obtains a certificate. At `control.v1` it repeats `certificate_obtained` until the server accepts it. */
  obtainCertificate(issued: IssuedCertificate): void {
    if (this.level !== "plain") this.unconfirmedCertificates.set(issued.domain, issued)
    this.#sendCertificate(issued)
  }

  certificateAccepted(domain: string): void {
    this.unconfirmedCertificates.delete(domain)
    this.simulation.world.count("certificate accepted")
  }

  errorReceived(code: string): void {
    // The error does not name the certificate. Responses arrive in request order, so it is the oldest one.
    const [domain] = this.unconfirmedCertificates.keys()
    if (code === "wireguard_key_rejected") this.generateOwnKey()
    if (code === "certificate_rejected" && domain !== undefined) this.unconfirmedCertificates.delete(domain)
  }

  #sendCertificate(issued: IssuedCertificate): void {
    const { connection } = this
    const { database, world } = this.simulation
    // A command has given this client the key of an agent.
    if (this.key.ref.type === "agent") this.unconfirmedCertificates.clear()
    // The server reads messages that follow `auth` only after it has answered `auth`.
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

  #reconnectLater(delay?: number): void {
    if (!this.reconnects) return
    const generation = this.#generation += 1
    const { random } = this.simulation.world
    const maxDelay = Math.min(maxBackOff, 250 * 2 ** this.#attempts)
    this.#attempts += 1
    this.simulation.world.after(delay ?? random.between(0, maxDelay), () => {
      if (generation === this.#generation && this.connection === undefined) this.connect()
    })
  }

  #scheduleHeartbeat(connection: ClientConnection): void {
    const { world } = this.simulation
    world.after(Math.round(heartbeatInterval * (0.9 + world.random.next() * 0.2)), () => {
      if (connection !== this.connection) return
      if (!this.isSilent) connection.sendHeartbeat()
      // The client closes a connection on which nothing arrives any more.
      if (!this.isSilent && connection.hasTimedOut()) {
        world.count("client gave up a dead connection")
        connection.abandon()
        return
      }
      this.#scheduleHeartbeat(connection)
    })
  }
}
