/** Each broken link between a visitor and a service is found on its own line. */
import {
  judgeAgent,
  judgeCertificate,
  judgeDns,
  judgeGateway,
  judgeHttp,
  judgeRoute,
  judgeTarget,
  judgeWireguard,
  linksText
} from "#cli/check/links.ts"
import { assert, describe, it } from "@effect/vitest"

const gateways = [{ name: "edge", publicIp: "203.0.113.7" }]
const dns = { domain: "app.example.com", addresses: ["203.0.113.7"], problem: undefined, gateways }
const online = { name: "edge", isOnline: true, appliedRevision: 7, nack: undefined }
const tunnel = { enabled: true, revision: 7, agent: "home", target: "localhost:8080" }
const route = { domain: "app.example.com", tunnel, gateways: [online] }
const agent = { name: "home", isOnline: true, appliedRevision: 7, revision: 7, nack: undefined }

describe("control check", () => {
  it("a name must lead to a gateway", () => {
    assert.strictEqual(judgeDns(dns).state, "ok")
    const missing = judgeDns({ ...dns, addresses: [], problem: "the name does not exist" })
    assert.strictEqual(missing.state, "fault")
    assert.include(missing.detail, "create an A or AAAA record to 203.0.113.7")
    const elsewhere = judgeDns({ ...dns, addresses: ["198.51.100.1"] })
    assert.strictEqual(elsewhere.state, "fault")
    assert.include(elsewhere.detail, "198.51.100.1")
  })

  it("a closed port of one gateway is a fault, also if another gateway answers", () => {
    const port = { address: "203.0.113.7", port: 443, problem: undefined, millis: 3 }
    assert.strictEqual(judgeGateway([port]).state, "ok")
    const judged = judgeGateway([port, { ...port, address: "203.0.113.8", problem: "connection refused" }])
    assert.strictEqual(judged.state, "fault")
    assert.include(judged.detail, "203.0.113.8 port 443: connection refused")
  })

  it("a missing certificate is no fault, and an expired one is", () => {
    assert.strictEqual(judgeCertificate({ isStored: false, shown: undefined, problem: undefined }).state, "ok")
    const shown = { issuer: "Test CA", expiresInDays: -1, problem: "the certificate has expired" }
    assert.strictEqual(judgeCertificate({ isStored: true, shown, problem: undefined }).state, "fault")
    assert.strictEqual(judgeCertificate({ isStored: true, shown: undefined, problem: "no answer" }).state, "fault")
  })

  it("a route needs an enabled tunnel and gateways that have applied it", () => {
    assert.strictEqual(judgeRoute(route).state, "ok")
    const broken = [
      { ...route, tunnel: undefined },
      { ...route, tunnel: { ...tunnel, enabled: false } },
      { ...route, gateways: [] },
      { ...route, gateways: [{ ...online, appliedRevision: 6 }] },
      { ...route, gateways: [{ ...online, nack: "port_in_use" }] }
    ]
    for (const facts of broken) assert.strictEqual(judgeRoute(facts).state, "fault")
  })

  it("a handshake older than a session is a fault", () => {
    const judged = (ageSeconds: number | undefined, isServing = false) =>
      judgeWireguard({ handshakes: [{ gateway: "edge", ageSeconds, isServing }] }).state
    assert.deepStrictEqual([judged(12), judged(181), judged(undefined)], ["ok", "fault", "fault"])
    assert.strictEqual(judged(undefined, true), "ok")
    assert.strictEqual(judgeWireguard({ handshakes: [] }).state, "unknown")
  })

  it("the agent, its target and the answer are judged from reports", () => {
    assert.strictEqual(judgeAgent(agent).state, "ok")
    assert.strictEqual(judgeAgent({ ...agent, isOnline: false }).state, "fault")
    assert.strictEqual(judgeAgent({ ...agent, appliedRevision: 6 }).state, "fault")
    const target = { target: "localhost:8080", status: "target-unreachable", detail: "connection refused" }
    assert.strictEqual(judgeTarget(target).state, "fault")
    assert.strictEqual(judgeTarget({ ...target, status: "active", detail: undefined }).state, "ok")
    const http = { url: "https://app.example.com/", problem: undefined, millis: 9 }
    assert.strictEqual(judgeHttp({ ...http, status: 404 }).state, "ok")
    assert.strictEqual(judgeHttp({ ...http, status: 503 }).state, "fault")
  })

  it("each link has one line, and the fault is on the line of its link", () => {
    const lines = linksText([judgeDns(dns), judgeAgent({ ...agent, isOnline: false })]).split("\n")
    assert.match(lines[0] ?? "", /^ok +DNS +app\.example\.com/u)
    assert.match(lines[1] ?? "", /^FAULT +agent +home is offline/u)
  })
})
