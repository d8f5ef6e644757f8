/** Kernel devices at both ends: ports that peers reach, UDP, the end of wireguard-go, and what programs leave behind. */
import { assert, describe, it } from "@effect/vitest"
import { edgeAddress, namespacesProblem } from "./Namespaces.ts"
import { expectedAnswer, NatNetwork } from "./NatNetwork.ts"

const problem = namespacesProblem()
if (problem !== undefined) process.stdout.write(`kernel devices are skipped: ${problem}\n`)

const oneDevice = [/^ctl\w+$/u, /^table inet ctl\w+$/u]

// The reason is printed above.
describe.skipIf(problem !== undefined)("kernel devices", () => {
  it("peers reach the ports of tunnels only, and nothing stays in the system", async () => {
    await using network = await NatNetwork.open("cwk", { gateway: "kernel", agent: "kernel" })
    const { namespaces } = network
    const assertOneDevice = (namespace: string) => {
      const found = network.leftovers(namespace).filter((one) => one !== "wireguard-go")
      assert.strictEqual(found.length, oneDevice.length, found.join())
      for (const [index, pattern] of oneDevice.entries()) assert.match(found[index] ?? "", pattern)
    }
    const gateway = await network.startGateway()
    const agent = await network.startAgent()
    // The port is bound before the first peer has been reached.
    const udp = ["--protocol", "udp", "--name", "echo", "--listen-port", "7000", "--target", "127.0.0.1:8081"]
    await network.control("tunnel", "create", "--agent", "home", ...udp, "--wait", "applied")
    await network.control("expose", "home", "8080", "app.example.com")
    assert.strictEqual(network.ask(1_000_000), expectedAnswer(1_000_000))
    assert.strictEqual(network.visit("edge", "udp", edgeAddress, 7000), "datagram")

    const { port } = JSON.parse(await network.control("tunnel", "get", "app.example.com", "-o", "json"))
    const { virtualIp } = JSON.parse(await network.control("agent", "get", "home", "-o", "json"))
    const routes = namespaces.exec("home", "ip", "route", "show").match(/^\S+ dev ctl/gmu) ?? []
    const [gatewayVirtualIp = ""] = routes[0]?.split(" ") ?? []
    assert.strictEqual(network.visit("edge", "dial", virtualIp, port), "open", "a tunnel's port")
    assert.strictEqual(
      network.visit("edge", "dial", virtualIp, 9999),
      "no answer",
      "another port of the agent's machine"
    )
    assert.strictEqual(network.visit("home", "dial", gatewayVirtualIp, 80), "no answer", "the gateway's own ports")
    assert.strictEqual(network.visit("home", "dial", edgeAddress, 80), "open", "the public port of the gateway")

    const ended: Array<string> = []
    for (const [namespace, program] of [["edge", gateway], ["home", agent]] as const) {
      const [pid] = namespaces.pids(namespace, "wireguard-go")
      // A kernel with a WireGuard module needs no wireguard-go.
      if (pid === undefined) continue
      const from = Date.now()
      process.kill(pid, "SIGKILL")
      await program.line("wireguard-go has ended (ended by SIGKILL); starting it again")
      ended.push(`${namespace} ${network.millisUntilServed(from)} ms`)
      assertOneDevice(namespace)
    }

    const killed = Date.now()
    await Promise.all([gateway.kill(), agent.kill()])
    const [nextGateway, nextAgent] = [await network.startGateway(), await network.startAgent()]
    const restarted = network.millisUntilServed(killed)
    assertOneDevice("edge")
    assertOneDevice("home")
    process.stdout.write(
      `first answer after the end of wireguard-go: ${ended.join(", ")}; ` +
        `${restarted} ms after both programs were killed and started again\n`
    )
    await Promise.all([nextGateway.stop(), nextAgent.stop()])
    assert.deepStrictEqual([network.leftovers("edge"), network.leftovers("home")], [[], []])
  }, 180_000)
})
