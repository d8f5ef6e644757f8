/** Caller address and encryption from proxy headers, true and forged. */
import { callerOf, remoteFromProxyHeader } from "#ingress/caller.ts"
import { isAllowedHost, isSameOrigin } from "#ingress/hostAndOrigin.ts"
import { validityWarning } from "#ingress/tlsKeyPair.ts"
import { addressBlock } from "#schema/ids.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const isProxy = (address: string) => address.startsWith("10.") || address === "2001:db8::1"
const known = (address: string) => ({ address, isKnown: true })
const source = {
  remote: known("10.0.0.1"),
  isTls: false,
  isForwarded: true,
  forwardedFor: undefined,
  forwardedProto: undefined
}

/** `203.0.113.n` is an untrusted address, `10.0.0.n` a trusted proxy. */
const octet = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 254 }))
const untrusted = Schema.TemplateLiteral(["203.0.113.", octet])
const proxy = Schema.TemplateLiteral(["10.0.0.", octet])

describe("address of the caller", () => {
  it.effect.prop(
    "the caller is the last untrusted address of X-Forwarded-For, whatever is forged before it",
    { forged: Schema.Array(Schema.String), client: untrusted, proxies: Schema.Array(proxy) },
    ({ client, forged, proxies }) =>
      Effect.sync(() => {
        const forwardedFor = [...forged, client, ...proxies].join(", ")
        assert.strictEqual(callerOf({ ...source, forwardedFor }, isProxy).address, client)
      })
  )

  it.effect.prop(
    "the caller is the other end of the socket if that is not a trusted proxy, whatever the headers say",
    { remote: untrusted, forwardedFor: Schema.String, forwardedProto: Schema.String },
    ({ forwardedFor, forwardedProto, remote }) =>
      Effect.sync(() =>
        assert.deepStrictEqual(callerOf({ ...source, remote: known(remote), forwardedFor, forwardedProto }, isProxy), {
          address: remote,
          encrypted: "no"
        })
      )
  )

  it.effect.prop(
    "the caller is an IP address for any text in the header",
    { forwardedFor: Schema.String },
    ({ forwardedFor }) =>
      Effect.sync(() => assert.match(callerOf({ ...source, forwardedFor }, isProxy).address, /^[\d.:a-f]+$/u))
  )

  it("addresses are read in every form that proxies write", () => {
    const addressOf = (forwardedFor: string) => callerOf({ ...source, forwardedFor }, isProxy).address
    assert.strictEqual(addressOf("203.0.113.7:4711"), "203.0.113.7")
    assert.strictEqual(addressOf("[2001:DB8:0::7]:4711"), "2001:db8::7")
    assert.strictEqual(addressOf("2001:db8::7,2001:db8::1"), "2001:db8::7")
    assert.strictEqual(addressOf("::ffff:203.0.113.7"), "203.0.113.7")
    assert.strictEqual(addressOf("::ffff:cb00:7107"), "203.0.113.7")
    assert.strictEqual(
      addressOf("203.0.113.7, unknown, 10.0.0.2"),
      "10.0.0.2",
      "nothing before an unreadable item is believed"
    )
    assert.strictEqual(
      callerOf({ ...source, remote: known("::ffff:10.0.0.1"), forwardedFor: "203.0.113.7" }, isProxy).address,
      "203.0.113.7"
    )
  })

  it("an unknown client behind a PROXY header counts neither as trusted proxy nor as this machine", () => {
    const unknown = (address: string, more: object = {}) =>
      callerOf(
        {
          ...source,
          remote: { address, isKnown: false },
          forwardedFor: "203.0.113.7",
          forwardedProto: "https",
          ...more
        },
        () => true
      )
    assert.deepStrictEqual(unknown("10.0.0.1"), { address: "10.0.0.1", encrypted: "no" })
    assert.deepStrictEqual(unknown("127.0.0.1"), { address: "127.0.0.1", encrypted: "no" })
    assert.deepStrictEqual(unknown("127.0.0.1", { isForwarded: false }), { address: "127.0.0.1", encrypted: "no" })
    assert.strictEqual(unknown("127.0.0.1", { isTls: true }).encrypted, "yes")
    assert.isTrue(remoteFromProxyHeader("10.0.0.1", "203.0.113.7").isKnown)
    assert.isTrue(remoteFromProxyHeader("127.0.0.1", "127.0.0.1").isKnown)
    assert.isFalse(remoteFromProxyHeader("10.0.0.1", "127.0.0.1").isKnown, "loopback of another machine")
    assert.deepStrictEqual(remoteFromProxyHeader("10.0.0.1", undefined), { address: "10.0.0.1", isKnown: false })
  })

  it("a request is encrypted if the socket uses TLS or every hop of a trusted proxy is https", () => {
    const encrypted = (more: object) => callerOf({ ...source, ...more }, isProxy).encrypted
    assert.strictEqual(encrypted({ forwardedProto: "https" }), "yes")
    assert.strictEqual(encrypted({ forwardedProto: "https, HTTPS" }), "yes")
    for (const scheme of ["wss", "WSS", "https,wss", "wss, https"]) {
      assert.strictEqual(encrypted({ forwardedProto: scheme }), "yes", `${scheme}, for example from Traefik`)
    }
    for (const scheme of ["ws", "https,ws", "wss,http", "wss,", "httpss", "https wss"]) {
      assert.strictEqual(encrypted({ forwardedProto: scheme }), "no", scheme)
    }
    assert.strictEqual(encrypted({ forwardedProto: "https, http" }), "no")
    assert.strictEqual(encrypted({ forwardedProto: "http" }), "no")
    assert.strictEqual(encrypted({}), "no", "a proxy without X-Forwarded-Proto")
    assert.strictEqual(encrypted({ remote: known("203.0.113.7"), isTls: true }), "yes")
    assert.strictEqual(encrypted({ remote: known("127.0.0.1") }), "local")
    const onLoopback = (more: object) =>
      callerOf({ ...source, remote: known("127.0.0.1"), ...more }, (address) => address === "127.0.0.1").encrypted
    assert.strictEqual(onLoopback({ isForwarded: true }), "no", "a proxy on this machine without X-Forwarded-Proto")
    assert.strictEqual(onLoopback({ isForwarded: false }), "local", "another program on this machine")
  })
})

