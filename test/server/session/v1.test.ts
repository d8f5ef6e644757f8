import { AgentId, type ClientRef, Revision, Timeline } from "#schema/ids.ts"
import { decodeFrame, type Level } from "#schema/protocol.ts"
import type { Rate } from "#rateLimit/TokenBucket.ts"
import { resyncEverySeconds } from "#session/messageLimits.ts"
import type { Event } from "#session/Action.ts"
import * as Session from "#session/Session.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const limits: Rate = { perSecond: 50, burst: 200 }
const agent: ClientRef = { type: "agent", id: AgentId.make("a1") }
const place = { timeline: Timeline.make("t"), revision: Revision.make(7) }

const frames = {
  auth: { type: "auth", data: { apiKey: "k" } },
  authResume: { type: "auth", data: { apiKey: "k", resume: place } },
  authNonsense: { type: "auth", data: { apiKey: "k", resume: { timeline: 1 } } },
  heartbeat: { type: "heartbeat", data: { timestamp: 1 } },
  ack: { type: "ack", data: { revision: 3 } },
  badAck: { type: "ack", data: { revision: -1 } },
  nack: { type: "nack", data: { revision: 3, code: "c", message: "m" } },
  resync: { type: "resync", data: {} }
}
type Name = keyof typeof frames

/** A word for each event: a frame after a pause in milliseconds, or what became of something that was begun. */
const Word = Schema.Union([
  Schema.Struct({
    frame: Schema.Literals(Object.keys(frames) as [Name, ...Array<Name>]),
    wait: Schema.Literals([0, 50, 1_000, 4_000])
  }),
  Schema.Literals(["in", "refused", "tooOften", "stored", "notNoted"])
])
type Word = typeof Word.Type

const eventOf = (word: Word, session: Session.Session, at: number): Event => {
  if (typeof word !== "string") {
    const text = JSON.stringify(frames[word.frame])
    return { _tag: "Received", frame: decodeFrame(text, Session.senderOf(session), session.level), at }
  }
  switch (word) {
    case "in":
      return { _tag: "Authenticated", client: agent }
    case "refused":
      return { _tag: "Refused" }
    case "tooOften":
      return { _tag: "TooOften" }
    case "stored":
      return { _tag: "Stored", domain: "app.example.com" }
    case "notNoted":
      return { _tag: "NotNoted", code: "ack_ahead", reason: "r" }
  }
}

const run = (words: ReadonlyArray<Word>, level: Level = "control.v1") => {
  let session = Session.initial(limits, 0, level)
  let at = 0
  return words.map((word) => {
    if (typeof word !== "string") at += word.wait
    const before = session
    const [actions, next] = Session.handle(session, eventOf(word, session, at))
    session = next
    return { before, actions, after: next, at }
  })
}

const last = (...words: ReadonlyArray<Word>) => run(words).at(-1)?.actions
const frame = (name: Name) => ({ frame: name, wait: 0 as const })
const words = { words: Schema.Array(Word).check(Schema.isMaxLength(80)) }
const runs = { arbitrary: { runs: 500, size: 60 } }

describe("a session of control.v1", () => {
  it.effect.prop("says nothing but errors before its welcome, which comes once, after a key was found", words, (
    { words }
  ) =>
    Effect.sync(() => {
      let welcomes = 0
      for (const { actions, before } of run(words)) {
        for (const action of actions) {
          if (action._tag === "Welcome") {
            assert.strictEqual(before.state._tag, "authenticating")
            welcomes += 1
          }
          if (action._tag === "Send" && welcomes === 0) {
            assert.include(["error", "auth_error"], action.message.type)
          }
        }
      }
      assert.isAtMost(welcomes, 1)
    }), runs)

  it.effect.prop(
    "acknowledges, refuses, resyncs and answers for a ready client only",
    words,
    ({ words }) =>
      Effect.sync(() => {
        const ofReady = new Set(["Acknowledge", "Refuse", "Resync", "AnswerHeartbeat", "Touch"])
        for (const { actions, before } of run(words)) {
          if (actions.some(({ _tag }) => ofReady.has(_tag))) assert.strictEqual(before.state._tag, "ready")
        }
      }),
    runs
  )

  it.effect.prop(
    "sends no config for a resync within five seconds of another",
    words,
    ({ words }) =>
      Effect.sync(() => {
        const moments = run(words).flatMap(({ actions, at }) =>
          actions.some(({ _tag }) => _tag === "Resync") ? [at] : []
        )
        for (const [index, moment] of moments.slice(1).entries()) {
          assert.isAtLeast(moment - (moments[index] ?? 0), resyncEverySeconds * 1_000)
        }
      }),
    runs
  )

  it.effect.prop("at the plain level none of it exists", words, ({ words }) =>
    Effect.sync(() => {
      const added = new Set(["Welcome", "Acknowledge", "Refuse", "Resync", "AnswerHeartbeat"])
      for (const { actions } of run(words, "plain")) assert.isFalse(actions.some(({ _tag }) => added.has(_tag)))
    }), runs)

  it("begins where its client says it was; nonsense there counts as left out", () => {
    assert.deepStrictEqual(last(frame("authResume"), "in"), [{ _tag: "Welcome", resume: place }])
    for (const name of ["auth", "authNonsense"] as const) {
      assert.deepStrictEqual(last(frame(name), "in"), [{ _tag: "Welcome", resume: undefined }])
    }
  })

  it("answers a heartbeat, notes an ack and a nack, and counts a faulty one as a fault", () => {
    const ready = [frame("auth"), "in"] as const
    assert.deepStrictEqual(last(...ready, frame("heartbeat")), [
      { _tag: "Touch" },
      { _tag: "AnswerHeartbeat", timestamp: 1 }
    ])
    assert.deepStrictEqual(last(...ready, frame("ack"))?.at(-1), { _tag: "Acknowledge", revision: Revision.make(3) })
    assert.deepStrictEqual(last(...ready, frame("nack"))?.at(-1), { _tag: "Refuse", nack: frames.nack.data as never })
    const twenty = Array.from({ length: 20 }, () => frame("badAck"))
    assert.deepStrictEqual(last(...ready, ...twenty)?.at(-1), { _tag: "Close", reason: "protocolViolation" })
  })

  it("a stored certificate is accepted by name; at the plain level the config that follows says it", () => {
    assert.deepStrictEqual(last(frame("auth"), "in", "stored"), [{
      _tag: "Send",
      message: { type: "certificate_accepted", data: { domain: "app.example.com" } }
    }])
    assert.deepStrictEqual(run([frame("auth"), "in", "stored"], "plain").at(-1)?.actions, [])
    assert.deepStrictEqual(last("stored"), [])
  })

  it("a client that begins sessions without end is told to try later, and closed with 4429", () => {
    assert.deepStrictEqual(last(frame("auth"), "tooOften"), [
      { _tag: "Send", message: { type: "auth_error", data: { message: "Internal server error" } } },
      { _tag: "Close", reason: "tooMany" }
    ])
  })
})
