import { closeCodes, type CloseReason } from "#schema/codes.ts"
import { AgentId, type ClientRef, GatewayId } from "#schema/ids.ts"
import { decodeFrame } from "#schema/protocol.ts"
import type { Rate } from "#rateLimit/TokenBucket.ts"
import type { Event } from "#session/Action.ts"
import * as Session from "#session/Session.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const limits: Rate = { perSecond: 10, burst: 40 }
const agent: ClientRef = { type: "agent", id: AgentId.make("a1") }
const gateway: ClientRef = { type: "gateway", id: GatewayId.make("g1") }

const frames = [
  "{\"type\":\"auth\",\"data\":{\"apiKey\":\"k\"}}",
  "{\"type\":\"auth\",\"data\":{\"apiKey\":\"k\",\"publicIp\":\"203.0.113.7\"}}",
  "{\"type\":\"auth\",\"data\":{}}",
  "{\"type\":\"heartbeat\",\"data\":{\"timestamp\":1}}",
  "{\"type\":\"heartbeat\",\"data\":{\"timestamp\":\"1\"}}",
  "{\"type\":\"status\",\"data\":{\"tunnels\":[]}}",
  "{\"type\":\"certificate_obtained\",\"data\":{\"domain\":\"a.b\",\"certificate\":\"c\",\"privateKey\":\"p\",\"expiresAt\":\"2030-01-01T00:00:00Z\"}}",
  "{\"type\":\"hello\",\"data\":{}}",
  "{\"data\":{}}",
  "[]",
  "{"
]

/** A word for each event; frames are decoded as the connection decodes them. */
const Word = Schema.Union([
  Schema.Struct({
    frame: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: frames.length - 1 })),
    wait: Schema.Literals([0, 0, 0, 50, 3_000])
  }),
  Schema.Literals([
    "binary",
    "tooBig",
    "agentIn",
    "gatewayIn",
    "refused",
    "unavailable",
    "deleted",
    "notStored"
  ])
])

const eventOf = (word: typeof Word.Type, session: Session.Session, at: number): Event => {
  if (typeof word !== "string")
    return { _tag: "Received", frame: decodeFrame(frames[word.frame] ?? "", Session.senderOf(session)), at }
  switch (word) {
    case "binary":
      return { _tag: "ReceivedBinary" }
    case "tooBig":
      return { _tag: "ReceivedTooBig" }
    case "agentIn":
      return { _tag: "Authenticated", client: agent }
    case "gatewayIn":
      return { _tag: "Authenticated", client: gateway }
    case "refused":
      return { _tag: "Refused" }
    case "unavailable":
      return { _tag: "Unavailable" }
    case "deleted":
      return { _tag: "Deleted" }
    case "notStored":
      return { _tag: "NotStored", code: "certificate_rejected", reason: "r" }
  }
}

/** Runs the words; gives every step: what came, what was done, and the states around it. */
const run = (words: ReadonlyArray<typeof Word.Type>) => {
  let session = Session.initial(limits, 0)
  let at = 0
  return words.map((word) => {
    if (typeof word !== "string") at += word.wait
    const before = session
    const event = eventOf(word, session, at)
    const [actions, next] = Session.handle(session, event)
    session = next
    return { before, event, actions, after: next }
  })
}

const state = (...words: ReadonlyArray<typeof Word.Type>) => run(words).at(-1)
const frame = (index: number) => ({ frame: index, wait: 0 as const })
const auth = frame(0)

const words = { words: Schema.Array(Word).check(Schema.isMaxLength(80)) }

