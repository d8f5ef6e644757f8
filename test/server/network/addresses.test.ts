/** Addresses of agents and gateways in the pool. */
import { agentAddress, gatewayAddresses, subnetCount } from "#network/addresses.ts"
import { Ipv4, Ipv4Cidr } from "#schema/ids.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const pool = "10.64.0.0/10"
const isAddress = Schema.is(Ipv4)
const isNetwork = Schema.is(Ipv4Cidr)
const Index = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 16_383 }))
const Slot = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 300 }))

describe("addresses", () => {
  it.effect.prop("two agents never share a subnet, and an agent and a gateway never share an address", {
    one: Index,
    other: Index,
    slot: Slot,
    slot2: Slot
  }, ({ one, other, slot, slot2 }) =>
    Effect.sync(() => {
      const [a, b] = [agentAddress(pool, one), agentAddress(pool, other)]
      assert.isTrue(a !== undefined && b !== undefined && isNetwork(a.subnet) && isAddress(a.virtualIp))
      if (a === undefined || b === undefined) return
      assert.strictEqual(a.subnet === b.subnet, one === other)
      const gateway = gatewayAddresses(a.subnet)(slot)
      const gateway2 = gatewayAddresses(a.subnet)(slot2)
      if (gateway !== undefined) {
        assert.isTrue(isAddress(gateway))
        assert.notStrictEqual(gateway, a.virtualIp)
        assert.strictEqual(gateway === gateway2, slot === slot2)
        assert.strictEqual(gateway.slice(0, gateway.lastIndexOf(".")), a.subnet.slice(0, a.subnet.lastIndexOf(".")))
      }
    }), { arbitrary: { runs: 500 } })

  it("a /10 pool has 16,384 subnets, and a subnet has room for 253 gateways", () => {
    assert.strictEqual(subnetCount(pool), 16_384)
    assert.deepStrictEqual(agentAddress(pool, 0), { subnet: "10.64.0.0/24", virtualIp: "10.64.0.1" })
    assert.deepStrictEqual(agentAddress(pool, 16_383), { subnet: "10.127.255.0/24", virtualIp: "10.127.255.1" })
    assert.isUndefined(agentAddress(pool, 16_384))
    assert.strictEqual(gatewayAddresses("10.64.0.0/24")(0), "10.64.0.2")
    assert.strictEqual(gatewayAddresses("10.64.0.0/24")(252), "10.64.0.254")
    assert.isUndefined(gatewayAddresses("10.64.0.0/24")(253))
  })
})
