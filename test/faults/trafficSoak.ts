/** Soak test with traffic: visitors ask through tunnels while programs are moved, restarted and killed, and count lost requests. */
import { issueCertificate } from "#conformance/issueCertificate.ts"
import { startWeb } from "#support/demoServices.ts"
import { control, freeTcpPort, freeUdpPort, Program } from "#support/programProcesses.ts"
import { type Seen, Visitor } from "#support/visitors.ts"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

const name = "soak.example.com"
const visitors = 4

/** Right answers after an event until the tunnel counts as healed, and requests of the quiet time after that. */
const healedAfter = 20
const quietRequests = 1_500

/** What happens to the running programs. */
interface Network {
  server: Program
  gateway: Program
  agent: Program
  readonly startServer: () => Promise<Program>
  readonly startGateway: () => Program
  readonly startAgent: () => Program
  readonly move: () => Promise<void>
}

interface TrafficEvent {
  readonly name: string
  readonly run: (network: Network) => Promise<void>
}

const events: ReadonlyArray<TrafficEvent> = [
  { name: "the tunnel moves to another service", run: (network) => network.move() },
  {
    name: "the agent restarts",
    run: async (network) => {
      await network.agent.stop()
      network.agent = network.startAgent()
    }
  },
  {
    name: "the agent is killed",
    run: async (network) => {
      await network.agent.kill()
      network.agent = network.startAgent()
    }
  },
  {
    name: "the server restarts",
    run: async (network) => {
      await network.server.stop()
      network.server = await network.startServer()
    }
  },
  {
    name: "the gateway is killed",
    run: async (network) => {
      await network.gateway.kill()
      network.gateway = network.startGateway()
    }
  },
  {
    name: "the gateway restarts",
    run: async (network) => {
      await network.gateway.stop()
      network.gateway = network.startGateway()
    }
  }
]

const describe = (seen: ReadonlyArray<Seen>): string => {
  const sum = (of: (one: Seen) => number) => seen.reduce((total, one) => total + of(one), 0)
  const gap = Math.max(...seen.map(({ longestGapMillis }) => longestGapMillis))
  return `${sum(({ requests }) => requests)} requests, ${sum(({ failed }) => failed)} lost, longest wait ${
    Math.round(gap)
  } ms`
}

const openNetwork = async (directory: string, programs: Set<Program>) => {
  const environment = {
    CONTROL_DATA_DIR: join(directory, "data"),
    CONTROL_WS_HOST: "127.0.0.1",
    CONTROL_WS_PORT: String(await freeTcpPort()),
    CONTROL_API_PORT: "0"
  }
  const https = await freeTcpPort()
  const start = (file: string, args: ReadonlyArray<string> = []) => {
    const program = new Program(file, args, environment)
    programs.add(program)
    return program
  }
  const run = (...words: ReadonlyArray<string>) => control(words, environment)
  const startServer = async () => {
    const server = start("src/server/main.ts")
    await server.line("serving agents and gateways")
    return server
  }
  const client = (type: "agent" | "gateway", ...args: ReadonlyArray<string>) =>
    start(`src/${type}/main.ts`, [
      "--env-file",
      join(directory, `${type}.env`),
      "--state-dir",
      join(directory, type),
      ...args
    ])
  const server = await startServer()
  const port = String(await freeUdpPort())
  const gatewayEnv = await run(
    "gateway",
    "create",
    "edge",
    "--public-ip",
    "127.0.0.1",
    "--listen-port",
    port,
    "-o",
    "env"
  )
  await writeFile(join(directory, "gateway.env"), gatewayEnv)
  await writeFile(join(directory, "agent.env"), await run("agent", "create", "home", "-o", "env"))
  const { certificate, privateKey } = issueCertificate({ names: [name] })
  await writeFile(join(directory, "cert.pem"), certificate)
  await writeFile(join(directory, "key.pem"), privateKey)
  const files = ["--certificate", `@${join(directory, "cert.pem")}`, "--private-key", `@${join(directory, "key.pem")}`]
  await run("certificate", "create", name, ...files)
  const startGateway = () =>
    client(
      "gateway",
      "--bind",
      "127.0.0.1",
      "--http-port",
      "0",
      "--https-port",
      String(https),
      "--device",
      "userspace",
      "--drain-timeout",
      "1s"
    )
  const startAgent = () => client("agent", "--drain-timeout", "1s")
  // Both services give the same answer, because the visitors must not notice a move.
  const targets = [await startWeb("home"), await startWeb("home")]
  let moves = 0
  const move = async () => void await run("expose", "home", String(targets[(moves += 1) % 2]), name, "--timeout", "60s")
  const network: Network = {
    server,
    gateway: startGateway(),
    agent: startAgent(),
    startServer,
    startGateway,
    startAgent,
    move
  }
  await move()
  return { network, https, certificate }
}

/** Resolves with the number of requests that were lost in quiet times, in which nothing was restarted. */
export const soakWithTraffic = async (minutes: number, print: (line: string) => void): Promise<number> => {
  const directory = await mkdtemp(join(tmpdir(), "control-soak-"))
  const programs = new Set<Program>()
  const people: Array<Visitor> = []
  let lostInQuiet = 0
  try {
    const { certificate, https, network } = await openNetwork(directory, programs)
    for (let index = 0; index < visitors; index += 1) people.push(new Visitor(name, https, certificate))
    const begin = () => people.forEach((visitor) => visitor.expect("hello from home"))
    const good = (count: number) => Promise.all(people.map((visitor) => visitor.good(count)))
    begin()
    await good(healedAfter)
    const until = performance.now() + minutes * 60_000
    for (let round = 0; performance.now() < until; round += 1) {
      const event = events[round % events.length]
      if (event === undefined) break
      begin()
      await event.run(network)
      const healing = await good(healedAfter)
      print(`${event.name}: ${describe(healing)}`)
      begin()
      const quiet = await good(quietRequests)
      const lost = quiet.reduce((total, { failed }) => total + failed, 0)
      lostInQuiet += lost
      print(`  then quiet: ${describe(quiet)}`)
    }
  } finally {
    for (const visitor of people) visitor.stop()
    await Promise.all([...programs].map((program) => program.stop()))
    await rm(directory, { recursive: true, force: true })
  }
  return lostInQuiet
}
