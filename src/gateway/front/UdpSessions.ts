/** Sessions of all udp tunnels: creation, bounds, idle time, and the datagrams in both directions. */
import type { Route } from "#gateway/Route.ts"
import type { Clock, Timer } from "#processes/clock.ts"
import { addressBlock } from "#schema/ids.ts"
import type { Device } from "#wireguard/Device.ts"
import type { RemoteInfo, Socket } from "node:dgram"
import type { LogProblem } from "./problemLog.ts"
import { SessionScope, type UdpSession } from "./UdpSession.ts"
import { plainAddress } from "./visitors.ts"

export interface UdpSettings {
  readonly maxUdpSessions: number
  /** Sessions of one visitor: an IPv4 address, or the /64 of an IPv6 address. */
  readonly maxUdpSessionsPerVisitor: number
  readonly maxUdpSessionsPerTunnel: number
  /** Time without a datagram in either direction after which a session ends. */
  readonly udpIdleMillis: number
}

/** Counts since the start. */
export interface UdpCounts {
  fromVisitors: number
  toVisitors: number
  evicted: number
  expired: number
  /** Datagrams of visitors that do not fit into one packet of the tunnel, which carries no fragments. */
  tooLarge: number
  /** Datagrams that were dropped because a queue was full, or that the system refused to send. */
  dropped: number
  /** Datagrams from another address than the service's. */
  foreign: number
}

export interface UdpSessionsOptions {
  readonly clock: Clock
  readonly settings: UdpSettings
  readonly udp: Pick<Device, "bindUdp">
  readonly logProblem: LogProblem
}

/** Sessions of one public port, by visitor address and port. */
export type SessionsOfPort = Map<string, UdpSession>

/** Headers of IPv4 and UDP. */
const packetHeaderBytes = 28

/** A session moves to the end of its scopes at most this often, because the moves cost more than the datagram. */
const moveMillis = 1_000
const maxWaitingDatagrams = 16
/** Bytes that one public socket queues if the system does not take them at once. */
const maxSendQueueBytes = 4 * 1024 * 1024

export class UdpSessions {
  readonly counts: UdpCounts = {
    fromVisitors: 0,
    toVisitors: 0,
    evicted: 0,
    expired: 0,
    tooLarge: 0,
    dropped: 0,
    foreign: 0
  }
  readonly #options: UdpSessionsOptions
  readonly #all = new SessionScope()
  readonly #byTunnel = new Map<string, SessionScope>()
  readonly #byVisitor = new Map<string, SessionScope>()
  #sweepTimer: Timer | undefined
  #maxPayloadBytes = 0

  constructor(options: UdpSessionsOptions) {
    this.#options = options
    this.setTunnelMtu(1_280)
  }

  /** Largest packet inside the tunnels, in bytes. */
  setTunnelMtu(mtu: number): void {
    this.#maxPayloadBytes = mtu - packetHeaderBytes
  }

  get open(): number {
    return this.#all.size
  }

