/** Protocol state machine of the plain level: properties over all events, and the limits. */
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

/** Names of events; frames are decoded as the connection decodes them. */
const EventName = Schema.Union([
  Schema.Struct({
    frame: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: frames.length - 1 })),
    wait: Schema.Literals([0, 0, 0, 50, 3_000])
  }),
  Schema.Literals([
    "binary",
    "tooBig",
    "agentAuthenticated",
    "gatewayAuthenticated",
    "invalidKey",
    "storeUnavailable",
    "clientGone",
    "certificateNotStored"
  ])
])

const eventOf = (name: typeof EventName.Type, session: Session.Session, at: number): Event => {
  if (typeof name !== "string")
    return { _tag: "Received", frame: decodeFrame(frames[name.frame] ?? "", Session.senderOf(session)), at }
  switch (name) {
    case "binary":
      return { _tag: "ReceivedBinary" }
    case "tooBig":
      return { _tag: "ReceivedTooBig" }
    case "agentAuthenticated":
      return { _tag: "Authenticated", client: agent }
    case "gatewayAuthenticated":
      return { _tag: "Authenticated", client: gateway }
    case "invalidKey":
      return { _tag: "InvalidKey" }
    case "storeUnavailable":
      return { _tag: "StoreUnavailable" }
    case "clientGone":
      return { _tag: "ClientGone" }
    case "certificateNotStored":
      return { _tag: "CertificateNotStored", code: "certificate_rejected", reason: "r" }
  }
}

/** Runs the events and returns every transition: the event, its actions, and the sessions before and after. */
const run = (names: ReadonlyArray<typeof EventName.Type>) => {
  let session = Session.initial(limits, 0)
  let at = 0
  return names.map((name) => {
    if (typeof name !== "string") at += name.wait
    const before = session
    const event = eventOf(name, session, at)
    const [actions, next] = Session.handle(session, event)
    session = next
    return { before, event, actions, after: next }
  })
}

const last = (...names: ReadonlyArray<typeof EventName.Type>) => run(names).at(-1)
const frame = (index: number) => ({ frame: index, wait: 0 as const })
const auth = frame(0)

const names = { names: Schema.Array(EventName).check(Schema.isMaxLength(80)) }

