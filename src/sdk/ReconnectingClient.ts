/** Runs a client until it is stopped: connects, receives views, applies and acknowledges them, reconnects. */
import { type ClientType, Revision } from "#schema/ids.ts"
import { Clock, Deferred, Effect, Option, Random, type Scope } from "effect"
import { type Apply, ApplyQueue, type ApplyResult } from "./ApplyQueue.ts"
import type { OnEvent } from "./clientEvents.ts"
import { type ControlSocket, type Disconnected, openSocket } from "./ControlSocket.ts"
import { readFrame } from "./messages.ts"
import { nackFromError } from "./nackFromError.ts"
import * as ProtocolState from "./protocolState.ts"
import { attemptsAfterConnection, reconnectDelay } from "./reconnectDelay.ts"
import { ReportSender } from "./ReportSender.ts"
import { readStateFile, writeStateFile } from "./stateFile.ts"
import type { Snapshot } from "./view.ts"

export interface ReconnectingClientOptions {
  readonly type: ClientType
  readonly url: string
  /** Called before each connection, so that a new key is used at the next attempt. */
  readonly apiKey: () => string | Promise<string>
  /** Fields of `auth` in addition to `apiKey` and `resume`. */
  readonly auth: { readonly publicIp?: string; readonly wireguardPublicKey?: string; readonly clientVersion?: string }
  /** Whether to go on after a rejected API key. */
  readonly retryAuth: boolean
  readonly stateFile: string | undefined
  readonly apply: Apply
  readonly onEvent: OnEvent
}

/** Reason for the stop: a close code after which a client must not reconnect, or 1000 if the application stopped it. */
export interface Stopped {
  readonly code: number
  readonly reason: string
}

/** The outcome of one connection. */
interface ConnectionOutcome {
  readonly disconnected: Disconnected
  /** Duration of the authenticated connection in milliseconds; 0 without authentication. */
  readonly readyMillis: number
}

const openTimeoutMillis = 10_000
const authTimeoutMillis = 20_000

/** The connection counts as dead after this number of heartbeat intervals without a frame. */
const maxSilentIntervals = 2.5

export class ReconnectingClient {
  readonly reports = new ReportSender(() => this.#applyQueue.applied)
  readonly #options: ReconnectingClientOptions
  readonly #applyQueue: ApplyQueue
  readonly #stopped = Deferred.makeUnsafe<Stopped>()
  /** The newest snapshot received, applied or not. */
  #received: Snapshot | undefined
  /** The authenticated connection, and the timeline of the revisions that Control sends on it. */
  #connection: { readonly timeline: string; readonly socket: ControlSocket } | undefined

  constructor(options: ReconnectingClientOptions) {
    this.#options = options
    this.#applyQueue = new ApplyQueue(options.apply)
  }

  stop(reason: string): void {
    Deferred.doneUnsafe(this.#stopped, Effect.succeed({ code: 1000, reason }))
  }

  /** Returns when the client has stopped: the connection is closed, and no `apply` is running. */
  readonly run: Effect.Effect<Stopped> = Effect.scoped(Effect.suspend(() => {
    const untilPermanentClose = Effect.andThen(
      this.#applyStateFile,
      Effect.raceFirst(this.#reconnectLoop, this.#applyQueue.run(this.#reportResult))
    )
    return Effect.raceFirst(untilPermanentClose, Deferred.await(this.#stopped))
  })).pipe(Effect.tap(({ code, reason }) =>
    Effect.sync(() => {
      this.reports.stop()
      this.#options.onEvent({ type: "stopped", code, reason })
    })
  ))

  /** Applies the state file before the first connection. */
  readonly #applyStateFile = Effect.suspend(() => {
    const { stateFile, type } = this.#options
    if (stateFile === undefined) return Effect.void
    return Effect.flatMap(readStateFile(stateFile, type), (stored) => {
      if (stored === undefined) return Effect.void
      this.#applyQueue.offer(stored, { source: "disk", revision: stored.revision, rows: [] })
      return Effect.map(this.#applyQueue.applyPending, (result) => {
        if (result?.outcome._tag !== "Applied") return this.#applyQueue.reset()
        this.#options.onEvent({ type: "applied", revision: stored.revision, change: result.change })
      })
    })
  })

  readonly #reconnectLoop: Effect.Effect<Stopped> = Effect.gen({ self: this }, function*() {
    let wasDrained = false
    for (let attempts = 0;; attempts += 1) {
      const { disconnected: { code, problem, reason, retryAfterMillis }, readyMillis } = yield* this.#connectOnce()
      attempts = attemptsAfterConnection(attempts, readyMillis)
      const random = yield* Random.next
      const isDrain = code === 1012 && retryAfterMillis !== undefined
      const isRepeatedDrain = isDrain && wasDrained && attemptsAfterConnection(1, readyMillis) > 0
      const next = reconnectDelay({
        code,
        attempt: attempts,
        retryAfterMillis,
        isRepeatedDrain,
        retriesAuth: this.#options.retryAuth,
        random
      })
      wasDrained = isDrain
      // A drain is not a failed attempt. If the next attempt fails, its delay starts at attempt 0.
      if (isDrain && !isRepeatedDrain) attempts = -1
      const retryInMs = next._tag === "Wait" ? next.millis : null
      this.#options.onEvent({ type: "disconnected", code, problem, reason, retryInMs })
      if (next._tag === "Stop") return { code, reason }
      yield* Effect.sleep(next.millis)
    }
  })

