/** Settings of ingress: rejected values and conflicts. */
import { readSettings } from "#server/Settings.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

const problemsOf = (env: Record<string, string | undefined>) =>
  Effect.map(Effect.flip(readSettings(env, false)), (error) => error.problems)

describe("rejected settings", () => {
  const invalid: ReadonlyArray<readonly [string, ReadonlyArray<string>]> = [
    ["CONTROL_REQUIRE_TLS", ["yes", "1", "TRUE"]],
    ["CONTROL_TRUSTED_PROXIES", [
      "proxy",
      "10.0.0.0/33",
      "10.0.0.0/",
      "::/129",
      "10.0.0.1/8/8",
      "fe80::1%eth0",
      "10.0.0.1 ::1"
    ]],
    ["CONTROL_PROXY_PROTOCOL", ["true", "v2", "ws,api"]],
    ["CONTROL_ALLOWED_HOSTS", ["control:3000", "https://control", "*.example.com", "a b", "*"]],
    ["CONTROL_ALLOWED_ORIGINS", ["*", "null", "console.example.com", "https://console.example.com/path", "ws://a"]],
    ["CONTROL_MAX_BYTES_PER_SECOND", ["1024"]],
    ["CONTROL_MAX_CONNECTIONS", ["0"]]
  ]
  for (const [name, values] of invalid) {
    it.effect(`${name} rejects ${values.join(" and ")}`, () =>
      Effect.gen(function*() {
        for (const given of values) {
          const problems = yield* problemsOf({ [name]: given })
          assert.deepStrictEqual(problems.map((problem) => [problem.name, problem.given]), [[name, given]])
        }
      }))
  }

  it.effect("a certificate needs its key, and a key needs its certificate", () =>
    Effect.gen(function*() {
      const [one, other] = ["CONTROL_TLS_CERTIFICATE", "CONTROL_TLS_PRIVATE_KEY"]
      for (const [given = "", missing = ""] of [[one, other], [other, one]]) {
        const problems = yield* problemsOf({ [given]: "/some/file" })
        assert.deepStrictEqual(problems, [
          { name: given, given: "/some/file", allowed: `unset, or set together with ${missing}` }
        ])
      }
    }))

  it.effect("CONTROL_REQUIRE_TLS is rejected if a port accepts remote plaintext and no proxy is trusted", () =>
    Effect.gen(function*() {
      const requireTls = { CONTROL_REQUIRE_TLS: "true" }
      const [problem] = yield* problemsOf(requireTls)
      assert.strictEqual(problem?.name, "CONTROL_REQUIRE_TLS")
      assert.include(problem?.allowed, "CONTROL_TRUSTED_PROXIES")
      yield* readSettings({ ...requireTls, CONTROL_WS_HOST: "127.0.0.1" })
      yield* readSettings({ ...requireTls, CONTROL_TRUSTED_PROXIES: "10.0.0.1" })
      yield* readSettings({ ...requireTls, CONTROL_TLS_CERTIFICATE: "/c", CONTROL_TLS_PRIVATE_KEY: "/k" })
    }))

  it.effect("CONTROL_PROXY_PROTOCOL needs CONTROL_TRUSTED_PROXIES", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* problemsOf({ CONTROL_PROXY_PROTOCOL: "ws" }), [{
        name: "CONTROL_PROXY_PROTOCOL",
        given: "ws",
        allowed: "off, unless CONTROL_TRUSTED_PROXIES contains the addresses of the proxies"
      }])
      yield* readSettings({ CONTROL_PROXY_PROTOCOL: "api", CONTROL_TRUSTED_PROXIES: "10.0.0.1" })
    }))

  it.effect("both servers may use one port only if their addresses do not overlap", () =>
    Effect.gen(function*() {
      const problems = yield* problemsOf({ CONTROL_WS_PORT: "3000" })
      assert.deepStrictEqual(problems.map(({ name }) => name), ["CONTROL_API_PORT"])
      yield* readSettings({ CONTROL_WS_PORT: "3000", CONTROL_WS_HOST: "192.0.2.1" })
      yield* readSettings({ CONTROL_WS_PORT: "0", CONTROL_API_PORT: "0" })
    }))
})
