/** What `control doctor` tells of settings about proxies. */
import { defaults, type SettingsValues } from "#server/Settings.ts"
import { fightingSettings } from "#doctor/settingsFindings.ts"
import { assert, it } from "@effect/vitest"
import { Option } from "effect"

const trusting = (address: string, length: number) => ({
  trustedProxies: [{ address, length, family: address.includes(":") ? "ipv6" as const : "ipv4" as const }]
})

const told = (changed: Partial<SettingsValues>) =>
  fightingSettings({ ...defaults, ...changed }).map(({ severity, what }) => `${severity}: ${what}`)

it("that every address is trusted", () => {
  for (const everybody of [trusting("0.0.0.0", 0), trusting("::", 0)]) {
    assert.deepStrictEqual(told(everybody), ["warn: CONTROL_TRUSTED_PROXIES trusts every address"])
  }
  assert.deepStrictEqual(told(trusting("10.0.0.0", 8)), [])
})

it("that this machine is shut out of the API where loopback is trusted and must send headers", () => {
  for (const loopback of [trusting("127.0.0.0", 8), trusting("::1", 128)]) {
    for (const proxyProtocol of ["api", "both"] as const) {
      assert.match(
        told({ ...loopback, proxyProtocol }).join("\n"),
        /^warn: .*from this machine, since loopback is trusted$/u
      )
    }
    for (const proxyProtocol of ["off", "ws"] as const) assert.deepStrictEqual(told({ ...loopback, proxyProtocol }), [])
  }
  assert.deepStrictEqual(told({ ...trusting("10.0.0.1", 32), proxyProtocol: "both" }), [])
})

it("that who requires TLS does not get it from a balancer of TCP", () => {
  const settings = { ...trusting("10.0.0.1", 32), proxyProtocol: "ws" as const, requireTls: true }
  assert.match(told(settings).join("\n"), /^warn: CONTROL_REQUIRE_TLS refuses plaintext/u)
  const tls = { tlsCertificate: Option.some("cert.pem"), tlsPrivateKey: Option.some("key.pem") }
  assert.deepStrictEqual(told({ ...settings, ...tls }), [])
  assert.deepStrictEqual(told({ ...settings, proxyProtocol: "off" }), [])
})