describe("a session", () => {
  it.effect.prop(
    "defines every message in every state: no event throws, and a closed session does nothing more",
    words,
    ({ words }) =>
      Effect.sync(() => {
        for (const { before, actions, after } of run(words)) {
          if (before.state._tag === "closed") {
            assert.deepStrictEqual(actions, [])
            assert.strictEqual(after, before)
          }
          const closes = actions.filter((action) => action._tag === "Close")
          assert.strictEqual(
            closes.length,
            after.state._tag === "closed" && before.state._tag !== "closed" && closes.length > 0 ? 1 : 0
          )
          if (closes.length > 0) assert.strictEqual(actions.at(-1)?._tag, "Close")
        }
      }),
    { arbitrary: { runs: 500, size: 60 } }
  )

  it.effect.prop(
    "nothing but errors and auth_error leaves before auth_success, and auth_success only after a key was found",
    words,
    ({ words }) =>
      Effect.sync(() => {
        let isIn = false
        for (const { before, event, actions } of run(words)) {
          for (const action of actions) {
            if (action._tag !== "Send") continue
            if (action.message.type === "auth_success") {
              assert.strictEqual(event._tag, "Authenticated")
              assert.strictEqual(before.state._tag, "authenticating")
              isIn = true
            } else if (!isIn) assert.include(["error", "auth_error"], action.message.type)
          }
        }
      }),
    { arbitrary: { runs: 500, size: 60 } }
  )

  it.effect.prop(
    "only a ready client of the right kind reports tunnels or stores certificates",
    words,
    ({ words }) =>
      Effect.sync(() => {
        for (const { before, actions } of run(words)) {
          for (const action of actions) {
            const ready = before.state._tag === "ready" ? before.state.client : undefined
            if (action._tag === "Report") assert.deepStrictEqual(ready, agent)
            if (action._tag === "StoreCertificate") assert.deepStrictEqual(ready, gateway)
            if (action._tag === "Touch") assert.isDefined(ready)
          }
        }
      }),
    { arbitrary: { runs: 500, size: 60 } }
  )

  it("anything but auth is answered unauthenticated before auth", () => {
    for (const index of [3, 5, 6, 7]) {
      const step = state(frame(index))
      assert.deepStrictEqual(step?.actions, [{
        _tag: "Send",
        message: { type: "error", data: { code: "unauthenticated", message: "send auth first" } }
      }])
      assert.strictEqual(step?.after.state._tag, "connected")
    }
  })

  it("a second auth is answered already_authenticated, and the first stays in force", () => {
    const step = state(auth, "agentIn", auth)
    assert.deepInclude(step?.actions ?? [], {
      _tag: "Send",
      message: {
        type: "error",
        data: { code: "already_authenticated", message: "this connection is already authenticated" }
      }
    })
    assert.deepStrictEqual(step?.after.state, { _tag: "ready", client: agent })
  })

  it("a wrong key, an absent store and a deleted client close with codes of their own", () => {
    const expected: ReadonlyArray<
      readonly ["refused" | "unavailable" | "deleted", "Invalid API key" | "Internal server error", CloseReason]
    > = [
      ["refused", "Invalid API key", "unauthenticated"],
      ["unavailable", "Internal server error", "tryLater"],
      ["deleted", "Invalid API key", "deleted"]
    ]
    for (const [word, message, reason] of expected) {
      assert.deepStrictEqual(state(auth, word)?.actions, [
        { _tag: "Send", message: { type: "auth_error", data: { message } } },
        { _tag: "Close", reason }
      ])
    }
  })

  it("a message of the other kind of client is answered not_allowed", () => {
    for (const [who, index] of [["agentIn", 6], ["gatewayIn", 5]] as const) {
      const [action] = state(auth, who, frame(index))?.actions ?? []
      assert.strictEqual(
        action?._tag === "Send" && action.message.type === "error" && action.message.data.code,
        "not_allowed"
      )
    }
  })

  it("the twentieth faulty message within a minute closes with 4400, and an unknown type is no fault", () => {
    const faults = Array.from({ length: 20 }, () => ({ frame: 10, wait: 50 as const }))
    const steps = run([auth, "agentIn", ...faults])
    assert.deepStrictEqual(steps.at(-1)?.actions.at(-1), { _tag: "Close", reason: "protocolViolation" })
    assert.strictEqual(steps.at(-2)?.after.state._tag, "ready")
    assert.strictEqual(closeCodes.protocolViolation.code, 4400)
    const unknown = Array.from({ length: 50 }, () => ({ frame: 7, wait: 3_000 as const }))
    assert.strictEqual(state(auth, "agentIn", ...unknown)?.after.state._tag, "ready")
  })

  it("faults older than a minute are forgotten", () => {
    const faults = Array.from({ length: 60 }, () => ({ frame: 10, wait: 3_000 as const })).flatMap((
      fault
    ) => [fault, frame(3)])
    const spread = faults.map((word) => (word.wait === 3_000 ? { ...word, wait: 3_000 as const } : word))
    assert.strictEqual(state(auth, "agentIn", ...spread.slice(0, 38))?.after.state._tag, "ready")
  })

  it("over the rate messages are dropped with one rate_limited, and a whole burst dropped closes with 4429", () => {
    const flood = Array.from({ length: 120 }, () => frame(3))
    const steps = run([auth, "agentIn", ...flood])
    const errors = steps.flatMap(({ actions }) => actions).filter((action) =>
      action._tag === "Send" && action.message.type === "error"
    )
    assert.lengthOf(errors, 1)
    const closing = steps.findIndex(({ actions }) =>
      actions.some((action) => action._tag === "Close" && action.reason === "tooMany")
    )
    // One auth and 39 heartbeats fit the burst of 40; 40 are dropped; the next closes.
    assert.strictEqual(closing, 2 + 39 + 40)
  })

  it("twice the rate for long is answered once and then closed, although every other message is let through", () => {
    // Ten a second are allowed in bursts of forty: at twenty a second the burst lasts four seconds, and forty are dropped in four more.
    const steady = Array.from({ length: 400 }, () => ({ frame: 3, wait: 50 as const }))
    const steps = run([auth, "agentIn", ...steady])
    const errors = steps.flatMap(({ actions }) => actions).filter((action) =>
      action._tag === "Send" && action.message.type === "error"
    )
    assert.lengthOf(errors, 1)
    const closing = steps.findIndex(({ actions }) =>
      actions.some((action) => action._tag === "Close" && action.reason === "tooMany")
    )
    assert.isAbove(closing, 100)
    assert.isBelow(closing, 200)
  })

  it("a binary frame closes with 4400", () => {
    assert.deepStrictEqual(state("binary")?.actions, [{ _tag: "Close", reason: "protocolViolation" }])
  })
})