  /** Handles a datagram of a visitor. */
  receive(ofPort: SessionsOfPort, route: Route, publicSocket: Socket, datagram: Buffer, from: RemoteInfo): void {
    const { clock } = this.#options
    if (datagram.length > this.#maxPayloadBytes) return void (this.counts.tooLarge += 1)
    // Nothing can be sent to port 0.
    if (from.port === 0) return void (this.counts.dropped += 1)
    const key = `${from.address} ${from.port}`
    const now = clock.monotonic()
    const session = ofPort.get(key) ?? this.#open(ofPort, key, route, publicSocket, from, now)
    session.publicSocket = publicSocket
    session.lastActivity = now
    if (session.hasAnswer && !session.isConfirmed) this.#confirm(session)
    if (now - session.movedAt >= moveMillis) moveToEnd(session, now)
    this.counts.fromVisitors += 1
    if (session.tunnelSocket !== undefined) session.tunnelSocket.send(datagram, session.route)
    else if (session.waiting.length < maxWaitingDatagrams) session.waiting.push(datagram)
    else this.counts.dropped += 1
  }

  close(session: UdpSession): void {
    if (session.isClosed) return
    session.isClosed = true
    for (const scope of session.scopes) scope.delete(session)
    session.onClose()
    session.tunnelSocket?.close()
    session.waiting = []
    if (this.#all.size > 0) return
    this.#sweepTimer?.cancel()
    this.#sweepTimer = undefined
  }

  #open(
    ofPort: SessionsOfPort,
    key: string,
    route: Route,
    publicSocket: Socket,
    { address, port }: RemoteInfo,
    now: number
  ): UdpSession {
    const { maxUdpSessions, maxUdpSessionsPerTunnel, maxUdpSessionsPerVisitor } = this.#options.settings
    const holder = addressBlock(plainAddress(address))
    const ofVisitor = this.#roomIn(this.#byVisitor, holder, maxUdpSessionsPerVisitor)
    const ofTunnel = this.#roomIn(this.#byTunnel, route.tunnelId, maxUdpSessionsPerTunnel)
    this.#makeRoom(this.#all, maxUdpSessions)
    const session: UdpSession = {
      key,
      address,
      port,
      scopes: [this.#all, ofTunnel, ofVisitor],
      onClose: () => {
        ofPort.delete(key)
        if (ofVisitor.size === 0) this.#byVisitor.delete(holder)
        if (ofTunnel.size === 0) this.#byTunnel.delete(route.tunnelId)
      },
      route,
      publicSocket,
      tunnelSocket: undefined,
      waiting: [],
      hasAnswer: false,
      isConfirmed: false,
      isClosed: false,
      lastActivity: now,
      movedAt: now
    }
    this.#byVisitor.set(holder, ofVisitor)
    this.#byTunnel.set(route.tunnelId, ofTunnel)
    for (const scope of session.scopes) scope.add(session)
    ofPort.set(key, session)
    void this.#openTunnelPort(session)
    this.#scheduleSweep()
    return session
  }

  #roomIn(scopes: ReadonlyMap<string, SessionScope>, key: string, maximum: number): SessionScope {
    const scope = scopes.get(key) ?? new SessionScope()
    this.#makeRoom(scope, maximum)
    return scope
  }

  #makeRoom(scope: SessionScope, maximum: number): void {
    while (scope.size >= maximum) {
      const oldest = scope.oldest()
      if (oldest === undefined) return
      this.counts.evicted += 1
      this.close(oldest)
    }
  }

  async #openTunnelPort(session: UdpSession): Promise<void> {
    const { logProblem, udp } = this.#options
    try {
      const socket = await udp.bindUdp(0, (payload, from) => this.#answer(session, payload, from))
      if (session.isClosed) return socket.close()
      session.tunnelSocket = socket
      for (const datagram of session.waiting) socket.send(datagram, session.route)
      session.waiting = []
    } catch (error) {
      this.counts.dropped += session.waiting.length
      this.close(session)
      logProblem(
        "udp toward tunnel",
        `cannot open a UDP port toward tunnel ${session.route.tunnelId}: ${String(error)}`
      )
    }
  }

  /** Sends a datagram of the service to the visitor. */
  #answer(session: UdpSession, payload: Buffer, from: { readonly address: string; readonly port: number }): void {
    const { publicSocket, route } = session
    if (session.isClosed) return
    if (from.address !== route.address || from.port !== route.port) return void (this.counts.foreign += 1)
    session.lastActivity = this.#options.clock.monotonic()
    if (!session.hasAnswer) {
      session.hasAnswer = true
      route.report("ok")
    }
    if (publicSocket === undefined || publicSocket.getSendQueueSize() > maxSendQueueBytes)
      return void (this.counts.dropped += 1)
    this.counts.toVisitors += 1
    // The payload is valid during this call only, and the system can accept it later.
    publicSocket.send(Buffer.from(payload), session.port, session.address, this.#countError)
  }

  readonly #countError = (error: Error | null) => {
    if (error !== null) this.counts.dropped += 1
  }

  #confirm(session: UdpSession): void {
    for (const scope of session.scopes) scope.delete(session)
    session.isConfirmed = true
    for (const scope of session.scopes) scope.add(session)
  }

  #scheduleSweep(): void {
    const { clock, settings } = this.#options
    this.#sweepTimer ??= clock.after(Math.min(moveMillis, settings.udpIdleMillis), () => {
      this.#sweepTimer = undefined
      this.#sweep(clock.monotonic() - settings.udpIdleMillis)
      if (this.#all.size > 0) this.#scheduleSweep()
    })
  }

  /** Closes the sessions without activity since `deadline`. */
  #sweep(deadline: number): void {
    for (const sessions of [this.#all.fresh, this.#all.confirmed]) {
      for (const session of sessions) {
        if (session.movedAt > deadline) break
        if (session.lastActivity > deadline) moveToEnd(session, session.lastActivity)
        else {
          this.counts.expired += 1
          this.close(session)
        }
      }
    }
  }
}

function moveToEnd(session: UdpSession, now: number): void {
  session.movedAt = now
  for (const scope of session.scopes) {
    scope.delete(session)
    scope.add(session)
  }
}
