/** Messages that `control.v1` adds: encoding, decoding, validation, and their absence at the plain level. */
import { AgentAuthV1 } from "#schema/messagesFromAgents.ts"
import { Ack, authFieldsV1, Nack, Resync } from "#schema/messagesFromClients.ts"
import { ControlMessageV1 } from "#schema/messagesFromControlV1.ts"
import type { ClientType } from "#schema/ids.ts"
import { type ClientMessage, decodeFrame, encodeMessage } from "#schema/protocol.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schema } from "effect"

const runs = { arbitrary: { runs: 200 } }

/** Decoding an encoded message returns the same value, without lost or added fields. */
const assertRoundTrip = (message: ClientMessage, ...senders: ReadonlyArray<ClientType>) =>
  Effect.sync(() => {
    for (const sender of senders) {
      const decoded = decodeFrame(JSON.stringify(message), sender, "control.v1")
      assert.deepStrictEqual(Result.getOrThrow(decoded), JSON.parse(JSON.stringify(message)))
    }
  })

const position = { timeline: "6b0c2a52-9f7e-4d57-8a54-3f6a4b1c7d10", revision: 57 }

const authOf = (sender: ClientType, data: object) =>
  Result.getOrThrow(decodeFrame(JSON.stringify({ type: "auth", data: { apiKey: "k", ...data } }), sender, "control.v1"))

describe("the protocol in control.v1", () => {
  it.effect.prop(
    "auth of an agent survives encoding and decoding",
    { message: AgentAuthV1 },
    ({ message }) => assertRoundTrip(message, "agent"),
    runs
  )
  it.effect.prop(
    "auth of a gateway survives encoding and decoding",
    { more: Schema.Struct(authFieldsV1), apiKey: AgentAuthV1.fields.data.fields.apiKey },
    ({ apiKey, more }) =>
      assertRoundTrip({ type: "auth", data: { apiKey, publicIp: "2001:db8::7", ...more } }, "gateway"),
    runs
  )
  it.effect.prop(
    "ack survives encoding and decoding",
    { message: Ack },
    ({ message }) => assertRoundTrip(message, "agent", "gateway"),
    runs
  )
  it.effect.prop(
    "nack survives encoding and decoding",
    { message: Nack },
    ({ message }) => assertRoundTrip(message, "agent", "gateway"),
    runs
  )
  it.effect.prop(
    "resync survives encoding and decoding",
    { message: Resync },
    ({ message }) => assertRoundTrip(message, "agent", "gateway"),
    runs
  )
  it.effect.prop(
    "every message of Control survives encoding and decoding",
    { message: ControlMessageV1 },
    ({ message }) =>
      Effect.sync(() => {
        const decoded = Schema.decodeUnknownResult(ControlMessageV1)(JSON.parse(encodeMessage(message)))
        assert.deepStrictEqual(
          JSON.parse(JSON.stringify(Result.getOrThrow(decoded))),
          JSON.parse(JSON.stringify(message))
        )
      }),
    runs
  )

  it.effect.prop(
    "an invalid resume is ignored",
    { invalid: Schema.Json },
    ({ invalid }) =>
      Effect.sync(() => {
        for (
          const resume of [
            invalid,
            { ...position, revision: invalid === 0 ? -1 : [invalid] },
            { ...position, timeline: { invalid } },
            { revision: 57 }
          ]
        ) {
          for (const sender of ["agent", "gateway"] as const) {
            assert.deepStrictEqual<unknown>(authOf(sender, { resume }), { type: "auth", data: { apiKey: "k" } })
          }
        }
      }),
    runs
  )

  it("unknown fields of resume are dropped", () => {
    for (const sender of ["agent", "gateway"] as const) {
      const { data } = authOf(sender, { resume: { ...position, more: 1 } })
      assert.deepStrictEqual<unknown>(data, { apiKey: "k", resume: position })
    }
  })

  it("an invalid value in another field of auth is answered with invalid_message", () => {
    for (
      const bad of [
        { wireguardPublicKey: "short" },
        { wireguardPublicKey: "" },
        { clientVersion: "x".repeat(65) },
        { clientVersion: 1 }
      ]
    ) {
      const frame = JSON.stringify({ type: "auth", data: { apiKey: "k", ...bad } })
      assert.strictEqual(codeOf(decodeFrame(frame, "agent", "control.v1")), "invalid_message", frame)
    }
  })

  it("the code and the message of a nack have length limits", () => {
    const nackWith = (more: object) =>
      codeOf(
        decodeFrame(
          JSON.stringify({ type: "nack", data: { revision: 1, code: "c", message: "m", ...more } }),
          "agent",
          "control.v1"
        )
      )
    assert.isUndefined(nackWith({ code: "x".repeat(64), message: "x".repeat(500) }))
    for (const bad of [{ code: "" }, { code: "x".repeat(65) }, { message: "x".repeat(501) }, { revision: -1 }]) {
      assert.strictEqual(nackWith(bad), "invalid_message")
    }
  })

  it("ack, nack and resync are unknown at the plain level, and its auth ignores resume", () => {
    for (const schema of [Ack, Nack, Resync]) {
      const [example] = Schema.resolveAnnotations(schema)?.examples ?? []
      for (const sender of ["agent", "gateway", undefined] as const) {
        assert.strictEqual(codeOf(decodeFrame(JSON.stringify(example), sender)), "unknown_type")
        assert.isUndefined(codeOf(decodeFrame(JSON.stringify(example), sender ?? "agent", "control.v1")))
      }
    }
    const frame = JSON.stringify({ type: "auth", data: { apiKey: "k", resume: position, wireguardPublicKey: "short" } })
    assert.deepStrictEqual<unknown>(Result.getOrThrow(decodeFrame(frame, "agent")), {
      type: "auth",
      data: { apiKey: "k" }
    })
  })
})

function codeOf(decoded: ReturnType<typeof decodeFrame>): string | undefined {
  return Result.isFailure(decoded) ? decoded.failure.code : undefined
}
