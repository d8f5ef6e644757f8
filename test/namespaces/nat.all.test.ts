/** The programs behind a real NAT: traffic, a short path, and what a killed gateway, a new NAT and a new address cost. */
import { assert, describe, it } from "@effect/vitest"
import { edgeAddress, namespacesProblem } from "./Namespaces.ts"
import { expectedAnswer, NatNetwork } from "./NatNetwork.ts"

const problem = namespacesProblem()
if (problem !== undefined) process.stdout.write(`network namespaces are skipped: ${problem}\n`)

// The reason is printed above.
describe.skipIf(problem !== undefined)("behind a NAT", () => {
  for (
    const devices of [
      { gateway: "kernel", agent: "userspace" },
      { gateway: "userspace", agent: "kernel" },
      { gateway: "userspace", agent: "userspace" }
    ] as const
  ) {
    it(`a gateway with the ${devices.gateway} device serves an agent with the ${devices.agent} device`, async () => {
      await using network = await NatNetwork.open("cwn", devices)
      const first = await network.startGateway()
      await network.startAgent()
      assert.include(await network.control("expose", "home", "8080", "app.example.com"), "serving by edge")
      await network.control("expose", "home", "8080", "secure.app.example.com")
      await network.uploadCertificate("secure.app.example.com")
      const askSecure = (bytes: number) => network.visit("edge", "https", edgeAddress, bytes, network.certificate)
      assert.strictEqual(network.ask(20_000_000), expectedAnswer(20_000_000), "20 MB each way over http")
      assert.strictEqual(askSecure(0), expectedAnswer(0), "https")
      assert.strictEqual(askSecure(20_000_000), expectedAnswer(20_000_000), "20 MB each way over https")
      network.namespaces.limitPath(1_400)
      assert.strictEqual(network.ask(2_000_000), expectedAnswer(2_000_000), "2 MB over a path of 1,400 bytes")

      const killed = Date.now()
      await first.kill()
      const second = await network.startGateway()
      const restarted = network.millisUntilServed(killed)
      const after = (fault: () => void) => {
        const from = Date.now()
        fault()
        const millis = network.millisUntilServed(from)
        assert.isBelow(millis, 30_000)
        return millis
      }
      const rebound = [1, 2].map(() => after(() => network.namespaces.rebind()))
      const moved = after(() => network.namespaces.moveHome())
      process.stdout.write(
        `${devices.gateway} gateway, ${devices.agent} agent, first answer after a fault: gateway killed and started ` +
          `${restarted} ms, NAT rebound ${rebound.join(", ")} ms, agent's address changed ${moved} ms\n`
      )
      await second.stop()
      assert.deepStrictEqual(network.leftovers("edge"), [])
    }, 180_000)
  }
})
