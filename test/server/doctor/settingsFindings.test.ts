/** Findings of the doctor about settings. */
import { defaults, type SettingsValues } from "#server/Settings.ts"
import { riskySettings, settingsFindings } from "#doctor/settingsFindings.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Option, Redacted } from "effect"

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

const facts = { agents: 1, highestSubnetIndex: 0 }
const settingsOf = (changed: Partial<SettingsValues>) => ({ ...defaults, wsHost: "127.0.0.1", ...changed })

describe("findings about settings", () => {
  const cases: ReadonlyArray<readonly [string, Partial<SettingsValues>, Partial<typeof facts>]> = [
    ["warn: CONTROL_API_HOST is 0.0.0.0", { apiHost: "0.0.0.0" }, {}],
    ["warn: other users can read or write the file of DATABASE_URL_FILE", { exposedFiles: ["DATABASE_URL_FILE"] }, {}],
    ["note: CONTROL_WS_HOST is ::", { wsHost: "::" }, {}],
    ["warn: CONTROL_HEARTBEAT_INTERVAL", { heartbeatInterval: Duration.seconds(50) }, {}],
    ["warn: CONTROL_HEARTBEAT_TIMEOUT", {
      heartbeatTimeout: Duration.seconds(20),
      heartbeatInterval: Duration.seconds(5)
    }, {}],
    ["note: CONTROL_MAX_UNAUTHENTICATED_PER_IP", { maxUnauthenticatedPerIp: 5000 }, {}],
    [
      "note: the database is not in the data directory",
      { databaseUrl: Option.some(Redacted.make("postgres://x")) },
      {}
    ],
    ["fail: CONTROL_NETWORK_POOL 10.0.0.0/22 has 4 subnets, and there are 4 agents", { networkPool: "10.0.0.0/22" }, {
      agents: 4
    }],
    ["warn: 15 of the 16 subnets", { networkPool: "10.0.0.0/20" }, { agents: 15 }],
    ["warn: CONTROL_NETWORK_POOL 10.0.0.0/20 has fewer subnets", { networkPool: "10.0.0.0/20" }, {
      highestSubnetIndex: 16
    }]
  ]
  for (const [expected, changed, counted] of cases) {
    it(`a risky setting is reported as "${expected}"`, () => {
      const found = settingsFindings(settingsOf(changed), { ...facts, ...counted })
      assert.lengthOf(found, 1)
      assert.isTrue(`${found[0]?.severity}: ${found[0]?.what}`.startsWith(expected), JSON.stringify(found))
    })
  }

  it("plaintext is not reported if Control has a certificate or a proxy is trusted", () => {
    const open = { wsHost: "0.0.0.0", apiHost: "0.0.0.0" }
    const tls = { tlsCertificate: Option.some("cert.pem"), tlsPrivateKey: Option.some("key.pem") }
    const proxy = { trustedProxies: [{ address: "10.0.0.1", length: 32, family: "ipv4" as const }] }
    for (const encrypted of [tls, proxy]) {
      assert.deepStrictEqual(riskySettings(settingsOf({ ...open, ...encrypted })), [])
    }
  })

  it("consistent settings have no finding but ok", () => {
    assert.deepStrictEqual(riskySettings(settingsOf({})), [])
    assert.deepStrictEqual(settingsFindings(settingsOf({}), facts).map(({ severity }) => severity), ["ok"])
  })
})
