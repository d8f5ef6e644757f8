/** Texts for and from `wg`, `ip` and `nft`. */
import type { PeerConfig } from "#wireguard/Device.ts"
import { parseDump, peerChanges, peersText, rulesText } from "#wireguard/kernel/wgText.ts"
import { assert, describe, it } from "@effect/vitest"

const peer = (number: number, changes: Partial<PeerConfig> = {}): PeerConfig => ({
  publicKey: `key${number}`,
  address: `10.64.${number}.1`,
  localAddress: `10.64.${number}.2`,
  endpoint: undefined,
  keepaliveSeconds: 0,
  ...changes
})
const known = (...peers: ReadonlyArray<PeerConfig>) => ({ known: peers, uncertain: [] })

describe("texts of the kernel device", () => {
  it("a peer that stays is in no change, so that its session stays", () => {
    assert.deepStrictEqual(peerChanges("ctl0", known(peer(1), peer(2)), [peer(1), peer(3)]), {
      set: [peer(3)],
      removed: ["key2"],
      deletions: ["route del 10.64.2.1/32 dev ctl0", "addr del 10.64.2.2/32 dev ctl0"],
      additions: [
        "addr replace 10.64.3.2/32 dev ctl0",
        "route replace 10.64.3.1/32 dev ctl0 src 10.64.3.2"
      ]
    })
  })

  it("a peer whose local address changes keeps its session, and gets another route", () => {
    const moved = peer(1, { localAddress: "10.64.1.9" })
    assert.deepStrictEqual(peerChanges("ctl0", known(peer(1)), [moved]), {
      set: [],
      removed: [],
      deletions: ["addr del 10.64.1.2/32 dev ctl0"],
      additions: ["addr replace 10.64.1.9/32 dev ctl0", "route replace 10.64.1.1/32 dev ctl0 src 10.64.1.9"]
    })
  })

  it("a peer whose configured endpoint stays keeps the endpoint that was learned", () => {
    const endpoint = { host: "203.0.113.7", port: 51_820 }
    const before = peer(1, { endpoint })
    const { set } = peerChanges("ctl0", known(before), [peer(1, { endpoint, keepaliveSeconds: 25 })])
    assert.deepStrictEqual(set, [peer(1, { keepaliveSeconds: 25 })])
    const other = peer(1, { endpoint: { host: "203.0.113.8", port: 51_820 } })
    assert.deepStrictEqual(peerChanges("ctl0", known(before), [other]).set, [other])
  })

  it("after a change that failed half-way, the next one sets everything again and removes what is left of it", () => {
    const peers = { known: [peer(1)], uncertain: [peer(1), peer(2)] }
    assert.deepStrictEqual(peerChanges("ctl0", peers, [peer(1)]), {
      set: [peer(1)],
      removed: ["key2"],
      deletions: ["route del 10.64.2.1/32 dev ctl0", "addr del 10.64.2.2/32 dev ctl0"],
      additions: ["addr replace 10.64.1.2/32 dev ctl0", "route replace 10.64.1.1/32 dev ctl0 src 10.64.1.2"]
    })
  })

  it("several peers can share the local address of an agent", () => {
    const shared = { localAddress: "10.64.0.1" }
    const { additions } = peerChanges("ctl0", known(), [peer(1, shared), peer(2, shared)])
    assert.strictEqual(additions.filter((line) => line.startsWith("addr replace")).length, 1)
    const { deletions } = peerChanges("ctl0", known(peer(1, shared), peer(2, shared)), [peer(2, shared)])
    assert.deepStrictEqual(deletions, ["route del 10.64.1.1/32 dev ctl0"])
  })

  it("endpoints of both families and the keepalive are written", () => {
    const text = peersText([
      peer(1, { endpoint: { host: "203.0.113.7", port: 51_820 }, keepaliveSeconds: 25 }),
      peer(2, { endpoint: { host: "2001:db8::7", port: 51_820 } })
    ])
    assert.include(text, "Endpoint = 203.0.113.7:51820\nPersistentKeepalive = 25")
    assert.include(text, "Endpoint = [2001:db8::7]:51820\nPersistentKeepalive = off")
    assert.include(text, "AllowedIPs = 10.64.1.1/32")
  })

  it("only the ports in use are open", () => {
    const rules = rulesText("ctl0", { tcp: [20_000, 20_001], udp: [], peers: ["10.64.1.1"] })
    assert.include(rules, "iifname \"ctl0\" tcp dport { 20000, 20001 } accept")
    assert.include(rules, "iifname != { \"lo\", \"ctl0\" } ip saddr { 10.64.1.1 } drop")
    assert.notInclude(rules, "udp dport")
    assert.match(rules, /iifname "ctl0" drop/u)
  })

  it("the dump of wg is read, also without a handshake and with a stranger", () => {
    const dump =
      "private\tpublic\t51820\toff\nkey1\t(none)\t[2001:db8::5]:4242\t10.64.1.1/32\t1700000000\t10\t20\t25\n" +
      "key2\t(none)\t(none)\t10.64.2.1/32\t0\t0\t0\toff\nkey9\t(none)\t(none)\t\t0\t0\t0\toff\n"
    assert.deepStrictEqual(parseDump(dump, new Map([peer(1), peer(2)].map((one) => [one.publicKey, one]))), [
      {
        publicKey: "key1",
        address: "10.64.1.1",
        lastHandshakeAt: 1_700_000_000_000,
        receivedBytes: 10,
        sentBytes: 20,
        endpoint: { host: "2001:db8::5", port: 4_242 }
      },
      {
        publicKey: "key2",
        address: "10.64.2.1",
        lastHandshakeAt: undefined,
        receivedBytes: 0,
        sentBytes: 0,
        endpoint: undefined
      }
    ])
  })
})
