/** The example agent with `wg` and `ip`, without Control's code, serves the gateway program behind a real NAT. */
import { control, Program } from "#support/programProcesses.ts"
import { assert, describe, it } from "@effect/vitest"
import { createHash } from "node:crypto"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { edgeAddress, Namespaces, namespacesProblem } from "./Namespaces.ts"

const problem = namespacesProblem()
if (problem !== undefined) process.stdout.write(`the agent with wg is skipped: ${problem}\n`)

/** Answers with the hash of the body, and with the body itself at /echo. */
const service = `
const { createHash } = require("node:crypto")
require("node:http").createServer((request, response) => {
  if (request.url === "/echo") return void request.pipe(response)
  const hash = createHash("sha256")
  request.on("data", (chunk) => hash.update(chunk)).on("end", () => response.end(hash.digest("hex")))
}).listen(8080, "127.0.0.1", () => console.log("listening"))
`

/** Ends its side only after the visitor's FIN, and answers with the number of bytes: needs a half-open connection. */
const counter = `
require("node:net").createServer({ allowHalfOpen: true }, (socket) => {
  let bytes = 0
  socket.on("data", (chunk) => { bytes += chunk.length }).on("end", () => socket.end(String(bytes)))
}).listen(9000, "127.0.0.1", () => console.log("listening"))
`

/** Prints the status and the hash of the answer to a POST of this many bytes. */
const post = (path: string, bytes: number) => `
const hash = require("node:crypto").createHash("sha256")
const sent = require("node:http").request({ host: "${edgeAddress}", port: 80, method: "POST", path: "${path}",
  headers: { host: "app.example.com" }, timeout: 20000 }, (response) => {
  response.on("data", (chunk) => hash.update(chunk)).on("end", () => console.log(response.statusCode, hash.digest("hex")))
})
sent.on("error", (error) => console.log(0, error.message)).on("timeout", () => sent.destroy(new Error("no answer")))
sent.end(Buffer.alloc(${bytes}, 1))
`

/** Sends bytes and FIN to a tcp tunnel, and prints the answer. */
const count = (port: number, bytes: number) => `
const socket = require("node:net").connect({ host: "${edgeAddress}", port: ${port}, allowHalfOpen: true })
socket.end(Buffer.alloc(${bytes})).on("data", (chunk) => process.stdout.write(chunk)).on("end", () => console.log())
socket.on("error", (error) => console.log(error.code))
`

/** Connects from this machine itself, and prints how the connection ends. */
const intrude = (address: string, port: number) => `
const socket = require("node:net").connect({ host: "${address}", port: ${port}, timeout: 5000 })
socket.on("error", ({ code }) => console.log(code)).on("timeout", () => socket.destroy(console.log("open")))
`

const sha256 = (bytes: number): string => createHash("sha256").update(Buffer.alloc(bytes, 1)).digest("hex")
const sha256OfText = (text: string): string => createHash("sha256").update(text).digest("hex")

// The reason is printed above.
describe.skipIf(problem !== undefined)("an agent with wg and ip", () => {
  it("the example agent serves visitors of the gateway program, and reports a target that is away", async () => {
    const directory = await mkdtemp(join(tmpdir(), "control-stranger-"))
    const namespaces = new Namespaces(`cw9-${process.pid}`)
    // wireguard-go's control sockets are shared by all namespaces.
    const wg = `cw9${process.pid}`
    const programs: Array<Program> = []
    const environment = {
      CONTROL_DATA_DIR: join(directory, "data"),
      CONTROL_WS_HOST: edgeAddress,
      CONTROL_API_PORT: "0",
      WG_INTERFACE: wg
    }
    const start = (namespace: string, variables: Record<string, string>, file: string, ...args: Array<string>) => {
      const program = new Program(file, args, { ...environment, ...variables }, namespaces.name(namespace))
      programs.push(program)
      return program
    }
    const run = (...words: ReadonlyArray<string>) => control(words, environment, namespaces.name("edge"))
    const visit = (code: string) => namespaces.exec("edge", process.execPath, "-e", code).trim()
    try {
      await start("edge", {}, "src/server/main.ts").line("serving agents and gateways")
      const env = await run("gateway", "create", "edge", "--public-ip", edgeAddress, "-o", "env")
      await writeFile(join(directory, "edge.env"), env)
      const home = await run("agent", "create", "home", "-o", "env")
      const variables = Object.fromEntries(
        [...home.matchAll(/^(\w+)=(.*)$/gmu)].map(([, name = "", value = ""]) => [name, value])
      )
      const gatewayArgs = ["--env-file", join(directory, "edge.env"), "--state-dir", join(directory, "edge")]
      const gateway = start(
        "edge",
        {},
        "src/gateway/main.ts",
        ...gatewayArgs,
        "--device",
        "userspace",
        "--drain-timeout",
        "1s"
      )
      await gateway.line("WireGuard is up")
      const web = start("home", {}, "-e", service)
      await Promise.all([web.line("listening"), start("home", {}, "-e", counter).line("listening")])
      const agent = start("home", variables, "examples/agent-with-wg/agent.mjs")
      await agent.line("revision")

      const wait = ["--wait", "serving", "--timeout", "30s"]
      await run(
        "tunnel",
        "create",
        "--agent",
        "home",
        "--domain",
        "app.example.com",
        "--target",
        "localhost:8080",
        ...wait
      )
      const tcp = ["--protocol", "tcp", "--name", "count", "--listen-port", "9999", "--target", "127.0.0.1:9000"]
      await run("tunnel", "create", "--agent", "home", ...tcp, ...wait)
      assert.strictEqual(visit(post("/", 1_000)), `200 ${sha256OfText(sha256(1_000))}`)
      assert.strictEqual(visit(post("/echo", 5_000_000)), `200 ${sha256(5_000_000)}`, "5 MB each way")
      assert.strictEqual(visit(count(9_999, 300_000)), "300000", "the end of one direction leaves the other one open")

      const config = namespaces.exec("home", "wg", "showconf", wg)
      assert.match(config, /AllowedIPs = 10\.\d+\.\d+\.\d+\/32\n/u)
      assert.include(config, "PersistentKeepalive = 25")
      const { virtualIp } = JSON.parse(await run("agent", "get", "home", "-o", "json"))
      const { port } = JSON.parse(await run("tunnel", "get", "app.example.com", "-o", "json"))
      const intrusion = namespaces.exec("home", process.execPath, "-e", intrude(virtualIp, port))
      assert.strictEqual(intrusion.trim(), "ECONNRESET", "gateways only")

      await web.stop()
      assert.match(visit(post("/", 10)), /^503 /u)
      while (true) {
        const { reported, serving } = JSON.parse(await run("tunnel", "get", "app.example.com", "-o", "json"))
        if (reported.status === "target-unreachable" && serving[0].status === "target-unreachable") break
      }
      await agent.stop()
      assert.notInclude(namespaces.exec("home", "ip", "-br", "link"), wg)
      assert.notInclude(namespaces.exec("home", "nft", "list", "tables"), wg)
    } finally {
      await Promise.all(programs.map((program) => program.stop()))
      namespaces.remove()
      await rm(directory, { recursive: true, force: true })
    }
  }, 120_000)
})
