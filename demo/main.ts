/**
 * Demonstrates tunnels on one machine without root: a server, a gateway, two agents, services and visitors, each in its own
 * process. Moves, kills and restarts things, and prints what the visitors saw. Run it with `npm run demo`.
 */
import { readOptions } from "#conformance/programOptions.ts"
import { issueCertificate } from "#conformance/issueCertificate.ts"
import { stopWithParent } from "#processes/endWithParent.ts"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseEnv, styleText } from "node:util"
import { control, freeTcpPort, freeUdpPort, Program } from "#support/programProcesses.ts"
import { startGame, startVoice, startWeb } from "#support/demoServices.ts"
import { chat, play, type Seen, speak, Visitor } from "#support/visitors.ts"

readOptions(
  `Shows tunnels on one machine without root: a server, a gateway, two agents, services and visitors. Moves, kills and restarts
things, and prints what the visitors saw. Takes about a minute and leaves nothing behind.

Usage: npm run demo

Options:
  --help, -h  Show this help`,
  {}
)
stopWithParent()

const name = "app.example.com"
const line = (text = ""): void => console.log(text)
const step = (text: string): void => line(`\n${styleText("bold", text)}`)
const shown = (command: string): void => line(styleText("dim", `$ ${command}`))

const directory = await mkdtemp(join(tmpdir(), "control-demo-"))
const environment = {
  CONTROL_DATA_DIR: join(directory, "data"),
  CONTROL_WS_HOST: "127.0.0.1",
  CONTROL_WS_PORT: String(await freeTcpPort()),
  CONTROL_API_PORT: "0"
}
const ports = { http: await freeTcpPort(), https: await freeTcpPort(), wireguard: await freeUdpPort() }
const game = { service: await startGame(), listen: await freeTcpPort() }
const voice = { service: await startVoice(), listen: await freeUdpPort() }
const programs = new Set<Program>()

const start = (file: string, args: ReadonlyArray<string> = []): Program => {
  const program = new Program(file, args, environment)
  programs.add(program)
  return program
}

const cleanUp = async (): Promise<void> => {
  await Promise.all([...programs].map((program) => program.stop()))
  await rm(directory, { recursive: true, force: true })
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => void cleanUp().finally(() => process.exit(130)))
}
// The reader of the output has ended, for example `head`.
process.stdout.once("error", () => process.kill(process.pid, "SIGTERM"))

const startServer = async (): Promise<Program> => {
  const server = start("src/server/main.ts")
  await server.line("serving agents and gateways")
  return server
}

const startGateway = (): Program =>
  start("src/gateway/main.ts", [
    "--env-file",
    join(directory, "edge.env"),
    "--state-dir",
    join(directory, "edge"),
    "--bind",
    "127.0.0.1",
    "--http-port",
    String(ports.http),
    "--https-port",
    String(ports.https),
    "--device",
    "userspace"
  ])

const startAgent = (agent: string): Program =>
  start("src/agent/main.ts", ["--env-file", join(directory, `${agent}.env`), "--state-dir", join(directory, agent)])

const run = async (...words: ReadonlyArray<string>): Promise<string> => {
  shown(`control ${words.join(" ")}`)
  return await control(words, environment)
}

const report = (seen: Seen): void =>
  line(
    `${String(seen.requests).padStart(6)} requests, ${seen.failed} without the right answer; first right answer after ${
      Math.round(seen.firstMillis ?? Number.NaN)
    } ms, longest wait ${Math.round(seen.longestGapMillis)} ms`
  )

const create = async (type: "agent" | "gateway", client: string, ...options: ReadonlyArray<string>): Promise<void> => {
  const text = await run(type, "create", client, ...options, "-o", "env")
  line(`${Object.keys(parseEnv(text)).join("=… ")}=…`)
  await writeFile(join(directory, `${client}.env`), text, { mode: 0o600 })
}

const demo = async (): Promise<void> => {
  step("A server with an embedded PostgreSQL, one gateway and two agents; nothing runs as root")
  let server = await startServer()
  await create("gateway", "edge", "--public-ip", "127.0.0.1", "--listen-port", String(ports.wireguard))
  await create("agent", "home")
  await create("agent", "office")
  let gateway = startGateway()
  startAgent("home")
  let office = startAgent("office")

  step("Services behind the agents become public: a web page with a certificate, a game over TCP, voice over UDP")
  const { certificate, privateKey } = issueCertificate({ names: [name] })
  await writeFile(join(directory, "certificate.pem"), certificate)
  await writeFile(join(directory, "key.pem"), privateKey, { mode: 0o600 })
  const files = [
    "--certificate",
    `@${join(directory, "certificate.pem")}`,
    "--private-key",
    `@${join(directory, "key.pem")}`
  ]
  await control(["certificate", "create", name, ...files], environment)
  const atHome = await startWeb("home")
  const atOffice = await startWeb("office")
  line(await run("expose", "home", String(atHome), name))
  const tunnel = (protocol: string, target: number, listen: number) =>
    run(
      "tunnel",
      "create",
      "--agent",
      "home",
      "--name",
      protocol === "tcp" ? "game" : "voice",
      "--protocol",
      protocol,
      "--listen-port",
      String(listen),
      "--target",
      `127.0.0.1:${target}`,
      "--wait",
      "serving",
      "-o",
      "jsonl"
    )
  await tunnel("tcp", game.service, game.listen)
  await tunnel("udp", voice.service.address().port, voice.listen)

  step("Visitors arrive")
  const visitor = new Visitor(name, ports.https, certificate)
  visitor.expect("hello from home")
  await visitor.good(1)
  line(`  https   hello from home`)
  line(`  chat    ${await chat(name, ports.https, certificate, "good morning")}`)
  line(`  game    ${await play(game.listen, "jump")}`)
  line(`  voice   ${await speak(voice.listen, "hello?")}`)
  report(await visitor.good(100))

  step("The operator moves the page to the other agent")
  visitor.expect("hello from office")
  line(await run("expose", "office", String(atOffice), name))
  report(await visitor.good(50))

  step("The agent is killed and started again")
  await office.kill()
  visitor.expect("hello from office")
  office = startAgent("office")
  report(await visitor.good(50))

  step("The gateway is killed and started again")
  await gateway.kill()
  visitor.expect("hello from office")
  gateway = startGateway()
  report(await visitor.good(50))

  step("The server is away, with its database; the gateway is killed, and serves from its disk")
  await server.stop()
  visitor.expect("hello from office")
  report(await visitor.good(100))
  await gateway.kill()
  visitor.expect("hello from office")
  gateway = startGateway()
  report(await visitor.good(50))
  server = await startServer()
  line(await run("expose", "home", String(atHome), name))
  visitor.expect("hello from home")
  report(await visitor.good(50))
  visitor.stop()
}

const started = performance.now()
try {
  await demo()
  line(
    styleText(
      ["bold", "green"],
      `\nEvery visitor got the right answer in the end, in ${Math.round((performance.now() - started) / 1_000)} s.`
    )
  )
} catch (error) {
  line(styleText(["bold", "red"], `\nFailed: ${error instanceof Error ? error.message : String(error)}`))
  process.exitCode = 1
} finally {
  await cleanUp()
  process.exit()
}
