/** One parser judges every address, and the database agrees with it. */
import { endsInNumber, ipVersion, parseCidr, parseIpv6, parsePort, targetProblem } from "#schema/addresses.ts"
import { addressBlock, HostName, IpAddress, Ipv4, Ipv4Cidr, Target } from "#schema/ids.ts"
import { TestDatabase } from "#support/testDatabase.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { isIP } from "node:net"

const addresses = [
  ["10.0.0.1", "0.0.0.0", "255.255.255.255", "::", "::1", "2001:db8::7", "2001:DB8:0:0:8:800:200C:417A"],
  ["::ffff:192.0.2.1", "64:ff9b::192.0.2.33", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1:2:3:4:5:6:1.2.3.4", "fe80::1"]
].flat()
const noAddresses = [
  ["", "999.1.1.1", "10.0.0.256", "1.2.3", "1.2.3.4.5", "0x7f.1", "127.1", "2130706433", "01.2.3.4", "1.2.3.04"],
  ["1.2.3.4 ", " 1.2.3.4", "1.2.3.4\n", "1..2.3", "+1.2.3.4", "1e1.2.3.4", "١.2.3.4", "10.0.0.1/8", "localhost"],
  ["[::1]", "::1%eth0", "fe80::1%1", ":::", "1::2::3", "12345::", ":1:2:3:4:5:6:7", "1:2:3:4:5:6:7", "g::1", ":"],
  ["1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "::1.2.3", "::1.2.3.256", "::01.2.3.4", "1.2.3.4::", "::1/64", "::g"]
].flat()
const targets = [
  ["localhost:8080", "http://10.0.0.5:3000", "https://app.internal:1", "my_app:65535", "[::1]:80", "x:80"],
  [
    "http://[2001:db8::7]:8080",
    "10.0.0.255:80",
    "a.0x7g:1",
    "1a:1",
    "db-1.svc_2.local:5432",
    "192.168.1.1.nip.io:80"
  ]
].flat()
const noTargets = [
  [
    "999.1.1.1:80",
    "10.0.0.256:80",
    "1.2.3:80",
    "0x7f.1:80",
    "0x7f000001:80",
    "127.1:80",
    "2130706433:80",
    "08.1:80"
  ],
  ["localhost", "localhost:", "localhost:0", "localhost:65536", "localhost:080", "localhost:+80", ":80", "a b:80"],
  ["ftp://x:80", "http://x:80/path", "http://u@x:80", "[::1%eth0]:80", "[fe80::1%1]:80", "::1:80", "[1.2.3.4]:80"],
  ["[]:80", "[:::]:80", "[::1]80", "[[::1]]:80", "-x:80", "x-:80", "x..y:80", "x.:80", "1.2.3.4.:80", "1.0x:80"],
  ["x:80\n", "\nx:80", `${"a".repeat(64)}:80`, `${"a.".repeat(127)}b:80`, "bücher:80", "HTTP://x:80", "x:8o", ""]
].flat()
const hosts = ["app.example.com", "*.example.com", "xn--bcher-kva.example", "a", "0x7g.b", "1.a"]
const noHosts = [
  "1.2.3.4",
  "999.1.1.1",
  "1.2.3",
  "0x7f.1",
  "a.0x7f",
  "0x7f",
  "a.1",
  "a.example.",
  "A.example",
  "[::1]",
  "*.1"
]

const networks = ["10.64.0.0/24", "0.0.0.0/0", "10.64.0.1/32", "1.2.3.4/9"]
const noNetworks = [
  "10.64.0.0/33",
  "10.64.0.0/024",
  "10.64.0/24",
  "10.64.0.256/24",
  "10.64.0.0/",
  "10.64.0.0/24/8",
  "::/8"
]

describe("addresses", () => {
  it("an address is four numbers from 0 to 255 or an IPv6 address, without leading zeros and zones", () => {
    for (const text of addresses) assert.strictEqual(ipVersion(text), isIP(text) as 4 | 6, text)
    for (const text of noAddresses) {
      assert.strictEqual(ipVersion(text), 0, text)
      assert.isFalse(Schema.is(IpAddress)(text), text)
    }
    for (const text of [...addresses, ...noAddresses]) {
      assert.strictEqual(Schema.is(Ipv4)(text), ipVersion(text) === 4, text)
    }
    assert.deepStrictEqual(parseIpv6("1:2::1.2.3.4"), [1, 2, 0, 0, 0, 0, 258, 772])
    assert.strictEqual(addressBlock("2001:db8::7"), "2001:db8:0:0::/64")
  })

  it("a network has a prefix length of its family, without leading zeros", () => {
    for (const text of networks) assert.isTrue(Schema.is(Ipv4Cidr)(text), text)
    for (const text of noNetworks) assert.isFalse(Schema.is(Ipv4Cidr)(text), text)
    for (const text of ["::/129", "::1/064", "fe80::%1/64", "10.0.0.0/-1", "10.0.0.0/ 8", "a/8", "/8"]) {
      assert.isUndefined(parseCidr(text), text)
    }
    assert.deepStrictEqual(parseCidr("2001:db8::/32"), { address: "2001:db8::", length: 32, family: "ipv6" })
    assert.deepStrictEqual(parseCidr("10.0.0.1"), { address: "10.0.0.1", length: 32, family: "ipv4" })
  })

  it("a target and a host name are no half-written address, and each problem is named", () => {
    for (const text of targets) assert.isUndefined(targetProblem(text), text)
    for (const text of noTargets) assert.isFalse(Schema.is(Target)(text), text)
    for (const text of hosts) assert.isTrue(Schema.is(HostName)(text), text)
    for (const text of noHosts) assert.isFalse(Schema.is(HostName)(text), text)
    assert.include(targetProblem("999.1.1.1:80"), "four numbers from 0 to 255")
    assert.include(targetProblem("localhost:0"), "a port from 1 to 65535")
    assert.include(targetProblem("[fe80::1%1]:80"), "without a zone")
    assert.deepStrictEqual(["0", "080", "65536", "1e3", ""].map(parsePort), Array.from({ length: 5 }, () => undefined))
    assert.isTrue(endsInNumber("a.1.") && endsInNumber("0X7F") && !endsInNumber("0xg"))
  })

  it.live("the functions of the database agree with the parser on every one of these texts", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const texts = [
        ...addresses,
        ...noAddresses,
        ...targets,
        ...noTargets,
        ...networks,
        ...noNetworks,
        ...hosts,
        ...noHosts
      ]
      const rows = yield* sql<
        Record<string, boolean>
      >`select control_is_ip(t.text) as ip, control_is_ipv4(t.text) as ipv4,
        control_is_ipv4_network(t.text) as network, control_is_host_name(t.text) as host, control_is_target(t.text) as target
        from unnest(${texts}::text[]) with ordinality as t (text, at) order by t.at`
      for (const [index, text] of texts.entries()) {
        assert.deepStrictEqual(rows[index], {
          ip: Schema.is(IpAddress)(text),
          ipv4: Schema.is(Ipv4)(text),
          host: Schema.is(HostName)(text),
          network: Schema.is(Ipv4Cidr)(text),
          target: Schema.is(Target)(text)
        }, JSON.stringify(text))
      }
    }).pipe(Effect.provide(TestDatabase)))
})