describe("a session", () => {
  it.effect.prop(
    "a session handles every event in every state, and a closed session performs no action",
    names,
    ({ names }) =>
      Effect.sync(() => {
        for (const { before, actions, after } of run(names)) {
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
    "a session sends only errors before auth_success, and auth_success only after authentication",
    names,
    ({ names }) =>
      Effect.sync(() => {
        let isAuthenticated = false
        for (const { before, event, actions } of run(names)) {
          for (const action of actions) {
            if (action._tag !== "Send") continue
            if (action.message.type === "auth_success") {
              assert.strictEqual(event._tag, "Authenticated")
              assert.strictEqual(before.state._tag, "authenticating")
              isAuthenticated = true
            } else if (!isAuthenticated) assert.include(["error", "auth_error"], action.message.type)
          }
        }
      }),
    { arbitrary: { runs: 500, size: 60 } }
  )

  it.effect.prop(
    "a session accepts status from ready clients only, and certificates from ready gateways only",
    names,
    ({ names }) =>
      Effect.sync(() => {
        for (const { before, actions } of run(names)) {
          for (const action of actions) {
            const ready = before.state._tag === "ready" ? before.state.client : undefined
            if (action._tag === "RecordStatus") assert.isDefined(ready)
            if (action._tag === "StoreCertificate") assert.deepStrictEqual(ready, gateway)
            if (action._tag === "RecordActivity") assert.isDefined(ready)
          }
        }
      }),
    { arbitrary: { runs: 500, size: 60 } }
  )

  it("every message except auth is answered with unauthenticated before auth", () => {
    for (const index of [3, 5, 6, 7]) {
      const transition = last(frame(index))
      assert.deepStrictEqual(transition?.actions, [{
        _tag: "Send",
        message: { type: "error", data: { code: "unauthenticated", message: "send auth first" } }
      }])
      assert.strictEqual(transition?.after.state._tag, "connected")
    }
  })

  it("a second auth is answered with already_authenticated, and the session stays authenticated", () => {
    const transition = last(auth, "agentAuthenticated", auth)
    assert.deepInclude(transition?.actions ?? [], {
      _tag: "Send",
      message: {
        type: "error",
        data: { code: "already_authenticated", message: "this connection is already authenticated" }
      }
    })
    assert.deepStrictEqual(transition?.after.state, { _tag: "ready", client: agent })
  })

  it("an invalid key, an unavailable store and a deleted client each close with their own code", () => {
    const expected: ReadonlyArray<
      readonly [
        "invalidKey" | "storeUnavailable" | "clientGone",
        "Invalid API key" | "Internal server error",
        CloseReason
      ]
    > = [
      ["invalidKey", "Invalid API key", "unauthenticated"],
      ["storeUnavailable", "Internal server error", "tryLater"],
      ["clientGone", "Invalid API key", "deleted"]
    ]
    for (const [name, message, reason] of expected) {
      assert.deepStrictEqual(last(auth, name)?.actions, [
        { _tag: "Send", message: { type: "auth_error", data: { message } } },
        { _tag: "Close", reason }
      ])
    }
  })

  it("a message of the other type of client is answered with not_allowed", () => {
    for (const [authenticated, index] of [["agentAuthenticated", 6], ["gatewayAuthenticated", 5]] as const) {
      const [action] = last(auth, authenticated, frame(index))?.actions ?? []
      assert.strictEqual(
        action?._tag === "Send" && action.message.type === "error" && action.message.data.code,
        "not_allowed"
      )
    }
  })

  it("the twentieth faulty message within a minute closes the session with 4400, and an unknown type is no fault", () => {
    const faults = Array.from({ length: 20 }, () => ({ frame: 10, wait: 50 as const }))
    const transitions = run([auth, "agentAuthenticated", ...faults])
    assert.deepStrictEqual(transitions.at(-1)?.actions.at(-1), { _tag: "Close", reason: "protocolViolation" })
    assert.strictEqual(transitions.at(-2)?.after.state._tag, "ready")
    assert.strictEqual(closeCodes.protocolViolation.code, 4400)
    const unknown = Array.from({ length: 50 }, () => ({ frame: 7, wait: 3_000 as const }))
    assert.strictEqual(last(auth, "agentAuthenticated", ...unknown)?.after.state._tag, "ready")
  })

  it("faults older than a minute do not count", () => {
    const faults = Array.from({ length: 60 }, () => ({ frame: 10, wait: 3_000 as const })).flatMap((
      fault
    ) => [fault, frame(3)])
    const spread = faults.map((fault) => (fault.wait === 3_000 ? { ...fault, wait: 3_000 as const } : fault))
    assert.strictEqual(last(auth, "agentAuthenticated", ...spread.slice(0, 38))?.after.state._tag, "ready")
  })

  it("messages over the rate are dropped with one rate_limited, and a whole dropped burst closes with another one and 4429", () => {
    const flood = Array.from({ length: 120 }, () => frame(3))
    const transitions = run([auth, "agentAuthenticated", ...flood])
    const errors = transitions.flatMap(({ actions }) => actions).filter((action) =>
      action._tag === "Send" && action.message.type === "error"
    )
    // One when messages begin to be dropped, one before the close.
    assert.lengthOf(errors, 2)
    const closing = transitions.findIndex(({ actions }) =>
      actions.some((action) => action._tag === "Close" && action.reason === "tooMany")
    )
    // The burst of 40 holds one auth and 39 heartbeats; 40 more are dropped; the next one closes.
    assert.strictEqual(closing, 2 + 39 + 40)
  })

  it("a client at twice the rate gets one error, then another one, and is closed, although every second message passes", () => {
    // The limit is 10 a second in bursts of 40. At 20 a second the burst lasts 4 s, and 40 messages are dropped in 4 s more.
    const steady = Array.from({ length: 400 }, () => ({ frame: 3, wait: 50 as const }))
    const transitions = run([auth, "agentAuthenticated", ...steady])
    const errors = transitions.flatMap(({ actions }) => actions).filter((action) =>
      action._tag === "Send" && action.message.type === "error"
    )
    // One when messages begin to be dropped, one before the close.
    assert.lengthOf(errors, 2)
    const closing = transitions.findIndex(({ actions }) =>
      actions.some((action) => action._tag === "Close" && action.reason === "tooMany")
    )
    assert.isAbove(closing, 100)
    assert.isBelow(closing, 200)
  })

  it("a binary frame closes the session with 4400", () => {
    assert.deepStrictEqual(last("binary")?.actions, [{ _tag: "Close", reason: "protocolViolation" }])
  })
})
