/** A client's whole life: connect, keep the view, apply it, say so, and come back, until it is stopped. */
import { type ClientType, Revision } from "#schema/ids.ts"
import { Clock, Deferred, Effect, Option, Random, type Scope } from "effect"
import { Applier, type Apply, type Settled } from "./Applier.ts"
import { attemptsThatCount, backOff } from "./backOff.ts"
import * as Conversation from "./conversation.ts"
import type { Events } from "./events.ts"
import { readFrame } from "./messages.ts"
import { nackOf } from "./nack.ts"
import { Reports } from "./Reports.ts"
import type { Held } from "./view.ts"
import { load, save } from "./ViewStore.ts"
import { dial, type Lost, type Wire } from "./Wire.ts"

export interface Options {
  readonly type: ClientType
  readonly url: string
  /** Asked before each connection, so that a new key is used as soon as there is one. */
  readonly apiKey: () => string | Promise<string>
  /** What `auth` says beside the key and the place to resume from. */
  readonly auth: { readonly publicIp?: string; readonly wireguardPublicKey?: string; readonly clientVersion?: string }
  readonly stateFile: string | undefined
  readonly apply: Apply
  readonly onEvent: Events
}

/** Why the client has ended: a close code after which it must not come back, or 1000 when its owner has stopped it. */
export interface Stopped {
  readonly code: number
  readonly reason: string
}

/** How one connection has gone. */
interface Ended {
  readonly lost: Lost
  readonly readyMillis: number
}

/** No server takes so long to accept a connection, or to look up a key, that waiting for longer would help. */
const openWithin = 10_000
const authenticatedWithin = 20_000

/** Without any frame for so many heartbeat intervals the connection is dead. */
const silentIntervals = 2.5

export class Engine {
  readonly reports = new Reports()
  readonly #options: Options
  readonly #applier: Applier
  readonly #stopped = Deferred.makeUnsafe<Stopped>()
  /** The newest view that was received, whether it has been applied yet or not. */
  #held: Held | undefined
  /** The open connection, once it is ready: the timeline that its revisions are of, and how to speak there. */
  #ready: { readonly timeline: string; readonly wire: Wire } | undefined

  constructor(options: Options) {
    this.#options = options
    this.#applier = new Applier(options.apply)
  }

