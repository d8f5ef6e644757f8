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
const byKey = (...peers: ReadonlyArray<PeerConfig>) => new Map(peers.map((one) => [one.publicKey, one]))

describe("texts of the kernel device", () => {
  it("a peer that stays is in no change, so that its session stays", () => {
    const changes = peerChanges("ctl0", byKey(peer(1), peer(2)), byKey(peer(1), peer(3)))
    assert.deepStrictEqual(changes.set, [peer(3)])
    assert.deepStrictEqual(changes.removed, ["key2"])
    assert.deepStrictEqual(changes.batch, [
      "route del 10.64.2.1/32 dev ctl0",
      "addr del 10.64.2.2/32 dev ctl0",
      "addr add 10.64.3.2/32 dev ctl0",
      "route replace 10.64.3.1/32 dev ctl0 src 10.64.3.2"
    ])
  })

  it("several peers can share the local address of an agent", () => {
    const shared = { localAddress: "10.64.0.1" }
    const { batch } = peerChanges("ctl0", byKey(), byKey(peer(1, shared), peer(2, shared)))
    assert.strictEqual(batch.filter((line) => line.startsWith("addr add")).length, 1)
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
    const rules = rulesText("ctl0", [20_000, 20_001], [])
    assert.include(rules, "tcp dport { 20000, 20001 } accept")
    assert.notInclude(rules, "udp dport")
    assert.match(rules, /iifname "ctl0" drop/u)
  })

  it("the dump of wg is read, also without a handshake and with a stranger", () => {
    const dump =
      "private\tpublic\t51820\toff\nkey1\t(none)\t[2001:db8::5]:4242\t10.64.1.1/32\t1700000000\t10\t20\t25\n" +
      "key2\t(none)\t(none)\t10.64.2.1/32\t0\t0\t0\toff\nkey9\t(none)\t(none)\t\t0\t0\t0\toff\n"
    assert.deepStrictEqual(parseDump(dump, byKey(peer(1), peer(2))), [
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