  #connectOnce(): Effect.Effect<ConnectionOutcome> {
    return Effect.gen({ self: this }, function*() {
      const apiKey = yield* Effect.option(Effect.tryPromise(async () => await this.#options.apiKey()))
      if (Option.isNone(apiKey)) return apiKeyUnreadable
      // Resuming from the applied snapshot makes Control resend what could not be applied: it may succeed now.
      if (this.#applyQueue.isIdle) this.#received = this.#applyQueue.applied
      const socket = yield* openSocket(this.#options.url)
      return yield* this.#serveConnection(socket, apiKey.value)
    }).pipe(Effect.scoped, Effect.ensuring(Effect.sync(() => this.#connection = undefined)))
  }

  readonly #serveConnection = Effect.fnUntraced({ self: this }, function*(socket: ControlSocket, apiKey: string) {
    let state = ProtocolState.initialState(this.#received)
    let silenceTimeoutMillis = 0
    // Before authentication the deadline is fixed: no message and no ping from Control extends it.
    let authDeadline = (yield* monotonicMillis) + openTimeoutMillis
    let readyAt: number | undefined
    let retryAfterMillis: number | undefined
    while (true) {
      const timeoutMillis = readyAt === undefined
        ? Math.max(0, authDeadline - (yield* monotonicMillis))
        : silenceTimeoutMillis
      const received = yield* Effect.timeoutOption(socket.receive, timeoutMillis)
      const now = yield* monotonicMillis
      if (Option.isNone(received)) socket.terminate()
      const incoming = Option.getOrElse(received, () => readyAt === undefined ? noAnswer : silence)
      if (incoming._tag === "Disconnected") {
        return {
          disconnected: retryAfterMillis === undefined ? incoming : { ...incoming, retryAfterMillis },
          readyMillis: readyAt === undefined ? 0 : now - readyAt
        }
      }
      if (incoming._tag === "Open") {
        authDeadline = now + authTimeoutMillis
        this.#options.onEvent({ type: "connected" })
        // Resuming acknowledges a position, so the client resumes from what is applied. Duplicate deltas are ignored.
        socket.send({ type: "auth", data: { apiKey, ...this.#options.auth, ...resumeFrom(this.#applyQueue.applied) } })
      }
      if (incoming._tag !== "Text") continue
      const message = readFrame(incoming.text, this.#options.type)
      const [actions, next] = ProtocolState.receive(state, message, now)
      state = next
      this.#received = next.snapshot ?? this.#received
      for (const action of actions) {
        if (action._tag === "Ready") {
          readyAt ??= now
          silenceTimeoutMillis = action.authSuccess.heartbeat.intervalMs * maxSilentIntervals
          yield* this.#authenticated(socket, action)
        } else if (action._tag === "RetryAfter") retryAfterMillis = action.millis
        else this.#perform(socket, action)
      }
    }
  })

  /** Starts heartbeats and reports, which run until the connection ends. */
  readonly #authenticated = Effect.fnUntraced({ self: this }, function*(
    socket: ControlSocket,
    { authSuccess, ownsSnapshot }: Extract<ProtocolState.Action, { _tag: "Ready" }>
  ): Effect.fn.Return<void, never, Scope.Scope> {
    if (!ownsSnapshot) {
      this.#applyQueue.reset()
      this.#received = undefined
    }
    const { heartbeat, resumed, sessionId, timeline } = authSuccess
    this.#connection = { timeline, socket }
    this.#options.onEvent({ type: "ready", resumed, sessionId })
    const { applied } = this.#applyQueue
    // A restarted or different Control process does not know which revision this client has applied.
    if (resumed && ownsSnapshot && applied !== undefined) this.#acknowledge(applied)
    yield* Effect.forkScoped(sendHeartbeats(socket, heartbeat.intervalMs))
    yield* Effect.forkScoped(this.reports.runOnConnection(socket.send))
  })

  #perform(socket: ControlSocket, action: Exclude<ProtocolState.Action, { _tag: "Ready" | "RetryAfter" }>): void {
    switch (action._tag) {
      case "Apply":
        // A config may start another timeline.
        if (this.#connection !== undefined) this.#connection = { socket, timeline: action.snapshot.timeline }
        return this.#applyQueue.offer(action.snapshot, action.change)
      case "Send":
        return socket.send(action.message)
      case "CertificateAccepted":
        return this.reports.certificateAccepted(action.domain)
      case "Error":
        this.reports.errorReceived(action.code, action.message)
        return this.#options.onEvent({ type: "error", code: action.code, message: action.message })
    }
  }

  /** Acknowledges or rejects the revision, and writes the state file if it was applied. */
  readonly #reportResult = Effect.fnUntraced({ self: this }, function*({ change, outcome, snapshot }: ApplyResult) {
    const { onEvent, stateFile } = this.#options
    const { revision } = snapshot
    if (outcome._tag === "Failed") {
      const nack = nackFromError(revision, outcome.error)
      onEvent({ type: "nacked", revision, code: nack.data.code, message: nack.data.message })
      return this.#sendAbout(snapshot, nack)
    }
    onEvent({ type: "applied", revision, change })
    this.#acknowledge(snapshot)
    if (stateFile === undefined) return
    yield* writeStateFile(stateFile, snapshot).pipe(
      Effect.catchTag(
        "StateFileNotWritten",
        ({ reason }) => Effect.sync(() => onEvent({ type: "error", code: "view_not_stored", message: reason }))
      ),
      Effect.uninterruptible
    )
  })

  #acknowledge(snapshot: Snapshot): void {
    this.#sendAbout(snapshot, { type: "ack", data: { revision: Revision.make(snapshot.revision) } })
  }

  /** Sends a message about a snapshot, but only on a connection with the same timeline. */
  #sendAbout(snapshot: Snapshot, message: object): void {
    if (this.#connection?.timeline === snapshot.timeline) this.#connection.socket.send(message)
  }
}

const silence: Disconnected = {
  _tag: "Disconnected",
  code: 1006,
  problem: "connection-lost",
  reason: "Control is silent"
}

const noAnswer: Disconnected = { ...silence, problem: "no-answer", reason: "Control does not answer" }

const apiKeyUnreadable: ConnectionOutcome = {
  disconnected: {
    _tag: "Disconnected",
    code: 1006,
    problem: "key-unreadable",
    reason: "the API key could not be read"
  },
  readyMillis: 0
}

function resumeFrom(snapshot: Snapshot | undefined): object {
  return snapshot === undefined ? {} : { resume: { timeline: snapshot.timeline, revision: snapshot.revision } }
}

/** ±10 % jitter spreads the heartbeats of clients that connected at the same time. */
const sendHeartbeats = (socket: ControlSocket, intervalMs: number): Effect.Effect<never> =>
  Effect.forever(Effect.gen(function*() {
    yield* Effect.sleep(intervalMs * (0.9 + 0.2 * (yield* Random.next)))
    socket.send({ type: "heartbeat", data: { timestamp: yield* Clock.currentTimeMillis } })
  }))

const monotonicMillis = Effect.map(Clock.Clock, (clock) => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n))
