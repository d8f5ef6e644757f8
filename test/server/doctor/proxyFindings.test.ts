/** Findings of the doctor about proxy settings. */
import { defaults, type SettingsValues } from "#server/Settings.ts"
import { riskySettings } from "#doctor/settingsFindings.ts"
import { assert, it } from "@effect/vitest"
import { Option } from "effect"

const trusting = (address: string, length: number) => ({
  trustedProxies: [{ address, length, family: address.includes(":") ? "ipv6" as const : "ipv4" as const }]
})

const findingsOf = (changed: Partial<SettingsValues>) =>
  riskySettings({ ...defaults, ...changed }).map(({ severity, what }) => `${severity}: ${what}`)

it("the doctor warns if every address is a trusted proxy", () => {
  for (const anyAddress of [trusting("0.0.0.0", 0), trusting("::", 0)]) {
    assert.deepStrictEqual(findingsOf(anyAddress), ["warn: CONTROL_TRUSTED_PROXIES trusts every address"])
  }
  assert.deepStrictEqual(findingsOf(trusting("10.0.0.0", 8)), [])
})

it("the doctor warns if callers on this machine must send a PROXY header because loopback is trusted", () => {
  for (const loopback of [trusting("127.0.0.0", 8), trusting("::1", 128)]) {
    for (const proxyProtocol of ["api", "both"] as const) {
      assert.match(
        findingsOf({ ...loopback, proxyProtocol }).join("\n"),
        /^warn: .*on this machine, because loopback is trusted$/u
      )
    }
    for (const proxyProtocol of ["off", "ws"] as const) {
      assert.deepStrictEqual(findingsOf({ ...loopback, proxyProtocol }), [])
    }
  }
  assert.deepStrictEqual(findingsOf({ ...trusting("10.0.0.1", 32), proxyProtocol: "both" }), [])
})

it("the doctor warns if TLS is required behind a TCP load balancer, which may end TLS", () => {
  const settings = { ...trusting("10.0.0.1", 32), proxyProtocol: "ws" as const, requireTls: true }
  assert.match(findingsOf(settings).join("\n"), /^warn: CONTROL_REQUIRE_TLS rejects plaintext/u)
  const tls = { tlsCertificate: Option.some("cert.pem"), tlsPrivateKey: Option.some("key.pem") }
  assert.deepStrictEqual(findingsOf({ ...settings, ...tls }), [])
  assert.deepStrictEqual(findingsOf({ ...settings, proxyProtocol: "off" }), [])
})
