/** Protocol state machine of control.v1: properties over all events, and the messages that this level adds. */
import { AgentId, type ClientRef, Revision, Timeline } from "#schema/ids.ts"
import { decodeFrame, type Level } from "#schema/protocol.ts"
import type { Rate } from "#rateLimit/TokenBucket.ts"
import { resyncIntervalSeconds } from "#session/messageLimits.ts"
import type { Event } from "#session/Action.ts"
import * as Session from "#session/Session.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const limits: Rate = { perSecond: 50, burst: 200 }
const agent: ClientRef = { type: "agent", id: AgentId.make("a1") }
const position = { timeline: Timeline.make("t"), revision: Revision.make(7) }

const frames = {
  auth: { type: "auth", data: { apiKey: "k" } },
  authResume: { type: "auth", data: { apiKey: "k", resume: position } },
  authInvalidResume: { type: "auth", data: { apiKey: "k", resume: { timeline: 1 } } },
  heartbeat: { type: "heartbeat", data: { timestamp: 1 } },
  ack: { type: "ack", data: { revision: 3 } },
  badAck: { type: "ack", data: { revision: -1 } },
  nack: { type: "nack", data: { revision: 3, code: "c", message: "m" } },
  resync: { type: "resync", data: {} }
}
type FrameName = keyof typeof frames

/** Names of events: a frame after a pause in milliseconds, or the result of an action. */
const EventName = Schema.Union([
  Schema.Struct({
    frame: Schema.Literals(Object.keys(frames) as [FrameName, ...Array<FrameName>]),
    wait: Schema.Literals([0, 50, 1_000, 4_000])
  }),
  Schema.Literals(["authenticated", "invalidKey", "tooManySessions", "certificateStored", "notRecorded"])
])
type EventName = typeof EventName.Type

const eventOf = (name: EventName, session: Session.Session, at: number): Event => {
  if (typeof name !== "string") {
    const text = JSON.stringify(frames[name.frame])
    return { _tag: "Received", frame: decodeFrame(text, Session.senderOf(session), session.level), at }
  }
  switch (name) {
    case "authenticated":
      return { _tag: "Authenticated", client: agent }
    case "invalidKey":
      return { _tag: "InvalidKey" }
    case "tooManySessions":
      return { _tag: "TooManySessions", retryAfterMs: 60_000 }
    case "certificateStored":
      return { _tag: "CertificateStored", domain: "app.example.com" }
    case "notRecorded":
      return { _tag: "NotRecorded", code: "ack_ahead", reason: "r" }
  }
}

const run = (names: ReadonlyArray<EventName>, level: Level = "control.v1") => {
  let session = Session.initial(limits, 0, level)
  let at = 0
  return names.map((name) => {
    if (typeof name !== "string") at += name.wait
    const before = session
    const [actions, next] = Session.handle(session, eventOf(name, session, at))
    session = next
    return { before, actions, after: next, at }
  })
}

const last = (...names: ReadonlyArray<EventName>) => run(names).at(-1)?.actions
const frame = (name: FrameName) => ({ frame: name, wait: 0 as const })
const names = { names: Schema.Array(EventName).check(Schema.isMaxLength(80)) }
const runs = { arbitrary: { runs: 500, size: 60 } }

describe("a session of control.v1", () => {
  it.effect.prop(
    "a control.v1 session sends only errors before auth_success, which it sends once after authentication",
    names,
    (
      { names }
    ) =>
      Effect.sync(() => {
        let successes = 0
        for (const { actions, before } of run(names)) {
          for (const action of actions) {
            if (action._tag === "ResumeView") {
              assert.strictEqual(before.state._tag, "authenticating")
              successes += 1
            }
            if (action._tag === "Send" && successes === 0) {
              assert.include(["error", "auth_error"], action.message.type)
            }
          }
        }
        assert.isAtMost(successes, 1)
      }),
    runs
  )

  it.effect.prop(
    "a control.v1 session acknowledges, rejects, resyncs and answers only for a ready client",
    names,
    ({ names }) =>
      Effect.sync(() => {
        const onlyReady = new Set(["Acknowledge", "Reject", "Resync", "AnswerHeartbeat", "RecordActivity"])
        for (const { actions, before } of run(names)) {
          if (actions.some(({ _tag }) => onlyReady.has(_tag))) assert.strictEqual(before.state._tag, "ready")
        }
      }),
    runs
  )

  it.effect.prop(
    "a session sends at most one config in 5 s for resync messages",
    names,
    ({ names }) =>
      Effect.sync(() => {
        const times = run(names).flatMap(({ actions, at }) => actions.some(({ _tag }) => _tag === "Resync") ? [at] : [])
        for (const [index, time] of times.slice(1).entries()) {
          assert.isAtLeast(time - (times[index] ?? 0), resyncIntervalSeconds * 1_000)
        }
      }),
    runs
  )

  it.effect.prop("a plain session never performs an action of control.v1", names, ({ names }) =>
    Effect.sync(() => {
      const added = new Set(["ResumeView", "Acknowledge", "Reject", "Resync", "AnswerHeartbeat"])
      for (const { actions } of run(names, "plain")) assert.isFalse(actions.some(({ _tag }) => added.has(_tag)))
    }), runs)

  it("a session resumes at the position in auth and ignores an invalid position", () => {
    assert.deepStrictEqual(last(frame("authResume"), "authenticated"), [{ _tag: "ResumeView", resume: position }])
    for (const name of ["auth", "authInvalidResume"] as const) {
      assert.deepStrictEqual(last(frame(name), "authenticated"), [{ _tag: "ResumeView", resume: undefined }])
    }
  })

  it("a session answers heartbeat, records ack and nack, and counts an invalid ack as a fault", () => {
    const ready = [frame("auth"), "authenticated"] as const
    assert.deepStrictEqual(last(...ready, frame("heartbeat")), [
      { _tag: "RecordActivity" },
      { _tag: "AnswerHeartbeat", timestamp: 1 }
    ])
    assert.deepStrictEqual(last(...ready, frame("ack"))?.at(-1), { _tag: "Acknowledge", revision: Revision.make(3) })
    assert.deepStrictEqual(last(...ready, frame("nack"))?.at(-1), { _tag: "Reject", nack: frames.nack.data as never })
    const twenty = Array.from({ length: 20 }, () => frame("badAck"))
    assert.deepStrictEqual(last(...ready, ...twenty)?.at(-1), { _tag: "Close", reason: "protocolViolation" })
  })

  it("a session answers a stored certificate with its domain, and at the plain level sends nothing", () => {
    assert.deepStrictEqual(last(frame("auth"), "authenticated", "certificateStored"), [{
      _tag: "Send",
      message: { type: "certificate_accepted", data: { domain: "app.example.com" } }
    }])
    assert.deepStrictEqual(run([frame("auth"), "authenticated", "certificateStored"], "plain").at(-1)?.actions, [])
    assert.deepStrictEqual(last("certificateStored"), [])
  })

  it("a client that begins too many sessions gets auth_error and is closed with 4429", () => {
    assert.deepStrictEqual(last(frame("auth"), "tooManySessions"), [
      {
        _tag: "Send",
        message: {
          type: "auth_error",
          data: { message: "Too many sessions", code: "rate_limited", retryAfterMs: 60_000 }
        }
      },
      { _tag: "Close", reason: "tooMany" }
    ])
  })
})
