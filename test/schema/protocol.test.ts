/** Messages of the plain level: encoding, decoding, validation and hostile input. */
import { AgentAuth, Status } from "#schema/messagesFromAgents.ts"
import { Heartbeat } from "#schema/messagesFromClients.ts"
import { ControlMessage } from "#schema/messagesFromControl.ts"
import { CertificateObtained, GatewayAuth } from "#schema/messagesFromGateways.ts"
import { HostName, HostNameFromInput, IpAddress, Target, Timestamp } from "#schema/ids.ts"
import { type ClientMessage, decodeFrame, encodeMessage } from "#schema/protocol.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schema } from "effect"

const accepts = (schema: Schema.Codec<unknown, unknown>) => (input: unknown) =>
  Result.isSuccess(Schema.decodeUnknownResult(schema)(input))

/** Labels of host names, generated separately because random text is almost never a host name. */
const Label = Schema.String.check(Schema.isPattern(/^[a-z][a-z0-9]{0,10}$/u))
const Certificate = Schema.Struct({
  labels: Schema.Array(Label).check(Schema.isBetweenLength(1, 5)),
  wildcard: Schema.Boolean,
  certificate: Schema.NonEmptyString,
  privateKey: Schema.NonEmptyString
})

/** Decoding an encoded message returns the same value, without lost or added fields. */
const assertRoundTrip = (message: ClientMessage, sender: "agent" | "gateway") =>
  Effect.sync(() => {
    const decoded = decodeFrame(JSON.stringify(message), sender)
    assert.deepStrictEqual(Result.getOrThrow(decoded), JSON.parse(JSON.stringify(message)))
  })

const runs = { arbitrary: { runs: 200 } }