  stop(reason: string): void {
    Deferred.doneUnsafe(this.#stopped, Effect.succeed({ code: 1000, reason }))
  }

  /** Returns when the client has ended: its connection is closed, and no `apply` is running any more. */
  readonly run: Effect.Effect<Stopped> = Effect.scoped(Effect.suspend(() => {
    const life = Effect.andThen(this.#begin, Effect.raceFirst(this.#connectForEver, this.#applier.run(this.#settle)))
    return Effect.raceFirst(life, Deferred.await(this.#stopped))
  })).pipe(Effect.tap(({ code, reason }) =>
    Effect.sync(() => {
      this.reports.stop()
      this.#options.onEvent({ type: "stopped", code, reason })
    })
  ))

  /** What is on disk is in force before the first connection is made. */
  readonly #begin = Effect.suspend(() => {
    const { stateFile, type } = this.#options
    if (stateFile === undefined) return Effect.void
    return Effect.flatMap(load(stateFile, type), (stored) => {
      if (stored === undefined) return Effect.void
      this.#applier.offer(stored, { from: "disk", revision: stored.revision, rows: [] })
      return Effect.map(this.#applier.applyPending, (settled) => {
        if (settled?.outcome._tag !== "Applied") return this.#applier.forget()
        this.#options.onEvent({ type: "applied", revision: stored.revision, change: settled.change })
      })
    })
  })

  readonly #connectForEver: Effect.Effect<Stopped> = Effect.gen({ self: this }, function*() {
    let wasDrained = false
    for (let attempts = 0;; attempts += 1) {
      const { lost: { afterMillis, code, reason }, readyMillis } = yield* this.#connectOnce()
      attempts = attemptsThatCount(attempts, readyMillis)
      const random = yield* Random.next
      const isDrain = code === 1012 && afterMillis !== undefined
      const isDrainAgain = isDrain && wasDrained && attemptsThatCount(1, readyMillis) > 0
      const next = backOff({ code, attempt: attempts, afterMillis, isDrainAgain, random })
      wasDrained = isDrain
      // A planned end is no failed attempt: should the next one fail, the back-off begins at n = 0.
      if (isDrain && !isDrainAgain) attempts = -1
      const retryInMs = next._tag === "Wait" ? next.millis : null
      this.#options.onEvent({ type: "disconnected", code, reason, retryInMs })
      if (next._tag === "Stop") return { code, reason }
      yield* Effect.sleep(next.millis)
    }
  })

  #connectOnce(): Effect.Effect<Ended> {
    return Effect.gen({ self: this }, function*() {
      const apiKey = yield* Effect.option(Effect.tryPromise(async () => await this.#options.apiKey()))
      if (Option.isNone(apiKey)) return noKey
      // What was received and could not be applied is told again: it may succeed now.
      if (this.#applier.isIdle) this.#held = this.#applier.good
      const wire = yield* dial(this.#options.url)
      return yield* this.#converse(wire, apiKey.value)
    }).pipe(Effect.scoped, Effect.ensuring(Effect.sync(() => this.#ready = undefined)))
  }

  readonly #converse = Effect.fnUntraced({ self: this }, function*(wire: Wire, apiKey: string) {
    let conversation = Conversation.initial(this.#held)
    let patience = 0
    // Until it is ready nothing that Control says gives it more time, and no ping does.
    let readyBy = (yield* monotonicMillis) + openWithin
    let readyAt: number | undefined
    let drain: number | undefined
    while (true) {
      const left = readyAt === undefined ? Math.max(0, readyBy - (yield* monotonicMillis)) : patience
      const item = yield* Effect.timeoutOption(wire.receive, left)
      const now = yield* monotonicMillis
      const incoming = Option.getOrElse(item, (): Lost => ({ _tag: "Lost", code: 1006, reason: "Control is silent" }))
      if (Option.isNone(item)) wire.cut()
      if (incoming._tag === "Lost") {
        return {
          lost: drain === undefined ? incoming : { ...incoming, afterMillis: drain },
          readyMillis: readyAt === undefined ? 0 : now - readyAt
        }
      }
      if (incoming._tag === "Open") {
        readyBy = now + authenticatedWithin
        this.#options.onEvent({ type: "connected" })
        // To resume is to acknowledge: from what is in force, although more may have been received. What comes twice is known.
        wire.say({ type: "auth", data: { apiKey, ...this.#options.auth, ...resumeFrom(this.#applier.good) } })
      }
      if (incoming._tag !== "Text") continue
      const message = readFrame(incoming.text, this.#options.type)
      const [actions, next] = Conversation.hear(conversation, message, now)
      conversation = next
      this.#held = next.held ?? this.#held
      for (const action of actions) {
        if (action._tag === "Ready") {
          readyAt ??= now
          patience = action.welcome.heartbeat.intervalMs * silentIntervals
          yield* this.#enter(wire, action)
        } else if (action._tag === "Drain") drain = action.millis
        else this.#carryOut(wire, action)
      }
    }
  })

  /** From now on the client is ready: heartbeats and reports run as long as the connection does. */
  readonly #enter = Effect.fnUntraced({ self: this }, function*(
    wire: Wire,
    { belongs, welcome }: Extract<Conversation.Action, { _tag: "Ready" }>
  ): Effect.fn.Return<void, never, Scope.Scope> {
    if (!belongs) {
      this.#applier.forget()
      this.#held = undefined
    }
    this.#ready = { timeline: welcome.timeline, wire }
    this.#options.onEvent({ type: "ready", resumed: welcome.resumed, sessionId: welcome.sessionId })
    const { good } = this.#applier
    // Control may not know yet how far this client has come: it may be another process than before.
    if (welcome.resumed && belongs && good !== undefined) this.#acknowledge(good)
    yield* Effect.forkScoped(beat(wire, welcome.heartbeat.intervalMs))
    yield* Effect.forkScoped(this.reports.deliver(wire.say))
  })

  #carryOut(wire: Wire, action: Exclude<Conversation.Action, { _tag: "Ready" | "Drain" }>): void {
    switch (action._tag) {
      case "Apply":
        // A config may be the first of another timeline.
        if (this.#ready !== undefined) this.#ready = { wire, timeline: action.held.timeline }
        return this.#applier.offer(action.held, action.change)
      case "Say":
        return wire.say(action.message)
      case "CertificateAccepted":
        return this.reports.accepted(action.domain)
      case "Error":
        this.reports.refused(action.code, action.message)
        return this.#options.onEvent({ type: "error", code: action.code, message: action.message })
    }
  }

  readonly #settle = Effect.fnUntraced({ self: this }, function*({ change, held, outcome }: Settled) {
    const { onEvent, stateFile } = this.#options
    if (outcome._tag === "Failed") {
      const nack = nackOf(held.revision, outcome.error)
      onEvent({ type: "nacked", revision: held.revision, code: nack.data.code, message: nack.data.message })
      return this.#sayOf(held, nack)
    }
    onEvent({ type: "applied", revision: held.revision, change })
    this.#acknowledge(held)
    if (stateFile === undefined) return
    yield* save(stateFile, held).pipe(
      Effect.catchTag(
        "ViewNotStored",
        ({ reason }) => Effect.sync(() => onEvent({ type: "error", code: "view_not_stored", message: reason }))
      ),
      Effect.uninterruptible
    )
  })

  #acknowledge(held: Held): void {
    this.#sayOf(held, { type: "ack", data: { revision: Revision.make(held.revision) } })
  }

  /** A revision is spoken of only where its timeline is the connection's own. */
  #sayOf(held: Held, message: object): void {
    if (this.#ready?.timeline === held.timeline) this.#ready.wire.say(message)
  }
}

const noKey: Ended = { lost: { _tag: "Lost", code: 1006, reason: "the key could not be read" }, readyMillis: 0 }

function resumeFrom(held: Held | undefined): object {
  return held === undefined ? {} : { resume: { timeline: held.timeline, revision: held.revision } }
}

/** ±10 %, so that clients that came together do not go on speaking together. */
const beat = (wire: Wire, intervalMs: number): Effect.Effect<never> =>
  Effect.forever(Effect.gen(function*() {
    yield* Effect.sleep(intervalMs * (0.9 + 0.2 * (yield* Random.next)))
    wire.say({ type: "heartbeat", data: { timestamp: yield* Clock.currentTimeMillis } })
  }))

const monotonicMillis = Effect.map(Clock.Clock, (clock) => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n))
