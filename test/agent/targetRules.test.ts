/** Targets and the rules of `--allow`. */
import { Dialer, parseTarget } from "#agent/dialTarget.ts"
import { isAllowed, parseAllowRule } from "#agent/targetRules.ts"
import { OptionProblem } from "#program/options.ts"
import { assert, describe, it } from "@effect/vitest"
import { once } from "node:events"

describe("targets of an agent", () => {
  it("every form of a target has a host and a port", () => {
    assert.deepStrictEqual(parseTarget("localhost:8080"), { host: "localhost", port: 8080 })
    assert.deepStrictEqual(parseTarget("https://nas.lan:443"), { host: "nas.lan", port: 443 })
    assert.deepStrictEqual(parseTarget("[2001:db8::7]:22"), { host: "2001:db8::7", port: 22 })
    for (const text of ["", "localhost", "ftp://x:1", "2001:db8::7:22"]) assert.isUndefined(parseTarget(text))
  })

  it("a rule limits addresses and ports", () => {
    const allowed = (rule: string, address: string, port: number) => isAllowed([parseAllowRule(rule)], address, port)
    assert.isTrue(allowed("127.0.0.0/8:8000-8999", "127.0.0.1", 8080))
    assert.isFalse(allowed("127.0.0.0/8:8000-8999", "127.0.0.1", 9000))
    assert.isFalse(allowed("127.0.0.0/8:8000-8999", "169.254.169.254", 8080))
    assert.isTrue(allowed("192.168.1.5:443", "192.168.1.5", 443))
    assert.isTrue(allowed("192.168.1.0/24", "192.168.1.77", 1))
    assert.isTrue(allowed("[fd00::/8]:80", "fd12::1", 80))
    assert.isTrue(allowed("fd00::/8", "fd12::1", 81))
    assert.isFalse(allowed("[fd00::/8]:80", "2001:db8::1", 80))
    assert.isTrue(isAllowed([], "169.254.169.254", 80))
  })

  it("a text that is no rule is a problem", () => {
    for (const text of ["", "home", "127.0.0.1:0", "127.0.0.1:9-8", "127.0.0.1/33:80", "127.0.0.1:80-70000", "[::1"]) {
      assert.throws(() => parseAllowRule(text), OptionProblem)
    }
  })

  it("an address outside of the rules is never dialed, given as an address or as a name", async () => {
    const dialer = new Dialer([parseAllowRule("192.0.2.0/24")])
    for (const host of ["127.0.0.1", "localhost"]) {
      const [error] = await once(dialer.dial({ host, port: 1 }), "error")
      assert.strictEqual(error.code, "ENOTALLOWED")
    }
  })
})