describe("the protocol", () => {
  it.effect.prop(
    "auth of an agent survives encoding and decoding",
    { message: AgentAuth },
    ({ message }) => assertRoundTrip(message, "agent"),
    runs
  )
  it.effect.prop(
    "auth of a gateway survives encoding and decoding",
    {
      apiKey: AgentAuth.fields.data.fields.apiKey,
      octets: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))).check(
        Schema.isBetweenLength(4, 4)
      )
    },
    ({ apiKey, octets }) => assertRoundTrip({ type: "auth", data: { apiKey, publicIp: octets.join(".") } }, "gateway"),
    runs
  )
  it.effect.prop(
    "heartbeat survives encoding and decoding",
    { message: Heartbeat },
    ({ message }) => assertRoundTrip(message, "agent"),
    runs
  )
  it.effect.prop(
    "status survives encoding and decoding",
    { message: Status },
    ({ message }) => assertRoundTrip(message, "agent"),
    runs
  )
  it.effect.prop(
    "certificate_obtained survives encoding and decoding",
    { given: Certificate },
    ({ given }) =>
      assertRoundTrip({
        type: "certificate_obtained",
        data: {
          domain: HostName.make(`${given.wildcard ? "*." : ""}${given.labels.join(".")}`),
          certificate: given.certificate,
          privateKey: given.privateKey,
          expiresAt: "2030-01-01T00:00:00.000Z"
        }
      }, "gateway"),
    runs
  )
  it.effect.prop(
    "every message of Control survives encoding and decoding",
    { message: ControlMessage },
    ({ message }) =>
      Effect.sync(() => {
        const decoded = Schema.decodeUnknownResult(ControlMessage)(JSON.parse(encodeMessage(message)))
        assert.deepStrictEqual(
          JSON.parse(JSON.stringify(Result.getOrThrow(decoded))),
          JSON.parse(JSON.stringify(message))
        )
      }),
    runs
  )

  it.effect.prop(
    "any text decodes to a message without undeclared fields or to an error with a code, and nothing is thrown",
    {
      text: Schema.String
    },
    ({ text }) =>
      Effect.sync(() => {
        for (
          const frame of [
            text,
            JSON.stringify({ type: text, data: {} }),
            `{"type":"heartbeat","data":{"timestamp":1,"x":${JSON.stringify(text)}}}`
          ]
        ) {
          const decoded = decodeFrame(frame, undefined)
          if (Result.isSuccess(decoded))
            assert.deepStrictEqual(decoded.success, { type: "heartbeat", data: { timestamp: 1 } })
          else assert.isNotEmpty(decoded.failure.message)
        }
      }),
    runs
  )

  it("hostile JSON neither pollutes prototypes nor exhausts the stack", () => {
    const frame =
      "{\"type\":\"heartbeat\",\"__proto__\":{\"isAdmin\":true},\"data\":{\"timestamp\":1,\"__proto__\":{\"isAdmin\":true}}}"
    const decoded = Result.getOrThrow(decodeFrame(frame, "agent"))
    assert.isFalse("isAdmin" in decoded || "isAdmin" in decoded.data || "isAdmin" in {})
    assert.strictEqual(failureOf("[".repeat(200_000)), "malformed_json")
    assert.strictEqual(
      failureOf(`{"type":"status","data":${"[".repeat(5_000)}${"]".repeat(5_000)}}`),
      "invalid_message"
    )
  })

  it("an error names the path and the expected value, and quotes no secret", () => {
    const secret = "-----BEGIN PRIVATE KEY-----".repeat(20)
    const frame = JSON.stringify({
      type: "certificate_obtained",
      data: { domain: "a b", certificate: secret, privateKey: [secret], expiresAt: 1 }
    })
    const decoded = decodeFrame(frame, "gateway")
    assert.isTrue(Result.isFailure(decoded))
    if (Result.isFailure(decoded)) {
      assert.match(decoded.failure.message, /^data\.domain: expected a host name/u)
      assert.notInclude(decoded.failure.message, "PRIVATE")
    }
  })

  it("a host name is converted to lower case and punycode, and invalid text is rejected", () => {
    const decode = Schema.decodeUnknownResult(HostNameFromInput)
    const good: ReadonlyArray<readonly [string, string]> = [
      ["App.Example.COM", "app.example.com"],
      ["*.example.com", "*.example.com"],
      ["bücher.example", "xn--bcher-kva.example"],
      ["localhost", "localhost"],
      [`${"a".repeat(63)}.example.com`, `${"a".repeat(63)}.example.com`]
    ]
    for (const [input, output] of good) assert.strictEqual(Result.getOrThrow(decode(input)), output)
    const bad = [
      "",
      ".",
      "a b.com",
      "a..b",
      "-a.com",
      "a-.com",
      "a.com.",
      "*.*.com",
      "a.*.com",
      "http://a.com",
      "a.com:80",
      "a.com/x",
      "1.2.3.4",
      "[::1]",
      "a_b.com",
      `${"a".repeat(64)}.com`,
      `${"a.".repeat(130)}com`,
      "a\u0000.com",
      "user@a.com",
      "a.com?x",
      "a%20b.com"
    ]
    for (const input of bad) assert.isTrue(Result.isFailure(decode(input)), input)
  })

  it("a target is host:port or http(s)://host:port", () => {
    const isTarget = accepts(Target)
    for (
      const good of [
        "localhost:8080",
        "10.0.0.5:1",
        "http://web:3000",
        "https://a.example.com:65535",
        "[::1]:80",
        "my_service:80",
        "api.my_service.svc:80"
      ]
    ) {
      assert.isTrue(isTarget(good), good)
    }
    for (
      const bad of [
        "localhost",
        "localhost:0",
        "localhost:65536",
        "ftp://a:1",
        "http://a:1/path",
        "a b:1",
        ":80",
        "http://:80",
        "a:80\n",
        "a:b",
        "a..b:80",
        "a.:80",
        ".a:80",
        "http://a-.b:80",
        `${"a".repeat(64)}:80`,
        `${"a.".repeat(127)}:80`
      ]
    ) {
      assert.isFalse(isTarget(bad), bad)
    }
  })

  it("an address is IPv4 or IPv6, and a time is RFC 3339", () => {
    for (const good of ["203.0.113.7", "2001:db8::7", "::1", "::ffff:1.2.3.4"]) {
      assert.isTrue(accepts(IpAddress)(good), good)
    }
    for (const bad of ["", "256.1.1.1", "1.2.3", "::1::", "example.com", "1.2.3.4 ", "[::1]", "fe80::1%eth0"]) {
      assert.isFalse(accepts(IpAddress)(bad), bad)
    }
    for (const good of ["2026-05-01T12:00:00Z", "2026-05-01T12:00:00.123+02:00", "2028-02-29T23:59:60-12:00"]) {
      assert.isTrue(accepts(Timestamp)(good), good)
    }
    const impossibleDays = [
      "2026-13-01",
      "2026-00-10",
      "2026-04-31",
      "2026-02-30",
      "2027-02-29",
      "2100-02-29",
      "0000-01-01"
    ]
      .map((day) => `${day}T12:00:00Z`)
    const impossibleTimes = ["T24:00:00Z", "T12:60:00Z", "T12:00:61Z", "T12:00:00+99:00"].map((time) =>
      `2026-05-01${time}`
    )
    for (const bad of ["2026-05-01", "yesterday", "2026-05-01 12:00:00Z", ...impossibleDays, ...impossibleTimes]) {
      assert.isFalse(accepts(Timestamp)(bad), bad)
    }
  })

  it("the messages of the spec are accepted as the spec writes them", () => {
    const spec: ReadonlyArray<readonly ["agent" | "gateway", unknown]> = [
      ["agent", { type: "auth", data: { apiKey: "key" } }],
      ["agent", { type: "heartbeat", data: { timestamp: 1_700_000_000_000 } }],
      ["agent", { type: "status", data: { tunnels: [{ domain: "a.example.com", status: "active" }] } }],
      ["gateway", { type: "auth", data: { apiKey: "key", publicIp: "203.0.113.7" } }],
      ["gateway", { type: "heartbeat", data: { timestamp: 1_700_000_000_000 } }],
      ["gateway", {
        type: "certificate_obtained",
        data: { domain: "a.example.com", certificate: "c", privateKey: "k", expiresAt: "2026-01-01T00:00:00Z" }
      }]
    ]
    for (const [sender, message] of spec) {
      assert.deepEqual<unknown>(Result.getOrThrow(decodeFrame(JSON.stringify(message), sender)), message)
    }
    assert.isTrue(
      accepts(GatewayAuth)({ type: "auth", data: { apiKey: "key", publicIp: "" } }),
      "an empty address keeps the stored one"
    )
    assert.isTrue(accepts(CertificateObtained)(spec[5]?.[1]))
  })
})

const failureOf = (text: string): string | undefined => {
  const decoded = decodeFrame(text, "agent")
  return Result.isFailure(decoded) ? decoded.failure.code : undefined
}