it("a /64 of IPv6 counts as one address, in every notation", () => {
  for (const one of ["2001:db8:1:2::7", "2001:DB8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2:0:0:192.0.2.1"]) {
    assert.strictEqual(addressBlock(one), "2001:db8:1:2::/64")
  }
  assert.strictEqual(addressBlock("::1"), "0:0:0:0::/64")
  assert.strictEqual(addressBlock("2001:db8::"), "2001:db8:0:0::/64")
  assert.strictEqual(addressBlock("192.0.2.1"), "192.0.2.1")
  assert.strictEqual(addressBlock("unknown"), "unknown")
})

it("allowed hosts are loopback names, the listening host, listed names, and addresses unless on loopback", () => {
  const names = ["localhost", "a.localhost:3000", "127.0.0.1", "[::1]:3000"]
  for (const name of names) assert.isTrue(isAllowedHost(name, "0.0.0.0", []), name)
  assert.isTrue(isAllowedHost("10.1.2.3:3000", "0.0.0.0", []))
  assert.isFalse(isAllowedHost("10.1.2.3:3000", "127.0.0.1", []))
  assert.isTrue(isAllowedHost("Control.example.com", "127.0.0.1", ["control.example.com"]))
  assert.isTrue(isAllowedHost("control", "control", []))
  for (
    const name of [
      undefined,
      "",
      "evil.example.com",
      "127.0.0.1.evil.example.com",
      "evil@localhost",
      "localhost/",
      "a b"
    ]
  ) {
    assert.isFalse(isAllowedHost(name, "0.0.0.0", ["control.example.com"]), name)
  }
})

it("a page has the same origin if scheme, host and port are equal", () => {
  assert.isTrue(isSameOrigin("https://control.example.com", "control.example.com", true))
  assert.isTrue(
    isSameOrigin("https://control.example.com", "control.example.com:443", false),
    "a proxy terminates TLS"
  )
  assert.isTrue(isSameOrigin("http://localhost:3000", "localhost:3000", false))
  for (
    const origin of [
      "null",
      "",
      "http://control.example.com",
      "https://control.example.com:8443",
      "https://evil.example.com"
    ]
  ) {
    assert.isFalse(isSameOrigin(origin, "control.example.com", true), origin)
  }
  assert.isFalse(isSameOrigin("https://control.example.com/", "control.example.com", true), "an origin has no path")
})

it("a certificate is warned about if invalid, or before expiry within 14 days or a third of its life", () => {
  const day = 86_400_000
  const months = { notBefore: 0, notAfter: 90 * day }
  assert.isUndefined(validityWarning(months, 75 * day))
  assert.strictEqual(validityWarning(months, 77 * day), "expires within 13 days")
  assert.strictEqual(validityWarning(months, 90 * day), "has expired")
  assert.strictEqual(validityWarning(months, -1), "is not valid yet")
  assert.isUndefined(validityWarning({ notBefore: 0, notAfter: 6 * day }, 3 * day))
  assert.strictEqual(validityWarning({ notBefore: 0, notAfter: 6 * day }, 5 * day), "expires within 1 day")
})
